//! Reads one section of a TOML file key by key and notes every fault instead of stopping at the first. A key that was
//! not asked for is a fault too.
//!
//! Architecture invariant: it knows forms (words, numbers, symbols), no setting and no default.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

use domain::market::Symbol;
use domain::money::parse_plain;
use rust_decimal::Decimal;

/// One section on its way into checked values.
#[derive(Debug)]
pub struct Section<'a> {
    path: String,
    table: toml::Table,
    faults: &'a mut Vec<String>,
}

impl<'a> Section<'a> {
    /// A section at `path` (empty for the whole file), whose faults go to `faults`.
    pub fn new(path: &str, table: toml::Table, faults: &'a mut Vec<String>) -> Self {
        Self { path: path.to_owned(), table, faults }
    }

    fn fault(&mut self, key: &str, what: impl std::fmt::Display) {
        self.faults.push(format!("{}{key}: {what}", self.path));
    }

    fn take(&mut self, key: &str) -> Option<toml::Value> {
        let value = self.table.remove(key);
        if value.is_none() {
            self.fault(key, "missing");
        }
        value
    }

    /// `true` or `false`; false after a fault.
    pub fn flag(&mut self, key: &str) -> bool {
        match self.take(key) {
            Some(toml::Value::Boolean(value)) => value,
            Some(_) => {
                self.fault(key, "not true or false");
                false
            }
            None => false,
        }
    }

    /// A short word that may stand in a subject; empty after a fault.
    pub fn text(&mut self, key: &str) -> String {
        match self.take(key) {
            Some(toml::Value::String(value)) if domain::subject::is_token(&value) => value,
            Some(_) => {
                self.fault(key, "not a word of letters, digits, _ and -");
                String::new()
            }
            None => String::new(),
        }
    }

    /// Any text on one line; empty after a fault.
    pub fn line(&mut self, key: &str) -> String {
        match self.take(key) {
            Some(toml::Value::String(value)) if !value.chars().any(char::is_control) => value,
            Some(_) => {
                self.fault(key, "not a text on one line");
                String::new()
            }
            None => String::new(),
        }
    }

