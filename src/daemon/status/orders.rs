//! What the master and the status service tell each other, over a socket whose end tells the service to leave: whom to
//! turn away, and how many have been.

/// A number of connections to a pool: from the master, so many are too many in its queue; from the service, so many have
/// been turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surplus {
    /// The place of the pool among those that the service answers for.
    pub desk: u32,
    /// How many.
    pub count: u32,
}

/// Bytes of a message: so few that the kernel takes all of them or none.
pub const LENGTH: usize = 8;

impl Surplus {
    /// As a message.
    #[must_use]
    pub fn encode(self) -> [u8; LENGTH] {
        let [a, b, c, d] = self.desk.to_ne_bytes();
        let [e, f, g, h] = self.count.to_ne_bytes();
        [a, b, c, d, e, f, g, h]
    }

    /// Reads a message.
    #[must_use]
    pub fn decode(message: [u8; LENGTH]) -> Self {
        let [a, b, c, d, e, f, g, h] = message;
        Self {
            desk: u32::from_ne_bytes([a, b, c, d]),
            count: u32::from_ne_bytes([e, f, g, h]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let surplus = Surplus {
            desk: 3,
            count: 1 << 20,
        };
        assert_eq!(Surplus::decode(surplus.encode()), surplus);
    }
}
