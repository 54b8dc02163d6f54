//! The environment of a script: the pool's, and over it the request's parameters (RFC 3875, 4.1).

use super::script::Split;
use preforkd_fastcgi::pairs::Params;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What a client could set by a header of its own, and programs take for the administrator's word (httpoxy); and what
/// tells the C library which files to load or to write, which it does not believe where it runs with more rights,
/// either (ld.so(8)). Whoever may connect to the socket is not to choose the code that a script runs.
const NOT_PASSED: [&[u8]; 13] = [
    b"HTTP_PROXY",
    b"GCONV_PATH",
    b"GETCONF_DIR",
    b"GLIBC_TUNABLES",
    b"HOSTALIASES",
    b"LOCALDOMAIN",
    b"LOCPATH",
    b"MALLOC_TRACE",
    b"NIS_PATH",
    b"NLSPATH",
    b"RESOLV_HOST_CONF",
    b"RES_OPTIONS",
    b"TZDIR",
];

/// What the dynamic linker's variables begin with (ld.so(8)).
const LINKER: &[u8] = b"LD_";

fn is_passed(name: &[u8]) -> bool {
    !NOT_PASSED.contains(&name) && !name.starts_with(LINKER)
}

/// The variables of one request. Those whose name or value no environment can hold are left out.
pub fn variables(
    pool: &[(OsString, OsString)],
    params: &Params,
    split: Option<&Split>,
) -> BTreeMap<OsString, OsString> {
    let mut variables: BTreeMap<OsString, OsString> = pool.iter().cloned().collect();
    variables.insert("GATEWAY_INTERFACE".into(), "CGI/1.1".into());
    let mut set = |name: &[u8], value: &[u8]| {
        let fits = !name.is_empty() && !name.contains(&b'=') && !name.contains(&0);
        if fits && !value.contains(&0) && is_passed(name) {
            variables.insert(
                OsString::from_vec(name.to_vec()),
                OsStr::from_bytes(value).to_owned(),
            );
        }
    };
    for (name, value) in params.iter() {
        set(name, value);
    }
    if let Some(split) = split {
        set(b"SCRIPT_NAME", &split.name);
        set(b"PATH_INFO", &split.info);
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use preforkd_fastcgi::pairs::encode;

    #[test]
    fn parameters_go_over_the_pools_variables() {
        let pool = [
            ("PATH", "/bin"),
            ("COLOUR", "blue"),
            ("LD_LIBRARY_PATH", "/opt/lib"),
        ];
        let pool = pool.map(|(name, value)| (name.into(), value.into()));
        let mut bytes = Vec::new();
        for (name, value) in [
            (&b"COLOUR"[..], &b"red"[..]),
            (b"REQUEST_METHOD", b"GET"),
            (b"HTTP_X", b"\xff"),
            (b"HTTP_PROXY", b"http://evil"),
            (b"LD_PRELOAD", b"/tmp/evil.so"),
            (b"LD_LIBRARY_PATH", b"/tmp"),
            (b"GCONV_PATH", b"/tmp"),
            (b"A=B", b"1"),
            (b"", b"1"),
            (b"NUL", b"a\0b"),
            (b"SCRIPT_NAME", b"/run/info"),
        ] {
            encode(&mut bytes, name, value);
        }
        let params = Params::from_bytes(bytes);
        let split = Split {
            name: b"/run".to_vec(),
            info: b"/info".to_vec(),
        };
        let variables = variables(&pool, &params, Some(&split));
        let shown: Vec<(&[u8], &[u8])> = variables
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        assert_eq!(
            shown,
            [
                (&b"COLOUR"[..], &b"red"[..]),
                (b"GATEWAY_INTERFACE", b"CGI/1.1"),
                (b"HTTP_X", b"\xff"),
                (b"LD_LIBRARY_PATH", b"/opt/lib"),
                (b"PATH", b"/bin"),
                (b"PATH_INFO", b"/info"),
                (b"REQUEST_METHOD", b"GET"),
                (b"SCRIPT_NAME", b"/run"),
            ]
        );
    }
}
