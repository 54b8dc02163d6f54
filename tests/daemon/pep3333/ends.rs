//! How a request ends: as it should, by an exception, by a child, by a client that leaves.

use super::*;

#[test]
fn objects_of_an_ended_request_are_of_no_use() {
    let (_daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    // Each alone as well: any one of them must keep its own request.
    for (names, refused) in [
        ("input", 1),
        ("start_response", 1),
        ("write", 1),
        ("responder", 1),
        ("writer", 1),
        ("input+start_response+write", 3),
    ] {
        for (request, expected) in [
            (
                Request::post(&format!("/keep?{names}"), b"old body"),
                "kept".to_owned(),
            ),
            (
                Request::post("/use_kept", b"new body"),
                format!("{refused} new body"),
            ),
        ] {
            connection
                .send(&request.bytes(1, KEEP_CONN))
                .expect("it is open");
            assert_eq!(
                connection.answer().expect("the pool answers").text(),
                expected,
                "{names}"
            );
        }
    }
}

#[test]
fn a_second_thread_is_refused_and_not_locked_out() {
    let (daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    let request = Request::post("/two_threads", b"").with("CONTENT_LENGTH", "8");
    let head = [
        begin(1, RESPONDER, 0),
        record(PARAMS, 1, &request.pairs(), 0),
        record(PARAMS, 1, b"", 0),
    ];
    connection.send(&head.concat()).expect("it is open");
    let refused = daemon.folder.path("state/refused");
    until("the second thread is refused", || refused.exists());
    let body = [record(STDIN, 1, b"the body", 0), record(STDIN, 1, b"", 0)];
    connection.send(&body.concat()).expect("it is open");
    let answer = connection.answer().expect("the pool answers");
    assert_eq!(answer.text(), "True 8");
}

#[test]
fn close_is_called_once_whatever_happens() {
    let (_daemon, address) = start();
    get(&address, "/blocks?closing:one,two");
    assert_eq!(text(&address, "/closings"), "blocks");
    ask(&address, &blocks("closing:one", "200 OK", None, "HEAD"));
    assert_eq!(text(&address, "/closings"), "blocks");
    ask(
        &address,
        &blocks("closing:one", "204 No Content", None, "GET"),
    );
    assert_eq!(text(&address, "/closings"), "blocks");
    assert_eq!(get(&address, "/raising_in_iteration?early").status, 500);
    assert_eq!(text(&address, "/closings"), "raising");
    assert_eq!(get(&address, "/raising_in_close").text(), "whole");
    assert_eq!(text(&address, "/closings"), "raising in close");
}

#[test]
fn whatever_an_application_raises_is_a_500() {
    let (daemon, address) = start();
    let worker = text(&address, "/pid");
    for number in 0..4 {
        let answer = get(&address, &format!("/raising?{number}"));
        assert_eq!(answer.status, 500, "{number}");
        assert!(!answer.text().contains("lost"), "{}", answer.text());
    }
    for line in [
        "GET /raising?0: the application raised",
        "LookupError: lost",
        "SystemExit: 3",
        "KeyboardInterrupt",
        "GeneratorExit",
        "in raising",
    ] {
        daemon.wait_for_line(line);
    }
    assert_eq!(text(&address, "/pid"), worker);
}

#[test]
fn an_exception_in_the_middle_breaks_the_answer_off() {
    let (daemon, address) = start();
    let worker = text(&address, "/pid");
    let request = Request::get("/raising_in_iteration?late");
    for flags in [0, KEEP_CONN] {
        let sent = broken_off(&address, &request, flags);
        assert!(sent.ends_with(b"first"));
    }
    daemon.wait_for_line("LookupError: in iteration");
    assert_eq!(text(&address, "/closings"), "raising,raising");
    assert_eq!(text(&address, "/pid"), worker);
}

#[test]
fn a_child_that_falls_out_of_the_application_ends_as_a_script_would() {
    let (daemon, address) = start();
    let worker = text(&address, "/pid");
    for (fall, status) in [
        ("returning", "0"),
        ("exiting", "0"),
        ("exiting_with_3", "3"),
        ("exiting_with_words", "1"),
        ("raising", "1"),
    ] {
        assert_eq!(
            text(&address, &format!("/forking?{fall}")),
            status,
            "{fall}"
        );
    }
    assert_eq!(text(&address, "/forking_in_iteration"), "first 0");
    assert_eq!(text(&address, "/forking_in_close"), "whole");
    assert_eq!(text(&address, "/closings"), "0");
    assert_eq!(text(&address, "/pid"), worker);
    assert_eq!(daemon.worker_pids("pitfalls").len(), 1);
    daemon.wait_for_line("stderr: \"the child's last words\"");
    daemon.wait_for_line("IndexError");
    assert_eq!(daemon.lines_like("SystemExit"), [""; 0]);
    assert_eq!(daemon.lines_like("Traceback").len(), 1);
}

#[test]
fn nobody_is_answered_who_has_left() {
    let (daemon, address) = start();
    for (path, noted) in [("/endless", "endless"), ("/writing_for_ever", "told")] {
        let mut connection = address.connect().expect("the pool listens");
        connection
            .send(&Request::get(path).bytes(1, 0))
            .expect("it is open");
        connection.record().expect("the answer begins");
        drop(connection);
        assert_eq!(text(&address, "/closings"), noted);
    }
    // A client that leaves is no failure of the application.
    assert_eq!(daemon.lines_like("Traceback"), [""; 0]);
}

#[test]
fn errors_are_in_the_log() {
    let (daemon, address) = start();
    let answer = get(&address, "/errors");
    assert_eq!(answer.stderr, b"");
    daemon.wait_for_line("written to wsgi.errors");
    daemon.wait_for_line("lines to wsgi.errors");
}

/// Blocks that are empty send nothing, so that nothing else tells that nobody waits for more.
#[test]
fn nobody_is_waited_for_who_has_left_before_the_first_block() {
    let (daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    connection
        .send(&Request::get("/empty_for_ever").bytes(1, 0))
        .expect("it is open");
    let begun = daemon.folder.path("state/begun");
    until("the application is at it", || begun.exists());
    drop(connection);
    assert_eq!(text(&address, "/closings"), "empty");
}

/// The web server gives the request up and keeps the connection.
#[test]
fn an_aborted_request_ends() {
    const ABORT_REQUEST: u8 = BEGIN_REQUEST + 1;
    let (_daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    let request = Request::post("/endless", b"").with("CONTENT_LENGTH", "5");
    let bytes = [
        begin(1, RESPONDER, KEEP_CONN),
        record(PARAMS, 1, &request.pairs(), 0),
        record(PARAMS, 1, b"", 0),
    ];
    connection.send(&bytes.concat()).expect("it is open");
    connection.record().expect("the answer begins");
    connection
        .send(&record(ABORT_REQUEST, 1, b"", 0))
        .expect("it is open");
    assert_eq!(text(&address, "/closings"), "endless");
}
