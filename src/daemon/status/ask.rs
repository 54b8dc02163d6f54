//! `preforkd status`: asks pools for their status as a web server would, and prints it.

use crate::cli::Exit;
use crate::config::{Config, Listen, Pool};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, socket};
use preforkd_fastcgi::pairs::encode;
use preforkd_fastcgi::record::{HEADER, Header, RESPONDER, header, kind};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a pool may take for each part of its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of an answer at most.
const MOST: u64 = 64 * 1024 * 1024;

/// The id of the one request of a connection.
const ID: u16 = 1;

/// Prints the status of all pools, or of the one named, in the form that `query` asks for.
#[must_use]
pub fn show(config: &Config, only: Option<&str>, query: &str) -> Exit {
    let is_meant = |pool: &&Pool| only.is_none_or(|name| pool.name == name);
    let pools: Vec<&Pool> = config.pools.iter().filter(is_meant).collect();
    if pools.is_empty() {
        let name = only.unwrap_or_default();
        eprintln!("there is no pool {name} in the configuration");
        return Exit::Usage;
    }
    let mut exit = Exit::Success;
    for (index, pool) in pools.into_iter().enumerate() {
        match ask(pool, query) {
            Ok(page) => {
                let blank = if index == 0 { "" } else { "\n" };
                let text = String::from_utf8_lossy(&page);
                // Nobody is left to tell if the output is closed.
                let _ = writeln!(io::stdout(), "{blank}{}", text.trim_end());
            }
            Err(reason) => {
                eprintln!("[pool {}] {reason}", pool.name);
                exit = Exit::Unavailable;
            }
        }
    }
    exit
}

fn ask(pool: &Pool, query: &str) -> Result<Vec<u8>, String> {
    let (listen, path) = match (&pool.status_listen, &pool.status_path) {
        (Some(listen), path) => (listen, path.as_deref().unwrap_or("/")),
        (None, Some(path)) => (&pool.listen, path.as_str()),
        (None, None) => {
            return Err("tells no status: set pm.status_listen or pm.status_path".to_owned());
        }
    };
    let asked = match listen {
        Listen::Unix(path_of_socket) => connect(path_of_socket).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            exchange(stream, path, query)
        }),
        Listen::Tcp(address) => over_tcp(reachable(*address), path, query),
        // A socket on [::] takes IPv4 as well, and one on 0.0.0.0 nothing else.
        Listen::Port(port) => over_tcp((Ipv4Addr::LOCALHOST, *port).into(), path, query),
    };
    let answer = asked.map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut if pool.status_listen.is_none() => format!(
            "{listen} has not answered in {} seconds; pm.status_listen answers also when all workers are busy",
            PATIENCE.as_secs()
        ),
        _ => format!("cannot ask {listen}: {error}"),
    })?;
    page_of(&answer).ok_or_else(|| format!("{listen} has answered something else than a status"))
}

/// Connects, and gives up when the queue stays full: the time for writing holds for connecting as well (socket(7)).
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let stream = UnixStream::from(socket);
    stream.set_write_timeout(Some(PATIENCE))?;
    socket::connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(stream)
}

fn over_tcp(address: SocketAddr, path: &str, query: &str) -> io::Result<Vec<u8>> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    exchange(stream, path, query)
}

/// Where a socket on this address is reached from this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Sends a request and reads to the end of the connection.
fn exchange(mut stream: impl Read + Write, path: &str, query: &str) -> io::Result<Vec<u8>> {
    stream.write_all(&request(path, query))?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    Ok(answer)
}

fn request(path: &str, query: &str) -> Vec<u8> {
    let uri = format!("{path}?{query}");
    let mut params = Vec::new();
    for (name, value) in [
        ("SCRIPT_NAME", path),
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", uri.trim_end_matches('?')),
        ("QUERY_STRING", query),
    ] {
        encode(&mut params, name.as_bytes(), value.as_bytes());
    }
    let [role_high, role_low] = RESPONDER.to_be_bytes();
    let contents: [(u8, &[u8]); 4] = [
        (
            kind::BEGIN_REQUEST,
            &[role_high, role_low, 0, 0, 0, 0, 0, 0],
        ),
        (kind::PARAMS, &params),
        (kind::PARAMS, &[]),
        (kind::STDIN, &[]),
    ];
    let mut records = Vec::new();
    for (kind, content) in contents {
        let length = u16::try_from(content.len()).expect("a few short parameters");
        records.extend_from_slice(&header(kind, ID, length));
        records.extend_from_slice(content);
    }
    records
}

/// The body of a whole answer with status 200.
fn page_of(mut records: &[u8]) -> Option<Vec<u8>> {
    let mut stdout = Vec::new();
    loop {
        let (bytes, rest) = records.split_first_chunk::<HEADER>()?;
        let header = Header::decode(bytes);
        let (content, rest) = rest.split_at_checked(usize::from(header.content))?;
        records = rest.get(usize::from(header.padding)..)?;
        match header.kind {
            kind::STDOUT => stdout.extend_from_slice(content),
            kind::END_REQUEST => break,
            _ => {}
        }
    }
    let end = stdout.windows(4).position(|four| four == b"\r\n\r\n")?;
    let mut lines = stdout[..end].split(|&byte| byte == b'\n');
    let failed = lines.any(|line| line.len() >= 7 && line[..7].eq_ignore_ascii_case(b"status:"));
    // A page has no Status header.
    (!failed).then(|| stdout.split_off(end + 4))
}
