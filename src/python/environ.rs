//! The dictionary that the application gets.
//!
//! Most parameters of a request are those of the one before: the same names in the same order, and mostly the same
//! values. So the last request's parameters are remembered as they came, and a dictionary with them is kept. The next
//! request is compared with them pair by pair, in one sweep over two pieces of memory; what differs is changed in the
//! dictionary, and the application gets a copy, which Python makes in one piece. When the names differ the dictionary is
//! built anew.
//!
//! What is remembered is bounded: by far more than web servers send by themselves, by far less than they may.

use crate::head::decimal;
use crate::mount;
use preforkd_fastcgi::pairs;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{ffi, intern};
use std::collections::HashMap;

/// The most parameters that are remembered.
const MAX_PAIRS: usize = 128;

/// Bytes of parameters that are remembered.
const MAX_BYTES: usize = 16 * 1024;

/// The most names whose string objects are kept. Those that every request has come first.
const MAX_NAMES: usize = 256;

/// Bytes of a name whose string object is kept.
const MAX_NAME: usize = 128;

/// Builds the dictionaries of a worker's requests.
#[derive(Debug)]
pub(crate) struct Environ {
    /// What every request has; parameters with the same names come over it.
    template: Py<PyDict>,
    /// The dictionary of the last request, before it got its body.
    base: Py<PyDict>,
    /// The parameters that `base` was made of, as they came. Empty if they were too large, or if that failed.
    last: Vec<u8>,
    /// What was found in `last`, in its order.
    seen: Vec<Seen>,
    names: HashMap<Box<[u8]>, Name>,
    facts: Facts,
    mount: Option<String>,
}

/// A parameter of the last request.
#[derive(Debug)]
struct Seen {
    name: Name,
    /// Bytes of the encoded pair.
    length: usize,
    /// Another parameter of this name comes after it, and counts instead.
    overridden: bool,
}

/// The name of a parameter.
#[derive(Debug)]
struct Name {
    key: Py<PyString>,
    role: Role,
}

impl Name {
    fn new(py: Python<'_>, name: &[u8]) -> PyResult<Self> {
        Ok(Self {
            key: text(py, name)?.unbind(),
            role: Role::of(name),
        })
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            key: self.key.clone_ref(py),
            role: self.role,
        }
    }
}

/// What the server itself needs of a request.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    /// Whether the method is HEAD.
    is_head: bool,
    /// How long the body is, if that was said properly.
    content_length: Option<u64>,
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

    /// Whether more follows from the parameter than its own entry.
    fn is_known(self) -> bool {
        !matches!(self, Self::Plain | Self::Dropped | Self::Uri)
    }
}

/// What counts of the parameters with a role: the last of each name.
#[derive(Debug, Default)]
struct Known<'a> {
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

