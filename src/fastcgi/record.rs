//! The record: an 8-byte header, up to 65535 bytes of content, up to 255 bytes of padding (specification, 3.3).

/// The only version there is (`FCGI_VERSION_1`).
pub const VERSION: u8 = 1;

/// Bytes of a header.
pub const HEADER: usize = 8;

/// The request id of management records (`FCGI_NULL_REQUEST_ID`).
pub const MANAGEMENT: u16 = 0;

/// Record types (specification, 8).
pub mod kind {
    /// `FCGI_BEGIN_REQUEST`
    pub const BEGIN_REQUEST: u8 = 1;
    /// `FCGI_ABORT_REQUEST`
    pub const ABORT_REQUEST: u8 = 2;
    /// `FCGI_END_REQUEST`
    pub const END_REQUEST: u8 = 3;
    /// `FCGI_PARAMS`
    pub const PARAMS: u8 = 4;
    /// `FCGI_STDIN`
    pub const STDIN: u8 = 5;
    /// `FCGI_STDOUT`
    pub const STDOUT: u8 = 6;
    /// `FCGI_STDERR`
    pub const STDERR: u8 = 7;
    /// `FCGI_DATA`
    pub const DATA: u8 = 8;
    /// `FCGI_GET_VALUES`
    pub const GET_VALUES: u8 = 9;
    /// `FCGI_GET_VALUES_RESULT`
    pub const GET_VALUES_RESULT: u8 = 10;
    /// `FCGI_UNKNOWN_TYPE`
    pub const UNKNOWN_TYPE: u8 = 11;
}

/// The role of a responder (`FCGI_RESPONDER`), the one that web servers ask for.
pub const RESPONDER: u16 = 1;

/// The role of a program that says who may see what (`FCGI_AUTHORIZER`): it gets no body.
pub const AUTHORIZER: u16 = 2;

/// The role of a program that changes a file (`FCGI_FILTER`): it gets a body, and then the file (`FCGI_DATA`).
pub const FILTER: u16 = 3;

/// The flag that asks to keep the connection after the request (`FCGI_KEEP_CONN`).
pub const KEEP_CONNECTION: u8 = 1;

/// How a request ended, on the level of the protocol (specification, 5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolStatus {
    /// `FCGI_REQUEST_COMPLETE`
    Complete = 0,
    /// `FCGI_CANT_MPX_CONN`: a second request on a connection that serves one at a time.
    CannotMultiplex = 1,
    /// `FCGI_OVERLOADED`: a program that has no room for another request.
    Overloaded = 2,
    /// `FCGI_UNKNOWN_ROLE`
    UnknownRole = 3,
}

impl ProtocolStatus {
    /// The status of this number, if there is one.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        [
            Self::Complete,
            Self::CannotMultiplex,
            Self::Overloaded,
            Self::UnknownRole,
        ]
        .into_iter()
        .find(|&status| status as u8 == number)
    }
}

/// A header that no record has: of no version, and with content that never comes. A web server that gets it knows that
/// the answer is broken off.
pub const NONSENSE: [u8; HEADER] = [0, kind::STDOUT, 0, 0, 0xff, 0xff, 0, 0];

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Protocol version.
    pub version: u8,
    /// Record type; see [`kind`].
    pub kind: u8,
    /// Request id; 0 for management.
    pub id: u16,
    /// Bytes of content that follow.
    pub content: u16,
    /// Bytes of padding after the content.
    pub padding: u8,
}

impl Header {
    /// Reads a header.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER]) -> Self {
        Self {
            version: bytes[0],
            kind: bytes[1],
            id: u16::from_be_bytes([bytes[2], bytes[3]]),
            content: u16::from_be_bytes([bytes[4], bytes[5]]),
            padding: bytes[6],
        }
    }

    /// Writes a header.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER] {
        let [id_high, id_low] = self.id.to_be_bytes();
        let [content_high, content_low] = self.content.to_be_bytes();
        [
            self.version,
            self.kind,
            id_high,
            id_low,
            content_high,
            content_low,
            self.padding,
            0,
        ]
    }
}

/// A header of version 1 without padding.
#[must_use]
pub fn header(kind: u8, id: u16, content: u16) -> [u8; HEADER] {
    Header {
        version: VERSION,
        kind,
        id,
        content,
        padding: 0,
    }
    .encode()
}

/// A whole `FCGI_END_REQUEST` record.
#[must_use]
pub fn end_request(id: u16, application: u32, protocol: ProtocolStatus) -> [u8; 2 * HEADER] {
    let mut record = [0; 2 * HEADER];
    record[..HEADER].copy_from_slice(&header(kind::END_REQUEST, id, 8));
    record[HEADER..HEADER + 4].copy_from_slice(&application.to_be_bytes());
    record[HEADER + 4] = protocol as u8;
    record
}

/// A whole `FCGI_UNKNOWN_TYPE` record about management records of type `unknown`.
#[must_use]
pub fn unknown_type(unknown: u8) -> [u8; 2 * HEADER] {
    let mut record = [0; 2 * HEADER];
    record[..HEADER].copy_from_slice(&header(kind::UNKNOWN_TYPE, MANAGEMENT, 8));
    record[HEADER] = unknown;
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_wire() {
        let header = Header {
            version: 1,
            kind: kind::STDIN,
            id: 0x1234,
            content: 0xfedc,
            padding: 7,
        };
        assert_eq!(header.encode(), [1, 5, 0x12, 0x34, 0xfe, 0xdc, 7, 0]);
        assert_eq!(Header::decode(&header.encode()), header);
    }

    #[test]
    fn whole_records_are_as_specified() {
        assert_eq!(
            end_request(1, 2, ProtocolStatus::UnknownRole),
            [1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 2, 3, 0, 0, 0]
        );
        assert_eq!(
            unknown_type(99),
            [1, 11, 0, 0, 0, 8, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0]
        );
    }
}
