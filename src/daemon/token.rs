//! What a descriptor in the master's poll set belongs to, packed into the 64 bits that epoll keeps.

/// The owner of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// The pipe that signals are written to.
    Signals,
    /// A pool.
    Pool {
        /// Its number.
        pool: u32,
        /// What of it.
        what: What,
    },
    /// What the new program prints while it checks the configuration.
    CheckOutput {
        /// As in [`What::Output`].
        stream: u8,
    },
    /// What a process of the program before prints.
    ElderOutput {
        /// Its place.
        elder: u32,
        /// As in [`What::Output`].
        stream: u8,
    },
    /// What the status service prints.
    ServiceOutput,
    /// The channel to the status service.
    ServiceControl,
    /// The socket for commands.
    Control,
    /// Somebody who has connected to it.
    Client {
        /// Its number.
        client: u32,
    },
}

/// What a descriptor of a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The eventfd of its scoreboard.
    Notice,
    /// Its listening socket.
    Listener,
    /// Where its workers part with connections.
    Parking,
    /// A connection that they have parted with.
    Parked {
        /// Its number.
        number: u32,
    },
    /// The channel to a worker.
    Control {
        /// The worker's slot.
        slot: u32,
    },
    /// What a worker prints.
    Output {
        /// The worker's slot.
        slot: u32,
        /// 0 for standard output, 1 for standard error.
        stream: u8,
    },
    /// The channel to its mold.
    MoldControl,
    /// What its mold prints.
    MoldOutput {
        /// As in [`What::Output`].
        stream: u8,
    },
}

/// Kind in the high byte, then 28 bits of pool, elder or client and 28 of slot or connection; slots number below 4096,
/// pools below the file limit.
impl From<Token> for u64 {
    fn from(token: Token) -> Self {
        let pack =
            |kind: u64, pool: u32, slot: u32| kind << 56 | u64::from(pool) << 28 | u64::from(slot);
        let odd = |stream: u8| Self::from(stream & 1);
        match token {
            Token::Signals => 0,
            Token::Pool { pool, what } => match what {
                What::Notice => pack(1, pool, 0),
                What::Listener => pack(2, pool, 0),
                What::Control { slot } => pack(3, pool, slot),
                What::Output { slot, stream } => pack(4 + odd(stream), pool, slot),
                What::MoldControl => pack(6, pool, 0),
                What::MoldOutput { stream } => pack(7 + odd(stream), pool, 0),
                What::Parking => pack(16, pool, 0),
                What::Parked { number } => pack(17, pool, number),
            },
            Token::CheckOutput { stream } => pack(9 + odd(stream), 0, 0),
            Token::ElderOutput { elder, stream } => pack(11 + odd(stream), elder, 0),
            Token::ServiceOutput => pack(13, 0, 0),
            Token::Control => pack(14, 0, 0),
            Token::Client { client } => pack(15, client, 0),
            Token::ServiceControl => pack(18, 0, 0),
        }
    }
}

impl From<u64> for Token {
    fn from(bits: u64) -> Self {
        let part = |shift: u32| u32::try_from(bits >> shift & ((1 << 28) - 1)).unwrap_or(0);
        let (first, slot) = (part(28), part(0));
        let what = match bits >> 56 {
            1 => What::Notice,
            2 => What::Listener,
            3 => What::Control { slot },
            4 => What::Output { slot, stream: 0 },
            5 => What::Output { slot, stream: 1 },
            6 => What::MoldControl,
            7 => What::MoldOutput { stream: 0 },
            8 => What::MoldOutput { stream: 1 },
            9 => return Self::CheckOutput { stream: 0 },
            10 => return Self::CheckOutput { stream: 1 },
            kind @ (11 | 12) => {
                return Self::ElderOutput {
                    elder: first,
                    stream: u8::from(kind == 12),
                };
            }
            13 => return Self::ServiceOutput,
            14 => return Self::Control,
            15 => return Self::Client { client: first },
            16 => What::Parking,
            17 => What::Parked { number: slot },
            18 => return Self::ServiceControl,
            _ => return Self::Signals,
        };
        Self::Pool { pool: first, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_epoll() {
        let (pool, slot) = (70_000, 4095);
        let of_pool = [
            What::Notice,
            What::Listener,
            What::Control { slot },
            What::Output { slot, stream: 0 },
            What::Output { slot, stream: 1 },
            What::MoldControl,
            What::MoldOutput { stream: 0 },
            What::MoldOutput { stream: 1 },
            What::Parking,
            What::Parked {
                number: (1 << 28) - 1,
            },
        ];
        let of_master = [
            Token::Signals,
            Token::CheckOutput { stream: 0 },
            Token::CheckOutput { stream: 1 },
            Token::ElderOutput {
                elder: pool,
                stream: 0,
            },
            Token::ElderOutput {
                elder: pool,
                stream: 1,
            },
            Token::ServiceOutput,
            Token::ServiceControl,
            Token::Control,
            Token::Client { client: pool },
        ];
        let of_pool = of_pool.map(|what| Token::Pool { pool, what });
        for token in of_pool.into_iter().chain(of_master) {
            assert_eq!(Token::from(u64::from(token)), token);
        }
    }
}
