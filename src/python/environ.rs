//! The dictionary that the application gets.
//!
//! Most parameters of a request are those of the one before: the same names in the same order, and mostly the same
//! values. So the parameters are remembered by position, with their string objects, and a dictionary with all of them is
//! kept. A request only changes in it what differs, and gets a copy, which Python makes in one piece. When the names
//! differ the dictionary is built anew, from the objects that still fit.
//!
//! What is remembered is bounded: long values, and parameters beyond a number that no web server sends by itself, go
//! into the copy alone.

use crate::head::decimal;
use crate::mount;
use preforkd_fastcgi::pairs;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// Parameters that are remembered.
const MAX_SEEN: usize = 128;

/// Bytes of a name that is remembered.
const MAX_NAME: usize = 128;

/// Bytes of a value that is remembered.
const MAX_VALUE: usize = 512;

/// Builds the dictionaries of a worker's requests.
#[derive(Debug)]
pub(crate) struct Environ {
    /// What every request has; parameters with the same names come over it.
    template: Py<PyDict>,
    /// The template with the parameters in `seen`.
    base: Py<PyDict>,
    seen: Vec<Seen>,
    mount: Option<String>,
}

/// A parameter of the last request.
#[derive(Debug)]
struct Seen {
    name: Vec<u8>,
    value: Vec<u8>,
    key: Py<PyString>,
    text: Py<PyString>,
    role: Role,
    /// A later parameter has the same name, and counts.
    shadowed: bool,
}

/// What a parameter means to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Nothing: it is passed on.
    Plain,
    /// It must not reach the application.
    Dropped,
    Method,
    ScriptName,
    PathInfo,
    ContentLength,
    Https,
    Scheme,
    Uri,
    /// Must not be empty.
    ServerName,
    ServerPort,
    Protocol,
}

impl Role {
    fn of(name: &[u8]) -> Self {
        match name {
            b"REQUEST_METHOD" => Self::Method,
            b"SCRIPT_NAME" => Self::ScriptName,
            b"PATH_INFO" => Self::PathInfo,
            b"CONTENT_LENGTH" => Self::ContentLength,
            b"HTTPS" => Self::Https,
            b"REQUEST_SCHEME" => Self::Scheme,
            b"REQUEST_URI" => Self::Uri,
            b"SERVER_NAME" => Self::ServerName,
            b"SERVER_PORT" => Self::ServerPort,
            b"SERVER_PROTOCOL" => Self::Protocol,
            // The first would be taken for a proxy to be used ("httpoxy"); the others contradict the parameters that
            // the web server itself makes of these headers.
            b"HTTP_PROXY"
            | b"HTTP_CONTENT_LENGTH"
            | b"HTTP_CONTENT_TYPE"
            | b"HTTP_TRANSFER_ENCODING" => Self::Dropped,
            b"" => Self::Dropped,
            _ if name.starts_with(b"wsgi.") => Self::Dropped,
            _ => Self::Plain,
        }
    }
}

/// What counts of the parameters with a role: the last of each name.
#[derive(Debug, Default)]
struct Facts<'a> {
    method: &'a [u8],
    script_name: &'a [u8],
    path_info: &'a [u8],
    content_length: &'a [u8],
    https: &'a [u8],
    scheme: &'a [u8],
    server_name: &'a [u8],
    server_port: &'a [u8],
    protocol: &'a [u8],
}

impl<'a> Facts<'a> {
    fn note(&mut self, role: Role, value: &'a [u8]) {
        match role {
            Role::Plain | Role::Dropped | Role::Uri => {}
            Role::Method => self.method = value,
            Role::ScriptName => self.script_name = value,
            Role::PathInfo => self.path_info = value,
            Role::ContentLength => self.content_length = value,
            Role::Https => self.https = value,
            Role::Scheme => self.scheme = value,
            Role::ServerName => self.server_name = value,
            Role::ServerPort => self.server_port = value,
            Role::Protocol => self.protocol = value,
        }
    }

    fn is_https(&self) -> bool {
        [&b"on"[..], b"1", b"true"]
            .iter()
            .any(|yes| self.https.eq_ignore_ascii_case(yes))
            || self.scheme.eq_ignore_ascii_case(b"https")
    }
}

