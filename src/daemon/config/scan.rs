//! One line of an INI file.
//!
//! The rules are those of PHP's scanner, which reads php-fpm's files: `;` starts a comment wherever it is not quoted, a
//! value never spans lines, and quotes may make up a part of a value. In double quotes `\"` and `\\` stand for the second
//! character and `${NAME}` for an environment variable, as outside of quotes; in single quotes nothing is special. Blanks
//! next to double quotes do not count.
//!
//! Where that scanner does something nobody wants, this one differs: an unquoted `=` in a value is the character, not an
//! error; an unquoted operator (`|`, `&`, `(` …) is an error, not arithmetic; and a word such as `yes` or `none` is kept
//! as it is written, so that `env[DEBUG] = True` reaches the application as `True`, not as `1`.

use std::ffi::OsString;

/// Longest value, in bytes, after expansion.
const MAX_VALUE: usize = 64 * 1024;

/// A line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Nothing, or a comment.
    Blank,
    /// `[name]`
    Section(String),
    /// `name = value` or `name[key] = value`
    Assignment {
        /// The directive's name as written.
        name: String,
        /// What is between the brackets; may be empty.
        key: Option<String>,
        /// The value: unquoted, expanded, without the blanks round it.
        value: String,
    },
}

/// Reads one line, given without its line feed. `variable` looks up an environment variable.
///
/// # Errors
/// What is wrong with the line, and what would be right.
pub fn scan(line: &[u8], variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Line, String> {
    let line = line.trim_ascii();
    // Whatever a comment is encoded in, it does no harm.
    if line.is_empty() || line.starts_with(b";") {
        return Ok(Line::Blank);
    }
    let line = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8".to_owned())?;
    if let Some(character) = line.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(format!(
            "the line has a control character ({})",
            character.escape_unicode()
        ));
    }
    if line.starts_with('#') {
        return Err("a comment starts with ; (not with #)".to_owned());
    }
    if let Some(rest) = line.strip_prefix('[') {
        return section(rest);
    }
    let Some(end) = line.find(['=', '[', ';']) else {
        return Err(no_value(line));
    };
    let name = line[..end].trim_end().to_owned();
    let (key, rest) = match line[end..].strip_prefix('[') {
        Some(rest) => {
            let (key, rest) = rest
                .split_once(']')
                .ok_or_else(|| format!("the bracket after {name} is not closed with ]"))?;
            (Some(unquoted(key.trim()).to_owned()), rest.trim_start())
        }
        None => (None, &line[end..]),
    };
    let Some(rest) = rest.strip_prefix('=') else {
        return Err(no_value(&name));
    };
    if name.is_empty() {
        return Err("there is no name before the =".to_owned());
    }
    let value = value(rest, variable)?;
    Ok(Line::Assignment { name, key, value })
}

fn no_value(name: &str) -> String {
    format!("{name} has no value: write NAME = VALUE")
}

fn section(rest: &str) -> Result<Line, String> {
    let (name, after) = rest
        .split_once(']')
        .ok_or("the section's name is not closed with ]")?;
    let after = after.trim_start();
    if !after.is_empty() && !after.starts_with(';') {
        return Err("only a comment may follow the section's name".to_owned());
    }
    Ok(Line::Section(unquoted(name.trim()).to_owned()))
}

/// What is inside of a pair of quotes round the whole, if there is one.
fn unquoted(text: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
}

fn value(rest: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<String, String> {
    let mut rest = rest.trim_start();
    let mut value = String::new();
    // Blanks before this length were quoted or expanded, and stay.
    let mut firm = 0;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        rest = match character {
            ';' => break,
            '"' => {
                trim_end(&mut value, firm);
                let after = double_quoted(after, &mut value, variable)?;
                firm = value.len();
                after.trim_start()
            }
            '\'' => {
                let (text, after) = after
                    .split_once('\'')
                    .ok_or("a single quote is not closed: write the value in double quotes")?;
                value.push_str(text);
                firm = value.len();
                after
            }
            '$' if after.starts_with('{') => {
                let after = expand(&after[1..], &mut value, variable)?;
                firm = value.len();
                after
            }
            '&' | '|' | '^' | '~' | '!' | '(' | ')' => {
                return Err(format!(
                    "the value has an unquoted {character}: write the value in double quotes"
                ));
            }
            _ => {
                value.push(character);
                after
            }
        };
        if value.len() > MAX_VALUE {
            return Err(format!("the value is longer than {MAX_VALUE} bytes"));
        }
    }
    trim_end(&mut value, firm);
    Ok(value)
}

