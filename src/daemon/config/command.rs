//! Values about programs: `exec` and `exec.ready`. Each error is a rule, as in [`super::value`].

use std::time::Duration;

use preforkd_worker::relay::Ready;

use super::Exec;
use super::raw::Command;
use super::value::{number, plain};

/// `exec`: a program and its arguments, with blanks between them; quotes keep the blanks of an argument.
pub fn parse(text: &str) -> Result<Command, String> {
    let text: String = plain(text, "a program and its arguments")?;
    let mut words = words(&text)?.into_iter();
    match words.next() {
        Some(program) if !program.is_empty() => Ok(Command {
            program: program.into(),
            arguments: words.collect(),
        }),
        Some(_) | None => Err("must begin with a program".to_owned()),
    }
}

/// Words as a shell takes them apart, without anything that a shell would expand.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some(end) if end == character => break,
                        Some(inside) => word.push(inside),
                        None => {
                            return Err(format!(
                                "has a quote {character} that is not closed: write an argument that has one in quotes of the other kind"
                            ));
                        }
                    }
                }
            }
            ' ' => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// `exec.ready`.
pub fn ready(text: &str) -> Result<Ready, String> {
    /// Longest delay, in milliseconds: an hour.
    const LONGEST: u64 = 60 * 60 * 1000;
    let delay = || -> Option<u64> {
        let time = text.strip_prefix("delay ")?.trim();
        let (digits, unit) = match time.strip_suffix("ms") {
            Some(digits) => (digits, 1),
            None => (time.strip_suffix('s').unwrap_or(time), 1000),
        };
        let count: u64 = number(digits, 0..=LONGEST).ok()?;
        Some(count * unit).filter(|delay| *delay <= LONGEST)
    };
    match (text, delay()) {
        ("accept", _) => Ok(Ready::Accept),
        ("connect", _) => Ok(Ready::Connect),
        (_, Some(delay)) => Ok(Ready::Delay(Duration::from_millis(delay))),
        (_, None) => Err(
            "must be accept, connect, or delay and a time of at most an hour, such as delay 500ms or delay 2s"
                .to_owned(),
        ),
    }
}

/// A program and its arguments, as [`parse`] takes them.
pub fn line(exec: &Exec) -> String {
    let program = exec.program.display().to_string();
    let words = [&program].into_iter().chain(&exec.arguments);
    words.map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word in such quotes as it needs: single ones, but for the single quotes in it.
fn quoted(word: &str) -> String {
    if !word.is_empty() && !word.contains([' ', '\'', '"']) {
        return word.to_owned();
    }
    let parts: Vec<_> = word.split('\'').map(|part| format!("'{part}'")).collect();
    parts.join("\"'\"")
}
