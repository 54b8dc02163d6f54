//! What a descriptor in the master's poll set belongs to, packed into the 64 bits that epoll keeps.

/// The owner of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// The pipe that signals are written to.
    Signals,
    /// The eventfd of a pool's scoreboard.
    Notice {
        /// The pool.
        pool: u32,
    },
    /// A pool's listening socket.
    Listener {
        /// The pool.
        pool: u32,
    },
    /// The channel to a worker.
    Control {
        /// The pool.
        pool: u32,
        /// The worker's slot.
        slot: u32,
    },
    /// What a worker prints.
    Output {
        /// The pool.
        pool: u32,
        /// The worker's slot.
        slot: u32,
        /// 0 for standard output, 1 for standard error.
        stream: u8,
    },
    /// The channel to a pool's mold.
    MoldControl {
        /// The pool.
        pool: u32,
    },
    /// What the new program prints while it checks the configuration.
    CheckOutput {
        /// As in [`Token::Output`].
        stream: u8,
    },
    /// What a process of the program before prints.
    ElderOutput {
        /// Its place.
        elder: u32,
        /// As in [`Token::Output`].
        stream: u8,
    },
    /// What the status service prints.
    ServiceOutput,
    /// What a pool's mold prints.
    MoldOutput {
        /// The pool.
        pool: u32,
        /// As in [`Token::Output`].
        stream: u8,
    },
}

/// Kind in the high byte, then 28 bits of pool and 28 of slot; slots number below 4096, pools below the file limit.
impl From<Token> for u64 {
    fn from(token: Token) -> Self {
        let pack =
            |kind: u64, pool: u32, slot: u32| kind << 56 | u64::from(pool) << 28 | u64::from(slot);
        match token {
            Token::Signals => 0,
            Token::Notice { pool } => pack(1, pool, 0),
            Token::Listener { pool } => pack(2, pool, 0),
            Token::Control { pool, slot } => pack(3, pool, slot),
            Token::Output { pool, slot, stream } => pack(4 + Self::from(stream & 1), pool, slot),
            Token::CheckOutput { stream } => pack(9 + Self::from(stream & 1), 0, 0),
            Token::ElderOutput { elder, stream } => pack(11 + Self::from(stream & 1), elder, 0),
            Token::ServiceOutput => pack(13, 0, 0),
            Token::MoldControl { pool } => pack(6, pool, 0),
            Token::MoldOutput { pool, stream } => pack(7 + Self::from(stream & 1), pool, 0),
        }
    }
}

impl From<u64> for Token {
    fn from(bits: u64) -> Self {
        let part = |shift: u32| u32::try_from(bits >> shift & ((1 << 28) - 1)).unwrap_or(0);
        let (pool, slot) = (part(28), part(0));
        match bits >> 56 {
            1 => Self::Notice { pool },
            2 => Self::Listener { pool },
            3 => Self::Control { pool, slot },
            4 => Self::Output {
                pool,
                slot,
                stream: 0,
            },
            5 => Self::Output {
                pool,
                slot,
                stream: 1,
            },
            6 => Self::MoldControl { pool },
            7 => Self::MoldOutput { pool, stream: 0 },
            8 => Self::MoldOutput { pool, stream: 1 },
            9 => Self::CheckOutput { stream: 0 },
            10 => Self::CheckOutput { stream: 1 },
            11 => Self::ElderOutput {
                elder: pool,
                stream: 0,
            },
            12 => Self::ElderOutput {
                elder: pool,
                stream: 1,
            },
            13 => Self::ServiceOutput,
            _ => Self::Signals,
        }
    }
}

impl Token {
    /// The pool it belongs to, if to one.
    #[must_use]
    pub fn pool(self) -> Option<u32> {
        match self {
            Self::Signals
            | Self::CheckOutput { .. }
            | Self::ElderOutput { .. }
            | Self::ServiceOutput => None,
            Self::Notice { pool }
            | Self::Listener { pool }
            | Self::Control { pool, .. }
            | Self::Output { pool, .. }
            | Self::MoldControl { pool }
            | Self::MoldOutput { pool, .. } => Some(pool),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_epoll() {
        let (pool, slot) = (70_000, 4095);
        for token in [
            Token::Signals,
            Token::Notice { pool },
            Token::Listener { pool },
            Token::Control { pool, slot },
            Token::Output {
                pool,
                slot,
                stream: 0,
            },
            Token::Output {
                pool,
                slot,
                stream: 1,
            },
            Token::MoldControl { pool },
            Token::MoldOutput { pool, stream: 0 },
            Token::MoldOutput { pool, stream: 1 },
            Token::CheckOutput { stream: 1 },
            Token::ServiceOutput,
            Token::ElderOutput {
                elder: pool,
                stream: 0,
            },
        ] {
            assert_eq!(Token::from(u64::from(token)), token);
        }
    }
}