/// Appends what is quoted to `value`; returns what follows the closing quote.
fn double_quoted<'a>(
    mut rest: &'a str,
    value: &mut String,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<&'a str, String> {
    loop {
        let mut characters = rest.chars();
        let Some(character) = characters.next() else {
            return Err("a double quote is not closed (a value cannot span lines)".to_owned());
        };
        let after = characters.as_str();
        rest = match character {
            '"' => return Ok(after),
            '\\' if after.starts_with(['"', '\\']) => {
                value.push_str(&after[..1]);
                &after[1..]
            }
            '$' if after.starts_with('{') => expand(&after[1..], value, variable)?,
            _ => {
                value.push(character);
                after
            }
        };
        if value.len() > MAX_VALUE {
            return Err(format!("the value is longer than {MAX_VALUE} bytes"));
        }
    }
}

/// Appends the value of the variable that `rest`, which follows `${`, names; returns what follows the `}`.
///
/// As in PHP, a variable that is not set is empty, unless `${NAME:-FALLBACK}` says otherwise.
fn expand<'a>(
    rest: &'a str,
    value: &mut String,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<&'a str, String> {
    let (reference, after) = rest
        .split_once('}')
        .ok_or("${ is not closed with }: write ${NAME}")?;
    let (name, fallback) = reference.split_once(":-").unwrap_or((reference, ""));
    match variable(name) {
        Some(found) => value.push_str(
            found
                .to_str()
                .ok_or_else(|| format!("the environment variable {name} is not UTF-8"))?,
        ),
        None => value.push_str(fallback),
    }
    Ok(after)
}