impl<'a> Known<'a> {
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
            last: Vec::new(),
            seen: Vec::new(),
            names: HashMap::new(),
            facts: Facts::default(),
            mount,
        })
    }

    /// The dictionary for a request with these parameters, which are encoded pairs.
    pub(crate) fn build<'py>(
        &mut self,
        py: Python<'py>,
        params: &[u8],
    ) -> Result<Request<'py>, Refusal> {
        // Put back when all has gone well: until then it is not what the dictionary is made of.
        let mut last = std::mem::take(&mut self.last);
        let is_known = match self.follow(py, &last, params)? {
            Change::Plain => true,
            Change::Known => false,
            Change::Names => {
                self.begin_anew(py, params)?;
                false
            }
        };
        if !is_known {
            self.facts = self.derive(py, params)?;
        }
        let environ = self.base.bind(py).copy()?;
        last.clear();
        if params.len() <= MAX_BYTES && self.seen.len() <= MAX_PAIRS {
            last.extend_from_slice(params);
        }
        self.last = last;
        Ok(Request {
            environ,
            is_head: self.facts.is_head,
            content_length: self.facts.content_length,
        })
    }

    /// Changes in the dictionary what differs between the last request and this one.
    fn follow(&mut self, py: Python<'_>, mut last: &[u8], mut params: &[u8]) -> PyResult<Change> {
        if last.is_empty() {
            return Ok(Change::Names);
        }
        let mut change = Change::Plain;
        let mut same = common_prefix(last, params);
        for Seen {
            name,
            length,
            overridden,
        } in &mut self.seen
        {
            if let Some(left) = same.checked_sub(*length) {
                same = left;
                last = &last[*length..];
                params = &params[*length..];
                continue;
            }
            let (Some((before, _, last_rest)), Some((now, value, rest))) =
                (pairs::split_first(last), pairs::split_first(params))
            else {
                return Ok(Change::Names);
            };
            if before != now {
                return Ok(Change::Names);
            }
            if !*overridden {
                put(self.base.bind(py), name, value)?;
            }
            if name.role.is_known() {
                change = Change::Known;
            }
            // These parameters are the last ones from now on.
            *length = params.len() - rest.len();
            last = last_rest;
            params = rest;
            same = common_prefix(last, params);
        }
        Ok(if params.is_empty() {
            change
        } else {
            Change::Names
        })
    }

    /// Makes the dictionary from these parameters alone.
    fn begin_anew(&mut self, py: Python<'_>, params: &[u8]) -> PyResult<()> {
        self.base = self.template.bind(py).copy()?.unbind();
        self.seen.clear();
        let mut left = params;
        while let Some((name, value, rest)) = pairs::split_first(left) {
            let name = self.name(py, name)?;
            put(self.base.bind(py), &name, value)?;
            self.seen.push(Seen {
                name,
                length: left.len() - rest.len(),
                overridden: false,
            });
            left = rest;
        }
        // More are not remembered; without that bound this would be much work.
        if self.seen.len() <= MAX_PAIRS {
            let mut left = params;
            for seen in &mut self.seen {
                let Some((name, _, rest)) = pairs::split_first(left) else {
                    break;
                };
                seen.overridden = iter(rest).any(|(later, _)| later == name);
                left = rest;
            }
        }
        Ok(())
    }

    fn name(&mut self, py: Python<'_>, name: &[u8]) -> PyResult<Name> {
        if let Some(known) = self.names.get(name) {
            return Ok(known.clone_ref(py));
        }
        let new = Name::new(py, name)?;
        if self.names.len() < MAX_NAMES && name.len() <= MAX_NAME {
            self.names.insert(name.into(), new.clone_ref(py));
        }
        Ok(new)
    }

    /// Sets what follows from the parameters whose meaning is known.
    fn derive(&self, py: Python<'_>, params: &[u8]) -> Result<Facts, Refusal> {
        let mut known = Known::default();
        for (seen, (_, value)) in self.seen.iter().zip(iter(params)) {
            known.note(seen.name.role, value);
        }
        let paths = mount::paths(known.script_name, known.path_info, self.mount.as_deref())
            .ok_or(Refusal::Outside)?;
        if paths.script_name.contains(&0) || paths.path_info.contains(&0) {
            return Err(Refusal::Nul);
        }
        let environ = self.base.bind(py);
        environ.set_item(intern!(py, "SCRIPT_NAME"), text(py, &paths.script_name)?)?;
        environ.set_item(intern!(py, "PATH_INFO"), text(py, &paths.path_info)?)?;
        let (scheme, port) = if known.is_https() {
            (intern!(py, "https"), intern!(py, "443"))
        } else {
            (intern!(py, "http"), intern!(py, "80"))
        };
        environ.set_item(intern!(py, "wsgi.url_scheme"), scheme)?;
        for (value, key, default) in [
            (
                known.method,
                intern!(py, "REQUEST_METHOD"),
                intern!(py, "GET"),
            ),
            (
                known.server_name,
                intern!(py, "SERVER_NAME"),
                intern!(py, "localhost"),
            ),
            (known.server_port, intern!(py, "SERVER_PORT"), port),
            (
                known.protocol,
                intern!(py, "SERVER_PROTOCOL"),
                intern!(py, "HTTP/1.0"),
            ),
        ] {
            if value.is_empty() {
                environ.set_item(key, default)?;
            }
        }
        let content_length = decimal(known.content_length);
        if content_length.is_none() && !known.content_length.is_empty() {
            environ.set_item(intern!(py, "CONTENT_LENGTH"), intern!(py, ""))?;
        }
        Ok(Facts {
            is_head: known.method == b"HEAD",
            content_length,
        })
    }
}

/// How a request's parameters differ from those of the last one.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// Not at all, or in values that nothing else follows from.
    Plain,
    /// In values whose meaning is known.
    Known,
    /// In the names.
    Names,
}

fn iter(mut params: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (name, value, rest) = pairs::split_first(params)?;
        params = rest;
        Some((name, value))
    })
}

/// How many bytes are the same at the beginning of both.
fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let chunks = one
        .as_chunks::<32>()
        .0
        .iter()
        .zip(other.as_chunks::<32>().0);
    let whole = 32 * chunks.take_while(|(one, other)| one == other).count();
    let rest = one[whole..].iter().zip(&other[whole..]);
    whole + rest.take_while(|(one, other)| one == other).count()
}

/// Sets the entry of a parameter, if it has one of its own.
fn put(environ: &Bound<'_, PyDict>, name: &Name, value: &[u8]) -> PyResult<()> {
    let py = environ.py();
    match name.role {
        Role::Dropped | Role::ScriptName | Role::PathInfo => Ok(()),
        Role::Uri => {
            let value = text(py, value)?;
            environ.set_item(intern!(py, "RAW_URI"), &value)?;
            environ.set_item(&name.key, value)
        }
        _ => environ.set_item(&name.key, text(py, value)?),
    }
}

/// The string that WSGI makes of bytes: each byte is a character.
fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    let length = ffi::Py_ssize_t::try_from(bytes.len())?;
    // SAFETY: the pointer and the length are those of `bytes`, which are copied; what comes back is a new reference to
    // a string, or null with the exception set.
    unsafe {
        let text = ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), length, std::ptr::null());
        Ok(Bound::from_owned_ptr_or_err(py, text)?.cast_into_unchecked())
    }
}
