//! What the application is told of the request.

use super::*;

#[test]
fn values_are_bytes_as_latin1() {
    let (_daemon, address) = start();
    let request = Request::get("/environ/caf\u{e9}").with("HTTP_X", "\u{2603}\u{1}");
    let environ = ask(&address, &request).text();
    assert_eq!(
        value(&environ, "PATH_INFO"),
        Some(r"'/environ/caf\xc3\xa9'")
    );
    assert_eq!(value(&environ, "HTTP_X"), Some(r"'\xe2\x98\x83\x01'"));
}

#[test]
fn what_must_not_reach_the_application_does_not() {
    let (_daemon, address) = start();
    let request = Request::post("/environ", b"1234")
        .with("HTTP_PROXY", "http://evil.example")
        .with("HTTP_CONTENT_LENGTH", "99")
        .with("HTTP_CONTENT_TYPE", "text/evil")
        .with("HTTP_TRANSFER_ENCODING", "chunked")
        .with("wsgi.url_scheme", "evil")
        .with("HTTP_X_FORWARDED_PROTO", "https");
    let environ = ask(&address, &request).text();
    for name in [
        "HTTP_PROXY",
        "HTTP_CONTENT_LENGTH",
        "HTTP_CONTENT_TYPE",
        "HTTP_TRANSFER_ENCODING",
    ] {
        assert_eq!(value(&environ, name), None, "{environ}");
    }
    assert_eq!(value(&environ, "CONTENT_LENGTH"), Some("'4'"));
    assert_eq!(value(&environ, "wsgi.url_scheme"), Some("'http'"));
    assert_eq!(value(&environ, "RAW_URI"), Some("'/environ'"));
}

/// What a client says is no variable of the process, which every program that the application starts would believe.
#[test]
fn a_request_changes_nothing_in_the_process() {
    let (_daemon, address) = start();
    let request = Request::get("/variables").with("HTTP_X_SMUGGLED", "yes");
    let variables = ask(&address, &request).text();
    for name in ["HTTP_X_SMUGGLED", "PATH_INFO", "REQUEST_METHOD"] {
        assert_eq!(value(&variables, name), None, "{variables}");
    }
    assert!(value(&variables, "STATE").is_some(), "{variables}");
}

#[test]
fn a_nul_in_the_path_is_a_bad_request() {
    let (_daemon, address) = start();
    for (name, path) in [("PATH_INFO", "/environ/a\0b"), ("SCRIPT_NAME", "/a\0")] {
        let request = Request::get("/environ").with(name, path);
        let answer = ask(&address, &request);
        assert_eq!(answer.status, 400, "{name}");
        let head = ask(&address, &request.with("REQUEST_METHOD", "HEAD"));
        assert_eq!((head.status, head.text().as_str()), (400, ""));
        assert_eq!(
            header(&head, "Content-Length"),
            [answer.body.len().to_string()]
        );
    }
    assert_eq!(get(&address, "/environ").status, 200);
}

#[test]
fn a_bare_request_gets_what_every_environment_has() {
    let (_daemon, address) = start();
    let bare = |params: &[(&str, &str)]| Request {
        params: params
            .iter()
            .map(|pair| (pair.0.into(), pair.1.into()))
            .collect(),
        body: Vec::new(),
    };
    assert_eq!(
        ask(&address, &bare(&[("PATH_INFO", "/valid")])).text(),
        "valid"
    );
    let empty = [
        ("PATH_INFO", "/environ"),
        ("REQUEST_METHOD", ""),
        ("SERVER_NAME", ""),
        ("SERVER_PORT", ""),
        ("SERVER_PROTOCOL", ""),
        ("HTTPS", "on"),
    ];
    let environ = ask(&address, &bare(&empty)).text();
    assert_eq!(value(&environ, "REQUEST_METHOD"), Some("'GET'"));
    assert_eq!(value(&environ, "SERVER_NAME"), Some("'localhost'"));
    assert_eq!(value(&environ, "SERVER_PORT"), Some("'443'"));
    assert_eq!(value(&environ, "SERVER_PROTOCOL"), Some("'HTTP/1.0'"));
    assert_eq!(value(&environ, "wsgi.url_scheme"), Some("'https'"));
    assert_eq!(value(&environ, "CONTENT_LENGTH"), None);
}

#[test]
fn the_scheme_is_what_the_web_server_says() {
    let (_daemon, address) = start();
    for (name, said, scheme) in [
        ("HTTPS", "on", "https"),
        ("HTTPS", "ON", "https"),
        ("HTTPS", "1", "https"),
        ("HTTPS", "True", "https"),
        ("HTTPS", "off", "http"),
        ("HTTPS", "", "http"),
        ("REQUEST_SCHEME", "https", "https"),
        ("REQUEST_SCHEME", "http", "http"),
    ] {
        let flags = ask(&address, &Request::get("/flags").with(name, said)).text();
        assert_eq!(
            flags,
            format!("False False False {scheme}"),
            "{name}={said}"
        );
    }
}

#[test]
fn a_pool_of_several_is_multiprocess_whatever_their_number_is_now() {
    let setup = Setup::new();
    let lines = "pm = ondemand\npm.max_children = 2";
    let daemon = setup.wsgi("pitfalls", PITFALLS, lines).start();
    assert_eq!(
        text(&daemon.address("pitfalls"), "/flags"),
        "True False False http"
    );
}