fn trim_end(value: &mut String, firm: usize) {
    let length = value.trim_end_matches([' ', '\t']).len().max(firm);
    value.truncate(length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn variable(name: &str) -> Option<OsString> {
        match name {
            "FOO" => Some("foo val".into()),
            "EMPTY" => Some("".into()),
            "LONG" => Some("x".repeat(MAX_VALUE).into()),
            "BYTES" => {
                use std::os::unix::ffi::OsStringExt;
                Some(OsString::from_vec(vec![0xff]))
            }
            _ => None,
        }
    }

    fn line(text: &str) -> Result<Line, String> {
        scan(text.as_bytes(), &variable)
    }

    fn assigned(name: &str, key: Option<&str>, value: &str) -> Line {
        Line::Assignment {
            name: name.to_owned(),
            key: key.map(str::to_owned),
            value: value.to_owned(),
        }
    }

    #[test]
    fn lines_without_meaning() {
        for text in ["", "   ", "\t", "\r", "; x", "  ;x = y", ";"] {
            assert_eq!(line(text), Ok(Line::Blank), "{text:?}");
        }
        assert_eq!(scan(b"; caf\xe9", &variable), Ok(Line::Blank));
    }

    #[test]
    fn sections() {
        for (text, name) in [
            ("[site]", "site"),
            (" [ site ] ", "site"),
            ("[site] ; comment", "site"),
            ("[site];comment", "site"),
            ("[\"site\"]", "site"),
            ("[a b]", "a b"),
            ("[]", ""),
            ("[site]\r", "site"),
        ] {
            assert_eq!(line(text), Ok(Line::Section(name.to_owned())), "{text}");
        }
    }

    #[test]
    fn left_sides() {
        for (text, expected) in [
            ("a = 1", assigned("a", None, "1")),
            ("a=1", assigned("a", None, "1")),
            (" a\t=\t1 \r", assigned("a", None, "1")),
            ("a.b = 1", assigned("a.b", None, "1")),
            ("A = 1", assigned("A", None, "1")),
            ("a[] = 1", assigned("a", Some(""), "1")),
            ("a[x] = 1", assigned("a", Some("x"), "1")),
            ("a [ x ] = 1", assigned("a", Some("x"), "1")),
            ("a['x'] = 1", assigned("a", Some("x"), "1")),
            ("a[x=y;z] = 1", assigned("a", Some("x=y;z"), "1")),
        ] {
            assert_eq!(line(text), Ok(expected), "{text}");
        }
    }

    /// What PHP 8.2's scanner makes of the same lines, but for those marked as ours.
    #[test]
    fn values() {
        for (text, value) in [
            // Comments.
            ("b;c", "b"),
            ("b ; c", "b"),
            (r#""b;c" ; d"#, "b;c"),
            ("'b;c' ; d", "b;c"),
            (r"b\;c", r"b\"),
            ("#b", "#b"),
            // Blanks.
            ("  b c\td  ", "b c\td"),
            ("", ""),
            (r#""""#, ""),
            ("''", ""),
            ("' '", " "),
            (r#"" a ""#, " a "),
            // Double quotes, and what is next to them.
            (r#""b" c"#, "bc"),
            (r#"b "c" d"#, "bcd"),
            (r#"b"c"d"#, "bcd"),
            (r#""a"  "b""#, "ab"),
            (r#"" a " b"#, " a b"),
            (r#""a'b""#, "a'b"),
            (r#""b=c&d|(e)""#, "b=c&d|(e)"),
            // Escapes.
            (r#""x\"y""#, "x\"y"),
            (r#""x\\y""#, r"x\y"),
            (r#""x\ny""#, r"x\ny"),
            (r#""x\'y""#, r"x\'y"),
            (r"C:\x\y", r"C:\x\y"),
            // Single quotes.
            ("'b'c", "bc"),
            ("'b' c", "b c"),
            ("c 'b'", "c b"),
            ("'a' 'b'", "a b"),
            ("' a ' b", " a  b"),
            (r#"'a' "b""#, "ab"),
            (r#"'a"b'"#, "a\"b"),
            (r"'x\'", r"x\"),
            // Variables.
            ("x${FOO}y", "xfoo valy"),
            (r#""x${FOO}y""#, "xfoo valy"),
            ("'x${FOO}y'", "x${FOO}y"),
            ("${FOO} x", "foo val x"),
            (r#"${FOO} "x""#, "foo valx"),
            (r#""x" ${FOO}"#, "xfoo val"),
            ("${NOPE}", ""),
            ("$pool", "$pool"),
            ("/run/$pool.sock", "/run/$pool.sock"),
            ("$$x", "$$x"),
            (r#""$""#, "$"),
            // Other characters.
            ("{b}", "{b}"),
            ("[::1]:9000", "[::1]:9000"),
            ("%R - %u %t", "%R - %u %t"),
            ("http://x/y?z", "http://x/y?z"),
            ("caf\u{e9}", "caf\u{e9}"),
            // PHP 8.3 has these.
            ("${NOPE:-x y}", "x y"),
            ("${FOO:-x}", "foo val"),
            ("${EMPTY:-x}", ""),
            // Ours: the characters, where PHP has an error or a constant.
            ("b=c", "b=c"),
            ("yes", "yes"),
            ("None", "None"),
            ("$", "$"),
        ] {
            let text = format!("a = {text}");
            assert_eq!(line(&text), Ok(assigned("a", None, value)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong() {
        for (text, rule) in [
            ("a", "a has no value"),
            ("a ; = 1", "a has no value"),
            ("a[x]", "a has no value"),
            ("a[x] y = 1", "a has no value"),
            ("= 1", "no name before"),
            ("[] = 1", "only a comment may follow"),
            ("a[x = 1", "not closed with ]"),
            ("[site", "not closed with ]"),
            ("[site] x = 1", "only a comment may follow"),
            ("# a = 1", "a comment starts with ;"),
            ("a = \"open", "a double quote is not closed"),
            (r#"a = "C:\x\""#, "a double quote is not closed"),
            ("a = 'open", "a single quote is not closed"),
            ("a = it's", "a single quote is not closed"),
            ("a = ${FOO", "${ is not closed"),
            ("a = \"${FOO\"", "${ is not closed"),
            ("a = ${BYTES}", "BYTES is not UTF-8"),
            ("a = b&c", "unquoted &"),
            ("a = b|c", "unquoted |"),
            ("a = b!c", "unquoted !"),
            ("a = (b)", "unquoted ("),
            ("a = b^c", "unquoted ^"),
            ("a = ~b", "unquoted ~"),
            ("a = \0", "control character"),
            ("a = \u{1b}[m", "control character"),
            ("a = ${LONG}x", "longer than"),
            ("a = \"${LONG}x\"", "longer than"),
        ] {
            let error = line(text).expect_err(text);
            assert!(error.contains(rule), "{text}: {error}");
        }
        let error = scan(b"a = caf\xe9", &variable).unwrap_err();
        assert!(error.contains("not UTF-8"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_line_or_an_error(line in any::<Vec<u8>>()) {
            let _ = scan(&line, &variable);
        }

        #[test]
        fn any_line_of_the_language_is_a_line_or_an_error(
            line in r#"[a-z. ]{0,8}(\[[a-z\]]{0,4})?[=; ]{0,3}([ \\;"'$\{\}A-Z:=(-]|\$\{FOO\}){0,24}"#
        ) {
            let _ = scan(line.as_bytes(), &variable);
        }

        #[test]
        fn double_quotes_carry_any_text(text in r"[ -~]{0,40}") {
            let quoted = text
                .replace('\\', r"\\")
                .replace('"', "\\\"")
                .replace("${", "$\" \"{");
            let line = scan(format!("a = \"{quoted}\"").as_bytes(), &variable);
            prop_assert_eq!(line, Ok(assigned("a", None, &text)));
        }
    }
}
