//! Logs: one JSON object a line on stderr, the correlation id first.

use std::fmt::Write as _;

use domain::time::Clock;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::SystemClock;

/// Starts logging for the process `agent`. `RUST_LOG` decides what is logged; `info` when it is absent or bad. Does
/// nothing when logging was started before.
pub(crate) fn start(agent: &'static str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .fmt_fields(JsonFields::new())
        .event_format(JsonLine { agent })
        .try_init();
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
    use std::io::Write;
    use std::sync::{Arc, Mutex};

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
