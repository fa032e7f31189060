//! `agents.toml`: what each process may use, and how it is looked after.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use settings::Section;
use tokio::time::Duration;

/// The file.
pub const FILE: &str = "agents.toml";

const MB: u64 = 1 << 20;
const DAY_MINUTES: i64 = 1_440;

/// How much of everything an agent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// `thin` or `thick`.
    pub name: &'static str,
    /// Above it: drained and started anew, bytes.
    pub memory_bytes: u64,
    /// Of one core, over five minutes.
    pub cpu_percent: u64,
    /// Longest question to a language model.
    pub prompt_tokens: u64,
    /// Longest answer.
    pub answer_tokens: u64,
    /// Recalled memories in a question.
    pub recall: u64,
}

impl Profile {
    /// Above it a process is killed, bytes: half as much again.
    #[must_use]
    pub const fn memory_limit_bytes(&self) -> u64 {
        self.memory_bytes.saturating_add(self.memory_bytes / 2)
    }

    /// What the process is told of it.
    #[must_use]
    pub fn env(&self) -> [(&'static str, String); 4] {
        [
            ("SWARM_PROFILE", self.name.to_owned()),
            ("SWARM_PROMPT_TOKENS", self.prompt_tokens.to_string()),
            ("SWARM_ANSWER_TOKENS", self.answer_tokens.to_string()),
            ("SWARM_RECALL", self.recall.to_string()),
        ]
    }

    /// For people.
    #[must_use]
    pub fn shown(&self) -> Value {
        json!({
            "name": self.name, "memory_mb": self.memory_bytes / MB, "cpu_percent": self.cpu_percent,
            "prompt_tokens": self.prompt_tokens, "answer_tokens": self.answer_tokens, "recall": self.recall,
        })
    }
}

/// One process's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    /// How much it has.
    pub profile: Profile,
    /// Never ended to free memory.
    pub is_critical: bool,
    /// Not recycled while orders are open or approvals wait.
    pub idle_only: bool,
    /// Started when these are ready.
    pub after: Vec<String>,
    /// Tasks that it may be given.
    pub capabilities: Vec<String>,
}

/// A part of the UTC day, in minutes from midnight; may go over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayPart {
    from: i64,
    until: i64,
}

impl DayPart {
    /// Reads `23:55-00:10`.
    fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let in_form = [hour, minute].iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()));
            let (hour, minute): (i64, i64) = (hour.parse().ok()?, minute.parse().ok()?);
            (in_form && hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let (from, until) = text.split_once('-')?;
        let part = Self { from: minute(from)?, until: minute(until)? };
        (part.from != part.until).then_some(part)
    }

    /// Whether a moment (ms since the epoch) is in it; its end is not.
    #[must_use]
    pub fn holds(&self, now_ms: i64) -> bool {
        let minute = now_ms.div_euclid(60_000).rem_euclid(DAY_MINUTES);
        if self.from < self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Less left on the machine: the largest process that is not critical is started anew, bytes.
    pub system_floor_bytes: u64,
    /// Each process is started anew so often.
    pub recycle_every: Duration,
    /// But not in these parts of the day.
    pub blackouts: Vec<DayPart>,
    /// By process.
    pub agents: BTreeMap<String, AgentSettings>,
}

impl Settings {
    /// For a plan without agents.
    #[must_use]
    pub const fn of_nobody() -> Self {
        let recycle_every = Duration::from_secs(86_400);
        Self { system_floor_bytes: 0, recycle_every, blackouts: Vec::new(), agents: BTreeMap::new() }
    }

    /// Reads the file's text for the processes of `names`: each must have its part, and nobody else.
    ///
    /// # Errors
    /// One line per fault.
    pub fn parse(text: &str, names: &[String]) -> Result<Self, Vec<String>> {
        let mut missing = Vec::new();
        let read = settings::checked(text, |top| {
            let system_floor_bytes = whole(top, "system_floor_mb", 1, 1 << 20) * MB;
            let hours = whole(top, "recycle_every_hours", 6, 168);
            let mut blackouts = Vec::new();
            for line in top.lines("recycle_blackout_utc") {
                match DayPart::parse(&line) {
                    Some(part) => blackouts.push(part),
                    None => top.note("recycle_blackout_utc", "not as in \"23:55-00:10\""),
                }
            }
            let profiles = top.part("profile", |part| {
                let mut read = |name| part.part(name, |part| Some(profile(name, part)));
                Some([read("thin")?, read("thick")?])
            });
            let agents = top.part("agent", |part| {
                let mut agents = BTreeMap::new();
                for name in part.keys() {
                    let one = part.part(&name, |part| agent(part, profiles.as_ref()?));
                    agents.extend(one.map(|one| (name.clone(), one)));
                    if !names.contains(&name) {
                        part.note(&name, "no such process");
                    }
                }
                Some(agents)
            });
            let agents = agents.unwrap_or_default();
            missing.extend(names.iter().filter(|name| !agents.contains_key(*name)).cloned());
            Self { system_floor_bytes, recycle_every: Duration::from_secs(hours * 3_600), blackouts, agents }
        });
        let settings = read?;
        let mut faults: Vec<String> = missing.iter().map(|name| format!("agent.{name}: missing")).collect();
        faults.extend(settings.faults_of_order());
        if faults.is_empty() { Ok(settings) } else { Err(faults) }
    }

