//! The head and the blocks of the answer.

use super::*;

#[test]
fn start_response_counts_until_something_is_sent() {
    let (_daemon, address) = start();
    assert_eq!(text(&address, "/twice"), "refused");
    let replaced = get(&address, "/replaced");
    assert_eq!((replaced.status, replaced.text()), (503, "replaced".into()));
    assert_eq!(header(&replaced, "X-First"), [""; 0]);
    let late = get(&address, "/too_late");
    assert_eq!(
        (late.status, late.text()),
        (200, "begun\nraised 'the reason'".into())
    );
    assert_eq!(
        text(&address, "/empty_exc_info"),
        "begun\nexc_info holds no exception"
    );
    let late = get(&address, "/late_head");
    assert_eq!((late.status, late.text()), (202, "body".into()));
    assert_eq!(text(&address, "/writing"), "one two three four five");
}

#[test]
fn an_answer_without_a_head_is_the_applications_mistake() {
    let (daemon, address) = start();
    for path in ["/no_head", "/no_head_nor_body", "/head_after_body"] {
        assert_eq!(get(&address, path).status, 500, "{path}");
        daemon.wait_for_line(&format!("GET {path}: start_response was not called"));
    }
}

#[test]
fn a_bad_head_is_the_applications_mistake() {
    let (daemon, address) = start();
    let mut count = 0;
    loop {
        let path = format!("/bad_head?{count}");
        let answer = get(&address, &path);
        if answer.text() == "no more" {
            break;
        }
        assert_eq!(answer.status, 500, "{path}: {answer:?}");
        assert!(!answer.text().contains("sent"), "{path}: {answer:?}");
        daemon.wait_for_line(&format!("GET {path}: the application raised"));
        count += 1;
    }
    assert!(count > 30, "only {count} heads were tried");
    daemon.wait_for_line("ValueError: the header \"A\" has the control character 0x0d in it");
    daemon.wait_for_line("TypeError: the status is int, and not str");
    daemon.wait_for_line("pitfalls_app.py");
}

#[test]
fn a_good_head_arrives() {
    let (_daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&Request::get("/good_headers").bytes(1, 0))
        .expect("it is open");
    let first = connection.record().expect("the pool answers");
    assert_eq!(
        first.content,
        b"Status: 299 Odd Reason\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Latin: caf\xe9\r\nX-Tab: a\tb\r\n\
          X-Empty: \r\nContent-Length: 4\r\n\r\nbody"
    );
}

#[test]
fn lengths_are_declared_where_they_are_known() {
    let (_daemon, address) = start();
    for (query, status, declared, method, expected, body) in [
        ("list:one", "200 OK", None, "GET", Some("3"), "one"),
        ("tuple:one", "200", None, "GET", Some("3"), "one"),
        ("list:one,two", "200 OK", None, "GET", Some("6"), "onetwo"),
        ("list:", "200 OK", None, "GET", Some("0"), ""),
        ("iter:one", "200 OK", None, "GET", None, "one"),
        ("iter:,one,,two", "200 OK", None, "GET", None, "onetwo"),
        ("iter:one", "200 OK", Some("3"), "GET", Some("3"), "one"),
        // A HEAD has the head of the GET, as far as it is known.
        ("list:one", "200 OK", None, "HEAD", Some("3"), ""),
        ("list:", "200 OK", None, "HEAD", None, ""),
        ("list:", "200 OK", Some("99"), "HEAD", Some("99"), ""),
        ("iter:one", "200 OK", Some("3"), "HEAD", Some("3"), ""),
        ("iter:one,two", "200 OK", None, "HEAD", None, ""),
        // No body by definition.
        ("list:one", "204 No Content", None, "GET", None, ""),
        ("list:one", "204 No Content", Some("3"), "GET", None, ""),
        ("list:", "304 Not Modified", Some("3"), "GET", Some("3"), ""),
        ("list:one", "304 Not Modified", None, "GET", None, ""),
        ("iter:one", "103 Early Hints", Some("3"), "GET", None, ""),
        // Too much is cut off.
        (
            "list:one,two",
            "200 OK",
            Some("4"),
            "GET",
            Some("4"),
            "onet",
        ),
        ("iter:one,two", "200 OK", Some("3"), "GET", Some("3"), "one"),
        ("list:one", "200 OK", Some("0"), "GET", Some("0"), ""),
    ] {
        let answer = ask(&address, &blocks(query, status, declared, method));
        let what = format!("{query} {status} {declared:?} {method}: {answer:?}");
        assert_eq!(
            header(&answer, "Content-Length"),
            expected.into_iter().collect::<Vec<_>>(),
            "{what}"
        );
        assert_eq!(answer.text(), body, "{what}");
        assert_eq!(answer.status.to_string(), status[..3], "{what}");
    }
}

#[test]
fn a_body_longer_than_declared_is_told() {
    let (daemon, address) = start();
    let request = blocks("closing:one,two,three", "200 OK", Some("4"), "GET");
    assert_eq!(ask(&address, &request).text(), "onet");
    daemon.wait_for_line("GET /blocks?closing:one,two,three: the body is longer");
    assert_eq!(text(&address, "/closings"), "blocks");
    assert_eq!(text(&address, "/write_too_much"), "body");
    assert_eq!(text(&address, "/closings"), "refused");
}

#[test]
fn a_body_shorter_than_declared_is_not_passed_off_as_whole() {
    let (daemon, address) = start();
    let request = blocks("closing:one,two", "200 OK", Some("10"), "GET");
    for flags in [0, KEEP_CONN] {
        broken_off(&address, &request, flags);
    }
    daemon.wait_for_line("GET /blocks?closing:one,two: the body is 4 bytes shorter");
    assert_eq!(text(&address, "/closings"), "blocks,blocks");
}

#[test]
fn each_block_is_sent_before_the_next_is_asked_for() {
    let (daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&Request::get("/one_by_one").bytes(1, 0))
        .expect("it is open");
    for number in 0..3 {
        let record = connection.record().expect("the block comes");
        assert!(
            record.content.ends_with(format!("{number}\n").as_bytes()),
            "{record:?}"
        );
        daemon.folder.write(&format!("state/seen-{number}"), "");
    }
    assert_eq!(connection.record().expect("it ends").content, b"");
}

#[test]
fn the_answer_ends_with_its_declared_length() {
    let (daemon, address) = start();
    // The application goes on until the answer has come.
    assert_eq!(text(&address, "/ends_early"), "body");
    daemon.folder.write("state/answered", "");
    assert_eq!(get(&address, "/flags").status, 200);
}

#[test]
fn what_is_returned_must_be_blocks_of_bytes() {
    let (daemon, address) = start();
    for number in 0..8 {
        let path = format!("/returned?{number}");
        assert_eq!(get(&address, &path).status, 500, "{path}");
        daemon.wait_for_line(&format!("GET {path}: the application raised"));
    }
    daemon.wait_for_line("TypeError: the application returned bytes instead of an iterable");
    daemon.wait_for_line("TypeError: the body of an answer is made of bytes, and not of bytearray");
}

#[test]
fn a_wrapped_file_is_sent_from_its_position_and_closed() {
    let (daemon, address) = start();
    let content = format!("___{}", "file".repeat(60_000));
    daemon.folder.write("state/file", &content);
    assert!(get(&address, "/wrapped").body == content.as_bytes()[3..]);
    assert_eq!(text(&address, "/is_closed"), "True");
    let head = ask(
        &address,
        &Request::get("/wrapped").with("REQUEST_METHOD", "HEAD"),
    );
    assert_eq!(head.text(), "");
    assert_eq!(text(&address, "/is_closed"), "True");
}