/// A dictionary, and what the server has to know of it.
#[derive(Debug)]
pub(crate) struct Request<'py> {
    /// Complete but for `wsgi.input`.
    pub(crate) environ: Bound<'py, PyDict>,
    /// Whether the method is HEAD.
    pub(crate) is_head: bool,
    /// How long the body is, if that was said properly.
    pub(crate) content_length: Option<u64>,
}

/// Why a request does not reach the application.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A NUL in the path: it would be cut where the application gives it to the system.
    Nul,
    /// The path does not begin with the prefix that the application is mounted at.
    Outside,
    /// Python failed.
    Python(PyErr),
}

impl From<PyErr> for Refusal {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl Environ {
    /// For a pool whose application has `mount` as its prefix; `constants` are the `wsgi.*` entries that never change.
    pub(crate) fn new(constants: &Bound<'_, PyDict>, mount: Option<String>) -> PyResult<Self> {
        let py = constants.py();
        let template = PyDict::new(py);
        // What PEP 3333 demands of every environment, in case the web server does not send it.
        for (name, value) in [
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_NAME", ""),
            ("PATH_INFO", ""),
            ("QUERY_STRING", ""),
            ("SERVER_NAME", "localhost"),
            ("SERVER_PORT", "80"),
            ("SERVER_PROTOCOL", "HTTP/1.0"),
            ("wsgi.url_scheme", "http"),
        ] {
            template.set_item(PyString::intern(py, name), PyString::intern(py, value))?;
        }
        template.update(constants.as_mapping())?;
        // Holds the place, so that the copies need not grow.
        template.set_item(intern!(py, "wsgi.input"), py.None())?;
        Ok(Self {
            base: template.copy()?.unbind(),
            template: template.unbind(),
            seen: Vec::new(),
            mount,
        })
    }

