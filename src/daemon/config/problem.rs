//! What is wrong with a configuration, and where.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::log::ALERT;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file, as it was named.
    pub file: Arc<Path>,
    /// The line's number, from 1; 0 if the file as a whole is meant.
    pub line: usize,
    /// The line's place in the order of reading, over all files.
    pub order: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        Ok(())
    }
}

/// One mistake: where it is, what is written there, and what would be right.
///
/// Its text is one line: `/etc/x.conf:12: [pool site] pm.max_children = 0: must be a whole number from 1 to 4096`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where to look.
    pub origin: Origin,
    /// Whether it is logged as an alert: php-fpm does so of what a pool cannot be without.
    pub alert: bool,
    /// The section, if it matters.
    pub section: Option<String>,
    /// The directive and its value as written, or what is missing.
    pub subject: Option<String>,
    /// The rule that is broken, and what would be right.
    pub rule: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if let Some(section) = &self.section {
            let kind = if section == "global" { "" } else { "pool " };
            write!(f, "[{kind}{}] ", Printable(section))?;
        }
        if let Some(subject) = &self.subject {
            write!(f, "{}: ", Printable(subject))?;
        }
        write!(f, "{}", Printable(&self.rule))
    }
}

/// All mistakes of a configuration; at least one. Displayed one a line, in the order in which files are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    stage: Stage,
}

/// How far a configuration has come, in php-fpm's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A file, or a line by itself, cannot be understood.
    Read,
    /// Each line is right by itself.
    Check,
}

impl Problems {
    /// Puts mistakes in order.
    pub fn new(mut list: Vec<Problem>, stage: Stage) -> Problems {
        list.sort_by_key(|problem| problem.origin.order);
        Problems { list, stage }
    }

    /// What php-fpm says when it has told all mistakes of `file`.
    #[must_use]
    pub fn outcome(&self, file: &Path) -> String {
        match self.stage {
            Stage::Read => format!("failed to load configuration file '{}'", file.display()),
            Stage::Check => "failed to post process the configuration".to_owned(),
        }
    }

    /// Logs them.
    pub fn tell(&self) {
        for problem in &self.list {
            if problem.alert {
                tracing::error!(target: ALERT, "{problem}");
            } else {
                tracing::error!("{problem}");
            }
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl Error for Problems {}

/// Text on one line of bounded length: control characters escaped, and cut when it is very long.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 1000;
        for character in self.0.chars().take(LONGEST) {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        if self.0.chars().nth(LONGEST).is_some() {
            f.write_str("...")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: usize, subject: Option<&str>, rule: &str) -> Problem {
        Problem {
            origin: Origin {
                file: Path::new("/etc/x.conf").into(),
                line,
                order: 0,
            },
            alert: false,
            section: subject.map(|_| "site".to_owned()),
            subject: subject.map(str::to_owned),
            rule: rule.to_owned(),
        }
    }

    #[test]
    fn a_line_says_place_subject_and_rule() {
        assert_eq!(
            problem(12, Some("user = ghost"), "there is no such user").to_string(),
            "/etc/x.conf:12: [pool site] user = ghost: there is no such user"
        );
        assert_eq!(
            problem(0, None, "cannot be read").to_string(),
            "/etc/x.conf: cannot be read"
        );
    }

    #[test]
    fn problems_are_one_a_line() {
        let problems = Problems::new(
            vec![problem(1, None, "a"), problem(2, None, "b")],
            Stage::Read,
        );
        assert_eq!(problems.to_string(), "/etc/x.conf:1: a\n/etc/x.conf:2: b");
    }

    #[test]
    fn what_is_quoted_cannot_break_the_line_nor_flood_the_log() {
        let text = problem(1, Some(&format!("a\n\u{1b}{}", "b".repeat(5000))), "c").to_string();
        assert!(
            text.contains(r"a\n\u{1b}bbb") && text.ends_with("...: c"),
            "{text}"
        );
        assert!(text.len() < 1200);
    }
}
