//! Messages that an agent leaves behind: in its hands when it dies, and in its queue while it stays down.

use bus::{Bus, BusError, Waiting};
use domain::message::{Alert, Severity};
use domain::subject::Stream;
use domain::time::UnixMs;

/// The streams that agents have queues in.
const QUEUES: [Stream; 3] = [Stream::TradingCritical, Stream::TradingHigh, Stream::SystemLow];

/// Hands back what an agent that ended held, by the reply subjects of its last heartbeat, so that each message is delivered
/// again at once instead of after the ack wait. Says how many were handed back.
///
/// A subject that is none of the agent's own consumers is left alone: what a heartbeat says is an agent's word. One whose
/// message was settled since does nothing, and one whose message was delivered again since brings it once more, which the
/// inbox of its reader knows.
pub async fn release(bus: &Bus, agent: &str, in_hand: &[String]) -> usize {
    let mut released = 0;
    for reply in in_hand.iter().filter(|reply| is_of(agent, reply)) {
        match bus.hand_back(reply).await {
            Ok(()) => released += 1,
            // The ack wait brings it.
            Err(error) => tracing::warn!(process = agent, %error, "a message was not handed back"),
        }
    }
    released
}

/// Whether an acknowledgement subject is one of the agent's consumers. It names stream and consumer after `$JS.ACK`, in its
/// longer form after a domain and an account as well.
fn is_of(agent: &str, reply: &str) -> bool {
    let tokens: Vec<&str> = reply.split('.').collect();
    let of_queue = match tokens.as_slice() {
        ["$JS", "ACK", stream, consumer, _, _, _, _, _]
        | ["$JS", "ACK", _, _, stream, consumer, _, _, _, _, _]
        | ["$JS", "ACK", _, _, stream, consumer, _, _, _, _, _, _] => {
            *consumer == agent && QUEUES.iter().any(|queue| queue.name() == *stream)
        }
        _ => false,
    };
    of_queue && reply.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '*' | '>'))
}

/// What waits for an agent, by stream.
///
/// # Errors
/// [`BusError`].
pub async fn waiting(bus: &Bus, agent: &str) -> Result<Vec<Waiting>, BusError> {
    let mut found = Vec::new();
    for stream in QUEUES {
        found.extend(bus.waiting(stream, agent).await?);
    }
    Ok(found)
}

/// What to tell a person about trading messages that wait for an agent that stays down (`quarantined`, `stopped`); `None`
/// when none do. What waits in the stream of facts and low priorities loses nothing by waiting.
#[must_use]
pub fn alert(agent: &str, state: &str, waiting: &[Waiting]) -> Option<Alert> {
    let trading: Vec<&Waiting> =
        waiting.iter().filter(|queue| queue.messages > 0 && queue.stream != Stream::SystemLow.name()).collect();
    let messages: u64 = trading.iter().map(|queue| queue.messages).sum();
    let oldest = trading.iter().min_by_key(|queue| queue.oldest_at.unwrap_or(UnixMs(i64::MAX)))?;
    let until = oldest.oldest_valid_until.map_or_else(|| "-".to_owned(), |until| until.to_string());
    let (noun, verb) = if messages == 1 { ("message", "waits") } else { ("messages", "wait") };
    let text = format!(
        "{messages} trading {noun} {verb} for {agent}, which is {state}; the oldest is valid until {until}: \
         clear it with `swarm agents release {agent}`, or they expire"
    );
    Some(Alert { name: format!("messages_wait:{agent}"), severity: Severity::Critical, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_acknowledgements_of_the_agents_own_queues_are_handed_back() {
        for (reply, own) in [
            ("$JS.ACK.TRADING_HIGH.treasury.1.7.7.1800000000000000000.0", true),
            ("$JS.ACK._.hash.TRADING_HIGH.treasury.1.7.7.1800000000000000000.0", true),
            ("$JS.ACK._.hash.TRADING_HIGH.treasury.1.7.7.1800000000000000000.0.x", true),
            ("$JS.ACK.TRADING_HIGH.buy_bot.1.7.7.1800000000000000000.0", false),
            ("$JS.ACK.DLQ.treasury.1.7.7.1800000000000000000.0", false),
            ("$JS.ACK.TRADING_HIGH.treasury.1.*.7.1800000000000000000.0", false),
            ("$JS.ACK.TRADING_HIGH.treasury.1.7.7.18 0.0", false),
            ("$JS.ACK.TRADING_HIGH.treasury.>", false),
            ("trading.treasury.intent.high", false),
            ("", false),
        ] {
            assert_eq!(is_of("treasury", reply), own, "{reply}");
        }
    }

    #[test]
    fn a_person_is_told_how_many_wait_until_when_and_what_to_do() {
        let queue = |stream: Stream, messages, at, until| Waiting {
            stream: stream.name(),
            messages,
            oldest_at: Some(UnixMs(at)),
            oldest_valid_until: Some(UnixMs(until)),
        };
        assert_eq!(alert("dexter", "quarantined", &[]), None);
        assert_eq!(alert("dexter", "quarantined", &[queue(Stream::SystemLow, 9, 1, 2)]), None);
        let waiting = [
            queue(Stream::TradingCritical, 1, 5_000, 9_000),
            queue(Stream::TradingHigh, 2, 4_000, 60_000),
            queue(Stream::SystemLow, 9, 1, 2),
        ];
        let alert = alert("dexter", "quarantined", &waiting).unwrap();
        let until = UnixMs(60_000);
        assert_eq!(
            alert.text,
            format!(
                "3 trading messages wait for dexter, which is quarantined; the oldest is valid until {until}: \
                 clear it with `swarm agents release dexter`, or they expire"
            )
        );
    }
}
