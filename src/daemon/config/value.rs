//! Values, one function a kind. Each error is a rule: it says what would be right.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use nix::sys::resource::RLIM_INFINITY;
use preforkd_worker::access::Format;
use preforkd_worker::allowed::AllowedClients;

use super::raw::Target;
use super::{ErrorLog, Facility, LogFormat, LogLevel, Mount};

/// Longest time, in seconds: a year. An instant this far ahead can be computed on any clock.
const MAX_SECONDS: u64 = 365 * 24 * 60 * 60;

/// Units of bytes, the largest first.
const UNITS: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// Largest resource limit that is a number.
const MAX_LIMIT: u64 = i64::MAX.unsigned_abs();

/// A whole number in decimal digits.
pub fn number<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits && range.contains(&number) => Ok(number),
        _ => {
            let rule = format!(
                "must be a whole number from {} to {}",
                range.start(),
                range.end()
            );
            Err(match digits {
                true => rule,
                false => format!("is not a valid number: {rule}"),
            })
        }
    }
}

/// `listen.backlog`: a whole number, or -1 for the system's limit.
pub fn backlog(text: &str) -> Result<Option<u32>, String> {
    // listen(2) takes an int.
    const MAX: u32 = i32::MAX.unsigned_abs();
    if text == "-1" {
        return Ok(None);
    }
    number(text, 0..=MAX)
        .map(Some)
        .map_err(|rule| format!("{rule}, or -1 for the system's limit"))
}

/// The words for yes and no that PHP's scanner knows, in any case.
pub fn flag(text: &str) -> Result<bool, String> {
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is(&["1", "on", "yes", "true"]) {
        Ok(true)
    } else if is(&["0", "off", "no", "false", "none"]) {
        Ok(false)
    } else {
        Err("invalid boolean value: must be yes or no".to_owned())
    }
}

/// A time of at least `least` seconds: a whole number, followed by `s` (or nothing), `m`, `h` or `d`.
pub fn time(text: &str, least: u64) -> Result<Duration, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 60 * 60),
        Some(b'd') => (&text[..text.len() - 1], 24 * 60 * 60),
        _ => (text, 1),
    };
    number(digits, 0..=MAX_SECONDS)
        .ok()
        .and_then(|count: u64| count.checked_mul(unit))
        .filter(|seconds| (least..=MAX_SECONDS).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| {
            let what = match text.chars().last() {
                Some(last) if last.is_ascii_digit() || "smhd".contains(last) => "invalid time value",
                Some(_) | None => "unknown suffix used in time value",
            };
            format!(
                "{what}: must be a whole number with s, m, h or d after it (seconds if without), from {least}s to 365d"
            )
        })
}

/// A number of bytes, with `K`, `M` or `G` after it for as many KiB, MiB or GiB.
pub fn bytes(text: &str) -> Result<u64, String> {
    let unit = text.chars().last().and_then(|last| {
        let last = last.to_ascii_uppercase();
        UNITS.iter().find(|(letter, _)| *letter == last)
    });
    let (digits, unit) = unit.map_or((text, 1), |(_, unit)| (&text[..text.len() - 1], *unit));
    number(digits, 0..=MAX_LIMIT)
        .ok()
        .and_then(|count: u64| count.checked_mul(unit))
        .ok_or_else(|| "must be a number of bytes, or one with K, M or G after it".to_owned())
}

/// A number of bytes in the largest unit that leaves a whole number.
pub fn show_bytes(bytes: u64) -> String {
    let unit = UNITS
        .iter()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(
        || bytes.to_string(),
        |(letter, unit)| format!("{}{letter}", bytes / unit),
    )
}

/// Permission bits in octal.
pub fn mode(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o777 => Ok(mode),
        _ => Err("must be permission bits in octal, such as 0660".to_owned()),
    }
}

