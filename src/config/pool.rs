//! The name of a pool as an operator writes it: `HOST`, `HOST:PORT`, an IPv4 address, or `[IPv6]:PORT`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// NTP's port.
const NTP_PORT: u16 = 123;

/// One configured pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolName {
    text: String,
    host: Host,
    port: u16,
}

/// A DNS name to resolve, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A DNS name.
    Name(String),
}

impl PoolName {
    /// Parses a pool; `None` if the text is invalid.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.parse::<Ipv6Addr>() {
            Ok(ip) => (Host::Address(ip.into()), None),
            Err(_) => match text.strip_prefix('[') {
                Some(rest) => {
                    let (ip, port) = rest.split_once(']')?;
                    let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
                    (Host::Address(ip.parse::<Ipv6Addr>().ok()?.into()), port)
                }
                None => match text.split_once(':') {
                    Some((host, port)) => (Host::parse(host)?, Some(port)),
                    None => (Host::parse(text)?, None),
                },
            },
        };
        let port = port.map_or(Some(NTP_PORT), |p| p.parse().ok().filter(|p| *p > 0))?;
        Some(Self { text: text.to_owned(), host, port })
    }

    /// The name or address to resolve.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The UDP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether both have the same host and port, in whatever spelling.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let host = |pool: &Self| match &pool.host {
            Host::Name(name) => Host::Name(name.trim_end_matches('.').to_owned()),
            Host::Address(ip) => Host::Address(ip.to_canonical()),
        };
        host(self) == host(other) && self.port == other.port
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(ip) = text.parse() {
            return Some(Self::Address(ip));
        }
        let name = text.to_ascii_lowercase();
        let labels: Vec<&str> = name.strip_suffix('.').unwrap_or(&name).split('.').collect();
        let is_label = |l: &&str| {
            (1..=63).contains(&l.len())
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        // A last label of digits only is an invalid address, not a name: `10.0.0.256`.
        let is_number = labels.last().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        (name.len() <= 253 && labels.iter().all(is_label) && !is_number).then_some(Self::Name(name))
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_addresses_and_ports_are_parsed() {
        let read = |text: &str| PoolName::parse(text).map(|p| (p.host, p.port));
        let name = |n: &str| Host::Name(n.into());
        let address = |a: &str| Host::Address(a.parse().unwrap());
        assert_eq!(read("Time.Google.com"), Some((name("time.google.com"), 123)));
        assert_eq!(read("ntp.time.svc:1123"), Some((name("ntp.time.svc"), 1123)));
        assert_eq!(read("169.254.169.123"), Some((address("169.254.169.123"), 123)));
        assert_eq!(read("127.0.0.1:11123"), Some((address("127.0.0.1"), 11123)));
        assert_eq!(read("[2001:db8::1]:124"), Some((address("2001:db8::1"), 124)));
        assert_eq!(read("[::1]"), Some((address("::1"), 123)));
        assert_eq!(read("fd00:ec2::123"), Some((address("fd00:ec2::123"), 123)));
    }

    #[test]
    fn invalid_pools_are_rejected() {
        for invalid in [
            "",
            " ",
            "a b",
            "time.google.com:",
            "time:0",
            "time:65536",
            "time:-1",
            "10.0.0.256",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[10.0.0.1]",
            "-a.com",
            "a..b",
            "http://time.google.com",
            "a/b",
            &"a".repeat(64),
        ] {
            assert_eq!(PoolName::parse(invalid), None, "{invalid:?}");
        }
    }

    #[test]
    fn pools_that_differ_in_case_or_the_default_port_are_the_same() {
        let same = |a, b| PoolName::parse(a).unwrap().is_same_as(&PoolName::parse(b).unwrap());
        assert!(same("Time.Google.Com", "time.google.com:123"));
        assert!(same("time.google.com", "time.google.com."));
        assert!(!same("127.0.0.1:1123", "127.0.0.1:1124"));
        assert!(same("127.0.0.1:1123", "[::ffff:127.0.0.1]:1123"));
    }

    proptest! {
        #[test]
        fn parse_never_panics_for_any_text(text in ".{0,300}") {
            let _ = PoolName::parse(&text);
        }
    }
}
