//! Where the application is in the site, and where the request.

use super::*;

#[track_caller]
fn paths(address: &Address, script_name: &str, path_info: Option<&str>) -> (u16, String) {
    let mut request = Request::get("/")
        .with("SCRIPT_NAME", script_name)
        .with("HTTP_WHOLE_PATH", "1");
    request.params.retain(|(name, _)| name != "PATH_INFO");
    if let Some(path_info) = path_info {
        request.params.push(("PATH_INFO".into(), path_info.into()));
    }
    let answer = ask(address, &request);
    (answer.status, answer.text())
}

#[test]
fn paths_are_found_out() {
    let (_daemon, address) = start();
    for (script_name, path_info, expected) in [
        // nginx as it comes, HAProxy, Apache
        ("/a/b", None, "('', '/a/b')"),
        ("/a/b/", Some(""), "('', '/a/b/')"),
        ("/", None, "('', '/')"),
        // lighttpd, as far as it can be known
        ("/a", Some("/b"), "('/a', '/b')"),
        // Caddy, H2O
        ("", Some("/a/b"), "('', '/a/b')"),
        ("", None, "('', '')"),
        // Slashes where two parts meet
        ("/app/", Some("/x"), "('/app', '/x')"),
        ("/", Some("/x"), "('', '/x')"),
        ("", Some("//evil.example/"), "('', '/evil.example/')"),
        ("//evil.example", None, "('', '/evil.example')"),
        ("/app", Some("/"), "('/app', '/')"),
    ] {
        let got = paths(&address, script_name, path_info);
        assert_eq!(got, (200, expected.into()), "{script_name:?} {path_info:?}");
    }
}

#[test]
fn paths_below_a_prefix() {
    let (_daemon, address) = start_with("mount = /app");
    for (script_name, path_info, expected) in [
        ("/app/b", None, "('/app', '/b')"),
        ("", Some("/app/b"), "('/app', '/b')"),
        ("/app", Some("/b"), "('/app', '/b')"),
        ("/app/", Some("/b"), "('/app', '/b')"),
        ("/app", None, "('/app', '')"),
        ("", Some("/app/"), "('/app', '/')"),
        ("/app//b", None, "('/app', '/b')"),
        ("/app", Some("/app/b"), "('/app', '/app/b')"),
    ] {
        let got = paths(&address, script_name, path_info);
        assert_eq!(got, (200, expected.into()), "{script_name:?} {path_info:?}");
    }
    for (script_name, path_info) in [
        ("/application", None),
        ("", Some("/ap")),
        ("/a", Some("/pp")),
        ("", Some("/")),
        ("", None),
    ] {
        let (status, _) = paths(&address, script_name, path_info);
        assert_eq!(status, 404, "{script_name:?} {path_info:?}");
    }
}

#[test]
fn paths_of_an_application_at_the_root() {
    let (_daemon, address) = start_with("mount = /");
    for (script_name, path_info, expected) in [
        ("/a", Some("/b/c"), "('', '/a/b/c')"),
        ("/a/b", None, "('', '/a/b')"),
        ("/", Some("/b"), "('', '/b')"),
    ] {
        let got = paths(&address, script_name, path_info);
        assert_eq!(got, (200, expected.into()), "{script_name:?} {path_info:?}");
    }
}
