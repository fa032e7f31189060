//! What a question says, apart from how politely: the words that must be equal, in their order, and the few that need not.
//!
//! The other way round, a list of words that matter (numbers, symbols, names, "not", "above"), has an end, and the next word
//! that turns a meaning is not on it: "strong" and "weak", "beats" and "misses". So every word is hard, byte for byte, with
//! its sign, its unit and its punctuation, but for a closed list of soft ones, each soft only where it says nothing:
//! a greeting, "please" and "could you" before a verb of asking, "tell me" before a question word, "the" before a plain noun,
//! thanks at the end; contractions and British spelling are written out one way, and the case of the first word of a
//! sentence counts only where that word could be a name. A text that quotes, or that holds data or code, has no soft words.

use std::borrow::Cow;

use super::features::Features;

/// Longest text that is read, bytes.
const LONGEST_TEXT: usize = 2_048;
/// What a soft word weighs in the similarity, a hard one being 1.
const SOFT_WEIGHT: f64 = 0.25;

/// Characters that quote, or that prose does not have: what stands between them may be meant word for word.
const fn is_not_prose(c: char) -> bool {
    matches!(
        c,
        '"' | '\u{201c}'
            | '\u{201d}'
            | '\u{201e}'
            | '\u{201f}'
            | '\u{ab}'
            | '\u{bb}'
            | '\u{2039}'
            | '\u{203a}'
            | '\u{2018}'
            | '`'
            | '{'
            | '}'
            | '['
            | ']'
            | '<'
            | '>'
            | '\\'
            | '|'
            | '\t'
            | '\r'
    )
}

/// Words of asking.
const ASKING: &[&str] = &[
    "analyze",
    "classify",
    "compare",
    "define",
    "describe",
    "estimate",
    "explain",
    "give",
    "list",
    "show",
    "summarize",
    "tell",
    "translate",
];
/// Words that begin a question.
const QUESTION: &[&str] = &["how", "what", "which", "who", "whom", "whose", "why", "when", "where"];
/// Other words that begin a sentence and are no names.
const BEGINNING: &[&str] = &[
    "are", "can", "could", "did", "do", "does", "has", "have", "hello", "hey", "hi", "is", "please", "was", "were",
    "would",
];
/// What "tell me" adds nothing to. Not "when" and "if": those ask to be told later.
const TOLD: &[&str] = &["how", "what", "which", "who", "why"];
/// Nouns and adjectives before which "the" says nothing. Names have it too ("The Block", "the graph"), so the list is short.
const PLAIN: &[&str] = &[
    "average",
    "current",
    "latest",
    "market",
    "outlook",
    "price",
    "probability",
    "reason",
    "reasons",
    "sentiment",
    "spread",
    "summary",
    "trend",
    "volatility",
    "volume",
];
/// Two ways to write one thing.
const SAME: &[(&str, &str)] = &[
    ("what's", "what is"),
    ("who's", "who is"),
    ("where's", "where is"),
    ("isn't", "is not"),
    ("aren't", "are not"),
    ("wasn't", "was not"),
    ("weren't", "were not"),
    ("don't", "do not"),
    ("doesn't", "does not"),
    ("didn't", "did not"),
    ("won't", "will not"),
    ("wouldn't", "would not"),
    ("shouldn't", "should not"),
    ("can't", "can not"),
    ("cannot", "can not"),
    ("couldn't", "could not"),
    ("hasn't", "has not"),
    ("haven't", "have not"),
    ("analyse", "analyze"),
    ("summarise", "summarize"),
    ("behaviour", "behavior"),
    ("favourable", "favorable"),
    ("unfavourable", "unfavorable"),
];

/// A question, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wording {
    hard: String,
    /// All words, soft ones too. A word has no space in it; a line's end is a word of its own.
    said: String,
    /// Which of them are soft.
    soft: Vec<usize>,
}

impl Wording {
    /// Reads a text in its normal form; `None` when it is no short plain prose.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let is_wide = text.contains("  ") || text.contains("\n ") || text.starts_with(' ');
        if text.is_empty() || text.len() > LONGEST_TEXT || is_wide || text.contains(is_not_prose) || quotes(text) {
            return None;
        }
        let mut words = split(text);
        if let Some(last) = words.last_mut() {
            drop_end(&mut last.text, &['.', '!']);
        }
        words = write_out(words);
        soften(&mut words);
        drop_question_mark(&mut words);
        let hard = joined(words.iter().filter(|word| !word.is_soft));
        let soft = words.iter().enumerate().filter(|(_, word)| word.is_soft).map(|(at, _)| at).collect();
        (!hard.is_empty()).then(|| Self { hard, said: joined(words.iter()), soft })
    }

    /// The words that must be equal.
    #[must_use]
    pub fn hard(&self) -> &str {
        &self.hard
    }

    /// How alike two wordings are, soft words too: a short question under much politeness is left alone.
    #[must_use]
    pub fn similarity(&self, other: &Self) -> f64 {
        if self == other { 1.0 } else { self.features().cosine(&other.features()) }
    }

    fn features(&self) -> Features {
        let weight = |at: usize| if self.soft.contains(&at) { SOFT_WEIGHT } else { 1.0 };
        Features::of(self.said.split(' ').enumerate().map(|(at, word)| (word, weight(at))))
    }
}

