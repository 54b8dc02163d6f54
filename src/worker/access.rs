//! The access log: one line a request, in the form of `access.format`.
//!
//! The codes are php-fpm's. What comes from outside is escaped as in a JSON string (the quotation mark, the backslash,
//! control characters, and bytes that are no UTF-8 as `\u00XX`): no value can end a quoted field or forge a line, and
//! a format that is JSON written by hand stays JSON. A line has at most [`MAX_LINE`] bytes, which a pipe takes whole;
//! where that is not enough the longest values are cut.

mod format;
mod line;
mod log;

pub use format::Format;
pub use line::{Record, Usage, content_length, path, status, user};
pub use log::AccessLog;

/// Bytes of a line, its end included: what a pipe takes in one piece (`PIPE_BUF`).
pub const MAX_LINE: usize = 4096;
