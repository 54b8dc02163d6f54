use super::*;
use chrono::TimeZone;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, read};

fn record<'a>(level: LogLevel, text: Text<'a>) -> Record<'a> {
    Record {
        time: Local.with_ymd_and_hms(2026, 11, 23, 8, 15, 10).unwrap(),
        level,
        place: None,
        text,
    }
}

fn said(line: &[u8]) -> Said<'_> {
    Said {
        pool: "www",
        kind: "child",
        pid: "7952",
        stream: "stderr",
        line,
        closed: false,
        decorated: true,
    }
}

fn line_of(record: &Record<'_>, limit: usize) -> String {
    String::from_utf8(line::lines(record, limit, false)).unwrap()
}

#[test]
fn a_message_is_a_line_of_php_fpm() {
    for (level, name) in [
        (LogLevel::Debug, "DEBUG"),
        (LogLevel::Notice, "NOTICE"),
        (LogLevel::Warning, "WARNING"),
        (LogLevel::Error, "ERROR"),
        (LogLevel::Alert, "ALERT"),
    ] {
        assert_eq!(
            line_of(&record(level, Text::Message("fpm is running, pid 7")), 1024),
            format!("[23-Nov-2026 08:15:10] {name}: fpm is running, pid 7\n")
        );
    }
}

#[test]
fn a_debugged_line_has_microseconds_and_its_place() {
    let mut record = record(LogLevel::Notice, Text::Message("text"));
    record.place = Some(Place {
        module: "preforkd::pool",
        line: 7,
    });
    assert_eq!(
        String::from_utf8(line::lines(&record, 1024, true)).unwrap(),
        format!(
            "[23-Nov-2026 08:15:10.000000] NOTICE: pid {}, preforkd::pool(), line 7: text\n",
            std::process::id()
        )
    );
}

#[test]
fn a_message_that_is_too_long_is_cut() {
    let message = "é".repeat(600);
    let line = line_of(&record(LogLevel::Notice, Text::Message(&message)), 512);
    assert!(line.len() == 512 || line.len() == 511, "{}", line.len());
    assert!(line.ends_with("é...\n"), "{line}");
    let message = "x".repeat(512 - "[23-Nov-2026 08:15:10] NOTICE: \n".len());
    let line = line_of(&record(LogLevel::Notice, Text::Message(&message)), 512);
    assert_eq!(line.len(), 512);
    assert!(line.ends_with("xxx\n"), "{line}");
}

#[test]
fn nothing_in_a_message_can_look_like_another_line() {
    let message = "script '/a\n[23-Nov-2026 08:15:10] ALERT: forged\u{1b}[2J\u{7f}'\tend";
    assert_eq!(
        line_of(&record(LogLevel::Warning, Text::Message(message)), 1024),
        "[23-Nov-2026 08:15:10] WARNING: script '/a\\n[23-Nov-2026 08:15:10] ALERT: forged\\u{1b}[2J\\u{7f}'\tend\n"
    );
}

/// The lengths are those of php-fpm 8.2 with the same input.
#[test]
fn what_a_worker_prints_is_wrapped_as_by_php_fpm() {
    let long = "0123456789".repeat(130);
    let said = said(long.as_bytes());
    let lines = line_of(&record(LogLevel::Warning, Text::Said(&said)), 512);
    let lengths: Vec<usize> = lines.lines().map(str::len).collect();
    assert_eq!(lengths, [511, 511, 500]);
    let head =
        "[23-Nov-2026 08:15:10] WARNING: [pool www] child 7952 said into stderr: \"0123456789";
    assert!(lines.starts_with(head), "{lines}");
    for line in lines.lines() {
        assert!(line.starts_with(&head[..70]) && line.ends_with('"'));
    }
    let plain = Said {
        decorated: false,
        ..said
    };
    let lines = line_of(&record(LogLevel::Warning, Text::Said(&plain)), 600);
    let lengths: Vec<usize> = lines.lines().map(str::len).collect();
    assert_eq!(lengths, [599, 599, 102]);
    assert_eq!(lines.replace('\n', ""), long);
}

#[test]
fn a_line_within_the_limit_is_passed_on_byte_for_byte() {
    let odd = b"\xff\xfe caf\xe9 \x1b[31mred\x1b[0m";
    let plain = Said {
        decorated: false,
        ..said(odd)
    };
    let lines = line::lines(&record(LogLevel::Warning, Text::Said(&plain)), 1024, false);
    assert_eq!(lines, [&odd[..], b"\n"].concat());
}

