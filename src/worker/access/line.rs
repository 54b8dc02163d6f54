//! One line of the access log.

use super::MAX_LINE;
use super::format::{Cpu, Field, Format, Fraction, Part, TimePart};
use crate::escape::escape;
use crate::zone::Zone;
use preforkd_fastcgi::pairs::Params;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

/// Bytes of one value; when the line gets too long all the same, fewer and fewer.
const MAX_VALUES: [usize; 5] = [2048, 512, 128, 32, 0];

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The pool's name.
    pub pool: &'a str,
    /// The request's parameters.
    pub params: &'a Params,
    /// The address of the web server; none on a Unix socket.
    pub peer: Option<IpAddr>,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
    /// The header lines of the answer.
    pub head: &'a [u8],
    /// When the request began, since the epoch.
    pub received: Duration,
    /// How long it took.
    pub duration: Duration,
    /// What it cost.
    pub usage: Usage,
    /// The local time zone.
    pub zone: &'a Zone,
}

/// What a request cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time of the processor in the application's own code, that of children it waited for included.
    pub user: Duration,
    /// The same in the kernel.
    pub system: Duration,
    /// The most memory that the worker has had since it began, in bytes.
    pub peak: u64,
}

impl Format {
    /// The line of a request, with its end.
    #[must_use]
    pub fn line(&self, record: &Record<'_>) -> Vec<u8> {
        let mut line = Vec::with_capacity(256);
        for most in MAX_VALUES {
            line.clear();
            for part in &self.parts {
                match part {
                    Part::Text(text) => line.extend_from_slice(text.as_bytes()),
                    Part::Field(field) => write_field(&mut line, field, record, most),
                }
            }
            if line.len() < MAX_LINE {
                break;
            }
        }
        line.truncate(MAX_LINE - 1);
        line.push(b'\n');
        line
    }
}

/// The path of a request, decoded, without its query: what `%r` shows and `access.suppress_path[]` is compared with.
///
/// `SCRIPT_NAME` with `PATH_INFO` behind it, unless the web server has put the whole path into the former; where it
/// sends neither, the path of `REQUEST_URI`, as it is.
#[must_use]
pub fn path(params: &Params) -> Cow<'_, [u8]> {
    let get = |name: &[u8]| params.get(name).unwrap_or_default();
    let (script, info) = (get(b"SCRIPT_NAME"), get(b"PATH_INFO"));
    match (script, info) {
        (b"", b"") => {
            let uri = get(b"REQUEST_URI");
            let end = uri.iter().position(|&byte| byte == b'?');
            Cow::Borrowed(&uri[..end.unwrap_or(uri.len())])
        }
        (script, info) if script.ends_with(info) => Cow::Borrowed(script),
        (b"", info) => Cow::Borrowed(info),
        (script, info) => {
            let script = script.strip_suffix(b"/").unwrap_or(script);
            Cow::Owned([script, info].concat())
        }
    }
}

fn write_field(line: &mut Vec<u8>, field: &Field, record: &Record<'_>, most: usize) {
    let param = |name: &[u8]| record.params.get(name);
    let or_dash = |value: Option<&[u8]>, line: &mut Vec<u8>| {
        escape(line, value.unwrap_or(b"-"), most);
    };
    let present = |name: &[u8]| param(name).filter(|value| !value.is_empty());
    let mut number = |text: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let mut digits = String::new();
        let _ = digits.write_fmt(text);
        line.extend_from_slice(digits.as_bytes());
    };
    match field {
        Field::Cpu(cpu) => number(format_args!("{:.2}", percent(*cpu, record))),
        Field::Duration(Fraction::Seconds) => {
            number(format_args!("{:.3}", record.duration.as_secs_f64()));
        }
        Field::Duration(Fraction::Milliseconds) => {
            number(format_args!("{:.3}", record.duration.as_secs_f64() * 1e3));
        }
        Field::Duration(Fraction::Microseconds) => {
            number(format_args!("{}", record.duration.as_micros()));
        }
        Field::Memory(unit) => number(format_args!("{}", record.usage.peak / unit)),
        Field::ContentLength => number(format_args!("{}", content_length(record.params))),
        Field::Pid => number(format_args!("{}", std::process::id())),
        Field::Parent => number(format_args!("{}", std::os::unix::process::parent_id())),
        Field::Status => number(format_args!("{}", record.status)),
        Field::Peer => match record.peer {
            Some(peer) => number(format_args!("{peer}")),
            None => line.push(b'-'),
        },
        Field::Param(name) => or_dash(param(name.as_bytes()), line),
        Field::Header(name) => or_dash(header(record.head, name.as_bytes()), line),
        Field::Script => or_dash(present(b"SCRIPT_FILENAME"), line),
        Field::Method => or_dash(present(b"REQUEST_METHOD"), line),
        Field::Pool => escape(line, record.pool.as_bytes(), most),
        Field::Query => escape(line, param(b"QUERY_STRING").unwrap_or_default(), most),
        Field::QuestionMark => {
            if present(b"QUERY_STRING").is_some() {
                line.push(b'?');
            }
        }
        Field::Path => escape(line, &path(record.params), most),
        Field::User => escape(line, &user(record.params), most),
        Field::Received(form) => escape(line, &time(form, record.received, record.zone), most),
        Field::Written(form) => {
            let written = record.received + record.duration;
            escape(line, &time(form, written, record.zone), most);
        }
    }
}

