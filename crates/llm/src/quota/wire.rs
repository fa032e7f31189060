//! The scripts and their answers.

use redis::{Cmd, FromRedisValue, RedisResult, Script, Value};

use super::book::{Answer, News, Post, Reserved};
use super::limits::{Bounds, Refused, Windows};
use super::tally::{Hold, Tally};

const AGENTS: &str = "llm:quota:agents";

/// The scripts, with the digests they are called by.
#[derive(Debug)]
pub(super) struct Scripts {
    reserve: Script,
    post: Script,
    seed: Script,
    agents: Script,
    observe: Script,
    /// Of this process: ids of two processes never meet.
    prefix: String,
}

impl Scripts {
    pub(super) fn new(process: u64) -> Self {
        Self {
            reserve: Script::new(include_str!("reserve.lua")),
            post: Script::new(include_str!("post.lua")),
            seed: Script::new(include_str!("seed.lua")),
            agents: Script::new(include_str!("agents.lua")),
            observe: Script::new(include_str!("observe.lua")),
            prefix: format!("{process:016x}"),
        }
    }

    /// Loads all of them: a server that was started anew has none.
    pub(super) fn load(&self) -> redis::Pipeline {
        let mut pipe = redis::pipe();
        for code in [
            include_str!("reserve.lua"),
            include_str!("post.lua"),
            include_str!("seed.lua"),
            include_str!("agents.lua"),
            include_str!("observe.lua"),
        ] {
            pipe.cmd("SCRIPT").arg("LOAD").arg(code);
        }
        pipe
    }

    fn call(&self, script: &Script, of: &Reserved) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.get_hash())
            .arg(3)
            .arg(tier_key(&of.tier))
            .arg(format!("llm:quota:open:{}", of.tier))
            .arg(AGENTS);
        cmd
    }

    fn id(&self, id: u64) -> String {
        format!("{}{id:x}", self.prefix)
    }

    pub(super) fn reserve(
        &self,
        of: &Reserved,
        lives: (&str, &str),
        bounds: &Bounds,
        cap: Option<u64>,
        now: i64,
    ) -> Cmd {
        let mut cmd = self.call(&self.reserve, of);
        cmd.arg(lives.0).arg(lives.1).arg(self.id(of.id)).arg(now).arg(of.ends_ms);
        windows(&mut cmd, of.windows);
        cmd.arg(of.asked.requests).arg(of.asked.tokens).arg(of.asked.cost_micros);
        for bound in [
            bounds.minute_requests,
            bounds.day_requests,
            bounds.minute_tokens,
            bounds.day_tokens,
            bounds.day_cost,
            bounds.month_cost,
        ] {
            bounded(&mut cmd, bound);
        }
        let (agent, month) = of.agent.as_ref().map_or(("", 0), |(name, month)| (&**name, *month));
        cmd.arg(agent);
        bounded(&mut cmd, cap);
        cmd.arg(month);
        cmd
    }

    pub(super) fn post(&self, post: &Post, lives: (&str, &str), now: i64) -> Cmd {
        let (of, asked, then) = (&post.of, post.of.asked, post.then);
        let (kind, until) = match post.news {
            News::Close { remember: false, .. } => ("close", of.ends_ms),
            News::Close { remember: true, .. } => ("end", now.saturating_add(super::REMEMBERED_MS)),
            News::Open => ("open", of.ends_ms),
            News::Told => ("told", now.saturating_add(super::REMEMBERED_MS)),
        };
        let mut cmd = self.call(&self.post, of);
        cmd.arg(lives.0).arg(lives.1).arg(self.id(of.id)).arg(now).arg(until);
        windows(&mut cmd, of.windows);
        cmd.arg(kind).arg(asked.requests).arg(asked.tokens).arg(asked.cost_micros);
        cmd.arg(then.requests).arg(then.tokens).arg(then.cost_micros);
        let (agent, month) = of.agent.as_ref().map_or(("", 0), |(name, month)| (&**name, *month));
        cmd.arg(agent).arg(month);
        cmd
    }

    pub(super) fn seed(&self, tier: &str, life: &str, new_life: &str, known: &Tally) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.seed.get_hash()).arg(1).arg(tier_key(tier)).arg(life).arg(new_life);
        cmd.arg(known.windows.minute).arg(known.minute_requests).arg(known.minute_tokens);
        cmd.arg(known.windows.day).arg(known.day_requests).arg(known.day_tokens).arg(known.day_cost);
        cmd.arg(known.windows.month).arg(known.month_cost);
        for hold in [known.hold_requests, known.hold_tokens] {
            cmd.arg(hold.left).arg(hold.until_ms);
        }
        cmd
    }

    pub(super) fn agents<'a>(
        &self,
        life: &str,
        new_life: &str,
        month: i64,
        spent: impl Iterator<Item = (&'a str, u64)>,
    ) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.agents.get_hash()).arg(1).arg(AGENTS).arg(life).arg(new_life).arg(month);
        for (agent, micros) in spent {
            cmd.arg(agent).arg(micros);
        }
        cmd
    }

    pub(super) fn observe(&self, tier: &str, life: &str, (requests, tokens): (Hold, Hold)) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.observe.get_hash()).arg(1).arg(tier_key(tier)).arg(life);
        cmd.arg(requests.left).arg(requests.until_ms).arg(tokens.left).arg(tokens.until_ms);
        cmd
    }
}

