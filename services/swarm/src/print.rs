//! Printing that outlives its reader. `print!`, `println!` and `eprintln!` of this crate are these, not the standard
//! library's, which panic when nobody reads any more (`swarm replay | head`) and would take a running swarm with them.
//!
//! A reader that left is no failure: what was not read is dropped and the command goes on. Output that could not be
//! written for another reason (a full disk) is: it is said once, and [`status`] turns a success into 74 (EX_IOERR).

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code for output that could not be written.
const EXIT_OUTPUT: u8 = 74;

static FAILED: AtomicBool = AtomicBool::new(false);

macro_rules! print {
    ($($part:tt)*) => { $crate::print::out(format_args!($($part)*)) };
}

macro_rules! println {
    ($($part:tt)*) => { $crate::print::out(format_args!("{}\n", format_args!($($part)*))) };
}

macro_rules! eprintln {
    ($($part:tt)*) => { $crate::print::err(format_args!("{}\n", format_args!($($part)*))) };
}

/// Writes to standard output.
pub(crate) fn out(text: Arguments<'_>) {
    if let Some(error) = write(&mut std::io::stdout().lock(), text)
        && !FAILED.swap(true, Ordering::Relaxed)
    {
        err(format_args!("the output could not be written: {error}\n"));
    }
}

/// Writes to standard error; there is nowhere left to say that it failed.
pub(crate) fn err(text: Arguments<'_>) {
    let _ = write(&mut std::io::stderr().lock(), text);
}

/// How a command ended: as `ended` says, unless its output was lost.
#[must_use]
pub fn status(ended: ExitCode) -> ExitCode {
    if ended == ExitCode::SUCCESS && FAILED.load(Ordering::Relaxed) { ExitCode::from(EXIT_OUTPUT) } else { ended }
}

/// What went wrong, but for a reader that left.
fn write(to: &mut impl Write, text: Arguments<'_>) -> Option<std::io::Error> {
    let written = to.write_fmt(text).and_then(|()| to.flush());
    written.err().filter(|error| error.kind() != ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_reader_that_left_is_no_failure() {
        let failure = |kind| write(&mut Broken(kind), format_args!("x")).map(|error| error.kind());
        assert_eq!(failure(ErrorKind::BrokenPipe), None);
        assert_eq!(failure(ErrorKind::StorageFull), Some(ErrorKind::StorageFull));
        let mut whole = Vec::new();
        assert!(write(&mut whole, format_args!("{} {}\n", 1, "b")).is_none());
        assert_eq!(whole, b"1 b\n");
    }
}
