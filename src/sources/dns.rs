//! From a configured name to addresses: A and AAAA, within a time-out, with the TTL.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::time::timeout;

use crate::config::pool::{Host, PoolName};
use drift_core::ntp::pool::Resolution;

/// A look-up ends after this time, with or without an answer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// The time-out of one query to one name server; two fit into [`LOOKUP_TIMEOUT`].
const QUERY_TIMEOUT: Duration = Duration::from_millis(900);

const NO_ANSWER: &str = "no answer from the name servers";

/// Turns names into addresses.
pub trait Resolve: Clone + Send + Sync + 'static {
    /// The addresses of a pool, or in a few words why there are none.
    fn resolve(&self, pool: PoolName) -> impl Future<Output = Result<Resolution, String>> + Send;
}

/// Asks the name servers of `/etc/resolv.conf`, which is read for each look-up, since it can change while the
/// agent runs.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// Used instead of `/etc/resolv.conf`.
    servers: Option<(ResolverConfig, ResolverOpts)>,
}

impl Dns {
    /// Asks these name servers and no others.
    pub fn with_servers(config: ResolverConfig, options: ResolverOpts) -> Self {
        Self { servers: Some((config, options)) }
    }

    fn resolver(&self) -> Result<TokioResolver, String> {
        let builder = match &self.servers {
            Some((config, options)) => {
                TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default())
                    .with_options(options.clone())
            }
            None => {
                TokioResolver::builder_tokio().map_err(|e| format!("cannot read /etc/resolv.conf: {e}"))?
            }
        };
        let mut builder = builder;
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = QUERY_TIMEOUT;
        options.attempts = 1;
        // The pool keeps the answers for as long as their TTL lasts.
        options.cache_size = 0;
        builder.build().map_err(|e| e.to_string())
    }

    async fn look_up(&self, name: &str) -> Result<LookupIp, String> {
        let resolver = self.resolver()?;
        // A name with a dot is absolute, for any `ndots`. With the search list as a fall-back, the owner of a
        // search domain would answer for the name when the name server fails: in Kubernetes,
        // `time.google.com.svc.cluster.local` is the Service `google` of a namespace `com`.
        let absolute = format!("{}.", name.trim_end_matches('.'));
        match resolver.lookup_ip(absolute.as_str()).await {
            Err(_) if !name.contains('.') => resolver.lookup_ip(name).await.map_err(|e| in_words(&e)),
            other => other.map_err(|e| in_words(&e)),
        }
    }
}

/// The reason alone; the library's errors print the whole question.
fn in_words(error: &NetError) -> String {
    if error.is_nx_domain() {
        "no such name".to_owned()
    } else if error.is_no_records_found() {
        "the name has no address".to_owned()
    } else if matches!(error, NetError::Timeout) {
        NO_ANSWER.to_owned()
    } else {
        error.to_string()
    }
}

impl Resolve for Dns {
    async fn resolve(&self, pool: PoolName) -> Result<Resolution, String> {
        let name = match pool.host() {
            Host::Address(ip) => {
                return Ok(Resolution {
                    addresses: vec![SocketAddr::new(ip.to_canonical(), pool.port())],
                    ttl: None,
                });
            }
            Host::Name(name) => name,
        };
        let answer = timeout(LOOKUP_TIMEOUT, self.look_up(name)).await.map_err(|_| NO_ANSWER)??;
        let ttl = answer.as_lookup().answers().iter().map(|r| r.ttl).min().unwrap_or(0);
        let addresses = in_order(answer.iter(), has_route);
        if addresses.is_empty() {
            return Err("the name has no address".to_owned());
        }
        Ok(Resolution {
            addresses: addresses.into_iter().map(|ip| SocketAddr::new(ip, pool.port())).collect(),
            ttl: Some(Duration::from_secs(ttl.into())),
        })
    }
}

/// Both families in turn, without the addresses that the node has no route to; all addresses if it has a
/// route to none.
fn in_order(addresses: impl Iterator<Item = IpAddr>, has_route: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    // An IPv4 address as an IPv6 one is still the same server.
    let mut addresses: Vec<IpAddr> = addresses.map(|ip| ip.to_canonical()).collect();
    // Name servers answer 0.0.0.0 for a name that they block; a request to it would reach this node.
    addresses.retain(|ip| !ip.is_unspecified() && !ip.is_multicast());
    if addresses.iter().any(|ip| has_route(*ip)) {
        addresses.retain(|ip| has_route(*ip));
    }
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv4);
    let longest = v4.len().max(v6.len());
    (0..longest).flat_map(|n| [v4.get(n), v6.get(n)]).flatten().copied().collect()
}

/// Connecting a UDP socket sends no packet; the kernel only looks up the route.
fn has_route(ip: IpAddr) -> bool {
    let from: SocketAddr = match ip {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(from).and_then(|socket| socket.connect((ip, 123))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_alternate_between_families_without_those_that_have_no_route() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let all = [ip("2001:db8::1"), ip("2001:db8::2"), ip("192.0.2.1"), ip("192.0.2.2"), ip("192.0.2.3")];
        let order = |has_route: fn(IpAddr) -> bool| {
            in_order(all.iter().copied(), has_route)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(order(|_| true), "192.0.2.1 2001:db8::1 192.0.2.2 2001:db8::2 192.0.2.3");
        assert_eq!(order(|ip| ip.is_ipv6()), "2001:db8::1 2001:db8::2", "an IPv6-only node");
        assert_eq!(
            in_order([ip("0.0.0.0"), ip("::"), ip("224.0.1.1")].into_iter(), |_| true),
            [] as [IpAddr; 0]
        );
        assert_eq!(
            in_order([ip("::ffff:192.0.2.1"), ip("::ffff:0.0.0.0")].into_iter(), |_| true),
            [ip("192.0.2.1")]
        );
        assert_eq!(
            order(|_| false).split(' ').count(),
            5,
            "without any route all are tried, so that the failure shows"
        );
    }
}
