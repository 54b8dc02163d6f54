//! The configuration in effect, in php-fpm's form of it (`-tt`).

use super::directive::{Directive, Reader, Shape, Shown};
use super::table::table;
use super::{Config, Listen, LogLevel};

use std::fmt;

/// The values in effect, one a line: `[section]`, then a tab, `name = value`; a blank after each section.
///
/// The lines are a configuration that means the same, but for directives without a value, which are `undefined`, and
/// for values that begin with `$` or have `$pool` in them, which INI files cannot express.
pub fn dump(config: &Config) -> Vec<String> {
    let mut lines = vec!["[global]".to_owned()];
    for directive in table() {
        match directive.reader {
            Reader::Global { show, .. } => push(&mut lines, directive, show(&config.global)),
            Reader::IgnoredInGlobal => push(&mut lines, directive, Shown::Unset),
            Reader::Include | Reader::Pool { .. } | Reader::IgnoredInPool => {}
        }
    }
    for pool in &config.pools {
        lines.push(" ".to_owned());
        lines.push(format!("[{}]", pool.name));
        for directive in table() {
            match directive.reader {
                Reader::Pool { show, .. } => push(&mut lines, directive, show(pool)),
                Reader::IgnoredInPool => push(&mut lines, directive, Shown::Unset),
                Reader::Include | Reader::Global { .. } | Reader::IgnoredInGlobal => {}
            }
        }
    }
    lines.push(" ".to_owned());
    lines
}

fn push(lines: &mut Vec<String>, directive: &Directive, shown: Shown) {
    let name = directive.name;
    match shown {
        Shown::Unset if directive.shape == Shape::One => {
            lines.push(format!("\t{name} = undefined"))
        }
        // Nothing is repeated no times.
        Shown::Unset => {}
        Shown::One(value) => lines.push(format!("\t{name} = {}", quoted(&value))),
        Shown::Many(pairs) => lines.extend(
            pairs
                .iter()
                .map(|(key, value)| format!("\t{name}[{key}] = {}", quoted(value))),
        ),
    }
}

/// The value so that the scanner reads it as it is.
fn quoted(value: &str) -> String {
    let plain = |c: char| !c.is_control() && !";\"'&|^~!()$\\".contains(c);
    if value.chars().all(plain) && value.trim() == value {
        return value.to_owned();
    }
    let mut text = String::from("\"");
    for character in value.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            // Two quoted parts side by side are one value, in which the two characters mean nothing together.
            '{' if text.ends_with('$') => text.push_str("\" \"{"),
            _ if character.is_control() => text.extend(character.escape_default()),
            _ => text.push(character),
        }
    }
    text.push('"');
    text
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogLevel::Debug => "debug",
            LogLevel::Notice => "notice",
            LogLevel::Warning => "warning",
            LogLevel::Error => "error",
            LogLevel::Alert => "alert",
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Unix(path) => write!(f, "{}", path.display()),
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Port(port) => write!(f, "{port}"),
        }
    }
}
