//! `access.format`, taken apart.

use chrono::format::{Item, StrftimeItems};

/// What `access.format = json` stands for.
const JSON: &str = r#"{"time":"%{%Y-%m-%dT%H:%M:%S%:z}t","pool":"%n","pid":%p,"remote":"%R","user":"%u","method":"%m","uri":"%r%Q%q","status":%s,"duration":%d,"cpu":%C,"memory":%M,"length":%l}"#;

/// php-fpm's form of a time.
const TIME: &str = "%d/%b/%Y:%H:%M:%S %z";

/// Bytes of a format, and of what stands in its braces.
const MAX_FORMAT: usize = 4096;

/// The form of a line of the access log.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    pub(super) parts: Vec<Part>,
}

/// A piece of a format.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// As it stands.
    Text(String),
    /// What a code stands for.
    Field(Field),
}

/// What a code stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field {
    /// `%C`
    Cpu(Cpu),
    /// `%d`
    Duration(Fraction),
    /// `%e`
    Param(String),
    /// `%f`
    Script,
    /// `%l`
    ContentLength,
    /// `%m`
    Method,
    /// `%M`: in units of so many bytes
    Memory(u64),
    /// `%n`
    Pool,
    /// `%o`
    Header(String),
    /// `%p`
    Pid,
    /// `%P`
    Parent,
    /// `%q`
    Query,
    /// `%Q`
    QuestionMark,
    /// `%r`
    Path,
    /// `%R`
    Peer,
    /// `%s`
    Status,
    /// `%t`
    Received(Vec<TimePart>),
    /// `%T`
    Written(Vec<TimePart>),
    /// `%u`
    User,
}

/// Which time of the processor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cpu {
    User,
    System,
    Total,
}

/// The unit of a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fraction {
    Seconds,
    Milliseconds,
    Microseconds,
}

/// A piece of the form of a time.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TimePart {
    Items(Vec<Item<'static>>),
    /// `%Z`: the name of the time zone, which no instant knows by itself.
    Zone,
}

impl Format {
    /// Takes a format apart. `json` alone stands for an object a line with what php-fpm tells by default and more.
    ///
    /// # Errors
    /// What is wrong with it, in php-fpm's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "json" {
            return Self::parse(JSON);
        }
        if text.len() > MAX_FORMAT {
            return Err(format!("access.format has more than {MAX_FORMAT} bytes"));
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            plain.push_str(before);
            let (modifier, after) = modifier(after)?;
            let mut characters = after.chars();
            // Of a lone % at the end nothing is written, as by php-fpm.
            let code = match (characters.next(), modifier) {
                (Some(code), _) => code,
                (None, Some(_)) => return Err(UNCLOSED.to_owned()),
                (None, None) => {
                    rest = "";
                    break;
                }
            };
            rest = characters.as_str();
            let modifier = modifier.filter(|modifier| !modifier.is_empty());
            if code == '%' && modifier.is_none() {
                plain.push('%');
                continue;
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Field(field(code, modifier)?));
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// Whether a line tells what only the beginning of the answer says: its status or a header.
    #[must_use]
    pub fn needs_head(&self) -> bool {
        self.fields()
            .any(|field| matches!(field, Field::Status | Field::Header(_)))
    }

    /// Whether a line tells what the request cost.
    #[must_use]
    pub fn needs_usage(&self) -> bool {
        self.fields()
            .any(|field| matches!(field, Field::Cpu(_) | Field::Memory(_)))
    }

    fn fields(&self) -> impl Iterator<Item = &Field> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field(field) => Some(field),
            Part::Text(_) => None,
        })
    }
}

const UNCLOSED: &str = "missing closing embrace in the access.format";

/// The modifiers before a code, of which the last one counts, and what follows them.
fn modifier(mut text: &str) -> Result<(Option<&str>, &str), String> {
    let mut modifier = None;
    while let Some(after) = text.strip_prefix('{') {
        let (inner, after) = after.split_once('}').ok_or(UNCLOSED)?;
        modifier = Some(inner);
        text = after;
    }
    Ok((modifier, text))
}

/// The field of a code with its modifier.
fn field(code: char, modifier: Option<&str>) -> Result<Field, String> {
    let lower = modifier.map(str::to_ascii_lowercase);
    let only = |names: &str| {
        let given = modifier.unwrap_or_default();
        format!("only {names} are allowed as a modifier for %{code} ('{given}')")
    };
    let field = match code {
        'C' => Field::Cpu(match lower.as_deref() {
            None | Some("total") => Cpu::Total,
            Some("user") => Cpu::User,
            Some("system") => Cpu::System,
            Some(_) => return Err(only("'total', 'user' or 'system'")),
        }),
        'd' => Field::Duration(match lower.as_deref() {
            None | Some("seconds") => Fraction::Seconds,
            Some("milli" | "mili" | "milliseconds" | "miliseconds") => Fraction::Milliseconds,
            Some("micro" | "microseconds") => Fraction::Microseconds,
            Some(_) => {
                let names = "'seconds', 'milli', 'milliseconds', 'micro' or 'microseconds'";
                return Err(only(names));
            }
        }),
        'M' => Field::Memory(match lower.as_deref() {
            None | Some("bytes") => 1,
            Some("kilo" | "kilobytes") => 1 << 10,
            Some("mega" | "megabytes") => 1 << 20,
            Some(_) => {
                let names = "'bytes', 'kilo', 'kilobytes', 'mega' or 'megabytes'";
                return Err(only(names));
            }
        }),
        'e' | 'o' => match modifier {
            Some(name) if code == 'e' => Field::Param(name.to_owned()),
            Some(name) => Field::Header(name.to_owned()),
            None => {
                let what = if code == 'e' {
                    "environment variable"
                } else {
                    "header"
                };
                return Err(format!(
                    "the name of the {what} must be set between embraces for %{code}"
                ));
            }
        },
        't' => Field::Received(time(modifier.unwrap_or(TIME))?),
        'T' => Field::Written(time(modifier.unwrap_or(TIME))?),
        plain => {
            let field = match plain {
                'f' => Some(Field::Script),
                'l' => Some(Field::ContentLength),
                'm' => Some(Field::Method),
                'n' => Some(Field::Pool),
                'p' => Some(Field::Pid),
                'P' => Some(Field::Parent),
                'q' => Some(Field::Query),
                'Q' => Some(Field::QuestionMark),
                'r' => Some(Field::Path),
                'R' => Some(Field::Peer),
                's' => Some(Field::Status),
                'u' => Some(Field::User),
                '%' => None,
                _ => return Err(format!("Invalid token in the access.format (%{plain})")),
            };
            return match (field, modifier) {
                (Some(field), None) => Ok(field),
                _ => Err(format!("embrace is not allowed for modifier %{plain}")),
            };
        }
    };
    Ok(field)
}

