//! The documents that are made from the definitions of flags and directives: manual pages, completions, the reference,
//! the table of differences from php-fpm, and a sample with every directive.
//!
//! They are checked in, so that nothing has to be built to read or install them. The tests compare them with what the
//! definitions say, and write them anew when they are asked to:
//!
//! ```text
//! PREFORKD_WRITE_DOCS=1 cargo test --bin preforkd docs
//! ```
//!
//! # Layout
//! * [`command`]: the page preforkd(8), and the completions
//! * [`manual`]: the page preforkd.conf(5)
//! * [`reference`]: the same for the web, in Markdown
//! * [`sample`]: a configuration with every directive
//! * [`differences`]: what is otherwise in php-fpm
//! * [`roff`]: the language of manual pages

use std::path::Path;
use std::{env, fs};

use crate::config::directive::{Directive, Reader, Source};
use crate::config::raw::{Entry, RawGlobal, RawPool};
use crate::config::table::table;

mod command;
mod differences;
mod manual;
mod reference;
mod roff;
mod sample;

/// Compares a document with what is checked in, or writes it.
#[track_caller]
fn is_up_to_date(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if env::var_os("PREFORKD_WRITE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "{name} is not what the definitions say; write it anew with\n    \
         PREFORKD_WRITE_DOCS=1 cargo test --bin preforkd docs"
    );
}

/// A part of the reference.
struct Part {
    title: &'static str,
    /// The section in which its directives are written, if it is one.
    section: &'static str,
    /// Which directives it has.
    has: fn(&Reader) -> bool,
}

const PARTS: [Part; 3] = [
    Part {
        title: "Anywhere",
        section: "",
        has: |reader| matches!(reader, Reader::Include),
    },
    Part {
        title: "The daemon as a whole",
        section: "global",
        has: |reader| matches!(reader, Reader::Global { .. }),
    },
    Part {
        title: "A pool",
        section: "site",
        has: |reader| matches!(reader, Reader::Pool { .. }),
    },
];

impl Part {
    fn directives(&self) -> impl Iterator<Item = &'static Directive> {
        table().filter(|directive| (self.has)(&directive.reader))
    }
}

/// What the values of a directive are: the rule that a value breaks which none of any kind can be.
fn kind(directive: &Directive) -> String {
    let entry = Entry {
        origin: None,
        name: directive.name,
        key: Some("KEY".to_owned()),
        text: "\0".to_owned(),
        blank: false,
    };
    let refused = match directive.reader {
        Reader::Include => Err("must be a path or a pattern".to_owned()),
        Reader::Global { set, .. } => set(&mut RawGlobal::default(), &entry),
        Reader::Pool { set, .. } => set(&mut RawPool::default(), &entry),
        Reader::IgnoredInGlobal | Reader::IgnoredInPool => Err("anything".to_owned()),
    };
    let rule = refused.err().unwrap_or_else(|| "text".to_owned());
    // php-fpm's words for what is wrong come before the rule.
    rule.split_once("must be ")
        .map_or(&*rule, |(_, rule)| rule)
        .to_owned()
}

/// Whose invention a directive is, if not php-fpm's.
fn origin(directive: &Directive) -> Option<&'static str> {
    match directive.source {
        Source::Ours => Some("php-fpm does not have it."),
        Source::Differs { .. } => Some("It differs from php-fpm's, see below."),
        Source::PhpFpm | Source::PhpOnly => None,
    }
}

/// Puts words on lines of at most `width` characters, each after `indent`.
fn filled(text: &str, indent: &str, width: usize) -> String {
    let mut filled = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let long = word.chars().count() + 1;
        if column == 0 || column + long > width {
            if column > 0 {
                filled.push('\n');
            }
            filled.push_str(indent);
            column = indent.chars().count();
        } else {
            filled.push(' ');
            column += 1;
        }
        filled.push_str(word);
        column += long - 1;
    }
    filled.push('\n');
    filled
}

#[test]
fn every_directive_has_a_default_or_an_example() {
    for directive in PARTS.iter().flat_map(Part::directives) {
        assert!(
            directive.default.is_some() != directive.example.is_some(),
            "{}",
            directive.name
        );
    }
}