fn percent(cpu: Cpu, record: &Record<'_>) -> f64 {
    let spent = match cpu {
        Cpu::User => record.usage.user,
        Cpu::System => record.usage.system,
        Cpu::Total => record.usage.user + record.usage.system,
    };
    if record.duration.is_zero() {
        return 0.0;
    }
    spent.as_secs_f64() / record.duration.as_secs_f64() * 100.0
}

/// Bytes of the body as announced; 0 where it is not.
#[must_use]
pub fn content_length(params: &Params) -> u64 {
    let text = params.get(b"CONTENT_LENGTH").unwrap_or_default();
    str::from_utf8(text)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Whom the web server has authenticated, or else whom the client says it is; empty for nobody.
#[must_use]
pub fn user(params: &Params) -> Cow<'_, [u8]> {
    match params.get(b"REMOTE_USER") {
        Some(user) if !user.is_empty() => Cow::Borrowed(user),
        _ => params
            .get(b"HTTP_AUTHORIZATION")
            .and_then(basic_user)
            .map_or(Cow::Borrowed(b""), Cow::Owned),
    }
}

/// The user in the value of an Authorization header of the scheme Basic (RFC 7617).
fn basic_user(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut user = Vec::new();
    for group in rest.trim_ascii().chunks(4) {
        let mut bits = 0_u32;
        let mut digits = 0;
        for &byte in group {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => break,
                _ => return None,
            };
            bits |= u32::from(digit) << (18 - 6 * digits);
            digits += 1;
        }
        let [_, bytes @ ..] = bits.to_be_bytes();
        for &byte in &bytes[..usize::try_from(digits * 6 / 8).unwrap_or(0)] {
            if byte == b':' {
                return Some(user);
            }
            user.push(byte);
        }
    }
    None
}

/// The value of a header of the answer; names are compared without regard to case.
fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        line[..colon]
            .eq_ignore_ascii_case(name)
            .then(|| line[colon + 1..].trim_ascii())
    })
}

/// The status that the header lines of an answer say (RFC 3875, 6.3.3): 200 where they name none, 302 for a Location
/// alone; 0 when there are none.
#[must_use]
pub fn status(head: &[u8]) -> u16 {
    if head.is_empty() {
        return 0;
    }
    match header(head, b"Status") {
        Some(status) => {
            let digits = status
                .get(..3)
                .and_then(|digits| str::from_utf8(digits).ok());
            digits.and_then(|digits| digits.parse().ok()).unwrap_or(200)
        }
        None if header(head, b"Location").is_some() => 302,
        None => 200,
    }
}

