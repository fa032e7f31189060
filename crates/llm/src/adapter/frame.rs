//! Cuts a body into events: server-sent events (WHATWG HTML, section 9.2) or lines of JSON. The bytes may come in any
//! pieces. What is held is bounded.

use crate::failure::{Failure, Kind};

/// Longest line and longest data of an event, bytes.
pub(super) const LONGEST_LINE: usize = 1 << 20;

/// How a body is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events.
    Sse,
    /// A JSON value on each line.
    Lines,
}

/// Cuts.
#[derive(Debug)]
pub(super) struct Framer {
    framing: Framing,
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
    at_start: bool,
}

impl Framer {
    pub(super) const fn new(framing: Framing) -> Self {
        Self { framing, line: Vec::new(), data: Vec::new(), has_data: false, after_cr: false, at_start: true }
    }

    /// Takes more of the body and gives each event that is whole.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        each: &mut impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let is_sse = self.framing == Framing::Sse;
        while let Some(first) = bytes.first() {
            // CR LF is one end of a line, also when a piece of the body ends between them.
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                bytes = bytes.get(1..).unwrap_or_default();
                continue;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n' || (is_sse && *byte == b'\r'));
            let Some(end) = end else { return self.hold(bytes) };
            let (head, rest) = bytes.split_at(end);
            self.after_cr = rest.first() == Some(&b'\r');
            bytes = rest.get(1..).unwrap_or_default();
            if self.line.is_empty() && head.len() <= LONGEST_LINE {
                self.take(head, each)?;
            } else {
                self.hold(head)?;
                let mut line = std::mem::take(&mut self.line);
                let taken = self.take(&line, each);
                line.clear();
                self.line = line;
                taken?;
            }
        }
        Ok(())
    }

    /// The body is over: what is held is the last event, though nothing ended it.
    pub(super) fn finish(&mut self, each: &mut impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take(&line, each)?;
        }
        self.dispatch(each)
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.line.len() + bytes.len() > LONGEST_LINE {
            return Err(too_long());
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn take(&mut self, line: &[u8], each: &mut impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let line =
            if std::mem::take(&mut self.at_start) { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        if self.framing == Framing::Lines {
            let line = line.trim_ascii();
            return if line.is_empty() { Ok(()) } else { each(line) };
        }
        if line.is_empty() {
            return self.dispatch(each);
        }
        // A comment starts with the colon: its field is empty.
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        // Old llama.cpp writes errors as a field of that name.
        if field == b"data" || field == b"error" {
            if self.data.len() + value.len() >= LONGEST_LINE {
                return Err(too_long());
            }
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        }
        Ok(())
    }

    fn dispatch(&mut self, each: &mut impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        if !std::mem::take(&mut self.has_data) {
            return Ok(());
        }
        let done = if self.data.iter().all(u8::is_ascii_whitespace) { Ok(()) } else { each(&self.data) };
        self.data.clear();
        done
    }
}

fn too_long() -> Failure {
    Failure::new(Kind::TooLarge, format!("a line of the stream is longer than {LONGEST_LINE} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(framing: Framing, parts: &[&str]) -> Vec<String> {
        let (mut framer, mut out) = (Framer::new(framing), Vec::new());
        let mut each = |event: &[u8]| {
            out.push(String::from_utf8_lossy(event).into_owned());
            Ok(())
        };
        for part in parts {
            framer.push(part.as_bytes(), &mut each).unwrap();
        }
        framer.finish(&mut each).unwrap();
        out
    }

    #[test]
    fn events_are_cut_as_the_standard_says() {
        let rows: &[(&[&str], &[&str])] = &[
            (&["data: a\n\ndata: b\n\n"], &["a", "b"]),
            // Lines of one event are joined by a line feed, whatever ended them.
            (&["data: a\ndata: b\n\n"], &["a\nb"]),
            (&["data: a\r\ndata: b\r\n\r\n"], &["a\nb"]),
            (&["data: a\rdata: b\r\r"], &["a\nb"]),
            (&["data: a\r", "\ndata: b\r", "\n", "\r\n"], &["a\nb"]),
            (&["data:a\n\ndata:  b\n\n"], &["a", " b"]),
            (&[": comment\n\nevent: x\nid: 1\nretry: 3\ndata: a\n: more\n\n"], &["a"]),
            (&["\u{feff}data: a\n\n"], &["a"]),
            (&["data\n\ndata:\n\nevent: x\n\n\n\n"], &[]),
            (&["error: a\n\n"], &["a"]),
            // The body may end without the last end of a line.
            (&["data: a\n"], &["a"]),
            (&["data: a\nda", "ta: b"], &["a\nb"]),
        ];
        for (parts, expected) in rows {
            assert_eq!(events(Framing::Sse, parts), *expected, "{parts:?}");
        }
        assert_eq!(events(Framing::Lines, &["{1}\r\n\n {2", "}\n{3}"]), ["{1}", "{2}", "{3}"]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut none = |_: &[u8]| Ok(());
        let half = "x".repeat(LONGEST_LINE / 2 + 1);
        for framing in [Framing::Sse, Framing::Lines] {
            let mut framer = Framer::new(framing);
            assert!(framer.push(half.as_bytes(), &mut none).is_ok());
            assert_eq!(framer.push(half.as_bytes(), &mut none).unwrap_err().kind, Kind::TooLarge);
        }
        let mut framer = Framer::new(Framing::Sse);
        let line = format!("data: {half}\n");
        assert!(framer.push(line.as_bytes(), &mut none).is_ok());
        assert_eq!(framer.push(line.as_bytes(), &mut none).unwrap_err().kind, Kind::TooLarge, "of many lines too");
    }
}
