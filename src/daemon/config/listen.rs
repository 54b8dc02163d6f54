//! Addresses to listen on.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::Listen;
use super::names::Names;

/// Longest path of a Unix socket, in bytes: `sun_path` of `unix(7)` without the closing zero.
pub const MAX_UNIX_PATH: usize = 107;

/// `listen` as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A path, which may be relative to the pool's `prefix`.
    Path(PathBuf),
    /// `host:port` or `[v6]:port`, the host without its brackets.
    Host {
        /// A numeric address or a name.
        host: String,
        /// Not 0.
        port: u16,
    },
    /// A port alone.
    Port(u16),
}

/// Reads one of the forms of `listen`: a path, `host:port`, `[v6]:port`, a port.
///
/// A text with a `:` is `host:port` as in php-fpm, but for an absolute path, which may contain one.
///
/// # Errors
/// The rule that is broken, and what would be right.
pub fn parse(text: &str) -> Result<Address, String> {
    if text.chars().any(char::is_control) {
        return Err(
            "must be the path of a Unix socket, host:port, [v6]:port, or a port".to_owned(),
        );
    }
    if text.starts_with('/') {
        return Ok(Address::Path(text.into()));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Address::Port(port(text)?));
    }
    let Some((host, number)) = text.rsplit_once(':') else {
        return Ok(Address::Path(text.into()));
    };
    let number = port(number)?;
    let host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(host) => match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => host,
            _ => {
                return Err(
                    "only an IPv6 address is written in brackets, as in [::1]:9000".to_owned(),
                );
            }
        },
        None if host.contains(':') => {
            return Err(format!(
                "an IPv6 address is written in brackets: [{host}]:{number}"
            ));
        }
        None if host.is_empty() || host == "*" => {
            return Err(format!(
                "the host is missing: write {number} alone for all addresses"
            ));
        }
        None => host,
    };
    Ok(Address::Host {
        host: host.to_owned(),
        port: number,
    })
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        // `parse` takes a leading +, too.
        Ok(port) if port > 0 && !text.starts_with('+') => Ok(port),
        _ => Err(format!(
            "invalid port value '{text}': a port is a whole number from 1 to 65535"
        )),
    }
}

/// The TCP address of a host and port, and how many addresses the host has; the first is taken, as php-fpm does.
///
/// # Errors
/// The name cannot be resolved.
pub fn resolve(host: &str, port: u16, names: &Names) -> Result<(SocketAddr, usize), String> {
    let addresses = names
        .host(host)
        .map_err(|error| format!("the host {host} cannot be resolved: {error}"))?;
    match addresses.first() {
        Some(first) => Ok((SocketAddr::new(*first, port), addresses.len())),
        None => Err(format!("the host {host} has no address")),
    }
}

/// Whether one address takes what the other needs, so that no two pools can listen on both.
///
/// A port alone is that port of every address; an unspecified address is that port of every address of its family.
pub fn overlap(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Unix(one), Listen::Unix(other)) => one == other,
        (Listen::Port(one), Listen::Port(other)) => one == other,
        (Listen::Port(port), Listen::Tcp(address)) | (Listen::Tcp(address), Listen::Port(port)) => {
            *port == address.port()
        }
        (Listen::Tcp(one), Listen::Tcp(other)) => {
            let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() == other.port()
                && (one.ip() == other.ip() || everywhere && one.is_ipv4() == other.is_ipv4())
        }
        (Listen::Unix(_), _) | (_, Listen::Unix(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str, port: u16) -> Address {
        Address::Host {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn every_form() {
        for (text, address) in [
            ("/run/site.sock", Address::Path("/run/site.sock".into())),
            ("/run/a:1.sock", Address::Path("/run/a:1.sock".into())),
            ("site.sock", Address::Path("site.sock".into())),
            ("run/site.sock", Address::Path("run/site.sock".into())),
            ("9000", Address::Port(9000)),
            ("127.0.0.1:9000", host("127.0.0.1", 9000)),
            ("localhost:1", host("localhost", 1)),
            ("[::1]:65535", host("::1", 65535)),
            ("[::]:9000", host("::", 9000)),
        ] {
            assert_eq!(parse(text), Ok(address), "{text}");
        }
    }

    #[test]
    fn what_is_no_address() {
        for (text, rule) in [
            ("", "from 1 to 65535"),
            ("0", "from 1 to 65535"),
            ("65536", "from 1 to 65535"),
            ("localhost:", "from 1 to 65535"),
            ("localhost:http", "from 1 to 65535"),
            ("localhost:+80", "from 1 to 65535"),
            ("localhost:-1", "from 1 to 65535"),
            ("::1:9000", "[::1]:9000"),
            ("[127.0.0.1]:9000", "only an IPv6 address"),
            ("[localhost]:9000", "only an IPv6 address"),
            (":9000", "write 9000 alone"),
            ("*:9000", "write 9000 alone"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(rule), "{text}: {error}");
        }
    }

    #[test]
    fn numeric_hosts_resolve_to_themselves() {
        for (name, address) in [("127.0.0.1", "127.0.0.1:9000"), ("::1", "[::1]:9000")] {
            assert_eq!(
                resolve(name, 9000, &Names::default()),
                Ok((address.parse().unwrap(), 1))
            );
        }
        assert!(resolve("not a host", 9000, &Names::default()).is_err());
    }

    #[test]
    fn addresses_that_overlap() {
        let tcp = |text: &str| Listen::Tcp(text.parse().unwrap());
        let unix = |path: &str| Listen::Unix(path.into());
        for (one, other, expected) in [
            (unix("/run/a.sock"), unix("/run/a.sock"), true),
            (unix("/run/a.sock"), unix("/run//./a.sock"), true),
            (unix("/run/a.sock"), unix("/run/b.sock"), false),
            (unix("/run/a.sock"), Listen::Port(1), false),
            (unix("/run/a.sock"), tcp("127.0.0.1:1"), false),
            (tcp("127.0.0.1:1"), tcp("127.0.0.1:1"), true),
            (tcp("127.0.0.1:1"), tcp("127.0.0.1:2"), false),
            (tcp("127.0.0.1:1"), tcp("127.0.0.2:1"), false),
            (tcp("127.0.0.1:1"), tcp("0.0.0.0:1"), true),
            (tcp("127.0.0.1:1"), tcp("0.0.0.0:2"), false),
            (tcp("127.0.0.1:1"), tcp("[::]:1"), false),
            (tcp("[::1]:1"), tcp("[::]:1"), true),
            (tcp("0.0.0.0:1"), tcp("[::]:1"), false),
            (Listen::Port(1), Listen::Port(1), true),
            (Listen::Port(1), Listen::Port(2), false),
            (Listen::Port(1), tcp("[::]:1"), true),
            (Listen::Port(1), tcp("127.0.0.1:1"), true),
            (Listen::Port(1), tcp("127.0.0.1:2"), false),
        ] {
            assert_eq!(overlap(&one, &other), expected, "{one:?} {other:?}");
            assert_eq!(overlap(&other, &one), expected, "{other:?} {one:?}");
        }
    }
}
