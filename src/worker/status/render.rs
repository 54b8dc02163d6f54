//! A status page in each of its formats, as php-fpm writes them.

use super::fields::{self, Field, Value};
use super::openmetrics;
use super::snapshot::Snapshot;
use super::summary::visible;
use crate::zone::Zone;
use std::borrow::Cow;
use std::fmt::Write;

/// How a status page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines of names and values.
    Plain,
    /// A JSON object.
    Json,
    /// An XML document.
    Xml,
    /// A page for people.
    Html,
    /// What Prometheus reads.
    OpenMetrics,
}

/// What a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The format.
    pub format: Format,
    /// Whether each worker is told of as well.
    pub full: bool,
}

impl Query {
    /// Reads a query: names between `&`, whose values do not matter. The first of html, xml, json and openmetrics that
    /// is there decides; without one it is plain text.
    #[must_use]
    pub fn parse(query: &[u8]) -> Self {
        let asks = |name: &str| {
            query
                .split(|&byte| byte == b'&')
                .filter_map(|part| part.split(|&byte| byte == b'=').next())
                .any(|part| part == name.as_bytes())
        };
        let format = [
            ("html", Format::Html),
            ("xml", Format::Xml),
            ("json", Format::Json),
            ("openmetrics", Format::OpenMetrics),
        ]
        .into_iter()
        .find(|(name, _)| asks(name))
        .map_or(Format::Plain, |(_, format)| format);
        Self {
            format,
            // There are no metrics of single workers, whose labels would never end.
            full: format != Format::OpenMetrics && asks("full"),
        }
    }
}

impl Format {
    /// The header line that says what it is, with php-fpm's case of letters.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "Content-type: text/plain;charset=UTF-8",
            Self::Json => "Content-Type: application/json",
            Self::Xml => "Content-type: text/xml;charset=UTF-8",
            Self::Html => "Content-type: text/html;charset=UTF-8",
            Self::OpenMetrics => {
                "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
        }
    }
}

/// The page. Times are in `zone` where people read them.
#[must_use]
pub fn render(snapshot: &Snapshot<'_>, query: Query, zone: &Zone) -> String {
    let pool = fields::of_pool(snapshot);
    let workers: Vec<Vec<Field<'_>>> = snapshot.workers.iter().map(fields::of_worker).collect();
    let workers = query.full.then_some(workers.as_slice());
    let mut page = Page {
        text: String::with_capacity(1024 * (1 + snapshot.workers.len())),
        zone,
    };
    match query.format {
        Format::Plain => page.plain(&pool, workers),
        Format::Json => page.json(&pool, workers),
        Format::Xml => page.xml(&pool, workers),
        Format::Html => page.html(&pool, workers),
        Format::OpenMetrics => openmetrics::write(&mut page.text, snapshot),
    }
    page.text
}

struct Page<'a> {
    text: String,
    zone: &'a Zone,
}

/// Writes to the page. Writing to a String cannot fail.
macro_rules! put {
    ($page:expr, $($part:tt)*) => {
        { let _ = write!($page.text, $($part)*); }
    };
}

