//! A person's yes to venue, open loop: questions are asked, and once they are where a person sees them, each is said yes to
//! at a fixed rate and timed from the instant the yes was due until its order is in the venue's journal.
//!
//! In between, at the same rate and in the same seconds, leave as many plain signals, which need no person: the main job
//! under the same load and noise, which a yes is compared with. Two ways are measured: `swarm approve`, and a press in
//! Telegram, which lets through one prompt a second, so questions come in rounds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use swarm::people::Connection;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::Arguments;
use crate::bench_error::BenchError;
use crate::chat::Chat;
use crate::doors::{Doors, PLAIN_USD, Planned};
use crate::latency::{decisions, pace};
use crate::noise::Noise;
use crate::report::{Report, Row, Target, histogram, micros, note};
use crate::spans::{self, Wall};
use crate::stage::{Swarm, until};
use crate::venue::Journal;
use crate::yes::{Operator, Question, Way};

/// Yeses a second, and as many plain signals in between: few, as it is a person who presses.
const RATE: u32 = 4;
/// Questions that wait at once.
const ROUND: usize = 10;
/// Yeses, and plain signals beside them, that don't count at the start of a way.
const WARM_UP: usize = 2;
/// Dollars of a signal that waits for a person: over $1,000, and under the $5,000 of tier 2.
const ASKED_USD: &str = "1500";
/// Questions of one person at most. With as many plain signals they are fewer than the 20 trades an hour of the rails; alone
/// they are fewer than the 12 questions an hour, and the five that are of one instrument stay under its $10,000.
const ASKED_OF_ONE: usize = 9;
/// How long the questions of a round may take until they are where a person sees them.
const ASKED_WITHIN: Duration = Duration::from_secs(60);
/// How long the last order of a round may take.
const LAST_WITHIN: Duration = Duration::from_secs(20);

/// Rounds by command, and in Telegram.
fn rounds(arguments: &Arguments) -> (usize, usize) {
    (arguments.size(10, 2), arguments.size(10, 1))
}

/// Questions of both ways.
fn questions(arguments: &Arguments) -> usize {
    let (by_command, in_telegram) = rounds(arguments);
    (by_command + in_telegram) * ROUND
}

fn people(arguments: &Arguments) -> usize {
    questions(arguments).div_ceil(ASKED_OF_ONE)
}

/// Asks, says yes and times, by each way, with a swarm that has a line to Telegram: those of the other figures have none.
///
/// # Errors
/// [`BenchError`].
pub async fn measure(arguments: &Arguments, folder: &Path, report: &mut Report) -> Result<(), BenchError> {
    let chat = Arc::new(Chat::open().await);
    let swarm = Swarm::start(arguments, &folder.join("approval"), people(arguments), Some(&chat)).await?;
    let mut venue = Journal::watch(&swarm.journal())?;
    let doors = Doors::open(&swarm).await?;
    let files = swarm.files.clone();
    let connection = Connection::open(&files).await.map_err(|error| BenchError::Broken(error.to_string()))?;
    let operator = Arc::new(Operator { connection, files });
    let people = 0..people(arguments);
    let asked = doors.plan("asked", people.clone(), questions(arguments), ASKED_USD);
    let plain = doors.plan("beside", people, questions(arguments), PLAIN_USD);
    let (asked_first, asked_then) = asked.split_at(rounds(arguments).0 * ROUND);
    let (plain_first, plain_then) = plain.split_at(asked_first.len());

    // Before an account is linked nobody is asked in Telegram.
    let mut stand = Stand { way: Way::Command(Arc::clone(&operator)), swarm: &swarm, doors: &doors, venue: &mut venue };
    stand.measure(asked_first, plain_first).await?.tell(&stand, asked_first, plain_first, report).await?;
    chat.link(&swarm, &operator.connection, &operator.files).await?;
    stand.way = Way::Telegram(Arc::clone(&chat));
    stand.measure(asked_then, plain_then).await?.tell(&stand, asked_then, plain_then, report).await?;
    chat.rules_were_kept()?;
    swarm.stop()
}

/// Where yeses are said, in one way.
struct Stand<'a> {
    way: Way,
    swarm: &'a Swarm,
    doors: &'a Doors,
    venue: &'a mut Journal,
}

