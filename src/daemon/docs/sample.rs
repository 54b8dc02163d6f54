//! A configuration with every directive, each with what there is to say of it.

use super::{PARTS, filled, is_up_to_date};
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
    for part in &PARTS {
        text += &format!("\n; ---- {} ----\n", part.title);
        if !part.section.is_empty() {
            text += &format!("\n[{}]\n", part.section);
        }
        for directive in part.directives() {
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
