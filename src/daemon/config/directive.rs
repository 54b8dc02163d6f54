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
    /// A value to start from, where there is no default; `KEY=VALUE` for a map.
    pub example: Option<&'static str>,
    /// Whose invention it is.
    pub source: Source,
    /// Where it is written and where its value goes.
    pub reader: Reader,
    /// What it does, in one to three sentences, with units and limits.
    pub text: &'static str,
}

/// A kind of section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `[global]`
    Global,
    /// That of a pool.
    Pool,
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
    /// php-fpm has it, and it means the same there.
    PhpFpm,
    /// php-fpm has it, with another default or another meaning.
    Differs {
        /// How it is in php-fpm: the default, or what happens.
        there: &'static str,
        /// How it is here.
        here: &'static str,
        /// Why.
        why: &'static str,
    },
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
    /// The directive of a name, in any case; that of the scope, if there is one elsewhere, too.
    pub fn find(name: &str, scope: Scope) -> Option<&'static Directive> {
        let named = || table().filter(|directive| directive.name.eq_ignore_ascii_case(name));
        named()
            .find(|directive| directive.is_in(scope))
            .or_else(|| named().next())
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

    /// Whether it may be written there.
    pub fn is_in(&self, scope: Scope) -> bool {
        match self.reader {
            Reader::Include => true,
            Reader::Global { .. } | Reader::IgnoredInGlobal => scope == Scope::Global,
            Reader::Pool { .. } | Reader::IgnoredInPool => scope == Scope::Pool,
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
    for (title, scope) in [
        ("Directives in [global]:", Scope::Global),
        ("Directives in the section of a pool:", Scope::Pool),
    ] {
        text.push_str(title);
        text.push('\n');
        for directive in table().filter(|directive| directive.is_in(scope)) {
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
            Source::PhpFpm | Source::Differs { .. } | Source::PhpOnly => " ",
        };
        let value = match (self.default, self.example) {
            (Some(default), _) => format!(" (default: {default})"),
            (None, Some(example)) => format!(" (such as: {example})"),
            (None, None) => String::new(),
        };
        let mut text = format!("\n {mark}{}{value}", self.spelling());
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