    /// The dictionary for a request with these parameters, which are encoded pairs.
    pub(crate) fn build<'py>(
        &mut self,
        py: Python<'py>,
        params: &[u8],
    ) -> Result<Request<'py>, Refusal> {
        if !self.follow(py, params)? {
            self.remember(py, params)?;
        }
        let environ = self.base.bind(py).copy()?;
        let mut facts = Facts::default();
        let mut seen = self.seen.iter();
        for (name, value) in iter(params) {
            let role = if may_be_seen(name)
                && let Some(seen) = seen.next()
            {
                if value.len() > MAX_VALUE && !seen.shadowed && seen.role != Role::Dropped {
                    put(&environ, seen.key.bind(py), &text(py, value), seen.role)?;
                }
                seen.role
            } else {
                let role = Role::of(name);
                if role != Role::Dropped {
                    put(&environ, &text(py, name), &text(py, value), role)?;
                }
                role
            };
            facts.note(role, value);
        }
        self.derive(&environ, &facts)?;
        Ok(Request {
            environ,
            is_head: facts.method == b"HEAD",
            content_length: decimal(facts.content_length),
        })
    }

    /// Changes what differs from the last request. False when the names do.
    fn follow(&mut self, py: Python<'_>, params: &[u8]) -> PyResult<bool> {
        let mut at = 0;
        for (name, value) in iter(params).filter(|pair| may_be_seen(pair.0)) {
            let Some(seen) = self.seen.get_mut(at) else {
                return Ok(at == MAX_SEEN);
            };
            if seen.name != name {
                return Ok(false);
            }
            if seen.value != value && value.len() <= MAX_VALUE {
                seen.set_value(py, value);
                if !seen.shadowed && seen.role != Role::Dropped {
                    put(
                        self.base.bind(py),
                        seen.key.bind(py),
                        seen.text.bind(py),
                        seen.role,
                    )?;
                }
            }
            at += 1;
        }
        Ok(at == self.seen.len())
    }

    /// Remembers these parameters instead of those before.
    fn remember(&mut self, py: Python<'_>, params: &[u8]) -> PyResult<()> {
        let mut at = 0;
        for (name, value) in iter(params)
            .filter(|pair| may_be_seen(pair.0))
            .take(MAX_SEEN)
        {
            let value = if value.len() > MAX_VALUE { b"" } else { value };
            match self.seen.get_mut(at) {
                Some(seen) => {
                    if seen.name != name {
                        seen.set_name(py, name);
                    }
                    if seen.value != value {
                        seen.set_value(py, value);
                    }
                }
                None => self.seen.push(Seen::new(py, name, value)),
            }
            at += 1;
        }
        self.seen.truncate(at);
        let base = self.template.bind(py).copy()?;
        for at in 0..self.seen.len() {
            let (before, rest) = self.seen.split_at_mut(at);
            let seen = &mut rest[0];
            seen.shadowed = false;
            for earlier in before {
                earlier.shadowed |= earlier.name == seen.name;
            }
            if seen.role != Role::Dropped {
                put(&base, seen.key.bind(py), seen.text.bind(py), seen.role)?;
            }
        }
        self.base = base.unbind();
        Ok(())
    }

    /// Sets what follows from the parameters.
    fn derive(&self, environ: &Bound<'_, PyDict>, facts: &Facts<'_>) -> Result<(), Refusal> {
        let py = environ.py();
        let paths = mount::paths(facts.script_name, facts.path_info, self.mount.as_deref())
            .ok_or(Refusal::Outside)?;
        if paths.script_name.contains(&0) || paths.path_info.contains(&0) {
            return Err(Refusal::Nul);
        }
        if *paths.script_name != *facts.script_name {
            environ.set_item(intern!(py, "SCRIPT_NAME"), text(py, &paths.script_name))?;
        }
        if *paths.path_info != *facts.path_info {
            environ.set_item(intern!(py, "PATH_INFO"), text(py, &paths.path_info))?;
        }
        let https = facts.is_https();
        if https {
            environ.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "https"))?;
        }
        if facts.server_port.is_empty() {
            let port = if https {
                intern!(py, "443")
            } else {
                intern!(py, "80")
            };
            environ.set_item(intern!(py, "SERVER_PORT"), port)?;
        }
        for (value, key, default) in [
            (
                facts.method,
                intern!(py, "REQUEST_METHOD"),
                intern!(py, "GET"),
            ),
            (
                facts.server_name,
                intern!(py, "SERVER_NAME"),
                intern!(py, "localhost"),
            ),
            (
                facts.protocol,
                intern!(py, "SERVER_PROTOCOL"),
                intern!(py, "HTTP/1.0"),
            ),
        ] {
            if value.is_empty() {
                environ.set_item(key, default)?;
            }
        }
        Ok(())
    }
}

impl Seen {
    fn new(py: Python<'_>, name: &[u8], value: &[u8]) -> Self {
        Self {
            name: name.to_vec(),
            value: value.to_vec(),
            key: text(py, name).unbind(),
            text: text(py, value).unbind(),
            role: Role::of(name),
            shadowed: false,
        }
    }

    fn set_name(&mut self, py: Python<'_>, name: &[u8]) {
        self.name.clear();
        self.name.extend_from_slice(name);
        self.key = text(py, name).unbind();
        self.role = Role::of(name);
    }

    fn set_value(&mut self, py: Python<'_>, value: &[u8]) {
        self.value.clear();
        self.value.extend_from_slice(value);
        self.text = text(py, value).unbind();
    }
}

fn iter(mut params: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (name, value, rest) = pairs::split_first(params)?;
        params = rest;
        Some((name, value))
    })
}

/// Whether a parameter with this name has a place among those that are remembered, as long as there is room.
fn may_be_seen(name: &[u8]) -> bool {
    name.len() <= MAX_NAME
}

fn put(
    environ: &Bound<'_, PyDict>,
    key: &Bound<'_, PyString>,
    value: &Bound<'_, PyString>,
    role: Role,
) -> PyResult<()> {
    environ.set_item(key, value)?;
    if role == Role::Uri {
        environ.set_item(intern!(environ.py(), "RAW_URI"), value)?;
    }
    Ok(())
}

/// The string that WSGI makes of bytes: each byte is a character.
fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(bytes) {
        Ok(ascii) if bytes.is_ascii() => PyString::new(py, ascii),
        _ => PyString::new(
            py,
            &bytes
                .iter()
                .map(|&byte| char::from(byte))
                .collect::<String>(),
        ),
    }
}