impl Page<'_> {
    fn plain(&mut self, pool: &[Field<'_>], workers: Option<&[Vec<Field<'_>>]>) {
        self.lines(pool);
        for worker in workers.unwrap_or_default() {
            self.text.push_str("\n************************\n");
            self.lines(worker);
        }
    }

    fn lines(&mut self, fields: &[Field<'_>]) {
        for field in fields {
            // The one name that php-fpm writes in two ways.
            let name = match field.name {
                "request uri" => "request URI",
                "slowest uri" => "slowest URI",
                name => name,
            };
            let value = self.value(&field.value);
            put!(self, "{:<21} {}\n", format!("{name}:"), visible(&value));
        }
    }

    fn json(&mut self, pool: &[Field<'_>], workers: Option<&[Vec<Field<'_>>]>) {
        self.text.push('{');
        self.members(pool);
        if let Some(workers) = workers {
            self.text.push_str(", \"processes\":[");
            for (index, worker) in workers.iter().enumerate() {
                self.text.push_str(if index == 0 { "{" } else { ",{" });
                self.members(worker);
                self.text.push('}');
            }
            self.text.push(']');
        }
        self.text.push('}');
    }

    fn members(&mut self, fields: &[Field<'_>]) {
        for (index, field) in fields.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            put!(self, "{comma}\"{}\":", field.name);
            match field.value {
                Value::Text(text) => self.json_string(text),
                Value::Number(number) | Value::Time(number) => put!(self, "{number}"),
                Value::Decimal(number, digits) => put!(self, "{number:.digits$}"),
            }
        }
    }

    fn json_string(&mut self, text: &str) {
        self.text.push('"');
        for character in text.chars() {
            match character {
                '"' | '\\' => put!(self, "\\{character}"),
                // Also the separators that end a line in JavaScript, and what could end a script in a page.
                '\u{2028}' | '\u{2029}' | '<' => {
                    put!(self, "\\u{:04x}", u32::from(character));
                }
                _ if character.is_control() => {
                    put!(self, "\\u{:04x}", u32::from(character));
                }
                other => self.text.push(other),
            }
        }
        self.text.push('"');
    }

    fn xml(&mut self, pool: &[Field<'_>], workers: Option<&[Vec<Field<'_>>]>) {
        self.text.push_str("<?xml version=\"1.0\" ?>\n<status>\n");
        self.elements(pool, "\n");
        if let Some(workers) = workers {
            self.text.push_str("<processes>\n");
            for worker in workers {
                self.text.push_str("<process>");
                self.elements(worker, "");
                self.text.push_str("</process>\n");
            }
            self.text.push_str("</processes>\n");
        }
        self.text.push_str("</status>");
    }

    fn elements(&mut self, fields: &[Field<'_>], end: &str) {
        for field in fields {
            let name = field.name.replace(' ', "-");
            let value = match field.value {
                Value::Time(time) => Cow::Owned(time.to_string()),
                ref value => self.value(value),
            };
            put!(self, "<{name}>{}</{name}>{end}", escape(&value));
        }
    }

    fn html(&mut self, pool: &[Field<'_>], workers: Option<&[Vec<Field<'_>>]>) {
        self.text.push_str(
            "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">\n\
             <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n\
             <head><title>PHP-FPM Status Page</title></head>\n<body>\n<table>\n",
        );
        for field in pool {
            let value = self.value(&field.value);
            put!(
                self,
                "<tr><th>{}</th><td>{}</td></tr>\n",
                field.name,
                escape(&value)
            );
        }
        self.text.push_str("</table>\n");
        if let Some(workers) = workers {
            self.text.push_str("<table border=\"1\">\n<tr>");
            for field in fields::of_worker(&Default::default()) {
                put!(self, "<th>{}</th>", field.name);
            }
            self.text.push_str("</tr>\n");
            for worker in workers {
                self.text.push_str("<tr>");
                for field in worker {
                    let value = self.value(&field.value);
                    put!(self, "<td>{}</td>", escape(&value));
                }
                self.text.push_str("</tr>\n");
            }
            self.text.push_str("</table>");
        }
        self.text.push_str("</body></html>");
    }

    /// A value for people.
    fn value<'v>(&self, value: &Value<'v>) -> Cow<'v, str> {
        match *value {
            Value::Text(text) => Cow::Borrowed(text),
            Value::Number(number) => Cow::Owned(number.to_string()),
            Value::Decimal(number, digits) => Cow::Owned(format!("{number:.digits$}")),
            Value::Time(time) => Cow::Owned(self.time(time)),
        }
    }

    fn time(&self, time: u64) -> String {
        let seconds = i64::try_from(time).unwrap_or(0);
        let offset = chrono::FixedOffset::east_opt(self.zone.at(seconds).0);
        match (offset, chrono::DateTime::from_timestamp(seconds, 0)) {
            (Some(offset), Some(instant)) => instant
                .with_timezone(&offset)
                .format("%d/%b/%Y:%H:%M:%S %z")
                .to_string(),
            _ => "-".to_owned(),
        }
    }
}

/// For HTML and XML, which allow neither markup nor control characters in a text.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in visible(text).chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#039;"),
            // The two that XML has no way to write.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}
