//! preforkd(8) and the completions of shells, from the definition of the command line.

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::is_up_to_date;
use super::roff::Page;
use crate::cli::Cli;

const DESCRIPTION: &str = "preforkd keeps pools of worker processes that answer FastCGI requests of a web server, for \
    applications in Python (WSGI). Each pool has a listening socket, an application, a user and limits; the \
    number of its workers follows the load. The configuration, see preforkd.conf(5), is that of php-fpm, and so are \
    the flags.";

const EXIT_STATUS: &[(&str, &str)] = &[
    (
        "0",
        "A clean stop; the configuration is right (-t); help or the version was shown; in the background, the pools can be reached; the new generation serves (preforkd reload).",
    ),
    (
        "64",
        "The command line is wrong, or names a pool that there is not.",
    ),
    (
        "69",
        "A pool does not tell its status (preforkd status); there is no master, it is about to end, or others may tell it what to do (preforkd reload).",
    ),
    (
        "70",
        "The daemon could not start in the background, or did not say within 10 seconds that it could; the new generation did not come up, and the old one serves on (preforkd reload).",
    ),
    (
        "78",
        "The configuration is wrong, or what it asks for cannot be set up, such as an address that is taken.",
    ),
];

const RELOADING: &[&str] = &[
    "The signals USR2 and HUP, and preforkd reload, replace every pool by a new generation, or all go on as they were. The \
     configuration is read and checked whole, and its sockets are bound; then the new workers start beside the old ones, \
     which leave, after the requests they hold, when the new ones are ready. Pools can be added, removed and renamed, and \
     change any directive; a socket whose address stays is kept, with the connections that wait in it. Where the program's \
     own file has been replaced, the master turns into the new one.",
    "preforkd reload finds the master by the same -y, -p and -g that it was started with: it takes commands on the socket of \
     control, or beside the pid file. It waits until the new generation serves, or tells why it does not: the mistakes of \
     the configuration, an address that is taken, the last words of an application that cannot start. Reloads that are asked \
     for while another goes on follow it, once for all who want the same. A reload that changes control is asked for with a \
     signal, since the command reads the new path and the master is at the old one.",
    "preforkd reload POOL does so for one pool alone, which may be a new one, or one that the configuration does not have any \
     more; a pool that was renamed is two. The configuration has to be right as a whole, but the other pools, the [global] \
     section and the program stay as they are.",
];

const SIGNALS: &[(&str, &str)] = &[
    (
        "TERM, INT",
        "Stop at once. Requests that are being answered are broken off. A second one kills who has not ended yet.",
    ),
    (
        "QUIT",
        "Stop when the requests that are being answered, or wait to be accepted, have been, at most process_control_timeout later. \
         Who comes now finds no socket any more. A second one is as TERM.",
    ),
    (
        "USR1",
        "Open the log files anew, after they have been rotated. No worker is replaced.",
    ),
    (
        "USR2, HUP",
        "Reload, as said above. What has come of it is in the log, and in the status of each pool.",
    ),
];

const FILES: &[(&str, &str)] = &[
    (
        crate::cli::DEFAULT_FILE,
        "The configuration, if -y and -p do not say otherwise.",
    ),
    (
        "/etc/preforkd/conf.d/*.conf",
        "The pools, which the configuration includes.",
    ),
];

/// What clap's generator makes of a part of the page.
fn generated(part: impl Fn(&Man, &mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut text = Vec::new();
    part(&Man::new(Cli::command()).section("8"), &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn page() -> String {
    let command = Cli::command();
    let mut page = Page::new("preforkd", "8", &command.get_about().unwrap().to_string());
    page.raw(&generated(Man::render_synopsis_section));
    page.section("description");
    page.paragraph(DESCRIPTION);
    page.raw(&generated(Man::render_options_section));
    page.paragraph(&command.get_after_help().unwrap().to_string());
    page.section("commands");
    page.paragraph("In place of flags, a word can say what to do. -y, -p, -g, -O and -R can be given before and after it.");
    for word in command.get_subcommands() {
        let own = || word.get_arguments().filter(|flag| !flag.is_global_set());
        let written = own().map(|argument| match argument.get_long() {
            Some(long) => format!(" [--{long}]"),
            None => format!(" [{}]", argument.get_id().as_str().to_uppercase()),
        });
        let term = format!("{}{}", word.get_name(), written.collect::<String>());
        page.term(&term, &format!("{}.", word.get_about().unwrap()));
        for flag in own().filter(|argument| !argument.is_positional()) {
            let (long, help) = (flag.get_long().unwrap(), flag.get_help().unwrap());
            page.further(&format!("--{long}: {help}."));
        }
    }
    page.section("reloading");
    for text in RELOADING {
        page.paragraph(text);
    }
    for (title, entries) in [
        ("exit status", EXIT_STATUS),
        ("signals", SIGNALS),
        ("files", FILES),
    ] {
        page.section(title);
        for (term, text) in entries {
            page.term(term, text);
        }
    }
    page.section("see also");
    page.paragraph("preforkd.conf(5)");
    page.into_text()
}

#[test]
fn the_manual_page_of_the_command() {
    is_up_to_date("packaging/man/preforkd.8", &page());
}

/// The command line without the flags that do nothing.
fn visible() -> Command {
    let command = Cli::command();
    let arguments = command.get_arguments().filter(|flag| !flag.is_hide_set());
    Command::new("preforkd")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .args(arguments.cloned())
        .subcommands(command.get_subcommands().cloned())
}

#[test]
fn completions() {
    for (shell, name) in [
        (Shell::Bash, "preforkd.bash"),
        (Shell::Zsh, "_preforkd"),
        (Shell::Fish, "preforkd.fish"),
    ] {
        let mut text = Vec::new();
        generate(shell, &mut visible(), "preforkd", &mut text);
        let text = String::from_utf8(text).unwrap();
        is_up_to_date(&format!("packaging/completions/{name}"), &text);
    }
}
