//! A configuration with every directive, each with what there is to say of it.

use super::{directives, filled, is_up_to_date, parts};
use crate::config::directive::{Directive, Shape};

/// Longest line, of characters.
const WIDTH: usize = 100;

/// What a pool cannot be without, and what its users would ask for first.
const WRITTEN: &[&str] = &[
    "listen",
    "listen.owner",
    "user",
    "pm",
    "pm.max_children",
    "pm.min_spare_servers",
    "pm.max_spare_servers",
    "app",
];

/// A value as it is written.
fn written(text: &str) -> String {
    if text.contains([';', '"', '&', '|', '^', '~', '!', '(', ')']) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text.to_owned()
    }
}

/// The line of a directive.
fn line(directive: &Directive) -> String {
    let value = directive.default.or(directive.example).unwrap_or_default();
    match (directive.shape, value.split_once('=')) {
        (Shape::Map, Some((key, value))) => {
            format!("{}[{key}] = {}", directive.name, written(value))
        }
        _ => format!(
            "{} = {}",
            directive.spelling().replace("[NAME]", "[KEY]"),
            written(value)
        ),
    }
}

fn text() -> String {
    let head = "Every directive of preforkd. A line that begins with a semicolon and has a directive in it shows the \
        default, or, where there is none, a value to start from; the other directives make a pool that answers with the \
        built-in page. To start from it, copy what is needed.";
    let mut text = filled(head, "; ", WIDTH);
    for (title, section, chosen) in parts() {
        text += &format!("\n; ---- {title} ----\n");
        if !section.is_empty() {
            text += &format!("\n[{section}]\n");
        }
        for directive in directives(chosen) {
            text.push('\n');
            text += &filled(directive.text, "; ", WIDTH);
            if !WRITTEN.contains(&directive.name) {
                text.push(';');
            }
            text += &line(directive);
            text.push('\n');
        }
    }
    text
}

#[test]
fn the_sample_with_every_directive() {
    is_up_to_date("conf.d/every-directive.conf.sample", &text());
}
