//! PHP's FastCGI program, php-cgi.

use std::collections::HashSet;
use std::io::Read;

use nix::sys::signal::Signal;

use crate::support::setup::Setup;

use super::host::{Host, Program};
use super::suite::{self, cases};
use super::transfer::{Answer, pattern, transfer};

const PROGRAM: Program = Program::Php;

cases!(PROGRAM);

#[test]
fn crash() {
    suite::crash(PROGRAM, "SIGSEGV");
}

#[test]
fn ends_by_itself() {
    suite::ends_by_itself(PROGRAM, "env[PHP_FCGI_MAX_REQUESTS] = 7");
}

/// A visitor: the session's cookie and where the site is.
struct Visitor<'a> {
    host: &'a Host,
    cookie: String,
}

impl Visitor<'_> {
    fn ask(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        let head = format!("Cookie: {}\r\nContent-Type: {kind}\r\n", self.cookie);
        let answer = transfer(
            self.host.nginx.port,
            method,
            path,
            &head,
            &mut &*body,
            body.len() as u64,
        )
        .expect("nginx answers");
        let set = answer
            .head
            .lines()
            .filter_map(|line| line.strip_prefix("Set-Cookie: "))
            .next_back();
        if let Some(pair) = set.and_then(|cookie| cookie.split(';').next()) {
            self.cookie = pair.to_owned();
        }
        answer
    }

    fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "", b"")
    }

    /// Uploads a picture as a browser does, and returns its path.
    #[track_caller]
    fn upload(&mut self, name: &str, picture: &[u8]) -> String {
        let mut body = format!(
            "--edge\r\nContent-Disposition: form-data; name=\"picture\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend(picture);
        body.extend(b"\r\n--edge--\r\n");
        let page = self.ask(
            "POST",
            "/album/upload",
            "multipart/form-data; boundary=edge",
            &body,
        );
        assert_eq!(page.status, 200, "{}", page.text());
        let text = page.text();
        let (_, after) = text.split_once("href=\"").expect("a link");
        let (path, rest) = after.split_once('"').expect("its end");
        assert!(
            rest.contains(name) && rest.contains(&picture.len().to_string()),
            "{text}"
        );
        format!("/album/{path}")
    }
}

/// Sessions and uploads hold over several workers, over programs that are replaced, and over a reload.
#[test]
fn an_album_with_sessions_and_uploads() {
    let setup = Setup::new();
    let exec = PROGRAM.install(&setup.folder);
    let album = setup.folder.writable("album").display().to_string();
    let lines = format!(
        "exec = {exec}\nenv[ALBUM] = {album}\npm = static\npm.max_children = 3\npm.max_requests = 6"
    );
    let host = Host::of(setup, &lines);
    let mut visitors: Vec<Visitor<'_>> = (0..3)
        .map(|_| Visitor {
            host: &host,
            cookie: String::new(),
        })
        .collect();
    assert_eq!(visitors[0].get("/album/album").status, 403);
    for (number, visitor) in visitors.iter_mut().enumerate() {
        let form = format!("name=visitor{number}");
        let answer = visitor.ask(
            "POST",
            "/album/login",
            "application/x-www-form-urlencoded",
            form.as_bytes(),
        );
        assert_eq!(answer.status, 303, "{}", answer.text());
    }
    let mut makers = HashSet::new();
    for round in 1..=8 {
        for (number, visitor) in visitors.iter_mut().enumerate() {
            let mut picture = Vec::new();
            pattern(70_000 * round)
                .read_to_end(&mut picture)
                .expect("it is made here");
            let path = visitor.upload(&format!("picture{round}"), &picture);
            let shown = visitor.get(&path);
            assert!(
                (shown.status, shown.length, shown.is_pattern) == (200, 70_000 * round, true),
                "{}",
                shown.head
            );
            let page = visitor.get("/album/album").text();
            assert!(
                page.starts_with("<!DOCTYPE html><title>album</title>Hello, "),
                "{page}"
            );
            assert!(
                page.contains(&format!("visitor{number}. Visit {round}, {round} pictures")),
                "{page}"
            );
            makers.insert(page.split("<b>").nth(1).map(str::to_owned));
        }
        if round == 4 {
            host.daemon.signal(Signal::SIGUSR2);
        }
    }
    assert!(makers.len() >= 3, "{makers:?}");
    let of_another = visitors[0].upload("mine", b"mine");
    assert_eq!(visitors[1].get(&of_another).status, 404);
}
