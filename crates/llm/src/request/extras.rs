//! What a caller tells the router beside the request: by headers `x-swarm-*`, or in `metadata` under the same names
//! without the prefix, because some clients can't set headers.

use serde_json::Value;

use super::Invalid;

/// Priorities from here on may overtake and may go to a cloud tier rather than wait.
pub const URGENT_PRIORITY: u8 = 7;
/// The highest there is.
pub const HIGHEST_PRIORITY: u8 = 9;
/// Of a request that does not say.
pub const USUAL_PRIORITY: u8 = 5;

/// What the cache may do for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheUse {
    /// Read and written.
    #[default]
    Usual,
    /// Not read; the fresh answer is kept.
    Refresh,
    /// Neither.
    Off,
}

/// What the router is told. Who asks is not among it: that is said by the key of the caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extras {
    /// 0 to 9; 5 when not said.
    pub priority: Option<u8>,
    /// Answers of one tenant are never given to another.
    pub tenant: Option<String>,
    /// From the arrival of the request, ms; the alias's own when not said.
    pub deadline_ms: Option<u64>,
    /// What the cache may do.
    pub cache: Option<CacheUse>,
    /// The oldest answer that may stand in when every tier failed, s; 0: none.
    pub max_stale_s: Option<u64>,
    /// Names of lines (`name: value`) in the last user message that don't change the answer: a time, an id.
    pub volatile: Vec<String>,
    /// For the log and the usage row.
    pub correlation_id: Option<String>,
}

/// Longest tenant, correlation id or name.
const LONGEST_WORD: usize = 128;
/// Most names of volatile lines.
const MOST_VOLATILE: usize = 16;
/// Longest deadline, ms.
const LONGEST_DEADLINE_MS: u64 = 600_000;

impl Extras {
    /// Reads one of them; `false` when there is none of this name.
    ///
    /// # Errors
    /// [`Invalid`], when its value is wrong.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, Invalid> {
        let wrong = |what: &str| Invalid::wrong(name, what);
        let number = |most: u64, what: &str| {
            value.parse::<u64>().ok().filter(|number| *number <= most).ok_or_else(|| wrong(what))
        };
        match name {
            "priority" => {
                let priority = number(u64::from(HIGHEST_PRIORITY), "a whole number from 0 to 9")?;
                self.priority = u8::try_from(priority).ok();
            }
            "tenant" => self.tenant = Some(word(value).ok_or_else(|| wrong("a short word"))?),
            "deadline-ms" => self.deadline_ms = Some(number(LONGEST_DEADLINE_MS, "at most 600000")?.max(1)),
            "cache" => {
                self.cache = Some(match value {
                    "usual" => CacheUse::Usual,
                    "refresh" | "no-cache" => CacheUse::Refresh,
                    "off" | "no-store" => CacheUse::Off,
                    _ => return Err(wrong("usual, refresh or off")),
                });
            }
            "max-stale-s" => self.max_stale_s = Some(number(u64::from(u32::MAX), "a whole number of seconds")?),
            "volatile" => {
                let names: Option<Vec<String>> = value.split(',').map(|name| word(name.trim())).collect();
                let names = names.filter(|names| names.len() <= MOST_VOLATILE);
                self.volatile = names.ok_or_else(|| wrong("at most 16 names between commas"))?;
            }
            "correlation-id" => self.correlation_id = Some(word(value).ok_or_else(|| wrong("a short word"))?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads `metadata`: values are text, names with `_` or `-`; what is not the router's is left alone, as the API says.
    pub(super) fn of_metadata(value: Option<Value>) -> Result<Self, Invalid> {
        let mut extras = Self::default();
        let fields = match value {
            None => return Ok(extras),
            Some(Value::Object(fields)) => fields,
            Some(_) => return Err(Invalid::wrong("metadata", "an object")),
        };
        for (name, value) in &fields {
            if let Some(text) = value.as_str() {
                extras.set(&name.replace('_', "-"), text)?;
            }
        }
        Ok(extras)
    }

    /// Those of `other` where it says something, else these.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            priority: other.priority.or(self.priority),
            tenant: other.tenant.or(self.tenant),
            deadline_ms: other.deadline_ms.or(self.deadline_ms),
            cache: other.cache.or(self.cache),
            max_stale_s: other.max_stale_s.or(self.max_stale_s),
            volatile: if other.volatile.is_empty() { self.volatile } else { other.volatile },
            correlation_id: other.correlation_id.or(self.correlation_id),
        }
    }
}

/// Printable, without spaces, not empty, short.
fn word(text: &str) -> Option<String> {
    (!text.is_empty() && text.len() <= LONGEST_WORD && text.bytes().all(|b| b.is_ascii_graphic()))
        .then(|| text.to_owned())
}