    /// A list of texts of one line each, maybe empty; what is none is left out and noted.
    pub fn lines(&mut self, key: &str) -> Vec<String> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let texts = value.as_array().into_iter().flatten().filter_map(toml::Value::as_str);
        let lines: Vec<String> = texts.filter(|text| !text.chars().any(char::is_control)).map(str::to_owned).collect();
        if Some(lines.len()) != value.as_array().map(Vec::len) {
            self.fault(key, "not a list of texts on one line");
        }
        lines
    }

    /// A list of different words that may stand in a subject; what is none is left out and noted.
    pub fn words(&mut self, key: &str) -> Vec<String> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let mut words: Vec<String> = Vec::new();
        for item in value.as_array().into_iter().flatten() {
            if let Some(word) = item.as_str().filter(|word| domain::subject::is_token(word))
                && !words.iter().any(|known| known == word)
            {
                words.push(word.to_owned());
            }
        }
        if Some(words.len()) != value.as_array().map(Vec::len) {
            self.fault(key, "not a list of different words");
        }
        words
    }

    /// A whole number from `least` to `most`; `least` after a fault.
    pub fn whole(&mut self, key: &str, least: i64, most: i64) -> i64 {
        match self.take(key) {
            Some(toml::Value::Integer(value)) if (least..=most).contains(&value) => value,
            Some(_) => {
                self.fault(key, format_args!("not a whole number from {least} to {most}"));
                least
            }
            None => least,
        }
    }

    /// A plain decimal, written as text, from `least` to `most`; `least` after a fault.
    pub fn decimal(&mut self, key: &str, least: Decimal, most: Decimal) -> Decimal {
        let value = match self.take(key) {
            Some(toml::Value::String(text)) => parse_plain(&text).ok(),
            Some(_) => None,
            None => return least,
        };
        match value {
            Some(value) if value >= least && value <= most => value,
            _ => {
                self.fault(key, format_args!("not a decimal in quotes from {least} to {most}"));
                least
            }
        }
    }

    /// One of the named values; the first after a fault.
    ///
    /// # Panics
    /// Never: `choices` is a non-empty literal at every call.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> T {
        let found = match self.take(key) {
            Some(toml::Value::String(word)) => choices.iter().find(|(name, _)| *name == word).map(|(_, value)| *value),
            Some(_) => None,
            None => return choices[0].1,
        };
        found.unwrap_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.fault(key, format_args!("not one of {}", names.join(", ")));
            choices[0].1
        })
    }

    /// A non-empty list of different symbols; what is no symbol is left out and noted.
    pub fn symbols(&mut self, key: &str) -> Vec<Symbol> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let texts: Vec<String> = value
            .as_array()
            .map(|list| list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
            .unwrap_or_default();
        let mut symbols: Vec<Symbol> = texts.iter().filter_map(|text| Symbol::parse(text)).collect();
        symbols.sort();
        symbols.dedup();
        if symbols.is_empty() || Some(symbols.len()) != value.as_array().map(Vec::len) {
            self.fault(key, "not a list of different symbols");
        }
        symbols
    }

    /// The keys of a section inside this one; `None` when it is missing, or when `read` says so.
    pub fn part<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> Option<T>) -> Option<T> {
        match self.take(key) {
            Some(toml::Value::Table(table)) => {
                let mut part = Section::new(&format!("{}{key}.", self.path), table, self.faults);
                let value = read(&mut part);
                part.finish();
                value
            }
            Some(_) => {
                self.fault(key, "not a section");
                None
            }
            None => None,
        }
    }

    /// The keys that were not asked for yet, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    /// Notes something wrong with a key.
    pub fn note(&mut self, key: &str, what: &str) {
        self.fault(key, what);
    }

    /// Notes every key that nobody asked for.
    pub fn finish(mut self) {
        let left: Vec<String> = self.table.keys().cloned().collect();
        for key in left {
            self.fault(&key, "unknown");
        }
    }
}

/// Parses `text`, lets `read` take its keys, and refuses when anything was wrong or left over.
///
/// # Errors
/// All faults found.
pub fn checked<T>(text: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Result<T, Vec<String>> {
    let table = text.parse::<toml::Table>().map_err(|error| vec![error.message().to_owned()])?;
    let mut faults = Vec::new();
    let mut section = Section::new("", table, &mut faults);
    let value = read(&mut section);
    section.finish();
    if faults.is_empty() { Ok(value) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_noted_with_its_path() {
        let text = "a = 1\nb = \"x y\"\nc = [\"one\", \"one\"]\nh = [\"one\", 2]\n[d]\ne = \"two\\nlines\"\nf = 1";
        let faults = checked(text, |section| {
            section.whole("a", 2, 3);
            section.text("b");
            section.words("c");
            section.part("d", |part| {
                part.line("e");
                Some(())
            });
            section.flag("g");
            section.lines("h");
        })
        .unwrap_err();
        let named: Vec<&str> = faults.iter().filter_map(|fault| fault.split(':').next()).collect();
        assert_eq!(named, ["a", "b", "c", "d.e", "d.f", "g", "h"]);
    }

    #[test]
    fn good_values_are_taken() {
        let text =
            "line = \"any text, on one line\"\nwords = [\"one\", \"two\"]\nlines = [\"a b\", \"a b\"]\nnone = []";
        let read = checked(text, |section| {
            let lines = (section.lines("lines"), section.lines("none"));
            (section.line("line"), section.words("words"), lines)
        });
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let lines = (texts(&["a b", "a b"]), Vec::new());
        assert_eq!(read.unwrap(), ("any text, on one line".to_owned(), texts(&["one", "two"]), lines));
    }
}
