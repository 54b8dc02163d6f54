//! Who may connect over TCP (`listen.allowed_clients`): addresses and networks, compared in full.
//!
//! An IPv4 client of a socket that listens on `[::]` appears as `::ffff:192.0.2.1`, and is the IPv4 client that it is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Addresses and networks from which connections are taken. Empty, it admits nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedClients(Vec<Network>);

/// An address with the number of its leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    /// In canonical form: never an IPv4 address inside of an IPv6 address.
    address: IpAddr,
    /// At most 32 for IPv4, 128 for IPv6.
    bits: u8,
}

impl AllowedClients {
    /// Reads addresses with commas between them, each perhaps with `/BITS`. What is no address is returned beside the
    /// others, as it is written.
    pub fn parse(list: &str) -> (Self, Vec<String>) {
        let mut networks = Vec::new();
        let mut wrong = Vec::new();
        let parts = list.split(',').map(str::trim);
        for part in parts.filter(|part| !part.is_empty()) {
            match part.parse() {
                Ok(network) => networks.push(network),
                Err(NoNetwork) => wrong.push(part.to_owned()),
            }
        }
        (Self(networks), wrong)
    }

    /// Whether a connection from this address is taken.
    pub fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.0.iter().any(|network| network.contains(client))
    }

    /// Whether it admits nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// In the form that [`AllowedClients::parse`] reads.
impl fmt::Display for AllowedClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}", network.address)?;
            if network.bits < width(network.address) {
                write!(f, "/{}", network.bits)?;
            }
        }
        Ok(())
    }
}

struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let address = written.to_canonical();
        let bits = match bits {
            None => width(address),
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                // What is written in front of the IPv4 address inside of an IPv6 address is gone.
                let gone = width(written) - width(address);
                let bits: u8 = bits.parse().map_err(|_| NoNetwork)?;
                bits.checked_sub(gone).ok_or(NoNetwork)?
            }
            Some(_) => return Err(NoNetwork),
        };
        if bits > width(address) {
            return Err(NoNetwork);
        }
        Ok(Self { address, bits })
    }
}

impl Network {
    fn contains(self, client: IpAddr) -> bool {
        match (self.address, client) {
            (IpAddr::V4(own), IpAddr::V4(client)) => {
                let differing = own.to_bits() ^ client.to_bits();
                differing.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(client)) => {
                let differing = own.to_bits() ^ client.to_bits();
                differing.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(list: &str, client: &str) -> bool {
        let (allowed, wrong) = AllowedClients::parse(list);
        assert_eq!(wrong, Vec::<String>::new(), "{list}");
        allowed.admits(client.parse().unwrap())
    }

    #[test]
    fn addresses_are_compared_in_full() {
        for (list, client, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("10.0.0.1, 127.0.0.2", "127.0.0.2", true),
            ("2001:db8::1", "2001:db8::1", true),
            ("2001:db8::1", "2001:db8::2", false),
            ("2001:db8::1:0:0", "2001:db8::1:0:1", false),
            ("127.0.0.1", "::1", false),
            ("::1", "127.0.0.1", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.0/120", "192.0.2.9", true),
            ("::ffff:192.0.2.0/120", "192.0.3.9", false),
        ] {
            assert_eq!(admits(list, client), expected, "{list} {client}");
        }
    }

    #[test]
    fn networks() {
        for (list, client, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/31", "10.1.2.2", true),
            ("10.1.2.3/32", "10.1.2.2", false),
            ("0.0.0.0/0", "203.0.113.7", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("2001:db8::/127", "2001:db8::1", true),
            ("2001:db8::/127", "2001:db8::2", false),
            ("::/0", "2001:db8::1", true),
        ] {
            assert_eq!(admits(list, client), expected, "{list} {client}");
        }
    }

    #[test]
    fn what_is_no_address_is_returned_and_admits_nobody() {
        let (allowed, wrong) = AllowedClients::parse(
            "localhost,10.0.0.0/33,10.0.0.0/-1,10.0.0.0/+1,::/129,10.0.0,10.0.0.0/,::ffff:1.2.3.4/95,",
        );
        assert_eq!(wrong.len(), 8, "{wrong:?}");
        assert!(allowed.is_empty());
        assert!(!allowed.admits("127.0.0.1".parse().unwrap()));
        let (allowed, wrong) = AllowedClients::parse("nobody, 127.0.0.1");
        assert_eq!(wrong, ["nobody"]);
        assert!(allowed.admits("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for list in ["127.0.0.1,10.0.0.0/8,2001:db8::/32,::1", ""] {
            let (allowed, _) = AllowedClients::parse(list);
            assert_eq!(allowed.to_string(), list);
        }
    }
}
