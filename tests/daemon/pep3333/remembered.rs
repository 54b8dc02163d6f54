//! What is remembered from one request to the next never shows in it.

use super::*;

/// What is remembered from request to request must never show in another one.
#[test]
fn environments_do_not_mix() {
    let (_daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    let mut random = 1_u32;
    let mut draw = |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 16) % below
    };
    for round in 0..400 {
        let mut request = Request::get("/environ");
        let count = if draw(10) == 0 { 150 } else { draw(8) };
        for _ in 0..count {
            let name = match draw(12) {
                0 => format!("LONG_{}", "N".repeat(200)),
                number => format!("VAR_{number}_{}", draw(count.max(4))),
            };
            let value = match draw(6) {
                0 => "v".repeat(600 + draw(3) as usize),
                1 => String::new(),
                number => format!("{}", number * draw(3)),
            };
            request.params.push((name, value));
        }
        if draw(3) == 0 {
            request.params.rotate_left(5);
        }
        let flags = KEEP_CONN;
        connection
            .send(&request.bytes(1, flags))
            .expect("it is open");
        let environ = connection.answer().expect("the pool answers").text();
        let mut expected = std::collections::BTreeMap::new();
        for (name, value) in &request.params {
            expected.insert(name.as_str(), format!("'{value}'"));
        }
        let got: std::collections::BTreeMap<_, _> = environ
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter(|pair| !pair.0.starts_with("wsgi.") && pair.0 != "RAW_URI")
            .map(|(name, value)| (name, value.to_owned()))
            .collect();
        assert_eq!(got, expected, "request {round}");
    }
    for _ in 0..2 {
        assert_eq!(text(&address, "/forget"), "clean localhost");
    }
}

/// Making them anew costs as much as the rest of a small request.
#[test]
fn objects_that_nobody_has_kept_are_given_again() {
    let (_daemon, address) = start();
    text(&address, "/reuse");
    for _ in 0..3 {
        assert_eq!(text(&address, "/reuse"), "[True, True]");
    }
}

/// Requests on one connection, each a change of the one before that has a way of its own through what is remembered.
#[test]
fn environments_follow_each_change() {
    let (_daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    let base = || {
        Request::get("/environ")
            .with("HTTP_A", "a")
            .with("HTTP_B", "b")
    };
    let twice = |first: &str, second: &str| {
        let mut request = base();
        request
            .params
            .insert(3, ("HTTP_TWICE".into(), first.into()));
        request.params.push(("HTTP_TWICE".into(), second.into()));
        request
    };
    let inserted = |at: usize| {
        let mut request = base();
        request.params.insert(at, ("HTTP_NEW".into(), "new".into()));
        request
    };
    let nul = base().with("PATH_INFO", "/environ/\0");
    let large = base().with("HTTP_LARGE", &"x".repeat(20_000));
    let https = base().with("HTTPS", "on").with("SERVER_PORT", "");
    let nameless = |name: &str| base().with(name, "");
    // Taken for a pair's two lengths, what the longer value is longer by is 32 and 40: what the pair behind it has in all.
    let long = |a: &str, end: &str| {
        let request = base().with("HTTP_A", a);
        request.with("HTTP_B", &("x".repeat(40) + end + &"x".repeat(23)))
    };
    let requests = [
        base(),
        base(),
        twice("1", "2"),
        twice("1", "3"),
        twice("4", "3"),
        twice("5", "6"),
        base().with("HTTP_B", "other"),
        nul.clone(),
        base().with("HTTP_B", "yet another"),
        nul.clone(),
        nul,
        base().with("HTTP_B", "yet another"),
        inserted(5),
        inserted(20),
        inserted(0),
        base(),
        large.clone(),
        large,
        base(),
        https.clone(),
        https.with("HTTPS", ""),
        nameless("SERVER_NAME"),
        nameless("SERVER_PROTOCOL"),
        nameless("REQUEST_METHOD"),
        base().with("REQUEST_METHOD", "HEAD"),
        base(),
        // Whoever goes on with the lengths of the request before finds a pair of other lengths in the longer value.
        inserted(0),
        long("a", "1"),
        long("a (", "1"),
        long("a (", "2"),
    ];
    for (number, request) in requests.iter().enumerate() {
        connection
            .send(&request.bytes(1, KEEP_CONN))
            .expect("it is open");
        let answer = connection.answer().expect("the pool answers");
        let last: std::collections::BTreeMap<&str, &str> = request
            .params
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        if last["PATH_INFO"].contains('\0') {
            assert_eq!(answer.status, 400, "request {number}");
            continue;
        }
        let environ = answer.text();
        if last["REQUEST_METHOD"] == "HEAD" {
            assert_eq!(environ, "", "request {number}");
            continue;
        }
        let is_https = last.get("HTTPS") == Some(&"on");
        for (name, given) in last {
            let expected = match (name, given) {
                ("REQUEST_METHOD", "") => "GET",
                ("SERVER_NAME", "") => "localhost",
                ("SERVER_PROTOCOL", "") => "HTTP/1.0",
                ("SERVER_PORT", "") if is_https => "443",
                ("SERVER_PORT", "") => "80",
                _ => given,
            };
            assert_eq!(
                value(&environ, name),
                Some(format!("'{expected}'").as_str()),
                "request {number}: {name}"
            );
        }
        let scheme = if is_https { "'https'" } else { "'http'" };
        assert_eq!(value(&environ, "wsgi.url_scheme"), Some(scheme));
        for name in ["HTTP_TWICE", "HTTP_NEW", "HTTP_LARGE"] {
            let is_given = request.params.iter().any(|pair| pair.0 == name);
            assert_eq!(
                value(&environ, name).is_some(),
                is_given,
                "request {number}: {name}"
            );
        }
    }
}