fn joined<'a>(words: impl Iterator<Item = &'a Word<'a>>) -> String {
    let mut text = String::new();
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&word.text);
    }
    text
}

/// One word with the punctuation that touches it.
#[derive(Debug, Clone)]
struct Word<'a> {
    text: Cow<'a, str>,
    begins_sentence: bool,
    is_soft: bool,
}

impl Word<'_> {
    /// Without a comma or the end of a greeting behind it.
    fn core(&self) -> &str {
        self.text.trim_end_matches([',', '!'])
    }
}

/// An apostrophe that does not stand between two letters may be a quote.
fn quotes(text: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
    text.match_indices(['\'', '\u{2019}']).any(|(at, mark)| {
        let (before, rest) = text.split_at(at);
        !(is_letter(before.chars().next_back()) && is_letter(rest.chars().nth(mark.chars().count())))
    })
}

/// Words, and the ends of lines as words. Only a space divides: what looks like one is part of a word.
fn split(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::with_capacity(text.len() / 4);
    let mut begins_sentence = true;
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            words.push(Word { text: Cow::Borrowed("\n"), begins_sentence: false, is_soft: false });
            begins_sentence = true;
        }
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            words.push(Word { text: Cow::Borrowed(word), begins_sentence, is_soft: false });
            begins_sentence = word.ends_with(['.', '!', '?']);
        }
    }
    words
}

/// Drops one of these marks behind a letter, a digit or a percent sign; whether it was there.
fn drop_end(text: &mut Cow<'_, str>, marks: &[char]) -> bool {
    let is_word = |rest: &&str| rest.ends_with(|c: char| c.is_alphanumeric() || c == '%');
    let rest = text.strip_suffix(marks).filter(is_word).map(str::len);
    if let Some(length) = rest {
        match text {
            Cow::Borrowed(text) => *text = text.split_at(length).0,
            Cow::Owned(text) => text.truncate(length),
        }
    }
    rest.is_some()
}

