//! W3C trace context, derived from ids so that a redelivered message is the same span.

use domain::message::Header;

/// Gives a header the trace context of this hop: the trace it came with, or a new one made of its correlation id. The
/// span is named by the message id, so children carry it as their parent.
pub fn enter(header: &mut Header) {
    let trace = header
        .traceparent
        .as_deref()
        .and_then(trace_id)
        .map_or_else(|| header.correlation_id.0.simple().to_string(), str::to_owned);
    let id = header.message_id.0.simple().to_string();
    // The end of a UUID v7 is its random part; its beginning is the time.
    let span = id.get(16..).filter(|span| span.bytes().any(|b| b != b'0')).unwrap_or("0000000000000001");
    header.traceparent = Some(format!("00-{trace}-{span}-01"));
}

/// The trace id of a well-formed context.
fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let some = |text: &str| text.bytes().any(|b| b != b'0');
    (hex(version, 2) && hex(trace, 32) && some(trace) && hex(span, 16) && some(span) && hex(flags, 2)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ids::{CorrelationId, MessageId, UserId, derive};
    use domain::time::UnixMs;

    #[test]
    fn a_trace_is_kept_and_a_bad_one_is_replaced() {
        let id = derive("t", &[]);
        let check = |came: Option<&str>, trace: &str| {
            let mut header = Header {
                message_id: MessageId(id),
                correlation_id: CorrelationId(id),
                source_agent: "t".into(),
                made_at: UnixMs(0),
                priority: 2,
                user_id: UserId(uuid::Uuid::nil()),
                valid_until: None,
                traceparent: came.map(str::to_owned),
            };
            enter(&mut header);
            let made = header.traceparent.clone().unwrap();
            assert_eq!(trace_id(&made), Some(trace), "{made}");
        };
        let own = id.simple().to_string();
        check(None, &own);
        check(Some("nonsense"), &own);
        check(Some("00-00000000000000000000000000000000-b7ad6b7169203331-01"), &own);
        let given = "0af7651916cd43dd8448eb211c80319c";
        check(Some(&format!("00-{given}-b7ad6b7169203331-01")), given);
    }
}
