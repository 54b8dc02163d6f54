//! Files: lines into entries, entries into the section they are in, `include`.
//!
//! A section met again goes on where it was. What comes before any section is global. An included file begins in the
//! section of its `include` and leaves the including file in that section, whatever sections it has itself.
//!
//! Bounds: 1 MiB a file, 5 files deep, 10 000 files and 100 000 lines other than comments in all.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check::check;
use super::directive::{Directive, Reader as Kind, Scope, Shape};
use super::global;
use super::names::Names;
use super::problem::{Origin, Problem, Problems, Stage};
use super::raw::{Entry, Raw, RawPool, Section};
use super::scan::{self, Line};
use super::table::table;
use super::{Config, Surroundings};
use crate::log::reason;

const MAX_FILE: u64 = 1024 * 1024;
const MAX_DEPTH: usize = 5;
const MAX_FILES: usize = 10_000;
const MAX_ENTRIES: usize = 100_000;
/// Longest name of a pool, in bytes. It is part of process titles, log lines and, as `$pool`, of values.
const MAX_POOL_NAME: usize = 64;

/// Reads and checks a configuration: `file` and all it includes. `names` tells users, groups and hosts.
///
/// # Errors
/// Everything that is wrong with it, at once. Nothing is changed on the system either way.
pub fn load(
    file: &Path,
    surroundings: &Surroundings<'_>,
    names: &Names,
) -> Result<Config, Problems> {
    let mut reader = Reader::new(surroundings);
    let origin = Origin {
        file: file.into(),
        line: 0,
        order: 0,
    };
    if let Err(rule) = reader.file(file, Place::Global, 0) {
        // Nothing else that could be said of a part of the configuration would be true of the whole.
        return Err(Problems::new(
            vec![Problem {
                origin,
                alert: false,
                section: None,
                subject: None,
                rule,
            }],
            Stage::Read,
        ));
    }
    if reader.raw.pools.is_empty() {
        // The pools are most likely where an include was to find them.
        reader.problems.append(&mut reader.unmatched);
    }
    check(
        &reader.raw,
        &origin,
        surroundings,
        names,
        reader.problems,
        reader.notices,
        reader.warnings,
    )
}

/// Where the master that runs with this configuration takes commands, whatever else may be wrong with it.
///
/// # Errors
/// What is wrong with just that, or with reading any of it.
pub fn control(file: &Path, surroundings: &Surroundings<'_>) -> Result<Option<PathBuf>, Problems> {
    let mut reader = Reader::new(surroundings);
    let read = reader.file(file, Place::Global, 0);
    match global::control(&reader.raw.global, surroundings) {
        Some(control) if read.is_ok() => Ok(control),
        // Should somebody just have mended it, it is right.
        _ => load(file, surroundings, &Names::default()).map(|config| config.global.control),
    }
}

/// The section that an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Global,
    /// The pool of this index.
    Pool(usize),
}

/// A line that may be complained about.
struct Written {
    origin: Origin,
    section: String,
    /// `name = value`, if the line has been understood that far.
    subject: Option<String>,
    /// Whether nothing is written as the value.
    blank: bool,
}

struct Reader<'a> {
    surroundings: &'a Surroundings<'a>,
    raw: Raw,
    /// The pools by their names in lower case.
    pools: HashMap<String, usize>,
    problems: Vec<Problem>,
    notices: Vec<String>,
    warnings: Vec<String>,
    /// The includes outside of pools that match nothing, as the mistakes that they are if there is no pool.
    unmatched: Vec<Problem>,
    /// Ignored directives that have had their notice.
    noticed: BTreeSet<&'static str>,
    files: usize,
    entries: usize,
}

