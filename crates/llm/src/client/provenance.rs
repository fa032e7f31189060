//! Where an answer came from, as the router's headers say.

use std::fmt;

/// Longest name kept of a tier or model.
const MAX_NAME_CHARS: usize = 64;

/// How an answer was found in a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// It was not.
    None,
    /// The same request.
    Exact,
    /// The same request but for volatile fields and blanks.
    Normalised,
    /// A request that means the same.
    Semantic,
    /// Kept beyond its time: no model could be asked.
    Stale,
}

impl CacheKind {
    const ALL: [Self; 5] = [Self::None, Self::Exact, Self::Normalised, Self::Semantic, Self::Stale];

    /// The word of the header.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Exact => "exact",
            Self::Normalised => "normalised",
            Self::Semantic => "semantic",
            Self::Stale => "stale",
        }
    }
}

/// By whom an answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// The alias that was asked for.
    pub alias: String,
    /// The tier that answered, as the router calls it; empty when it did not say.
    pub tier: String,
    /// The model behind it; empty when the router did not say.
    pub model: String,
    /// Whether it came from a cache.
    pub cache: CacheKind,
    /// How old it is, s; 0 when fresh.
    pub cache_age_s: u64,
    /// Kept beyond its time.
    pub is_stale: bool,
}

impl Provenance {
    /// Reads the headers of an answer. What is missing is unknown; a cache or stale mark that can't be read counts as stale,
    /// for then nobody vouches for its age.
    pub(super) fn read(alias: &str, header: impl Fn(&str) -> Option<String>) -> Self {
        let name = |key: &str| header(key).map(|text| plain(&text)).unwrap_or_default();
        let cache = match header("x-swarm-cache") {
            None => CacheKind::None,
            Some(word) => {
                CacheKind::ALL.into_iter().find(|kind| kind.word() == word.trim()).unwrap_or(CacheKind::Stale)
            }
        };
        let is_marked = match header("x-swarm-stale").as_deref().map(str::trim) {
            None | Some("" | "0" | "false") => false,
            Some(_) => true,
        };
        Self {
            alias: plain(alias),
            tier: name("x-swarm-tier"),
            model: name("x-swarm-model"),
            cache,
            cache_age_s: header("x-swarm-cache-age-s").and_then(|text| text.trim().parse().ok()).unwrap_or(0),
            is_stale: is_marked || cache == CacheKind::Stale,
        }
    }
}

fn plain(text: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':');
    text.chars().filter(plain).take(MAX_NAME_CHARS).collect()
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.alias)?;
        if !self.tier.is_empty() {
            write!(f, " via {}", self.tier)?;
        }
        if !self.model.is_empty() {
            write!(f, " ({})", self.model)?;
        }
        if self.cache != CacheKind::None {
            write!(f, ", cached {} {} s", self.cache.word(), self.cache_age_s)?;
        }
        if self.is_stale { f.write_str(", stale") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provenance_is_told_in_one_line_and_doubt_counts_as_stale() {
        for (headers, want, is_stale) in [
            (&[][..], "trading-llm", false),
            (&[("x-swarm-tier", "groq"), ("x-swarm-cache", "none")][..], "trading-llm via groq", false),
            (
                &[("x-swarm-tier", "groq"), ("x-swarm-cache", "exact"), ("x-swarm-cache-age-s", "12")],
                "trading-llm via groq, cached exact 12 s",
                false,
            ),
            (&[("x-swarm-tier", "<b>"), ("x-swarm-model", "llama 3\"\u{7f}")], "trading-llm via b (llama3)", false),
            (
                &[("x-swarm-cache", "stale"), ("x-swarm-cache-age-s", "-1")],
                "trading-llm, cached stale 0 s, stale",
                true,
            ),
            (&[("x-swarm-cache", "guessed")], "trading-llm, cached stale 0 s, stale", true),
            (&[("x-swarm-stale", "true")], "trading-llm, stale", true),
            (&[("x-swarm-stale", "perhaps")], "trading-llm, stale", true),
            (&[("x-swarm-stale", "false")], "trading-llm", false),
        ] {
            let header = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            let read = Provenance::read("trading-llm", header);
            assert_eq!((read.to_string().as_str(), read.is_stale), (want, is_stale), "{headers:?}");
        }
    }
}
