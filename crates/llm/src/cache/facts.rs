//! What an answer in prose states: its numbers, names, symbols, quotes, and the words that turn a meaning, in their order.
//!
//! Two models, or one asked twice, word an answer differently; where these differ it says something else. Used to judge
//! answers that were given, never to decide on a hit: the list has an end.

/// Words that turn, bound or direct a statement.
const TURNING: &[&str] = &[
    // no and only
    "no",
    "not",
    "never",
    "none",
    "nobody",
    "nothing",
    "neither",
    "nor",
    "without",
    "except",
    "unless",
    "but",
    "however",
    "only",
    "all",
    "any",
    "every",
    "each",
    "both",
    "either",
    "some",
    "most",
    "few",
    "several",
    "cannot",
    // more and less
    "more",
    "less",
    "fewer",
    "least",
    "above",
    "below",
    "over",
    "under",
    "within",
    "beyond",
    "higher",
    "lower",
    "greater",
    "smaller",
    "larger",
    "high",
    "low",
    "strong",
    "weak",
    "stronger",
    "weaker",
    "minimum",
    "maximum",
    "min",
    "max",
    // directions
    "up",
    "down",
    "rise",
    "rises",
    "rising",
    "rose",
    "fall",
    "falls",
    "falling",
    "fell",
    "drop",
    "drops",
    "dropped",
    "gain",
    "gains",
    "loss",
    "losses",
    "increase",
    "increases",
    "increased",
    "decrease",
    "decreases",
    "decreased",
    "positive",
    "negative",
    "neutral",
    "bullish",
    "bearish",
    "upward",
    "downward",
    "beat",
    "beats",
    "miss",
    "misses",
    "win",
    "wins",
    "lose",
    "loses",
    "flat",
    "unchanged",
    "overbought",
    "oversold",
    "outperform",
    "underperform",
    // what to do
    "buy",
    "sell",
    "hold",
    "long",
    "short",
    "enter",
    "exit",
    "open",
    "close",
    "wait",
    "avoid",
    "accept",
    "reject",
    "approve",
    "deny",
    "allow",
    "refuse",
    "add",
    "remove",
    "start",
    "stop",
    "bid",
    "ask",
    "call",
    "put",
    "taker",
    "maker",
    "market",
    "limit",
    // when and where
    "before",
    "after",
    "since",
    "until",
    "during",
    "now",
    "later",
    "today",
    "yesterday",
    "tomorrow",
    "first",
    "last",
    "previous",
    "next",
    "early",
    "late",
    "from",
    "to",
    "in",
    "out",
    "into",
    "against",
    // yes and perhaps
    "yes",
    "true",
    "false",
    "valid",
    "invalid",
    "safe",
    "unsafe",
    "risky",
    "likely",
    "unlikely",
    "may",
    "might",
    "must",
    "should",
    "could",
    "can",
    "will",
    "would",
    "if",
    "is",
    "isn",
    // units and sizes in words
    "percent",
    "percentage",
    "basis",
    "points",
    "thousand",
    "million",
    "billion",
    "trillion",
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "half",
    "double",
    "twice",
    "triple",
    "quarter",
    "dozen",
    "hundred",
    "second",
    "seconds",
    "minute",
    "minutes",
    "hour",
    "hours",
    "day",
    "days",
    "week",
    "weeks",
    "month",
    "months",
    "year",
    "years",
    "dollar",
    "dollars",
    "euro",
    "euros",
    "cent",
    "cents",
    // questions
    "who",
    "whom",
    "whose",
    "what",
    "which",
    "when",
    "where",
    "why",
    "how",
];

/// Signs that compare or name a currency; alone in a word, or beside a number, they state something.
const SIGNS: &[char] = &[
    '<', '>', '=', '\u{2264}', '\u{2265}', '\u{2260}', '$', '\u{20ac}', '\u{a3}', '\u{a5}', '\u{20bf}', '%', '+', '-',
    '\u{2212}',
];

/// Pairs of quotes.
const QUOTES: &[(char, char)] = &[('"', '"'), ('\u{201c}', '\u{201d}'), ('\u{ab}', '\u{bb}'), ('`', '`')];

/// What a text states, in its order.
#[must_use]
pub fn facts(text: &str) -> Vec<String> {
    let mut facts = Vec::new();
    let mut begins_sentence = true;
    for line in text.split('\n') {
        begins_sentence |= !line.trim().is_empty();
        let mut rest = line;
        while let Some((before, quoted, after)) = quoted(rest) {
            begins_sentence = of_words(before, begins_sentence, &mut facts);
            facts.push(format!("\u{201c}{}\u{201d}", quoted.trim()));
            begins_sentence &= before.trim().is_empty() && !quoted.is_empty();
            rest = after;
        }
        of_words(rest, begins_sentence, &mut facts);
        begins_sentence = true;
    }
    facts
}