/// One of some words, in any case.
pub fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    words
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text))
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            match words.split_last() {
                Some((last, [first, others @ ..])) => {
                    let others: String = others.iter().map(|word| format!(", {word}")).collect();
                    format!("must be {first}{others} or {last}")
                }
                _ => format!("must be {}", words.concat()),
            }
        })
}

/// The levels of the log.
pub fn log_level(text: &str) -> Result<LogLevel, String> {
    word(
        text,
        &[
            ("debug", LogLevel::Debug),
            ("notice", LogLevel::Notice),
            ("warning", LogLevel::Warning),
            ("warn", LogLevel::Warning),
            ("error", LogLevel::Error),
            ("alert", LogLevel::Alert),
        ],
    )
}

/// A value of which only its characters can be told to be wrong: none of them is a control character.
pub fn plain<T: From<String>>(text: &str, kind: &str) -> Result<T, String> {
    if text.chars().any(char::is_control) {
        Err(format!("must be {kind}"))
    } else {
        Ok(text.to_owned().into())
    }
}

/// A path, which may be relative.
pub fn path(text: &str) -> Result<PathBuf, String> {
    plain(text, "a path")
}

/// The name or number of a user or group, which is looked up when everything is read.
pub fn account(text: &str) -> Result<String, String> {
    plain(text, "a name or a number")
}

/// A path of requests that are left out of the access log.
pub fn suppressed(text: &str) -> Result<String, String> {
    let kind = "a path of requests, which begins with /";
    if text.starts_with('/') {
        plain(text, kind)
    } else {
        Err(format!("must be {kind}"))
    }
}

/// Text on one line.
pub fn text(text: &str) -> Result<String, String> {
    plain(text, "text")
}

/// Who may connect; what is no address in it is beside the others.
pub fn clients(text: &str) -> Result<(AllowedClients, Vec<String>), String> {
    let text: String = plain(text, "addresses and networks with commas between them")?;
    Ok(AllowedClients::parse(&text))
}

/// The form of the lines of the access log.
pub fn access_format(text: &str) -> Result<String, String> {
    let text: String = plain(text, "text with codes, or json")?;
    match Format::parse(&text) {
        Ok(_) => Ok(text),
        Err(why) => Err(format!("wrong format for access.format '{text}': {why}")),
    }
}

/// The log's destination: a path, `syslog`, or one of the names of standard error.
pub fn error_log(text: &str) -> Result<ErrorLog, String> {
    // Standard error may be a socket, which cannot be opened by name.
    const STANDARD_ERROR: [&str; 3] = ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"];
    if text == "syslog" {
        Ok(ErrorLog::Syslog)
    } else if STANDARD_ERROR.contains(&text) {
        Ok(ErrorLog::Stderr)
    } else {
        plain(text, "a path, or syslog").map(ErrorLog::File)
    }
}

/// The forms of the log's lines.
pub fn log_format(text: &str) -> Result<LogFormat, String> {
    word(
        text,
        &[("php-fpm", LogFormat::PhpFpm), ("json", LogFormat::Json)],
    )
}

/// A name for the system's log.
pub fn ident(text: &str) -> Result<String, String> {
    const LONGEST: usize = 255;
    let kind = format!("text of at most {LONGEST} bytes");
    if text.len() > LONGEST {
        return Err(format!("must be {kind}"));
    }
    plain(text, &kind)
}

/// The subjects of the system's log, as RFC 3164 numbers them, in the words of `syslog(3)`.
const FACILITIES: &[(&str, Facility)] = &[
    ("auth", Facility(4)),
    ("authpriv", Facility(10)),
    ("cron", Facility(9)),
    ("daemon", Facility(3)),
    ("ftp", Facility(11)),
    ("kern", Facility(0)),
    ("local0", Facility(16)),
    ("local1", Facility(17)),
    ("local2", Facility(18)),
    ("local3", Facility(19)),
    ("local4", Facility(20)),
    ("local5", Facility(21)),
    ("local6", Facility(22)),
    ("local7", Facility(23)),
    ("lpr", Facility(6)),
    ("mail", Facility(2)),
    ("news", Facility(7)),
    ("syslog", Facility(5)),
    ("user", Facility(1)),
    ("uucp", Facility(8)),
];

