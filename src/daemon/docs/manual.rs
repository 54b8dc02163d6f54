//! preforkd.conf(5), from the table of directives.

use super::differences::differences;
use super::roff::Page;
use super::{PARTS, is_up_to_date, kind, origin};
use crate::config::directive::Source;
use crate::config::table::table;

const DESCRIPTION: &str = "The configuration of preforkd(8) has the form and the directives of php-fpm. It is read as a whole \
    and checked as a whole: preforkd check tells every mistake at once, with its file, line and what would be right, and \
    nothing is started or changed while there is one.";

const LANGUAGE: &[&str] = &[
    "A line is blank, a comment, the name of a section in brackets, or NAME = VALUE. Directives in [global], or before any \
     section, concern the daemon as a whole. Every other section is a pool, which has the section's name; a section met \
     again goes on where it was. Names of sections and directives can be written in any case.",
    "A comment starts with a semicolon. A value with a semicolon or one of | & ^ ~ ! ( ) in it is written in double quotes, in \
     which \\\" and \\\\ stand for the second character, or in single quotes, in which nothing is special. ${NAME} is the \
     environment variable NAME of preforkd, ${NAME:-TEXT} is TEXT if it is not set, and $pool, in the section of a pool, is \
     the pool's name. A value is on one line.",
    "NAME[] = VALUE may be repeated and makes a list; NAME[KEY] = VALUE may be repeated with other keys. Of any other \
     directive the last line counts, and one with nothing after the = is unset, if it has no default.",
    "A time is a whole number with s, m, h or d after it, or of seconds if there is nothing after it.",
];

fn page() -> String {
    let mut page = Page::new("preforkd.conf", "5", "the configuration of preforkd");
    page.section("description");
    page.paragraph(DESCRIPTION);
    page.section("example");
    page.verbatim(
        "[site]\nlisten = /run/preforkd-$pool.sock\nlisten.owner = www-data\nuser = www-data\n\
         python = /srv/site/venv/bin/python3\nwsgi = mysite.wsgi\nchdir = /srv/site\n\
         pm = dynamic\npm.max_children = 16\npm.min_spare_servers = 2\npm.max_spare_servers = 6\n",
    );
    page.section("language");
    for paragraph in LANGUAGE {
        page.paragraph(paragraph);
    }
    for part in &PARTS {
        let title = match part.section {
            "global" => format!("{} ([global])", part.title),
            _ => part.title.to_owned(),
        };
        page.section(&title);
        for directive in part.directives() {
            page.term(&directive.spelling(), directive.text);
            let value = match (directive.default, directive.example) {
                (Some(default), _) => format!("Default: {default}"),
                (None, Some(example)) => format!("No default; such as {example}"),
                (None, None) => "No default".to_owned(),
            };
            page.further(&format!("Value: {}. {value}.", kind(directive)));
            if let Some(origin) = origin(directive) {
                page.further(origin);
            }
        }
    }
    page.section("accepted and ignored");
    let ignored: Vec<String> = table()
        .filter(|directive| directive.source == Source::PhpOnly)
        .map(|directive| directive.spelling())
        .collect();
    page.paragraph(&format!(
        "These concern PHP alone, or other systems. Each is accepted with one notice, so that files written for php-fpm load: {}.",
        ignored.join(", ")
    ));
    page.section("differences from php-fpm");
    for difference in differences() {
        page.term(
            &difference.subject,
            &format!("In php-fpm: {}.", difference.there),
        );
        page.further(&format!("Here: {}. {}", difference.here, difference.why));
    }
    page.section("see also");
    page.paragraph("preforkd(8)");
    page.into_text()
}

#[test]
fn the_manual_page_of_the_configuration() {
    is_up_to_date("packaging/man/preforkd.conf.5", &page());
}
