//! A simulated server in operation: what it remembers about its clients, and the packets that it sends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::behaviour::{Behaviour, ServerModel};
use super::manners::{Admission, Client};
use drift_core::ntp::packet::Header;
use drift_core::time::Wall;

/// When a request is served.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Reference time when the request arrives.
    pub receive: Wall,
    /// Reference time when the answer leaves.
    pub transmit: Wall,
    /// Since the server started, when the request arrives.
    pub uptime: Duration,
}

/// A server in operation: its model, what it remembers about its clients, and what it has served.
#[derive(Clone, Debug)]
pub struct Service {
    /// The model; it may be changed at any time.
    pub model: ServerModel,
    name: u32,
    clients: BTreeMap<IpAddr, Client>,
    rng: fastrand::Rng,
    served: u64,
}

impl Service {
    /// A server without a client yet; `name` is different for each server, and seeds its random values.
    pub fn new(model: ServerModel, name: u32) -> Self {
        let rng = fastrand::Rng::with_seed(name.into());
        Self { model, name, clients: BTreeMap::new(), rng, served: 0 }
    }

    /// The packets that it sends for a request, in this order.
    pub fn serve(&mut self, request: &[u8], client: IpAddr, at: Moment) -> Vec<Vec<u8>> {
        let count = self.served;
        self.served += 1;
        let Some(asked) = Header::from_bytes(request) else { return Vec::new() };
        let client = self.clients.entry(client).or_default();
        match self.model.limit_at(at.uptime).admit(client, at.uptime, &mut self.rng) {
            Admission::Answer => self.model.answer(&asked, at, count, self.name, &mut self.rng),
            Admission::Drop => Vec::new(),
            Admission::Kiss => {
                let refusing = ServerModel { behaviour: Behaviour::Kiss(*b"RATE"), ..self.model };
                refusing.answer(&asked, at, count, self.name, &mut self.rng)
            }
        }
    }

    /// Requests so far.
    pub fn served(&self) -> u64 {
        self.served
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::behaviour::{Clocks, Reference, Stray};
    use crate::sim::manners::Limit;
    use drift_core::ntp::packet::{NtpTimestamp, answer_to, request};
    use drift_core::time::Offset;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn at(secs: u64) -> Moment {
        let receive = Wall::from_secs(1_795_341_600)
            .plus(Offset::from_nanos(drift_core::time::nanos(Duration::from_secs(secs))));
        Moment {
            receive,
            transmit: receive.plus(Offset::from_nanos(20_000)),
            uptime: Duration::from_secs(secs),
        }
    }

    /// The headers that answer requests at these seconds; `None`: no packet is an answer.
    fn answers(model: ServerModel, name: u32, secs: impl IntoIterator<Item = u64>) -> Vec<Option<Header>> {
        let mut service = Service::new(model, name);
        let mut ask = |secs: u64| {
            let nonce = NtpTimestamp(1_000 + secs);
            let packets = service.serve(&request(nonce), CLIENT, at(secs));
            packets.iter().find_map(|bytes| answer_to(bytes, nonce).ok())
        };
        secs.into_iter().map(&mut ask).collect()
    }

    fn answer(model: ServerModel, name: u32, secs: u64) -> Header {
        answers(model, name, [secs])[0].unwrap()
    }

    #[test]
    fn servers_name_their_own_clock_unless_they_share_one() {
        let own = ServerModel { stratum: 2, ..ServerModel::new(Behaviour::Honest) };
        let named = |header: Header| (header.reference, header.reference_id);
        let first = answer(own, 1, 5);
        assert_eq!(named(first), named(answer(own, 1, 5)));
        assert_ne!(named(first), named(answer(own, 2, 5)));
        assert!(first.reference.0 & 0xffff_ffff != 0 && first.reference.is_before(first.receive));
        let shared = ServerModel { reference: Reference::Shared(9), ..own };
        assert_eq!(named(answer(shared, 1, 5)), named(answer(shared, 2, 5)));
        let text = answer(ServerModel::new(Behaviour::Honest), 1, 5).reference_id;
        assert!(text.iter().all(u8::is_ascii_uppercase), "a primary server has a text: {text:?}");
        let zero = ServerModel { reference: Reference::Zero, ..own };
        assert_eq!(answer(zero, 1, 5).reference, NtpTimestamp::ZERO);
        let late = ServerModel { reference: Reference::OfAnswer, ..own };
        assert!(!answer(late, 1, 5).reference.is_before(answer(late, 1, 5).transmit));
    }

    #[test]
    fn clocks_are_corrected_once_a_minute_or_so_and_their_error_grows_in_between() {
        let model = ServerModel::new(Behaviour::Honest);
        let headers: Vec<Header> = answers(model, 3, 0..600).into_iter().flatten().collect();
        let mut references: Vec<u64> = headers.iter().map(|h| h.reference.0).collect();
        references.dedup();
        assert!((9..40).contains(&references.len()), "{}", references.len());
        let largest = headers.iter().map(|h| h.root_dispersion).max().unwrap();
        assert!((model.root_dispersion..Duration::from_millis(2)).contains(&largest), "{largest:?}");
    }

    #[test]
    fn stray_packets_come_before_the_answer_and_are_none() {
        for (stray, wanted) in [(Stray::None, 1), (Stray::Empty, 2), (Stray::All, 5)] {
            let model = ServerModel { stray, ..ServerModel::new(Behaviour::Honest) };
            let nonce = NtpTimestamp(77);
            let packets = Service::new(model, 1).serve(&request(nonce), CLIENT, at(0));
            let are_answers: Vec<bool> = packets.iter().map(|p| answer_to(p, nonce).is_ok()).collect();
            assert_eq!(
                (are_answers.len(), are_answers.iter().position(|is| *is)),
                (wanted, Some(wanted - 1))
            );
        }
    }

    #[test]
    fn kisses_end_when_the_limit_does() {
        let limited_for = Some(Duration::from_secs(60));
        let model = ServerModel { limit: Limit::KISSES, limited_for, ..ServerModel::new(Behaviour::Honest) };
        let strata: Vec<u8> = answers(model, 1, [0, 59, 60]).iter().map(|h| h.unwrap().stratum).collect();
        assert_eq!(strata, [0, 0, 1]);
    }

    #[test]
    fn limits_are_per_client() {
        let model = ServerModel { limit: Limit::NTPD, ..ServerModel::new(Behaviour::Honest) };
        let mut service = Service::new(model, 1);
        let mut stratum = |client: [u8; 4]| {
            let packets = service.serve(&request(NtpTimestamp(5)), client.into(), at(0));
            Header::from_bytes(&packets[0]).unwrap().stratum
        };
        assert_eq!([stratum([10, 0, 0, 1]), stratum([10, 0, 0, 2]), stratum([10, 0, 0, 1])], [1, 1, 0]);
    }

    #[test]
    fn a_second_clock_is_honest_within_what_the_server_declares() {
        let model =
            ServerModel { root_dispersion: Duration::from_millis(3), ..ServerModel::new(Behaviour::Honest) };
        let with = |millis: i64| ServerModel {
            clocks: Clocks::InTurn(Offset::from_nanos(millis * 1_000_000)),
            ..model
        };
        assert!(model.is_honest() && with(3).is_honest() && !with(-4).is_honest());
        let headers = answers(with(-4), 1, [0, 0]);
        let (first, second) = (headers[0].unwrap(), headers[1].unwrap());
        assert_eq!(first.receive.to_wall().minus(second.receive.to_wall()).magnitude().as_millis(), 4);
        assert_ne!(first.reference, second.reference);
    }
}
