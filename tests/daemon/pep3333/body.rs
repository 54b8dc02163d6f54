//! The body of the request.

use super::*;

#[test]
fn a_large_body_is_in_memory_but_once() {
    const LENGTH: usize = 32 << 20;
    let (_daemon, address) = start();
    let answer = ask(
        &address,
        &Request::post("/reading_at_once", &vec![b'x'; LENGTH]),
    )
    .text();
    let (length, memory) = answer.split_once(' ').expect("two numbers");
    assert_eq!(length, LENGTH.to_string());
    let memory: usize = memory.parse().expect("a number");
    assert!(
        memory < LENGTH / 2 * 3,
        "{memory} bytes of memory for {LENGTH} of the body"
    );
}

#[test]
fn the_body_is_a_file() {
    let (_daemon, address) = start();
    let texts = [
        "",
        "one line",
        "one\ntwo\nthree",
        "\n\nafter two empty ones\n",
        &"long line without an end ".repeat(2000),
        &"many\nshort\nlines\n".repeat(3000),
    ];
    for text in texts {
        for number in 0.. {
            // The application compares with the same text in a header.
            let request = Request::post("/reading", text.as_bytes())
                .with("QUERY_STRING", &number.to_string())
                .with("HTTP_BODY", &text.replace('\n', "|"));
            let mut answers = vec![ask(&address, &request)];
            // The same without a declared length.
            answers.push(ask(&address, &request.with("CONTENT_LENGTH", "")));
            if answers[0].text() == "no more" {
                break;
            }
            for answer in answers {
                assert_eq!(answer.text(), "right", "{number} {}", text.len());
            }
        }
    }
}

#[test]
fn the_body_can_be_read_after_start_response() {
    let (_daemon, address) = start();
    let answer = ask(&address, &Request::post("/read_late", b"the body"));
    assert_eq!(answer.text(), "got the body");
}

#[test]
fn lengths_that_make_no_sense_are_as_none() {
    let (_daemon, address) = start();
    for length in ["-1", "", "abc", "+8", " 8", "8 ", "99999999999999999999999"] {
        let request = Request::post("/read_late", b"the body").with("CONTENT_LENGTH", length);
        assert_eq!(ask(&address, &request).text(), "got the body", "{length:?}");
    }
    let none = Request::post("/environ", b"").with("CONTENT_LENGTH", "-1");
    assert_eq!(
        value(&ask(&address, &none).text(), "CONTENT_LENGTH"),
        Some("''")
    );
}

#[test]
fn a_body_that_ends_too_early_is_an_error() {
    let (daemon, address) = start();
    let request = Request::post("/short", b"1234").with("CONTENT_LENGTH", "10");
    let answer = ask(&address, &request);
    assert_eq!(answer.text(), "ConnectionResetError ConnectionResetError");

    // The client leaves in the middle.
    let told = daemon.folder.path("state/short");
    std::fs::remove_file(&told).expect("the application wrote it");
    let mut connection = address.connect().expect("the pool listens");
    let bytes = [
        begin(1, RESPONDER, 0),
        record(PARAMS, 1, &request.pairs(), 0),
        record(PARAMS, 1, b"", 0),
        record(STDIN, 1, b"1234", 0),
    ];
    let begun = daemon.folder.path("state/short-begun");
    std::fs::remove_file(&begun).expect("the application wrote it");
    connection.send(&bytes.concat()).expect("it is open");
    // Who leaves before may not be served at all.
    until("the application is at it", || begun.exists());
    drop(connection);
    until("the application is told", || {
        std::fs::read_to_string(&told)
            .is_ok_and(|told| told == "ConnectionResetError ConnectionResetError")
    });
    assert_eq!(get(&address, "/flags").status, 200);
}

#[test]
fn a_body_beyond_its_length_stays_away_from_the_next_request() {
    let (_daemon, address) = start();
    let mut connection = address.connect().expect("the pool listens");
    let mut body = b"1234".to_vec();
    body.extend(Request::get("/raising").bytes(1, KEEP_CONN));
    let request = Request::post("/unread", &body).with("CONTENT_LENGTH", "4");
    for _ in 0..3 {
        connection
            .send(&request.bytes(1, KEEP_CONN))
            .expect("it is open");
        assert_eq!(
            connection.answer().expect("the pool answers").text(),
            "1234"
        );
    }
}

/// Closing with a part of the body unread would reset a TCP connection, and cost the web server the end of the answer.
#[test]
fn a_body_that_nobody_reads_does_not_cost_the_answer() {
    let port = free_port();
    let (daemon, _) = start_with(&format!("listen = 127.0.0.1:{port}"));
    daemon.wait_for_workers("pitfalls", 1);
    let address = Address::Tcp(([127, 0, 0, 1], port).into());
    let words = ["word"; 50_000].join(",");
    let request = Request::post("/blocks", &vec![b'x'; 5_000_000])
        .with("QUERY_STRING", &format!("list:{words}"))
        .with("HTTP_STATUS", "200 OK");
    for _ in 0..3 {
        let answer = ask(&address, &request);
        assert_eq!(answer.body.len(), 200_000);
    }
}