fn time(form: &[TimePart], since_epoch: Duration, zone: &Zone) -> Vec<u8> {
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(0);
    let (offset, name) = zone.at(seconds);
    let offset = chrono::FixedOffset::east_opt(offset);
    let instant = chrono::DateTime::from_timestamp(seconds, since_epoch.subsec_nanos());
    let (Some(offset), Some(instant)) = (offset, instant) else {
        return b"-".to_vec();
    };
    let local = instant.with_timezone(&offset);
    let mut text = String::new();
    for part in form {
        // Writing to a String fails only for forms that were refused when the format was parsed.
        let _ = match part {
            TimePart::Items(items) => write!(text, "{}", local.format_with_items(items.iter())),
            TimePart::Zone => text.write_str(name),
        };
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use preforkd_fastcgi::pairs::encode;

    fn params(pairs: &[(&str, &[u8])]) -> Params {
        let mut bytes = Vec::new();
        for (name, value) in pairs {
            encode(&mut bytes, name.as_bytes(), value);
        }
        Params::from_bytes(bytes)
    }

    fn line(format: &str, pairs: &[(&str, &[u8])]) -> String {
        let params = params(pairs);
        let record = Record {
            pool: "www",
            params: &params,
            peer: None,
            status: 200,
            head: b"X-A: b\r\nx-lower:  c  \r\nContent-type: text/html\r\n",
            received: Duration::new(1_795_438_584, 250_000_000),
            duration: Duration::from_micros(1_500_429),
            usage: Usage {
                user: Duration::from_millis(300),
                system: Duration::from_millis(75),
                peak: 2_097_152,
            },
            zone: &Zone::utc(),
        };
        let line = Format::parse(format).unwrap().line(&record);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn the_codes_say_what_they_do_in_php_fpm() {
        let request: &[(&str, &[u8])] = &[
            ("REQUEST_METHOD", b"GET"),
            ("SCRIPT_FILENAME", b"/srv/i.php"),
            ("SCRIPT_NAME", b"/i.php"),
            ("QUERY_STRING", b"x=1"),
            ("CONTENT_LENGTH", b"3"),
            ("EMPTY", b""),
            ("HTTP_AUTHORIZATION", b"Basic Ym9iOnNlY3JldA=="),
        ];
        for (format, expected) in [
            (
                "%R %u %m %r%Q%q %s %f %l %n",
                "- bob GET /i.php?x=1 200 /srv/i.php 3 www",
            ),
            ("%d %{milli}d %{micro}d", "1.500 1500.429 1500429"),
            ("%C %{user}C %{system}C", "24.99 19.99 5.00"),
            ("%M %{kilo}M %{mega}M", "2097152 2048 2"),
            (
                "%{X-A}o %{x-a}o %{x-lower}o %{Content-Type}o %{No}o",
                "b b c text/html -",
            ),
            ("%{REQUEST_METHOD}e %{NO}e [%{EMPTY}e]", "GET - []"),
            ("%t", "23/Nov/2026:12:56:24 +0000"),
            (
                "%{%s}t %{%s}T %{%Z %%Z %.3f}t",
                "1795438584 1795438585 UTC %Z .250",
            ),
            ("100%% %", "100% "),
        ] {
            assert_eq!(line(format, request), format!("{expected}\n"), "{format}");
        }
        let nothing = line("[%R] [%u] [%m] [%r] [%Q] [%q] [%f] [%l]", &[]);
        assert_eq!(nothing, "[-] [] [-] [] [] [] [-] [0]\n");
    }

    #[test]
    fn a_value_cannot_forge_anything() {
        let query = b"a\nb\"c\\d\xc3\xa9\xff\x1b\x7f";
        assert_eq!(
            line("\"%q\" %s", &[("QUERY_STRING", query)]),
            "\"a\\nb\\\"c\\\\d\u{e9}\\u00ff\\u001b\\u007f\" 200\n"
        );
    }

    #[test]
    fn a_long_line_keeps_its_form() {
        let long = "é".repeat(10_000);
        let text = line(
            "[%q] [%r] %s",
            &[
                ("QUERY_STRING", long.as_bytes()),
                ("SCRIPT_NAME", long.as_bytes()),
            ],
        );
        assert!(
            text.len() <= MAX_LINE && text.ends_with("é] 200\n"),
            "{text}"
        );
        let text = line(&"x".repeat(4096), &[]);
        assert_eq!((text.len(), text.ends_with("x\n")), (MAX_LINE, true));
    }

    #[test]
    fn json_is_json() {
        let text = line(
            "json",
            &[
                ("SCRIPT_NAME", b"/a\"b"),
                ("QUERY_STRING", b"q=\n"),
                ("REQUEST_METHOD", b"GET"),
            ],
        );
        assert!(
            text.starts_with(r#"{"time":"2026-11-23T12:56:24+00:00","pool":"www","pid":"#),
            "{text}"
        );
        assert!(
            text.ends_with("\"remote\":\"-\",\"user\":\"\",\"method\":\"GET\",\"uri\":\"/a\\\"b?q=\\n\",\"status\":200,\"duration\":1.500,\"cpu\":24.99,\"memory\":2097152,\"length\":0}\n"),
            "{text}"
        );
    }

    #[test]
    fn the_path_is_the_whole_one_whoever_cut_it() {
        let shown =
            |pairs: &[(&str, &[u8])]| String::from_utf8(path(&params(pairs)).into_owned()).unwrap();
        assert_eq!(
            shown(&[("SCRIPT_NAME", b"/a/b"), ("REQUEST_URI", b"/x?y")]),
            "/a/b"
        );
        assert_eq!(
            shown(&[("SCRIPT_NAME", b""), ("PATH_INFO", b"/a/b")]),
            "/a/b"
        );
        assert_eq!(
            shown(&[("SCRIPT_NAME", b"/app/"), ("PATH_INFO", b"/a")]),
            "/app/a"
        );
        assert_eq!(
            shown(&[("SCRIPT_NAME", b"/app/a"), ("PATH_INFO", b"/a")]),
            "/app/a"
        );
        assert_eq!(shown(&[("REQUEST_URI", b"/x?y")]), "/x");
    }

    #[test]
    fn the_status_is_what_the_answer_says() {
        for (head, expected) in [
            (&b"Status: 404 Not Found\r\nX: y\r\n"[..], 404),
            (b"status: 503\n", 503),
            (b"Location: /x\r\n", 302),
            (b"Location: /x\r\nStatus: 301 Moved\r\n", 301),
            (b"Content-Type: text/plain\r\n", 200),
            (b"Status: what\r\n", 200),
            (b"", 0),
        ] {
            assert_eq!(status(head), expected);
        }
    }

    #[test]
    fn only_a_basic_authorization_names_a_user() {
        for (value, user) in [
            (&b"Basic Ym9iOnNlY3JldA=="[..], Some(&b"bob"[..])),
            (b"basic YWxhZGRpbjpvcGVuc2VzYW1l", Some(b"aladdin")),
            (b"Basic Og==", Some(b"")),
            (b"Basic Ym9i", None),
            (b"Basic !!!!", None),
            (b"Digest username=\"bob\"", None),
            (b"Basic", None),
        ] {
            assert_eq!(basic_user(value).as_deref(), user);
        }
    }
}