#[test]
fn a_stream_that_was_closed_in_a_line_is_told_of() {
    let said = Said {
        closed: true,
        ..said(b"half")
    };
    assert!(
        line_of(&record(LogLevel::Warning, Text::Said(&said)), 1024)
            .ends_with("said into stderr: \"half\", pipe is closed\n")
    );
}

#[test]
fn characters_are_not_cut_in_two() {
    let text = "aé€𝄞".repeat(40);
    for room in 4..20 {
        let pieces: Vec<&[u8]> = line::pieces(text.as_bytes(), room).collect();
        assert_eq!(pieces.concat(), text.as_bytes());
        for piece in pieces {
            assert!(piece.len() <= room);
            assert!(std::str::from_utf8(piece).is_ok(), "{room}: {piece:?}");
        }
    }
    // What is no text is cut anywhere, and all of it comes.
    let noise = [0x80; 50];
    let pieces: Vec<&[u8]> = line::pieces(&noise, 8).collect();
    assert_eq!(pieces.concat(), noise);
    assert!(pieces.iter().all(|piece| !piece.is_empty()));
}

#[test]
fn a_json_line_has_everything_in_its_field() {
    let record_of = record(
        LogLevel::Notice,
        Text::Message("[pool www] child 7 started"),
    );
    let line = String::from_utf8(json::lines(&record_of, 1024)).unwrap();
    let (time, rest) = line.split_at("{\"time\":\"2026-11-23T08:15:10.000000+00:00\"".len());
    assert!(time.starts_with("{\"time\":\"2026-11-23T08:15:10.000000"));
    assert_eq!(
        rest,
        ",\"level\":\"notice\",\"pool\":\"www\",\"message\":\"[pool www] child 7 started\"}\n"
    );
    let said = said(b"a \"quoted\"\tword, a \\, \x01, \x7f and \xff");
    let line = json::lines(&record(LogLevel::Warning, Text::Said(&said)), 1024);
    let line = String::from_utf8(line).unwrap();
    assert!(
        line.ends_with(
            ",\"level\":\"warning\",\"pool\":\"www\",\"process\":\"child\",\"pid\":7952,\"stream\":\"stderr\",\
             \"message\":\"a \\\"quoted\\\"\\tword, a \\\\, \\u0001, \\u007f and \u{fffd}\"}\n"
        ),
        "{line}"
    );
}

/// A reader that has stopped reading costs lines, and no time.
#[test]
fn a_full_pipe_loses_lines_and_says_how_many() {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut stream = Stream::of(writer.into());
    let line = [&[b'x'; 9999][..], b"\n"].concat();
    let mut written = 0;
    while stream.put(&line) {
        written += 1;
        assert!(written < 1000, "a pipe is not that large");
    }
    assert!(!stream.put(b"lost\n"));
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count) = read(&reader, &mut chunk) {
        all.extend_from_slice(&chunk[..count]);
    }
    assert!(stream.put(b"heard\n"));
    while let Ok(count) = read(&reader, &mut chunk) {
        all.extend_from_slice(&chunk[..count]);
    }
    let text = String::from_utf8(all).unwrap();
    // The line that was cut has an end of its own.
    assert!(text.ends_with("x\nheard\n"), "{}", &text[text.len() - 20..]);
    assert_eq!(
        text.lines().filter(|line| line.len() == 9999).count(),
        written
    );
}

#[test]
fn a_full_disk_costs_the_line() {
    let mut stream = Stream::open(Path::new("/dev/full")).unwrap();
    assert!(!stream.put(b"a line\n"));
}

#[test]
fn a_shared_pipe_is_written_to_without_a_wait_and_stays_as_it_is_for_others() {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut stream = Stream::of(own_pipe(&writer).unwrap());
    let line = [b'x'; 100];
    while stream.put(&line) {}
    let flags =
        |fd: &std::os::fd::OwnedFd| OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
    assert!(!flags(&writer).contains(OFlag::O_NONBLOCK));
    assert!(read(&reader, &mut [0; 100]).unwrap() > 0);
    assert!(own_pipe(File::open("/dev/null").unwrap()).is_none());
}
