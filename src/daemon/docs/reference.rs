//! The directives and the differences from php-fpm in Markdown, to be read on the web.

use super::differences::differences;
use super::{PARTS, is_up_to_date, kind};
use crate::config::directive::Source;

/// Text in the cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('<', "\\<")
        .replace('*', "\\*")
        .replace('_', "\\_")
}

/// Text as it is written in files, in the cell of a table.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn text() -> String {
    let mut text = "# The configuration\n\n\
        Every directive, and what differs from php-fpm. It is made from the definitions that the daemon reads its\n\
        configuration with; preforkd.conf(5) has the same, and the rules of the language.\n"
        .to_owned();
    for part in &PARTS {
        text += &format!("\n## {}", part.title);
        if part.section == "global" {
            text += " (`[global]`)";
        }
        text += "\n\n| directive | value | default | |\n|---|---|---|---|\n";
        for directive in part.directives() {
            let mark = match directive.source {
                Source::Ours => " (not in php-fpm)",
                Source::Differs { .. } => " (differs from php-fpm)",
                Source::PhpFpm | Source::PhpOnly => "",
            };
            text += &format!(
                "| {} | {} | {} | {}{mark} |\n",
                code(&directive.spelling()),
                cell(&kind(directive)),
                directive.default.map(code).unwrap_or_default(),
                cell(directive.text)
            );
        }
    }
    text += "\n## Differences from php-fpm\n\n| | php-fpm | preforkd | why |\n|---|---|---|---|\n";
    for difference in differences() {
        text += &format!(
            "| {} | {} | {} | {} |\n",
            cell(&difference.subject),
            cell(difference.there),
            cell(difference.here),
            cell(difference.why)
        );
    }
    text
}

#[test]
fn the_reference() {
    is_up_to_date("packaging/docs/configuration.md", &text());
}
