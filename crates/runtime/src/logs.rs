//! Logs: one JSON object a line on stderr, the correlation id first. Where stderr is a file, it does not grow for ever
//! ([`CappedLog`]).

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use domain::time::Clock;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::SystemClock;

/// Starts logging for the process `agent`. `RUST_LOG` decides what is logged; `info` when it is absent or bad. Does
/// nothing when logging was started before.
pub(crate) fn start(agent: &'static str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let writer = match CappedLog::of_stderr() {
        Some(log) => BoxMakeWriter::new(Mutex::new(log)),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .fmt_fields(JsonFields::new())
        .event_format(JsonLine { agent })
        .try_init();
}

/// A log file grows to this, bytes; then it is set aside as `<file>.1`, in place of the one before it.
const LOG_BYTES: u64 = 8 << 20;

/// A file that is set aside when it is full. No line is lost or cut: the process that writes it is the one that turns it.
struct CappedLog {
    path: PathBuf,
    file: File,
    written: u64,
    most: u64,
    /// Makes the new file what the process writes to besides its log: panics and what libraries print.
    redirect: fn(&File),
}

impl CappedLog {
    /// The file that stderr is; `None` when it is none (a terminal, a pipe, a journal of the system).
    fn of_stderr() -> Option<Self> {
        let path = std::fs::read_link("/proc/self/fd/2").ok().filter(|path| path.is_file())?;
        let redirect = |file: &File| {
            // Can't be told here, where the log is being written; what libraries print then goes to the old file.
            let _ = nix::unistd::dup2_stdout(file).and_then(|()| nix::unistd::dup2_stderr(file));
        };
        Self::open(path, LOG_BYTES, redirect).ok()
    }

    fn open(path: PathBuf, most: u64, redirect: fn(&File)) -> std::io::Result<Self> {
        let file = append_to(&path)?;
        let written = file.metadata()?.len();
        Ok(Self { path, file, written, most, redirect })
    }

    fn turn(&mut self) -> std::io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        std::fs::rename(&self.path, aside)?;
        self.file = append_to(&self.path)?;
        self.written = 0;
        (self.redirect)(&self.file);
        Ok(())
    }
}

fn append_to(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Write for CappedLog {
    /// Takes whole lines.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.written > 0 && self.written.saturating_add(bytes) > self.most && self.turn().is_err() {
            // A full disk, perhaps: not tried again with every line.
            self.written = self.most / 2;
        }
        self.file.write_all(line)?;
        self.written = self.written.saturating_add(bytes);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

struct JsonLine {
    agent: &'static str,
}

#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn push(&mut self, field: &Field, value: Value) {
        self.0.push((field.name(), value));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.into());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.push(field, format!("{value:?}").into());
    }
}

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut own = Fields::default();
        event.record(&mut own);
        let mut inherited = serde_json::Map::new();
        for span in ctx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>()
                && let Ok(Value::Object(map)) = serde_json::from_str(&fields.fields)
            {
                inherited.extend(map);
            }
        }
        let correlation_id = own.0.iter().find(|(name, _)| *name == "correlation_id").map(|(_, v)| v.clone());
        let correlation_id = correlation_id.or_else(|| inherited.get("correlation_id").cloned()).unwrap_or(Value::Null);
        let mut line = String::with_capacity(256);
        let at = SystemClock.now().to_string();
        write!(line, "{{\"correlation_id\":{correlation_id},\"at\":{},", Value::from(at))?;
        write!(line, "\"level\":\"{}\",\"agent\":\"{}\"", event.metadata().level(), self.agent)?;
        own.0.sort_by_key(|(name, _)| *name != "message");
        let known = ["correlation_id", "at", "level", "agent", "target"];
        for (name, value) in own.0.iter().filter(|(name, _)| !known.contains(name)) {
            write!(line, ",{}:{value}", Value::from(*name))?;
        }
        for (name, value) in &inherited {
            if !known.contains(&name.as_str()) && !own.0.iter().any(|(n, _)| n == name) {
                write!(line, ",{}:{value}", Value::from(name.as_str()))?;
            }
        }
        write!(line, ",\"target\":{}}}", Value::from(event.metadata().target()))?;
        writeln!(writer, "{line}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_log_is_set_aside_and_only_the_last_one_is_kept() {
        static REDIRECTED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let redirect = |_: &File| {
            REDIRECTED.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        };
        let folder = std::env::temp_dir().join(format!("swarm-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("agent.log");
        std::fs::write(&path, "old\n").unwrap();
        let mut log = CappedLog::open(path.clone(), 12, redirect).unwrap();
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!((read(&folder.join("agent.log.1")), read(&path)), ("three\nfour\n".into(), "five\n".into()));
        assert_eq!(REDIRECTED.load(std::sync::atomic::Ordering::SeqCst), 2);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_line_is_json_with_the_correlation_id_first() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .fmt_fields(JsonFields::new())
            .event_format(JsonLine { agent: "tester" })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("input", correlation_id = "abc", route = "Signal").in_scope(|| {
                tracing::warn!(attempts = 3u64, "it \"failed\"");
            });
            tracing::info!("alone");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with(r#"{"correlation_id":"abc","at":""#), "{text}");
        assert!(lines[1].starts_with(r#"{"correlation_id":null,"at":""#), "{text}");
        let first: Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(first["message"], "it \"failed\"");
        assert_eq!(first["attempts"], 3);
        assert_eq!(first["route"], "Signal");
        assert_eq!(first["agent"], "tester");
        assert_eq!(first["level"], "WARN");
    }
}