/// The first quote of a line: what is before, in, and behind it.
fn quoted(line: &str) -> Option<(&str, &str, &str)> {
    let (begin, opening) = line.char_indices().find(|(_, c)| QUOTES.iter().any(|(open, _)| open == c))?;
    let closing = QUOTES.iter().find(|(open, _)| *open == opening).map(|(_, close)| *close)?;
    let inner = &line[begin + opening.len_utf8()..];
    let end = inner.find(closing)?;
    Some((&line[..begin], &inner[..end], &inner[end + closing.len_utf8()..]))
}

fn of_words(text: &str, mut begins_sentence: bool, facts: &mut Vec<String>) -> bool {
    for word in text.split_whitespace() {
        let is_mark = word.chars().all(|c| matches!(c, '-' | '*' | '#' | '\u{2022}'));
        if is_mark && begins_sentence {
            continue;
        }
        facts.extend(fact(word, begins_sentence));
        begins_sentence = word.ends_with(['.', '!', '?', ':']);
    }
    begins_sentence
}

/// What one word states.
fn fact(word: &str, begins_sentence: bool) -> Option<String> {
    let inner = word.trim_matches(|c: char| !c.is_alphanumeric() && !SIGNS.contains(&c));
    let first = inner.chars().find(|c| c.is_alphanumeric());
    let Some(first) = first else { return (!inner.is_empty()).then(|| inner.to_owned()) };
    if inner.contains(char::is_numeric) {
        return Some(without_thousands(inner));
    }
    let letters = inner.chars().filter(|c| c.is_alphabetic());
    let is_symbol = letters.clone().count() >= 2 && letters.clone().all(char::is_uppercase);
    let is_name = first.is_uppercase() && !begins_sentence;
    // A capital further in, as in iPhone or DeFi, makes a name at the beginning of a sentence too.
    let is_camel = letters.clone().skip(1).any(char::is_uppercase);
    if is_symbol || is_name || is_camel || inner.contains(|c| SIGNS.contains(&c) && c != '-') {
        return Some(inner.to_owned());
    }
    let lower = inner.to_lowercase().replace('\u{2019}', "'");
    let is_turning = lower.ends_with("n't") || lower.split('-').any(|part| TURNING.contains(&part));
    is_turning.then_some(lower)
}

/// `1,234,567.5` is `1234567.5`; `1,5` and `12,34` stay what they are.
fn without_thousands(number: &str) -> String {
    let whole_end = number.find('.').unwrap_or(number.len());
    let (whole, rest) = number.split_at(whole_end);
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let begin = first.trim_start_matches(|c: char| !c.is_ascii_digit());
    // Behind the last group may stand what the number counts: "1,000%", "1,000k".
    let is_group = |at: usize, last: usize, group: &str| {
        let number = group.trim_end_matches(|c: char| !c.is_ascii_digit());
        number.len() == 3 && digits(number) && (at == last || number.len() == group.len())
    };
    let count = whole.split(',').count();
    let is_thousands = count > 1
        && (1..=3).contains(&begin.len())
        && digits(begin)
        && groups.enumerate().all(|(at, group)| is_group(at, count - 2, group));
    if is_thousands { format!("{}{rest}", whole.replace(',', "")) } else { number.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(facts(text), expected, "{text}");
    }

    #[test]
    fn numbers_names_symbols_and_turning_words_are_facts() {
        check("The price rose 5% to $1,234.50.", &["rose", "5%", "to", "$1234.50"]);
        check("We think that Apple and BTC-USD beat $ETH", &["Apple", "BTC-USD", "beat", "$ETH"]);
        check("Nothing is here. Sell -3 of it, don't wait", &["nothing", "is", "sell", "-3", "don't", "wait"]);
        check("he said \"buy the dip\" twice", &["\u{201c}buy the dip\u{201d}", "twice"]);
        check("- Apple is fine\n- so be it", &["is"]);
        check("a >= b, \u{20ac} each", &[">=", "\u{20ac}", "each"]);
        check("iPhone sales", &["iPhone"]);
        check("it is non-negative", &["is", "non-negative"]);
        check("", &[]);
        check("an open \" quote", &["open"]);
    }

    #[test]
    fn thousands_are_one_number_and_decimals_are_not_thousands() {
        for (text, expected) in [
            ("1,234", "1234"),
            ("-1,234,567.89%", "-1234567.89%"),
            ("$1,000k", "$1000k"),
            ("1,5", "1,5"),
            ("12,34", "12,34"),
            ("1234,567", "1234,567"),
            ("1,2345", "1,2345"),
            ("1.234,5", "1.234,5"),
        ] {
            check(&format!("x {text}"), &[expected]);
        }
    }
}