/// The form of a time, as of strftime(3).
fn time(text: &str) -> Result<Vec<TimePart>, String> {
    let mut parts = Vec::new();
    let mut items = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        // Up to the next %Z that is no part of %%Z.
        let mut at = 0;
        let end = loop {
            match rest[at..].find('%').map(|percent| at + percent) {
                None => break rest.len(),
                Some(percent) if rest[percent..].starts_with("%Z") => break percent,
                Some(percent) => at = (percent + 2).min(rest.len()),
            }
            if !rest.is_char_boundary(at) {
                return Err(unknown_time(text));
            }
        };
        let owned = StrftimeItems::new(&rest[..end]).parse_to_owned();
        items.extend(owned.map_err(|_| unknown_time(text))?);
        if !items.is_empty() {
            parts.push(TimePart::Items(std::mem::take(&mut items)));
        }
        rest = match rest.get(end + 2..) {
            Some(rest) => {
                parts.push(TimePart::Zone);
                rest
            }
            None => "",
        };
    }
    Ok(parts)
}

fn unknown_time(text: &str) -> String {
    format!("'{text}' is no form of a time as of strftime(3), as %t and %T need")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each was tried with php-fpm 8.2.
    #[test]
    fn mistakes_are_told_in_php_fpms_words() {
        let only_cpu = "only 'total', 'user' or 'system' are allowed as a modifier for %C ('bad')";
        let only_duration = "only 'seconds', 'milli', 'milliseconds', 'micro' or 'microseconds' are allowed as a modifier for %d ('sec')";
        let only_memory = "only 'bytes', 'kilo', 'kilobytes', 'mega' or 'megabytes' are allowed as a modifier for %M ('kb')";
        for (format, expected) in [
            ("%Z", "Invalid token in the access.format (%Z)"),
            ("%{x}Z", "Invalid token in the access.format (%Z)"),
            ("%{", UNCLOSED),
            ("%{x", UNCLOSED),
            ("%{x}", UNCLOSED),
            ("%{}", UNCLOSED),
            ("%{x}%", "embrace is not allowed for modifier %%"),
            ("%{a}%e", "embrace is not allowed for modifier %%"),
            ("%{A}e%{B}p", "embrace is not allowed for modifier %p"),
            ("%{bad}C", only_cpu),
            ("%{sec}d", only_duration),
            ("%{kb}M", only_memory),
            (
                "%e",
                "the name of the environment variable must be set between embraces for %e",
            ),
            (
                "%{}o",
                "the name of the header must be set between embraces for %o",
            ),
        ] {
            assert_eq!(Format::parse(format), Err(expected.to_owned()), "{format}");
        }
        for code in "flmnpPqQrRsu".chars() {
            assert_eq!(
                Format::parse(&format!("%{{x}}{code}")),
                Err(format!("embrace is not allowed for modifier %{code}"))
            );
        }
        assert!(Format::parse("%{%Q}t").is_err(), "no such conversion");
        assert!(Format::parse("%{%ü}t").is_err());
        assert!(Format::parse(&"x".repeat(MAX_FORMAT + 1)).is_err());
    }

    #[test]
    fn every_code_and_modifier_is_known() {
        for format in [
            "",
            "%",
            "a%",
            "%%%",
            "%{}m",
            "%{A}e}",
            "%{a}{b}e",
            "%{%Y}t %{%s}T %{}t %{%d%%Z}t",
            "%C %{user}C %{User}C %{system}C %{TOTAL}C",
            "%d %{seconds}d %{milli}d %{mili}d %{milliseconds}d %{miliseconds}d %{micro}d %{microseconds}d",
            "%{HTTP_HOST}e %f %l %m %n %{Content-Type}o %p %P %q %Q %r %R %s %t %T %u",
            "%M %{bytes}M %{kilo}M %{kilobytes}M %{mega}M %{megabytes}M",
            "json",
        ] {
            assert!(Format::parse(format).is_ok(), "{format}");
        }
        let last = Format::parse("%{a}{b}e").unwrap();
        assert_eq!(last.parts, [Part::Field(Field::Param("b".into()))]);
    }

    #[test]
    fn a_format_knows_what_it_needs() {
        let needs = |format: &str| {
            let format = Format::parse(format).unwrap();
            (format.needs_head(), format.needs_usage())
        };
        assert_eq!(needs("%R - %u %t \"%m %r\" %s"), (true, false));
        assert_eq!(needs("%{X}o"), (true, false));
        assert_eq!(needs("%C"), (false, true));
        assert_eq!(needs("%m %M"), (false, true));
        assert_eq!(needs("%m %% %r"), (false, false));
    }
}