impl<'a> Reader<'a> {
    fn new(surroundings: &'a Surroundings<'a>) -> Reader<'a> {
        let mut raw = Raw::default();
        for (directive, entry) in defaults() {
            if let Kind::Global { set, .. } = directive.reader {
                // That every default is right is checked by a test.
                let _ = set(&mut raw.global, &entry);
            }
        }
        Reader {
            surroundings,
            raw,
            pools: HashMap::new(),
            problems: Vec::new(),
            notices: Vec::new(),
            warnings: Vec::new(),
            unmatched: Vec::new(),
            noticed: BTreeSet::new(),
            files: 0,
            entries: 0,
        }
    }

    /// Reads the lines of a file; the first are in the section `place`.
    ///
    /// # Errors
    /// Why the file cannot be read.
    fn file(&mut self, path: &Path, mut place: Place, depth: usize) -> Result<(), String> {
        self.files += 1;
        let file: Arc<Path> = path.into();
        for (index, line) in read_bounded(path)?.split(|byte| *byte == b'\n').enumerate() {
            let blank = is_blank(line);
            let line = scan::scan(line, self.surroundings.variable);
            if line == Ok(Line::Blank) {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(format!("there are more than {MAX_ENTRIES} lines in all"));
            }
            let mut written = Written {
                origin: Origin {
                    file: Arc::clone(&file),
                    line: index + 1,
                    order: self.entries,
                },
                section: self.section_name(place).to_owned(),
                subject: None,
                blank,
            };
            match line {
                Ok(Line::Blank) => {}
                Ok(Line::Section(name)) => place = self.section(name, written.origin),
                Ok(Line::Assignment { name, key, value }) => {
                    written.subject = Some(match &key {
                        Some(key) => format!("{name}[{key}] = {value}"),
                        None => format!("{name} = {value}"),
                    });
                    if let Err(rule) = self.assignment(&written, place, depth, &name, key, value) {
                        self.problem(written, rule);
                    }
                }
                Err(rule) => self.problem(written, rule),
            }
        }
        Ok(())
    }

    fn section_name(&self, place: Place) -> &str {
        match place {
            Place::Global => "global",
            Place::Pool(index) => &self.raw.pools[index].name,
        }
    }

    fn problem(&mut self, written: Written, rule: String) {
        self.problems.push(Problem {
            origin: written.origin,
            alert: false,
            section: Some(written.section),
            subject: written.subject,
            rule,
        });
    }

    fn section(&mut self, name: String, origin: Origin) -> Place {
        let folded = name.to_ascii_lowercase();
        if folded == "global" {
            return Place::Global;
        }
        if let Some(index) = self.pools.get(&folded) {
            return Place::Pool(*index);
        }
        if name.is_empty() || name.len() > MAX_POOL_NAME {
            let written = Written {
                origin: origin.clone(),
                section: name.clone(),
                subject: None,
                blank: false,
            };
            let rule = format!("the name of a pool must have from 1 to {MAX_POOL_NAME} bytes");
            self.problem(written, rule);
        }
        let mut pool = RawPool::default();
        for (directive, entry) in defaults() {
            if let Kind::Pool { set, .. } = directive.reader {
                // That every default is right is checked by a test.
                let _ = set(&mut pool, &entry);
            }
        }
        self.raw.pools.push(Section { name, origin, pool });
        let index = self.raw.pools.len() - 1;
        self.pools.insert(folded, index);
        Place::Pool(index)
    }

    /// Takes in one entry.
    ///
    /// # Errors
    /// The rule that it breaks.
    fn assignment(
        &mut self,
        written: &Written,
        place: Place,
        depth: usize,
        name: &str,
        key: Option<String>,
        value: String,
    ) -> Result<(), String> {
        let scope = match place {
            Place::Global => Scope::Global,
            Place::Pool(_) => Scope::Pool,
        };
        let directive = Directive::find(name, scope).ok_or_else(|| unknown(name))?;
        if !directive.is_in(scope) {
            return Err(match place {
                Place::Global => "belongs in the section of a pool, not in [global]".to_owned(),
                Place::Pool(_) => "belongs in [global], not in the section of a pool".to_owned(),
            });
        }
        let shaped = match (directive.shape, &key) {
            (Shape::One, None) => true,
            (Shape::List, Some(key)) => key.is_empty(),
            (Shape::Map, Some(key)) => !key.is_empty() && !key.contains('='),
            (Shape::One, Some(_)) | (Shape::List | Shape::Map, None) => false,
        };
        if !shaped {
            return Err(format!("is written {} = VALUE", directive.spelling()));
        }
        let entry = Entry {
            origin: Some(written.origin.clone()),
            name: directive.name,
            key,
            text: self.expand_pool(place, value)?,
            blank: written.blank && directive.shape == Shape::One && directive.default.is_none(),
        };
        match (directive.reader, place) {
            (Kind::Include, _) => {
                entry.has_value()?;
                self.include(written, place, depth, &entry.text)
            }
            (Kind::Global { set, .. }, _) => set(&mut self.raw.global, &entry),
            (Kind::Pool { set, .. }, Place::Pool(index)) => {
                set(&mut self.raw.pools[index].pool, &entry)
            }
            (Kind::IgnoredInGlobal | Kind::IgnoredInPool, _) => {
                self.ignored(written, directive);
                Ok(())
            }
            (Kind::Pool { .. }, Place::Global) => Ok(()),
        }
    }

    fn ignored(&mut self, written: &Written, directive: &'static Directive) {
        if self.noticed.insert(directive.name) {
            self.notices.push(format!(
                "{}: [{}{}] {} is accepted for php-fpm's sake and ignored",
                written.origin,
                if directive.is_in(Scope::Pool) {
                    "pool "
                } else {
                    ""
                },
                written.section,
                directive.spelling()
            ));
        }
    }

    /// `$pool` in the values of a pool is its name.
    fn expand_pool(&self, place: Place, text: String) -> Result<String, String> {
        const NAME: &str = "$pool";
        match place {
            // A name that is too long has been reported, and is not to make values long.
            Place::Pool(index) if self.raw.pools[index].name.len() <= MAX_POOL_NAME => {
                Ok(text.replace(NAME, &self.raw.pools[index].name))
            }
            Place::Global if text.contains(NAME) => {
                Err("Can't use '$pool' when the pool is not defined: it has a meaning in the section of a pool only".to_owned())
            }
            Place::Global | Place::Pool(_) => Ok(text),
        }
    }

    /// Reads what a pattern matches, in the order of the names.
    fn include(
        &mut self,
        written: &Written,
        place: Place,
        depth: usize,
        pattern: &str,
    ) -> Result<(), String> {
        if depth + 1 >= MAX_DEPTH {
            return Err(format!(
                "files include each other more than {MAX_DEPTH} deep"
            ));
        }
        // A folder's name is no pattern.
        let folder = written.origin.file.parent().unwrap_or(Path::new(""));
        let folder = self.surroundings.prefix.as_deref().unwrap_or(folder);
        let folder = glob::Pattern::escape(&folder.to_string_lossy());
        let pattern = Path::new(&folder).join(pattern);
        // `*` leaves out hidden files, as in a shell, and so what editors and package managers leave behind.
        let options = glob::MatchOptions {
            require_literal_leading_dot: true,
            ..glob::MatchOptions::new()
        };
        let paths = glob::glob_with(&pattern.to_string_lossy(), options)
            .map_err(|error| format!("is no pattern: {error}"))?;
        let mut found = false;
        for path in paths {
            let path = path.map_err(|error| error.to_string())?;
            if path.is_dir() {
                continue;
            }
            found = true;
            // To open a pipe would wait for its writer.
            if path.exists() && !path.is_file() {
                return Err(format!("{}: is not a regular file", path.display()));
            }
            if self.files == MAX_FILES {
                return Err(format!("there are more than {MAX_FILES} files"));
            }
            self.file(&path, place, depth + 1)
                .map_err(|rule| format!("{}: {rule}", path.display()))?;
        }
        if !found {
            self.warnings.push(format!(
                "{}: Nothing matches the include pattern '{}'",
                written.origin,
                pattern.display()
            ));
            self.unmatched.push(Problem {
                origin: written.origin.clone(),
                alert: false,
                section: Some(written.section.clone()),
                subject: written.subject.clone(),
                rule: format!(
                    "matches no file, and no pool is defined: there is no {}",
                    pattern.display()
                ),
            });
        }
        Ok(())
    }
}

/// The directives that have a default, each with an entry that sets it.
fn defaults() -> impl Iterator<Item = (&'static Directive, Entry)> {
    table().filter_map(|directive| {
        let entry = Entry {
            origin: None,
            name: directive.name,
            key: None,
            text: directive.default?.to_owned(),
            blank: false,
        };
        Some((directive, entry))
    })
}

/// Whether a line has nothing to the right of its `=`.
fn is_blank(line: &[u8]) -> bool {
    let value = line.splitn(2, |byte| *byte == b'=').nth(1);
    value.is_some_and(|value| matches!(value.trim_ascii(), [] | [b';', ..]))
}

fn unknown(name: &str) -> String {
    match Directive::nearest(name) {
        Some(nearest) => format!(
            "unknown entry '{name}'; did you mean {}?",
            nearest.spelling()
        ),
        None => format!("unknown entry '{name}'"),
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error| format!("failed to open configuration file: {}", reason(&error));
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(cannot)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("is longer than {MAX_FILE} bytes"));
    }
    Ok(bytes)
}