/// What came of it.
struct Run {
    due: BTreeMap<String, Instant>,
    seen: BTreeMap<String, Instant>,
    wall: Wall,
    /// Of the noisiest round.
    strangers: f64,
}

impl Stand<'_> {
    async fn measure(&mut self, asked: &[Planned], plain: &[Planned]) -> Result<Run, BenchError> {
        eprintln!("{} times {} at {RATE}/s, in rounds of {ROUND}", asked.len(), self.way.name());
        let mut run = Run { due: BTreeMap::new(), seen: BTreeMap::new(), wall: Wall::now(), strangers: 0.0 };
        for (asked, plain) in asked.chunks(ROUND).zip(plain.chunks(ROUND)) {
            let questions = self.ask(asked).await?;
            let noise = Noise::begin();
            self.answer(asked, &questions, plain, &mut run).await?;
            run.strangers = run.strangers.max(noise.strangers_percent());
        }
        Ok(run)
    }

    /// Sends the signals of a round and waits until each of them is a question that can be answered.
    async fn ask(&self, asked: &[Planned]) -> Result<BTreeMap<Uuid, Question>, BenchError> {
        for signal in asked {
            self.doors.publish(signal).await?;
        }
        let orders = orders_of(asked);
        let waiting = until(ASKED_WITHIN, "all questions wait for a person", async || {
            let found = self.way.questions(self.swarm, &orders).await?;
            Ok((found.len() == orders.len()).then_some(found))
        });
        match waiting.await {
            Err(error @ BenchError::TimedOut { .. }) => {
                Err(BenchError::Broken(format!("{error}; treasury said: {}", decisions(self.swarm).await?)))
            }
            waiting => waiting,
        }
    }

    /// Says yes to the questions of a round at the rate, with a plain signal after each, and watches the venue.
    async fn answer(
        &mut self,
        asked: &[Planned],
        questions: &BTreeMap<Uuid, Question>,
        plain: &[Planned],
        run: &mut Run,
    ) -> Result<(), BenchError> {
        let start = Instant::now() + Duration::from_millis(300);
        let due = due_of(start, asked.len() + plain.len());
        let both: Vec<&Planned> = asked.iter().zip(plain).flat_map(|(asked, plain)| [asked, plain]).collect();
        run.due.extend(both.iter().zip(&due).map(|(signal, due)| (signal.client_order_id.clone(), *due)));
        let deadline = due.last().map_or(start, |last| *last + LAST_WITHIN);
        let mut ticks = pace(due);
        let mut sent = JoinSet::new();
        let sending = async {
            while let Some(number) = ticks.recv().await {
                let (way, doors, signal) = (self.way.clone(), self.doors.clone(), both[number].clone());
                match questions.get(&signal.order_id.0).cloned() {
                    Some(question) => sent.spawn(async move { way.say(&question).await }),
                    None => sent.spawn(async move { doors.publish(&signal).await }),
                };
            }
        };
        let mut left = both.len();
        let watching = async {
            while left > 0 {
                let Ok(Some((id, at))) = timeout_at(deadline, self.venue.next()).await else { break };
                if run.due.contains_key(&id) && run.seen.insert(id, at).is_none() {
                    left -= 1;
                }
            }
        };
        tokio::join!(sending, watching);
        while let Some(outcome) = sent.join_next().await {
            outcome.map_err(|error| BenchError::Broken(format!("a yes or a signal failed: {error}")))??;
        }
        Ok(())
    }
}