/// A subject of the system's log, perhaps with `LOG_` before it.
pub fn facility(text: &str) -> Result<Facility, String> {
    let text = text.to_ascii_lowercase();
    word(text.strip_prefix("log_").unwrap_or(&text), FACILITIES)
}

impl Display for Facility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = FACILITIES.iter().find(|(_, facility)| facility == self);
        f.write_str(known.map_or("daemon", |(name, _)| name))
    }
}

/// A nice value, as of `setpriority(2)`; the system takes 20 for 19.
pub fn priority(text: &str) -> Result<i32, String> {
    const RANGE: RangeInclusive<i32> = -20..=20;
    let digits = text.strip_prefix('-').unwrap_or(text);
    match text.parse() {
        Ok(value) if RANGE.contains(&value) && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(value)
        }
        _ => Err("must be a whole number from -20 (most urgent) to 20".to_owned()),
    }
}

/// A resource limit; 0 leaves what there is.
pub fn limit(text: &str) -> Result<Option<u64>, String> {
    let limit = number(text, 0..=MAX_LIMIT)?;
    Ok(Some(limit).filter(|limit| *limit > 0))
}

/// A resource limit that may be `unlimited`.
pub fn limit_or_none(text: &str) -> Result<Option<u64>, String> {
    if text.eq_ignore_ascii_case("unlimited") {
        return Ok(Some(RLIM_INFINITY));
    }
    limit(text).map_err(|rule| format!("{rule}, or unlimited"))
}

/// Words with commas between them.
pub fn names(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = text
        .split(',')
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() || text.chars().any(char::is_control) {
        Err("must be names or numbers with commas between them".to_owned())
    } else {
        Ok(names)
    }
}

/// A path of requests that preforkd looks at itself. As in php-fpm, it cannot hold what a URL would have to escape.
pub fn request_path(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_-.~".contains(c);
    if text.starts_with('/') && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("must be a path of requests: a /, then letters, digits and / _ - . ~".to_owned())
    }
}

/// `package.module:callable`; the callable is `application` if it is left out, as PEP 3333's servers have it.
pub fn target(text: &str) -> Result<Target, String> {
    let (module, callable) = text.split_once(':').unwrap_or((text, "application"));
    if module.contains('/') || module.ends_with(".py") {
        Err("must be a module, not a file: package.module:callable".to_owned())
    } else if module.split('.').all(is_identifier) && callable.split('.').all(is_identifier) {
        Ok(Target {
            module: module.to_owned(),
            callable: callable.to_owned(),
        })
    } else {
        Err("must be package.module:callable, each part a Python name".to_owned())
    }
}

/// Roughly Python's rule; the interpreter has the last word.
fn is_identifier(text: &str) -> bool {
    text.chars().next().is_some_and(|c| !c.is_numeric())
        && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// A path to request from the application, perhaps with a query.
pub fn url(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic() && c != '#') {
        Ok(text.to_owned())
    } else {
        Err(
            "must be a URL's path: a /, then ASCII without blanks (others written as %XX)"
                .to_owned(),
        )
    }
}

/// `auto`, or a prefix of URL paths; `/` is the empty prefix.
pub fn mount(text: &str) -> Result<Mount, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(Mount::Auto);
    }
    let prefix = text.strip_suffix('/').unwrap_or(text);
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| !c.is_whitespace() && !c.is_control() && !"?#".contains(c))
    };
    match prefix.strip_prefix('/') {
        None if text == "/" => Ok(Mount::Prefix(String::new())),
        Some(parts) if parts.split('/').all(plain) => Ok(Mount::Prefix(prefix.to_owned())),
        _ => Err("must be auto, or a prefix of URL paths such as /app".to_owned()),
    }
}

#[cfg(test)]
mod tests;
