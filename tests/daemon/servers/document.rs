//! The page `packaging/docs/web-servers.md`, made from the tables. It is written anew with
//!
//! ```text
//! PREFORKD_WRITE_DOCS=1 cargo test --test daemon servers::document
//! ```

use std::path::Path;
use std::{env, fs};

use super::SERVERS;
use super::cases::CASES;

const NAME: &str = "packaging/docs/web-servers.md";

const HEAD: &str = "# Web servers

`packaging/web-servers` has a configuration for each web server below, as Debian 12 has them. The tests start each
server with its file before two pools, one at `/` and one below `/shop`, over Unix sockets and over TCP, and try every
case of the table, @ONCE@ over Unix sockets alone. The page is made from their tables.
`nginx-two-hosts.conf` is of another recipe, `two-hosts.md`.

To use a file, copy it to where its first lines say, and change

- `/run/site.sock`: where the pool listens. Over TCP, a line `# Over TCP: …` takes the place of the one below it
- `/run/shop.sock`: the same for a second application below a prefix, whose pool says `mount = /shop`; or leave that out
- `0.0.0.0:80`, `0.0.0.0:443`, `site.example`: where the web server listens, or for which name
- `/etc/ssl/certs/site.pem`, `/etc/ssl/private/site.key`, `/etc/ssl/private/site-and-key.pem`: the certificate

The web server's user needs the right to connect: `listen.owner`, `listen.group`, `listen.mode`.

";

const BEHIND: &str = "
Bodies of 100 MB go through a worker that does not grow by a quarter of that. A client that leaves gives its worker
free within seconds, as soon as the web server closes the connection and the application writes or reads again.
Streamed answers carry `X-Accel-Buffering: no`, which nginx asks for. HAProxy with multiplexing is the same file with
`option mpxs-conns` in place of `option get-values`; a pool answers one request at a time on a connection, so that nothing
is gained by it.

";

fn page() -> String {
    let once = CASES.iter().filter(|case| case.once);
    let once: Vec<_> = once.map(|case| format!("\"{}\"", case.name)).collect();
    let mut page = HEAD.replace("@ONCE@", &once.join(" and "));
    let mut notes: Vec<String> = Vec::new();
    page += "| |";
    for server in SERVERS {
        page += &format!(" {} |", server.name);
    }
    page += &format!("\n|---|{}\n", "---|".repeat(SERVERS.len()));
    for case in CASES {
        page += &format!("| {} |", case.name);
        for server in SERVERS {
            let shortfall = server
                .shortfalls
                .iter()
                .find(|shortfall| shortfall.case == case.name);
            let Some(shortfall) = shortfall else {
                page += " yes |";
                continue;
            };
            let known = notes.iter().position(|note| note == shortfall.why);
            let number = known.unwrap_or_else(|| {
                notes.push(shortfall.why.to_owned());
                notes.len() - 1
            });
            page += &format!(" no ({}) |", number + 1);
        }
        page.push('\n');
    }
    page.push('\n');
    for (number, note) in (1..).zip(&notes) {
        page += &format!("{number}. {note}\n");
    }
    page += BEHIND;
    page.trim_end().to_owned() + "\n"
}

#[test]
fn the_document_is_up_to_date() {
    let text = page();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(NAME);
    if env::var_os("PREFORKD_WRITE_DOCS").is_some() {
        fs::write(&path, &text).expect("the document can be written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "{NAME} is not what the tests say; write it anew with\n    \
         PREFORKD_WRITE_DOCS=1 cargo test --test daemon servers::document"
    );
}

#[test]
fn every_shortfall_is_of_a_case() {
    for server in SERVERS {
        for shortfall in server.shortfalls {
            assert!(
                CASES.iter().any(|case| case.name == shortfall.case),
                "{}: {}",
                server.name,
                shortfall.case
            );
        }
    }
}
