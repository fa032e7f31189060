//! How alike two texts are by their words: the cosine of hashed words and pairs of neighbours.
//!
//! No model is asked: an embedding costs more than many of the answers it would save, stands on the path of every miss, and
//! says that "buy" and "sell" are close. Equal texts must be equal every time, on every machine.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Weighted features of a text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Features {
    weights: BTreeMap<u64, f64>,
    length: f64,
}

impl Features {
    /// Of words with their weights; a pair weighs as its lighter word does.
    #[must_use]
    pub fn of<'a>(words: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        let mut weights = BTreeMap::new();
        let mut before: Option<(&str, f64)> = None;
        for (word, weight) in words {
            *weights.entry(hash(&("one", word))).or_insert(0.0) += weight;
            if let Some((other, lighter)) = before {
                *weights.entry(hash(&("two", other, word))).or_insert(0.0) += weight.min(lighter);
            }
            before = Some((word, weight));
        }
        let length = weights.values().map(|weight| weight * weight).sum::<f64>().sqrt();
        Self { weights, length }
    }

    /// From 0, nothing in common, to 1. Two texts without words are alike.
    #[must_use]
    pub fn cosine(&self, other: &Self) -> f64 {
        if self.weights == other.weights {
            return 1.0;
        }
        if self.length == 0.0 || other.length == 0.0 {
            return 0.0;
        }
        let product: f64 =
            self.weights.iter().filter_map(|(word, weight)| Some(weight * other.weights.get(word)?)).sum();
        product / (self.length * other.length)
    }
}

/// SipHash under fixed keys: the same in every process. Two words in one bucket make texts seem more alike than they are, which
/// decides nothing: the hard words are compared by themselves.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Features {
        Features::of(text.split(' ').filter(|word| !word.is_empty()).map(|word| (word, 1.0)))
    }

    #[test]
    fn order_and_words_count() {
        assert_eq!(of("a b c").cosine(&of("a b c")), 1.0);
        assert_eq!(of("").cosine(&of("")), 1.0);
        assert_eq!(of("").cosine(&of("a")), 0.0);
        assert_eq!(of("a").cosine(&of("b")), 0.0);
        let swapped = of("a beats b").cosine(&of("b beats a"));
        assert!((0.5..0.7).contains(&swapped), "{swapped}");
    }

    #[test]
    fn one_word_of_many_is_lost_in_the_cosine() {
        // Why a threshold alone is no rule: the longer the text, the less one word weighs, and it may be the one that matters.
        let long = "w ".repeat(3) + &(0..150).map(|n| format!("w{n} ")).collect::<String>();
        assert!(of(&format!("{long} strong")).cosine(&of(&format!("{long} weak"))) > 0.98);
    }
}
