//! The address of the HTTP server.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The address of the HTTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `None`: all addresses of the node, IPv6 and IPv4.
    pub host: Option<IpAddr>,
    /// 0: any free port.
    pub port: u16,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Some(host) => SocketAddr::new(host, self.port).fmt(f),
            None => write!(f, ":{}", self.port),
        }
    }
}

impl Listen {
    /// Parses `[ADDRESS]:PORT`; without an address, the server listens on all of them.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix(':') {
            Some(port) => port.parse().ok().map(|port| Self { host: None, port }),
            None => text.parse::<SocketAddr>().ok().map(|a| Self { host: Some(a.ip()), port: a.port() }),
        }
    }

    /// The addresses to try in this order; the second is for nodes without IPv6.
    pub fn candidates(&self) -> Vec<SocketAddr> {
        match self.host {
            Some(host) => vec![SocketAddr::new(host, self.port)],
            None => vec![
                SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), self.port),
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), self.port),
            ],
        }
    }
}
