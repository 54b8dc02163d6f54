use super::render::{Format, Query, render};
use super::snapshot::{Facts, Slowest, Snapshot, Worker};
use super::summary::Summary;
use super::{Page, Pages};
use crate::zone::Zone;
use preforkd_fastcgi::pairs::{Params, encode};
use preforkd_sys::queue::Queue;
use preforkd_sys::scoreboard::{Counts, Reloaded, Scoreboard, Totals};

const NASTY: &str = "/a?<b>&\"'\\\n\u{1}é</script>";

fn facts() -> Facts {
    Facts {
        pool: "www".into(),
        manager: "dynamic".into(),
    }
}

fn snapshot(facts: &Facts) -> Snapshot<'_> {
    let summary = |uri: &str| Summary {
        method: "GET".into(),
        uri: uri.into(),
        content_length: 3,
        user: String::new(),
        script: "/srv/a".into(),
    };
    Snapshot {
        facts,
        max_children: 9,
        started_at: 1_795_438_510,
        since: 61,
        totals: Totals {
            started: 0,
            started_at: 0,
            generation: 2,
            counts: Counts {
                connections: 3,
                requests: 4,
                slow: 5,
            },
            max_active: 6,
            max_queue: 7,
            max_memory: 4096,
            max_children_reached: 8,
            is_saturated: true,
            saturated: 1_500_000_000,
            rejected: 10,
            reloaded: Some(Reloaded {
                at: 1_795_438_530_999_999_999,
                succeeded: true,
            }),
        },
        queue: Queue {
            length: 1,
            capacity: 4096,
        },
        idle: 1,
        active: 2,
        starting: 3,
        workers: vec![Worker {
            pid: 77,
            state: "Idle",
            started_at: 1_795_438_520,
            since: 51,
            requests: 12,
            duration: 1234,
            request: summary(NASTY),
            cpu: 12.345,
            memory: 2048,
            generation: 2,
            private: 1024,
            slowest: Some(Slowest {
                duration: 99,
                since: 5,
                request: summary("/slow"),
            }),
        }],
    }
}

fn page(query: &str) -> String {
    let facts = facts();
    let zone = Zone::new(0, |_| (3600, "CET".into()));
    render(&snapshot(&facts), Query::parse(query.as_bytes()), &zone)
}

#[test]
fn a_query_names_one_format() {
    for (query, format, full) in [
        ("", Format::Plain, false),
        ("full", Format::Plain, true),
        ("json", Format::Json, false),
        ("full&json", Format::Json, true),
        ("json&xml&html=1", Format::Html, false),
        ("openmetrics&json&xml", Format::Xml, false),
        ("openmetrics&json", Format::Json, false),
        ("openmetrics&full", Format::OpenMetrics, false),
        ("&&json=0", Format::Json, false),
        ("jsonx&a=json&JSON&xjson", Format::Plain, false),
    ] {
        let expected = Query { format, full };
        assert_eq!(Query::parse(query.as_bytes()), expected, "{query}");
    }
}

#[test]
fn plain_text_is_aligned_and_has_one_line_a_field() {
    let text = page("full");
    assert!(text.starts_with(
        "pool:                 www\n\
         process manager:      dynamic\n\
         start time:           23/Nov/2026:13:55:10 +0100\n\
         start since:          61\n\
         accepted conn:        4\n\
         listen queue:         1\n\
         max listen queue:     7\n\
         listen queue len:     4096\n\
         idle processes:       1\n\
         active processes:     2\n\
         total processes:      3\n\
         max active processes: 6\n\
         max children reached: 8\n\
         slow requests:        5\n\
         memory peak:          4096\n\
         max children:         9\n"
    ));
    let worker = "\n\n************************\n\
         pid:                  77\n\
         state:                Idle\n\
         start time:           23/Nov/2026:13:55:20 +0100\n\
         start since:          51\n\
         requests:             12\n\
         request duration:     1234\n\
         request method:       GET\n\
         request URI:          /a?<b>&\"'\\\\x0a\\x01é</script>\n\
         content length:       3\n\
         user:                 -\n\
         script:               /srv/a\n\
         last request cpu:     12.35\n\
         last request memory:  2048\n";
    assert!(text.contains(worker), "{text}");
    assert!(text.ends_with("slowest URI:          /slow\n"));
}