/// Drops the mark at the end of a question that its first word shows to be one.
fn drop_question_mark(words: &mut [Word<'_>]) {
    let Some(last) = words.iter().rposition(|word| !word.is_soft) else { return };
    let said = words.get(..=last).unwrap_or_default();
    let begin = said.iter().rposition(|word| word.begins_sentence).unwrap_or(0);
    let first = said.iter().skip(begin).find(|word| !word.is_soft).map_or("", |word| &*word.text);
    if QUESTION.contains(&first) || ASKING.contains(&first) {
        drop_end(&mut words[last].text, &['?']);
    }
}

/// Lowers the first word of a sentence where it can be no name, and writes contractions and spellings one way.
fn write_out(words: Vec<Word<'_>>) -> Vec<Word<'_>> {
    let mut out = Vec::with_capacity(words.len());
    for mut word in words {
        let is_known = |word: &str| {
            let core = word.trim_end_matches([',', '!']);
            ASKING.contains(&core) || QUESTION.contains(&core) || BEGINNING.contains(&core) || same(core).is_some()
        };
        if word.begins_sentence {
            let lower = word.text.to_lowercase();
            let capital = lower.chars().next().map(char::to_uppercase).into_iter().flatten();
            // "What", but not "WHAT": capitals all through may be a symbol.
            let is_usual = capital.chain(lower.chars().skip(1)).eq(word.text.chars());
            if is_usual && is_known(&lower) {
                word.text = Cow::Owned(lower);
            }
        }
        match same(&word.text) {
            None => out.push(word),
            Some(one_way) => {
                for (at, text) in one_way.split(' ').enumerate() {
                    let begins_sentence = word.begins_sentence && at == 0;
                    out.push(Word { text: Cow::Borrowed(text), begins_sentence, is_soft: false });
                }
            }
        }
    }
    out
}

fn same(word: &str) -> Option<&'static str> {
    let straight =
        if word.contains('\u{2019}') { Cow::Owned(word.replace('\u{2019}', "'")) } else { Cow::Borrowed(word) };
    SAME.iter().find(|(other, _)| *other == straight).map(|(_, one_way)| *one_way)
}

/// Marks the words that say nothing.
fn soften(words: &mut [Word<'_>]) {
    let begin = soft_beginning(words);
    for word in words.iter_mut().take(begin) {
        word.is_soft = true;
    }
    soft_end(words, begin);
    for at in 0..words.len() {
        let is_before_plain = || words.get(at + 1).is_some_and(|next| PLAIN.contains(&&*next.text));
        if words[at].text == "the" && is_before_plain() {
            words[at].is_soft = true;
        }
    }
}

/// How many words at the beginning say nothing.
fn soft_beginning(words: &[Word<'_>]) -> usize {
    let text = |at: usize| words.get(at).map_or("", |word| &*word.text);
    let core = |at: usize| words.get(at).map_or("", Word::core);
    let mut at = 0;
    // A greeting is one only with its comma: "hi" alone may be the text.
    if ["hello", "hey", "hi"].contains(&core(0)) && core(0) != text(0) {
        at = 1;
    }
    if ["can", "could", "would"].contains(&text(at)) && text(at + 1) == "you" {
        let verb = if text(at + 2) == "please" { at + 3 } else { at + 2 };
        if ASKING.contains(&text(verb)) {
            at = verb;
        }
    } else if core(at) == "please" && (ASKING.contains(&text(at + 1)) || QUESTION.contains(&text(at + 1))) {
        at += 1;
    }
    if text(at) == "tell" && text(at + 1) == "me" && TOLD.contains(&text(at + 2)) {
        at += 2;
    }
    at
}

/// Marks "please" and thanks behind a comma or a sentence at the end, and drops that comma.
fn soft_end(words: &mut [Word<'_>], begin: usize) {
    let text = |back: usize| words.len().checked_sub(back).and_then(|at| words.get(at)).map_or("", |word| &*word.text);
    let polite = match (text(2), text(1)) {
        ("thank" | "Thank", "you") => 2,
        (_, "please" | "thanks" | "Thanks") => 1,
        _ => return,
    };
    let Some(before) = words.len().checked_sub(polite + 1).filter(|before| *before >= begin) else { return };
    let ends_question = words[before].text.ends_with('?');
    if !drop_end(&mut words[before].text, &[',', '.']) && !ends_question {
        return;
    }
    for word in words.iter_mut().skip(before + 1) {
        word.is_soft = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hard(text: &str) -> Option<String> {
        Wording::of(text).map(|wording| wording.hard)
    }

    #[test]
    fn politeness_and_spelling_say_nothing() {
        for (text, expected) in [
            ("What is the price of BTC?", "what is price of BTC"),
            ("what's the price of BTC", "what is price of BTC"),
            ("What\u{2019}s the price of BTC.", "what is price of BTC"),
            ("Could you please tell me what the price of BTC is?", "what price of BTC is"),
            ("What is the price of BTC? Thanks.", "what is price of BTC"),
            ("Hello, please explain the trend of BTC.", "explain trend of BTC"),
            ("Analyse the trend, please", "analyze trend"),
            ("Analyze the trend. Thank you!", "analyze trend"),
            ("Isn't BTC up?", "is not BTC up?"),
        ] {
            assert_eq!(hard(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn where_it_may_say_something_it_is_kept() {
        for (text, expected) in [
            ("BTC rises?", "BTC rises?"),
            ("BTC rises.", "BTC rises"),
            ("BTC rises? Thanks", "BTC rises?"),
            ("The Block is up", "The Block is up"),
            ("price of the graph", "price of the graph"),
            ("Apple is up", "Apple is up"),
            ("WHAT is up", "WHAT is up"),
            ("Can you sell BTC", "can you sell BTC"),
            ("Tell me when BTC rises", "tell me when BTC rises"),
            ("Define please", "define please"),
            ("sell, not buy", "sell, not buy"),
            ("AAPL 5\n10 MSFT", "AAPL 5 \n 10 MSFT"),
            ("is it -5.", "is it -5"),
            ("is it 5%", "is it 5%"),
        ] {
            assert_eq!(hard(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn quotes_data_and_long_texts_are_not_read() {
        let long = "a ".repeat(LONGEST_TEXT);
        for text in ["", "say \"the bank\"", "say 'the price'", "a `b`", "{a}", "a   b", "a\n b", "a\tb", long.as_str()]
        {
            assert_eq!(hard(text), None, "{text:?}");
        }
    }

    #[test]
    fn politeness_weighs_little_but_not_nothing() {
        let of = |text: &str| Wording::of(text).unwrap();
        let plain = of("What is the current price trend of BTC against ETH in one word?");
        assert!(plain.similarity(&of("Please, what is current price trend of BTC against ETH in one word")) > 0.92);
        let short = of("What moved?");
        let polite = of("Hello, could you please tell me what moved, thank you");
        assert_eq!(short.hard(), polite.hard());
        assert!(short.similarity(&polite) < 0.92, "{}", short.similarity(&polite));
    }
}
