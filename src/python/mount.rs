//! `SCRIPT_NAME` and `PATH_INFO`, whatever the web server makes of them.
//!
//! nginx with its stock parameters puts the whole path into `SCRIPT_NAME` and sends no `PATH_INFO`; others cut the path
//! at a place of their own. The URI of the request is never used: it is encoded, and may have been rewritten.

use std::borrow::Cow;

/// The two variables as the application gets them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Paths<'a> {
    /// Where the application is; without a slash at its end.
    pub(crate) script_name: Cow<'a, [u8]>,
    /// The path below that; with one slash at its beginning, not several.
    pub(crate) path_info: Cow<'a, [u8]>,
}

/// The paths from what the web server sent. `mount` is the application's prefix, empty for the root; without one the
/// web server is believed where it sends a `PATH_INFO`, and otherwise the application is at the root.
/// None when the path lies outside the prefix.
pub(crate) fn paths<'a>(
    script_name: &'a [u8],
    path_info: &'a [u8],
    mount: Option<&'a str>,
) -> Option<Paths<'a>> {
    let Some(prefix) = mount.map(str::as_bytes) else {
        return Some(if path_info.is_empty() {
            Paths {
                script_name: Cow::Borrowed(b""),
                path_info: Cow::Borrowed(one_slash(script_name)),
            }
        } else {
            Paths {
                script_name: Cow::Borrowed(without_slash(script_name)),
                path_info: Cow::Borrowed(one_slash(path_info)),
            }
        });
    };
    let whole = match (script_name, path_info) {
        (whole, []) | ([], whole) => Cow::Borrowed(one_slash(whole)),
        _ => Cow::Owned([without_slash(script_name), one_slash(path_info)].concat()),
    };
    let begins_with_prefix =
        whole.starts_with(prefix) && matches!(whole[prefix.len()..], [] | [b'/', ..]);
    if !begins_with_prefix && !prefix.is_empty() {
        return None;
    }
    Some(Paths {
        script_name: Cow::Borrowed(prefix),
        path_info: match whole {
            Cow::Borrowed(whole) => Cow::Borrowed(one_slash(&whole[prefix.len()..])),
            Cow::Owned(whole) => Cow::Owned(one_slash(&whole[prefix.len()..]).to_vec()),
        },
    })
}

fn one_slash(mut path: &[u8]) -> &[u8] {
    while path.starts_with(b"//") {
        path = &path[1..];
    }
    path
}

fn without_slash(mut path: &[u8]) -> &[u8] {
    while let [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}
