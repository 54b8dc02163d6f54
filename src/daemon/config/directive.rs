//! What a directive is; [`super::table`] has them all.

use super::raw::{Entry, RawGlobal, RawPool};
use super::table::table;
use super::{Global, Pool};

/// The one definition of a directive.
#[derive(Debug)]
pub struct Directive {
    /// As it is written in files, in lower case, without brackets.
    pub name: &'static str,
    /// Whether it is repeated.
    pub shape: Shape,
    /// The value if none is written, in the form of files.
    pub default: Option<&'static str>,
    /// Whose invention it is.
    pub source: Source,
    /// Where it is written and where its value goes.
    pub reader: Reader,
    /// What it does, in one to three sentences, with units and limits.
    pub text: &'static str,
}

/// Whether a directive is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `name = value`; the last one counts.
    One,
    /// `name[] = value`, in order.
    List,
    /// `name[KEY] = value`; the last one for each key counts. The value may be empty.
    Map,
}

/// Whose invention a directive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// php-fpm has it; it means the same there, but for what the text says.
    PhpFpm,
    /// php-fpm has it, for what only PHP or another system has; it does nothing here.
    PhpOnly,
    /// preforkd alone has it.
    Ours,
}

/// Where a directive is written and where its value goes.
#[derive(Clone, Copy, Debug)]
pub enum Reader {
    /// `include`, anywhere.
    Include,
    /// In `[global]`.
    Global {
        /// Parses and stores a value, or says which rule it breaks.
        set: fn(&mut RawGlobal, &Entry) -> Result<(), String>,
        /// The value in effect.
        show: fn(&Global) -> Shown,
    },
    /// In the section of a pool.
    Pool {
        /// Parses and stores a value, or says which rule it breaks.
        set: fn(&mut RawPool, &Entry) -> Result<(), String>,
        /// The value in effect.
        show: fn(&Pool) -> Shown,
    },
    /// In `[global]`; any value, without effect.
    IgnoredInGlobal,
    /// In the section of a pool; any value, without effect.
    IgnoredInPool,
}

/// The value in effect, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It has gone into the values of other directives.
    Hidden,
    /// There is none.
    Unset,
    /// `name = value`
    One(String),
    /// `name[key] = value` for each pair; the key is empty in a list.
    Many(Vec<(String, String)>),
}

impl<T: ToString> From<Option<T>> for Shown {
    fn from(value: Option<T>) -> Shown {
        value.map_or(Shown::Unset, |value| Shown::One(value.to_string()))
    }
}

impl Directive {
    /// The directive of a name, in any case.
    pub fn find(name: &str) -> Option<&'static Directive> {
        table().find(|directive| directive.name.eq_ignore_ascii_case(name))
    }

    /// The directive whose name is most like a misspelt one.
    pub fn nearest(name: &str) -> Option<&'static Directive> {
        // No longer name is worth the time; the longest directive has fewer than half as many characters.
        const LONGEST: usize = 64;
        const ALIKE: f64 = 0.75;
        if name.len() > LONGEST {
            return None;
        }
        let name = name.to_ascii_lowercase();
        table()
            .map(|directive| {
                (
                    strsim::normalized_damerau_levenshtein(&name, directive.name),
                    directive,
                )
            })
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .map(|(_, directive)| directive)
    }

    /// Whether it may be written in `[global]`.
    pub fn in_global(&self) -> bool {
        match self.reader {
            Reader::Include | Reader::Global { .. } | Reader::IgnoredInGlobal => true,
            Reader::Pool { .. } | Reader::IgnoredInPool => false,
        }
    }

    /// Whether it may be written in the section of a pool.
    pub fn in_pool(&self) -> bool {
        match self.reader {
            Reader::Include | Reader::Pool { .. } | Reader::IgnoredInPool => true,
            Reader::Global { .. } | Reader::IgnoredInGlobal => false,
        }
    }

    /// The left side of an entry, as in `env[NAME]`.
    pub fn spelling(&self) -> String {
        match self.shape {
            Shape::One => self.name.to_owned(),
            Shape::List => format!("{}[]", self.name),
            Shape::Map => format!("{}[NAME]", self.name),
        }
    }
}

/// Columns of the reference.
const WIDTH: usize = 80;

/// The text of all directives, for `--help`.
pub fn reference() -> String {
    let mut text = String::new();
    for (title, included) in [
        (
            "Directives in [global]:",
            Directive::in_global as fn(&Directive) -> bool,
        ),
        ("Directives in the section of a pool:", Directive::in_pool),
    ] {
        text.push_str(title);
        text.push('\n');
        for directive in table().filter(|directive| included(directive)) {
            text.push_str(&directive.paragraph());
        }
        text.push('\n');
    }
    text.push_str("Directives that only preforkd has are marked with *; the others are php-fpm's.");
    text
}

impl Directive {
    fn paragraph(&self) -> String {
        let mark = match self.source {
            Source::Ours => "*",
            Source::PhpFpm | Source::PhpOnly => " ",
        };
        let default = match self.default {
            Some(default) => format!(" (default: {default})"),
            None => String::new(),
        };
        let mut text = format!("\n {mark}{}{default}", self.spelling());
        let mut column = usize::MAX;
        for word in self.text.split_whitespace() {
            if column.saturating_add(word.len() + 1) > WIDTH {
                text.push_str("\n     ");
                column = 5;
            }
            text.push(' ');
            text.push_str(word);
            column += word.len() + 1;
        }
        text.push('\n');
        text
    }
}
