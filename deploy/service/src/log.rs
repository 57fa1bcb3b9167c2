//! Where log lines go and what they look like: calm text for people, or one JSON object per line.
//!
//! Lines go to standard error; standard output belongs to what was asked for. Field names of the
//! JSON form are a contract with log pipelines: `ts level msg target`, then the fields of the event
//! and of the spans around it.

use std::fmt;
use std::io::IsTerminal;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{Setting, Values, parse};

/// Every binary has these.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::with_default("log.format", "Log lines as text or json.", "text")
        .shared("PIPEMESH_LOG_FORMAT"),
    Setting::optional(
        "log.filter",
        "What is logged; info if not set. RUST_LOG is read when this is not set.",
        "info,pipemesh_node=debug",
    )
    .shared("PIPEMESH_LOG"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug)]
pub struct Options {
    pub format: Format,
    pub filter: Box<EnvFilter>,
    /// In every JSON line.
    pub fields: Vec<(&'static str, String)>,
}

impl Options {
    pub(crate) fn read(values: &mut Values<'_>) -> Option<Self> {
        let format = values.required(
            "log.format",
            parse::one_of(&[("text", Format::Text), ("json", Format::Json)]),
        );
        let filter = values.optional("log.filter", filter);
        Some(Self {
            format: format?,
            filter: filter?.unwrap_or_else(|| EnvFilter::new("info")).into(),
            fields: Vec::new(),
        })
    }
}

/// Changes what is logged while the process runs.
#[derive(Debug, Clone)]
pub struct Handle(reload::Handle<EnvFilter, Registry>);

impl Handle {
    /// # Errors
    /// A predicate about the text.
    pub fn set_filter(&self, text: &str) -> Result<(), String> {
        self.0
            .reload(filter(text)?)
            .map_err(|error| error.to_string())
    }
}

/// Installs the process-wide log, panics included. Does nothing to a log that a test has installed.
pub fn init(options: Options) -> Handle {
    let (filter, handle) = reload::Layer::new(*options.filter);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match options.format {
        Format::Text => lines.compact().with_ansi(colour).boxed(),
        Format::Json => {
            let fields = options.fields.into_iter();
            let json = Json {
                fields: fields.map(|(name, value)| (name, value.into())).collect(),
            };
            lines
                .fmt_fields(JsonFields::new())
                .event_format(json)
                .boxed()
        }
    };
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("without a message");
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panicked: {message}");
    }));
    Handle(handle)
}

fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| format!("is not a log filter: {error}"))
}

/// One JSON object per line, flat: spans from the outermost in, then the event, later wins.
struct Json {
    fields: Vec<(&'static str, Value)>,
}

impl<S> FormatEvent<S, JsonFields> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut ts = String::new();
        SystemTime.format_time(&mut Writer::new(&mut ts))?;
        let metadata = event.metadata();
        let mut line = Map::new();
        line.insert("ts".to_owned(), ts.into());
        line.insert(
            "level".to_owned(),
            metadata.level().as_str().to_lowercase().into(),
        );
        line.insert("msg".to_owned(), "".into());
        line.insert("target".to_owned(), metadata.target().into());
        line.extend(
            self.fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<JsonFields>>();
            if let Some(Ok(fields)) = fields.map(|f| serde_json::from_str::<Map<_, _>>(&f.fields)) {
                line.extend(fields);
            }
        }
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let name = if field.name() == "message" {
            "msg"
        } else {
            field.name()
        };
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_is_flat() {
        let lines = Lines::default();
        let writer = lines.clone();
        let json = Json {
            fields: vec![("node_id", "node-a".into())],
        };
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .fmt_fields(JsonFields::new())
            .event_format(json);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let room = tracing::info_span!("room", room = "blue", tracks = 3);
            let _entered = room.enter();
            let participant = tracing::info_span!("participant", participant = "PA_1");
            let _entered = participant.enter();
            tracing::warn!(target: "pipemesh", lost = true, tracks = 4, "the \"link\"\nbroke");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let mut line: Map<String, Value> = serde_json::from_str(&text).unwrap();
        let ts = line.remove("ts").unwrap();
        assert!(ts.as_str().unwrap().ends_with('Z'), "{ts}");
        let expected = serde_json::json!({
            "level": "warn", "msg": "the \"link\"\nbroke", "target": "pipemesh",
            "node_id": "node-a", "room": "blue", "participant": "PA_1", "lost": true, "tracks": 4,
        });
        assert_eq!(Value::Object(line), expected);
    }

    #[test]
    fn filters_are_judged_and_can_be_changed() {
        assert!(filter("info,pipemesh_node=debug").is_ok());
        assert!(
            filter("=noise=")
                .unwrap_err()
                .starts_with("is not a log filter: ")
        );
        let (_layer, handle) = reload::Layer::new(EnvFilter::new("info"));
        let handle = Handle(handle);
        assert_eq!(handle.set_filter("debug"), Ok(()));
        assert!(handle.set_filter("=noise=").is_err());
    }
}