#[test]
fn json_is_escaped() {
    let text = page("json&full");
    assert!(text.starts_with(
        "{\"pool\":\"www\",\"process manager\":\"dynamic\",\"start time\":1795438510,"
    ));
    assert!(text.contains(
        "\"request uri\":\"/a?\\u003cb>&\\\"'\\\\\\u000a\\u0001é\\u003c/script>\",\"content length\":3,"
    ));
    assert!(text.contains("\"last request cpu\":12.35,\"last request memory\":2048,"));
    assert!(
        text.contains(", \"processes\":[{\"pid\":77,\"state\":\"Idle\",\"start time\":1795438520,")
    );
    assert!(text.ends_with("\"slowest uri\":\"/slow\"}]}"));
    assert!(page("json").ends_with(
        "\"generation\":2,\"last reload\":1795438530,\"last reload outcome\":\"succeeded\"}"
    ));
}

#[test]
fn markup_is_escaped() {
    let uri = "/a?&lt;b&gt;&amp;&quot;&#039;\\\\x0a\\x01é&lt;/script&gt;";
    let xml = page("xml&full");
    assert!(
        xml.contains(&format!("<request-uri>{uri}</request-uri>")),
        "{xml}"
    );
    assert!(xml.starts_with("<?xml version=\"1.0\" ?>\n<status>\n<pool>www</pool>\n"));
    assert!(xml.contains("<start-time>1795438510</start-time>\n"));
    assert!(xml.ends_with("</process>\n</processes>\n</status>"));
    let html = page("html&full");
    assert!(html.contains(&format!("<td>{uri}</td>")), "{html}");
    assert!(html.contains("<tr><th>start time</th><td>23/Nov/2026:13:55:10 +0100</td></tr>\n"));
    assert!(html.contains("<table border=\"1\">\n<tr><th>pid</th><th>state</th>"));
}

#[test]
fn metrics_follow_the_grammar() {
    let text = page("openmetrics");
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.pop(), Some("# EOF"));
    for family in lines.chunks(3) {
        let [help, kind, sample] = family else {
            panic!("{family:?}")
        };
        let name = help
            .strip_prefix("# HELP ")
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        let kind = kind.strip_prefix(&format!("# TYPE {name} ")).unwrap();
        let rest = sample.strip_prefix(name).unwrap();
        let rest = match kind {
            "counter" => rest.strip_prefix("_total").unwrap(),
            "gauge" | "unknown" => rest,
            other => panic!("{other}"),
        };
        let labels = if name.starts_with("preforkd_") {
            "{pool=\"www\"} "
        } else {
            " "
        };
        let value = rest.strip_prefix(labels).unwrap();
        assert!(value.parse::<f64>().is_ok(), "{sample}");
    }
    assert!(text.contains("\npreforkd_saturation_seconds_total{pool=\"www\"} 1.500\n"));
}

fn pages() -> Pages {
    Pages {
        facts: facts(),
        status_path: Some("/status".into()),
        ping_path: Some("/ping".into()),
        ping_response: "pong".into(),
        zone: Zone::utc(),
    }
}

fn params(pairs: &[(&str, &str)]) -> Params {
    let mut bytes = Vec::new();
    for (name, value) in pairs {
        encode(&mut bytes, name.as_bytes(), value.as_bytes());
    }
    Params::from_bytes(bytes)
}

#[test]
fn a_path_is_compared_whole() {
    let asked = |script: &str, info: &str| {
        pages().asked(&params(&[("SCRIPT_NAME", script), ("PATH_INFO", info)]))
    };
    for (script, info) in [("/ping", ""), ("", "/ping"), ("/ping", "/ping")] {
        assert_eq!(asked(script, info), Some(Page::Ping), "{script} {info}");
    }
    assert!(matches!(asked("/status", ""), Some(Page::Status(_))));
    for (script, info) in [
        ("", ""),
        ("", "/ping/"),
        ("", "/pin"),
        ("/PING", ""),
        ("/app", "/ping"),
        ("/index.php", "/status"),
        ("", "/ping?x"),
    ] {
        assert_eq!(asked(script, info), None, "{script} {info}");
    }
    let none = Pages {
        status_path: None,
        ping_path: None,
        ..pages()
    };
    assert_eq!(none.asked(&params(&[])), None);
}

#[test]
fn a_head_request_gets_the_head_alone() {
    let board = Scoreboard::create(1).unwrap();
    for page in [Page::Ping, Page::Status(Query::parse(b"json"))] {
        let answer = |method: &str| {
            let params = params(&[("REQUEST_METHOD", method)]);
            pages().page(page, &params, &board, Queue::default)
        };
        assert_eq!(answer("HEAD").head, answer("GET").head);
        assert_eq!(answer("HEAD").body, "");
        assert_ne!(answer("GET").body, "");
    }
}