    /// Who waits for nobody that is there, or for itself.
    fn faults_of_order(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, agent) in &self.agents {
            for other in &agent.after {
                if !self.agents.contains_key(other) {
                    faults.push(format!("agent.{name}.after: no process {other}"));
                }
            }
            // As long a way as there are processes comes by one of them twice.
            let mut reached: Vec<&String> = agent.after.iter().collect();
            for _ in 0..self.agents.len() {
                reached = reached.iter().filter_map(|name| self.agents.get(*name)).flat_map(|a| &a.after).collect();
                reached.sort();
                reached.dedup();
            }
            if !reached.is_empty() {
                faults.push(format!("agent.{name}.after: leads in a circle"));
            }
        }
        faults
    }

    /// What the processes are told of their profiles.
    #[must_use]
    pub fn env(&self, name: &str) -> Vec<(String, String)> {
        let told = self.agents.get(name).map(|agent| agent.profile.env());
        told.into_iter().flatten().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn whole(section: &mut Section<'_>, key: &str, least: i64, most: i64) -> u64 {
    u64::try_from(section.whole(key, least, most)).unwrap_or(0)
}

fn profile(name: &'static str, part: &mut Section<'_>) -> Profile {
    Profile {
        name,
        memory_bytes: whole(part, "memory_mb", 20, 65_536) * MB,
        cpu_percent: whole(part, "cpu_percent", 1, 6_400),
        prompt_tokens: whole(part, "prompt_tokens", 1, 1_000_000),
        answer_tokens: whole(part, "answer_tokens", 1, 100_000),
        recall: whole(part, "recall", 0, 100),
    }
}

fn agent(part: &mut Section<'_>, [thin, thick]: &[Profile; 2]) -> Option<AgentSettings> {
    let agent = AgentSettings {
        profile: part.choice("profile", &[("thin", *thin), ("thick", *thick)]),
        is_critical: part.flag("critical"),
        idle_only: part.flag("idle_only"),
        after: part.words("after"),
        capabilities: part.words("capabilities"),
    };
    Some(agent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../../config/agents.toml");

    fn names() -> Vec<String> {
        let table: toml::Table = toml::from_str(SHIPPED).unwrap();
        table["agent"].as_table().unwrap().keys().cloned().collect()
    }

    #[test]
    fn the_shipped_file_is_read() {
        let settings = Settings::parse(SHIPPED, &names()).unwrap();
        let treasury = &settings.agents["treasury"];
        assert!(treasury.is_critical && treasury.idle_only && treasury.profile.name == "thin");
        assert!(settings.agents.values().all(|agent| agent.profile.memory_bytes <= 200 * MB));
        assert_eq!(settings.system_floor_bytes, 500 * MB);
        let env = settings.env("buy_bot");
        assert_eq!(env[0], ("SWARM_PROFILE".to_owned(), "thick".to_owned()));
        assert_eq!(settings.env("nobody"), []);
    }

    #[test]
    fn every_fault_is_told() {
        let faults = |from: &str, to: &str| {
            let text = SHIPPED.replacen(from, to, 1);
            assert_ne!(text, SHIPPED, "{from}");
            Settings::parse(&text, &names()).unwrap_err().join("; ")
        };
        for (from, to, said) in [
            ("recycle_every_hours = 24", "recycle_every_hours = 5", "recycle_every_hours"),
            ("23:55-00:10", "23:55-24:00", "recycle_blackout_utc"),
            ("23:55-00:10", "3:55-04:00", "recycle_blackout_utc"),
            ("memory_mb = 120", "memory_mb = 0", "profile.thin.memory_mb"),
            ("recall = 8", "recall = 8\nmore = 1", "profile.thick.more"),
            ("profile = \"thin\"", "profile = \"fat\"", "agent.treasury.profile"),
            ("after = []", "after = [\"nobody\"]", "agent.treasury.after: no process nobody"),
            ("after = []", "after = [\"treasury\"]", "agent.treasury.after: leads in a circle"),
            ("after = []", "after = [\"buy_bot\"]", "agent.treasury.after: leads in a circle"),
            ("[agent.jarvis_x]", "[agent.jarvis]", "agent.jarvis: no such process"),
        ] {
            assert!(faults(from, to).contains(said), "{to}: {}", faults(from, to));
        }
        let more: Vec<String> = names().into_iter().chain(["another".to_owned()]).collect();
        assert_eq!(Settings::parse(SHIPPED, &more).unwrap_err(), ["agent.another: missing"]);
    }

    #[test]
    fn a_part_of_the_day_may_go_over_midnight() {
        let at = |hour: i64, minute: i64| (hour * 60 + minute) * 60_000 + 59_999;
        let night = DayPart::parse("23:55-00:10").unwrap();
        assert!(
            !night.holds(at(23, 54)) && night.holds(at(23, 55)) && night.holds(at(0, 9)) && !night.holds(at(0, 10))
        );
        let noon = DayPart::parse("12:00-12:01").unwrap();
        assert!(!noon.holds(at(11, 59)) && noon.holds(at(12, 0)) && !noon.holds(at(12, 1)));
        assert_eq!(DayPart::parse("12:00-12:00"), None);
    }
}
