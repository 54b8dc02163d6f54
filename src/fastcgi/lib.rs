//! The FastCGI wire (specification 1.0 of 1996), without I/O: bytes in, events out; answers in, bytes out.
//!
//! # Layout
//! * [`record`]: the 8-byte header, record types, roles, the end of a request
//! * `intake`: received bytes, record by record
//! * [`pairs`]: name-value pairs
//! * [`receiver`]: the server side of a connection: assembles requests from any split of their bytes
//! * [`response`]: frames an answer into records
//! * [`request`] and [`answer`]: the client side: a request to a program as records, and what the program answers
//!
//! # Rules that hold everywhere
//! PARAMS and STDIN are byte streams: records may have any size and any padding, a pair may be split anywhere. After an
//! error of framing a connection is closed and never resynchronised: what follows could be smuggled.

#![forbid(unsafe_code)]

pub mod answer;
mod intake;
pub mod pairs;
#[cfg(test)]
mod properties;
pub mod receiver;
pub mod record;
pub mod request;
pub mod response;