impl Run {
    async fn tell(
        &self,
        stand: &Stand<'_>,
        asked: &[Planned],
        plain: &[Planned],
        report: &mut Report,
    ) -> Result<(), BenchError> {
        let way = stand.way.name();
        let (yeses, beside) = (self.times(&asked[WARM_UP..])?, self.times(&plain[WARM_UP..])?);
        let missing =
            asked.iter().chain(plain).filter(|signal| !self.seen.contains_key(&signal.client_order_id)).count();
        let said = if missing > 0 { decisions(stand.swarm).await? } else { String::new() };
        if yeses.is_empty() || beside.is_empty() {
            return Err(BenchError::Broken(format!("{way}: nothing reached the venue; treasury said: {said}")));
        }
        let row = |name: String, value: f64| Row::new("approval", name, value, "us").noise(self.strangers);
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let main = micros(&beside, quantile);
            report.push(row(format!("signal to venue beside {way}, {name}"), main));
            report.push(
                row(format!("{way} to venue at {RATE}/s, {name}"), micros(&yeses, quantile))
                    .floor(main)
                    .note(format!("floor: the signals beside it; {} of each", yeses.len())),
            );
        }
        report.push(
            Row::new("approval", format!("{way}: orders never at the venue"), missing as f64, "")
                .target(Target::AtMost(0.0))
                .note(said),
        );
        let rows = stand.way.moments(stand.swarm, &orders_of(&asked[WARM_UP..])).await?;
        let moments: Vec<Vec<f64>> = rows.iter().filter_map(|(id, rows)| self.moments(id, rows)).collect();
        report.list(
            format!("where the time of a {way} goes (ms, by the rows' own times, +-1 ms)"),
            spans::told(stand.way.spans(), &moments),
        );
        Ok(())
    }

    /// From due to seen.
    fn times(&self, signals: &[Planned]) -> Result<Histogram<u64>, BenchError> {
        let mut times = histogram()?;
        for id in signals.iter().map(|signal| &signal.client_order_id) {
            if let (Some(due), Some(seen)) = (self.due.get(id), self.seen.get(id)) {
                note(&mut times, seen.saturating_duration_since(*due));
            }
        }
        Ok(times)
    }

    /// The moments in the rows between those that were seen from here.
    fn moments(&self, id: &str, rows: &[f64]) -> Option<Vec<f64>> {
        let (due, seen) = (self.wall.ms(*self.due.get(id)?), self.wall.ms(*self.seen.get(id)?));
        Some([&[due], rows, &[seen]].concat())
    }
}

fn orders_of(signals: &[Planned]) -> Vec<Uuid> {
    signals.iter().map(|signal| signal.order_id.0).collect()
}

/// When so many yeses and plain signals in turn are due: each kind at the rate, one kind in the middle between two of the other.
fn due_of(start: Instant, count: usize) -> Vec<Instant> {
    let apart = Duration::from_secs(1) / (2 * RATE);
    (0..count).map(|number| start + apart * u32::try_from(number).unwrap_or(u32::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn yeses_and_signals_take_turns_each_at_the_rate() {
        let start = Instant::now();
        let after: Vec<u128> = due_of(start, 5).iter().map(|due| due.duration_since(start).as_millis()).collect();
        assert_eq!(after, [0, 125, 250, 375, 500]);
    }

    #[test]
    fn what_one_person_sends_is_asked_about_and_never_refused() {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/limits.toml");
        let limits: toml::Table = toml::from_str(&std::fs::read_to_string(shipped).unwrap()).unwrap();
        let usd = |name: &str| limits[name].as_str().unwrap().parse::<f64>().unwrap();
        let count = |name: &str| usize::try_from(limits[name].as_integer().unwrap()).unwrap();
        let (asked, plain): (f64, f64) = (ASKED_USD.parse().unwrap(), PLAIN_USD.parse().unwrap());
        assert!(asked > usd("approval_over_usd") && asked < usd("approval_tier2_over_usd"));
        assert!(plain * ASKED_OF_ONE as f64 <= usd("approval_over_usd"));
        assert!(ASKED_OF_ONE.div_ceil(2) as f64 * (asked + plain) < usd("position_usd"));
        assert!(ASKED_OF_ONE <= count("approval_prompts_per_hour"));
        assert!(2 * ASKED_OF_ONE <= count("rate_risk_increasing"));
    }

    #[test]
    fn each_way_has_yeses_that_count() {
        for line in [&["bench"][..], &["bench", "--short"]] {
            let arguments = Arguments::parse_from(line);
            let (by_command, in_telegram) = rounds(&arguments);
            assert!(by_command.min(in_telegram) * ROUND > WARM_UP, "{line:?}");
            assert!(questions(&arguments).div_ceil(people(&arguments)) <= ASKED_OF_ONE, "{line:?}");
        }
    }
}