fn tier_key(tier: &str) -> String {
    format!("llm:quota:tier:{tier}")
}

fn windows(cmd: &mut Cmd, windows: Windows) {
    cmd.arg(windows.minute).arg(windows.day).arg(windows.month);
}

fn bounded(cmd: &mut Cmd, bound: Option<u64>) {
    cmd.arg(bound.and_then(|bound| i64::try_from(bound).ok()).unwrap_or(-1));
}

/// An answer of `reserve` or `post`.
pub(super) fn answer(value: Value) -> RedisResult<Answer> {
    let numbers = Vec::<i64>::from_redis_value(value)?;
    match numbers.as_slice() {
        [code, spent, agents, number, counters @ ..] if counters.len() == 13 => Ok(Answer {
            code: *code,
            number: *number,
            tally: tally(counters),
            agent: (*agents >= 0).then(|| (*agents, unsigned(*spent))),
        }),
        [code, ..] if *code < 0 => Ok(Answer { code: *code, number: -1, tally: Tally::default(), agent: None }),
        _ => Err((redis::ErrorKind::UnexpectedReturnType, "an answer of another shape").into()),
    }
}

/// An answer of `seed`: life, number, counters.
pub(super) fn seeded(value: Value) -> RedisResult<(String, i64, Tally)> {
    let (life, numbers) = <(String, Vec<i64>)>::from_redis_value(value)?;
    match numbers.as_slice() {
        [number, counters @ ..] if counters.len() == 13 => Ok((life, *number, tally(counters))),
        _ => Err((redis::ErrorKind::UnexpectedReturnType, "an answer of another shape").into()),
    }
}

/// An answer of `agents`: life, number, month, what each has spent.
pub(super) fn agents(value: Value) -> RedisResult<(String, i64, i64, Vec<u64>)> {
    let Value::Array(parts) = value else {
        return Err((redis::ErrorKind::UnexpectedReturnType, "an answer of another shape").into());
    };
    let mut parts = parts.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    let head = (String::from_redis_value(next())?, i64::from_redis_value(next())?, i64::from_redis_value(next())?);
    let spent = parts.map(u64::from_redis_value).collect::<Result<Vec<u64>, _>>()?;
    Ok((head.0, head.1, head.2, spent))
}

fn tally(counters: &[i64]) -> Tally {
    let at = |index: usize| counters.get(index).copied().unwrap_or(0);
    let count = |index| unsigned(at(index));
    Tally {
        windows: Windows { minute: at(0), day: at(3), month: at(7) },
        minute_requests: count(1),
        minute_tokens: count(2),
        day_requests: count(4),
        day_tokens: count(5),
        day_cost: count(6),
        month_cost: count(8),
        hold_requests: Hold { left: count(9), until_ms: at(10) },
        hold_tokens: Hold { left: count(11), until_ms: at(12) },
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// What a code of `reserve` means. `None`: allowed.
pub(super) const fn refusal(code: i64) -> Option<Refused> {
    match code {
        0 => None,
        1 => Some(Refused::RequestsPerMinute),
        2 => Some(Refused::RequestsPerDay),
        3 => Some(Refused::TokensPerMinute),
        4 => Some(Refused::TokensPerDay),
        5 => Some(Refused::BudgetOfDay),
        6 => Some(Refused::BudgetOfMonth),
        7 => Some(Refused::AgentCap),
        _ => Some(Refused::Provider),
    }
}

#[cfg(test)]
mod tests {
    use super::super::book::Name;
    use super::super::tally::{Amount, Change};
    use super::*;

    fn reserved(id: u64) -> Reserved {
        let asked = Amount { requests: 1, tokens: 5, cost_micros: 7 };
        Reserved { id, tier: Name::from("late"), windows: Windows::default(), asked, ends_ms: 1_000, agent: None }
    }

    #[tokio::test]
    async fn a_copy_that_comes_late_finds_what_was_told_before_it() {
        let valkey = testkit::servers::fresh_valkey();
        let client = redis::Client::open(valkey.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let scripts = Scripts::new(1);
        scripts.load().exec_async(&mut connection).await.unwrap();
        scripts.seed("late", "", "life", &Tally::default()).exec_async(&mut connection).await.unwrap();
        let life = || Name::from("life");
        let cases = [(News::Told, 0), (News::Open, 1), (News::Close { life: life(), remember: true }, 0)];
        let mut requests = 0;
        for (id, (news, counted)) in (1..).zip(cases) {
            let post = Post { news, of: reserved(id), then: Change::default() };
            for cmd in [
                scripts.post(&post, ("life", ""), 0),
                scripts.reserve(&post.of, ("life", ""), &Bounds::default(), None, 0),
                scripts.reserve(&post.of, ("life", ""), &Bounds::default(), None, 0),
                scripts.post(&post, ("life", ""), 0),
            ] {
                let told = answer(cmd.query_async(&mut connection).await.unwrap()).unwrap();
                assert_eq!((told.code, told.tally.day_requests), (0, requests + counted), "{:?}", post.news);
            }
            requests += counted;
        }
    }
}
