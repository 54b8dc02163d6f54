use super::*;

const NUMBERS: RangeInclusive<u32> = 1..=4096;

#[test]
fn numbers() {
    for (text, value) in [("1", 1), ("4096", 4096), ("007", 7)] {
        assert_eq!(number(text, NUMBERS), Ok(value), "{text}");
    }
    for text in [
        "0",
        "4097",
        "-1",
        "+1",
        "",
        "1.5",
        "1 ",
        "ten",
        "1e3",
        "99999999999",
    ] {
        let told = number(text, NUMBERS).expect_err(text);
        let rule = "must be a whole number from 1 to 4096";
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let php = if is_number {
            ""
        } else {
            "is not a valid number: "
        };
        assert_eq!(told, format!("{php}{rule}"), "{text}");
    }
}

#[test]
fn backlogs() {
    for (text, value) in [
        ("-1", Some(None)),
        ("0", Some(Some(0))),
        ("2147483647", Some(Some(2_147_483_647))),
        ("2147483648", None),
        ("-2", None),
        ("x", None),
    ] {
        assert_eq!(backlog(text).ok(), value, "{text}");
    }
    assert!(backlog("x").unwrap_err().contains("-1"));
}

#[test]
fn flags() {
    for text in ["1", "on", "yes", "true", "Yes", "TRUE"] {
        assert_eq!(flag(text), Ok(true), "{text}");
    }
    for text in ["0", "off", "no", "false", "none", "No"] {
        assert_eq!(flag(text), Ok(false), "{text}");
    }
    for text in ["", "2", "y", "null", "yes please"] {
        assert_eq!(
            flag(text),
            Err("invalid boolean value: must be yes or no".to_owned()),
            "{text}"
        );
    }
}

#[test]
fn times() {
    for (text, seconds) in [
        ("0", 0),
        ("30", 30),
        ("30s", 30),
        ("2m", 120),
        ("3h", 10_800),
        ("1d", 86_400),
        ("365d", 31_536_000),
        ("31536000", 31_536_000),
    ] {
        assert_eq!(time(text, 0), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for text in [
        "",
        "s",
        "-1",
        "1.5s",
        "10 s",
        "10ms",
        "10x",
        "10S",
        "366d",
        "31536001",
        "18446744073709551615d",
    ] {
        assert!(time(text, 0).is_err(), "{text}");
    }
    assert_eq!(time("1", 1), Ok(Duration::from_secs(1)));
    assert!(time("0", 1).unwrap_err().contains("from 1s to 365d"));
}

#[test]
fn sizes() {
    for (text, value, shown) in [
        ("0", 0, "0"),
        ("1000", 1000, "1000"),
        ("64K", 64 << 10, "64K"),
        ("200m", 200 << 20, "200M"),
        ("1024M", 1 << 30, "1G"),
        ("3G", 3 << 30, "3G"),
    ] {
        assert_eq!(bytes(text), Ok(value), "{text}");
        assert_eq!(show_bytes(value), shown);
    }
    for text in [
        "",
        "M",
        "-1",
        "1.5G",
        "1 M",
        "1MB",
        "1T",
        "9223372036854775807K",
        "1é",
    ] {
        assert!(bytes(text).is_err(), "{text}");
    }
}

#[test]
fn modes() {
    for (text, value) in [("0660", 0o660), ("660", 0o660), ("0", 0), ("777", 0o777)] {
        assert_eq!(mode(text), Ok(value), "{text}");
    }
    for text in ["", "0888", "1000", "-1", "+7", "rw-rw----", "0o660"] {
        assert!(mode(text).is_err(), "{text}");
    }
}

#[test]
fn words() {
    assert_eq!(log_level("Warn"), Ok(LogLevel::Warning));
    assert_eq!(
        log_level("loud"),
        Err("must be debug, notice, warning, warn, error or alert".to_owned())
    );
    assert_eq!(word("x", &[("hello", 1)]), Err("must be hello".to_owned()));
    assert_eq!(
        word("x", &[("a", 1), ("b", 2)]),
        Err("must be a or b".to_owned())
    );
}

#[test]
fn targets() {
    for (text, module, callable) in [
        ("site", "site", "application"),
        ("site.wsgi", "site.wsgi", "application"),
        ("site.wsgi:app", "site.wsgi", "app"),
        ("_a1.b_2:_c3", "_a1.b_2", "_c3"),
        ("site:app.server", "site", "app.server"),
        ("caf\u{e9}:app", "caf\u{e9}", "app"),
    ] {
        let expected = Target {
            module: module.to_owned(),
            callable: callable.to_owned(),
        };
        assert_eq!(target(text), Ok(expected), "{text}");
    }
    for text in [
        ":app",
        "site:",
        "site.:app",
        ".site",
        "site..wsgi",
        "1site",
        "a-b",
        "a b",
        "site:app()",
        "site:a:b",
        "site:a.",
    ] {
        let error = target(text).expect_err(text);
        assert!(
            error.contains("package.module:callable, each"),
            "{text}: {error}"
        );
    }
    for text in [
        "site/wsgi.py",
        "/srv/site/wsgi",
        "wsgi.py",
        "site/wsgi.py:app",
    ] {
        let error = target(text).expect_err(text);
        assert!(error.contains("not a file"), "{text}: {error}");
    }
}

#[test]
fn urls() {
    for text in ["/", "/a/b?c=d&e", "/caf%C3%A9"] {
        assert_eq!(url(text), Ok(text.to_owned()));
    }
    for text in ["", "a", "http://x/", "/a b", "/caf\u{e9}", "/a#b"] {
        assert!(url(text).is_err(), "{text}");
    }
}

#[test]
fn mounts() {
    let prefix = |text: &str| Mount::Prefix(text.to_owned());
    for (text, value) in [
        ("auto", Mount::Auto),
        ("AUTO", Mount::Auto),
        ("/", prefix("")),
        ("/app", prefix("/app")),
        ("/app/", prefix("/app")),
        ("/a/b", prefix("/a/b")),
    ] {
        assert_eq!(mount(text), Ok(value), "{text}");
    }
    for text in ["", "app", "//", "/a//b", "//a", "/a b", "/a?b", "/a#b"] {
        assert!(mount(text).is_err(), "{text}");
    }
}
