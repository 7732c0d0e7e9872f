//! How NTP servers limit their clients: pure models, the same for the simulated world and for real sockets.
//!
//! A limit decides for each request of one client whether it is answered, refused by a kiss-o'-death or dropped
//! in silence.

use std::time::Duration;

/// How a server limits each of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Limit {
    /// Every request is answered.
    #[default]
    None,
    /// ntpd's `restrict default kod limited`.
    Ntpd(NtpdLimit),
    /// chrony's `ratelimit`.
    Chrony(ChronyLimit),
    /// These in turn, for as long as the client asks; none: as [`Limit::None`].
    Pattern(&'static [Admission]),
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is answered.
    Answer,
    /// It is refused by a kiss-o'-death `RATE`.
    Kiss,
    /// It is dropped in silence.
    Drop,
}

/// ntpd's `discard`: the shortest time between two requests, and the average.
///
/// A request adds the average, less a grace of 2 s, to a counter that a second lowers by one. Over eight times
/// the average, requests are refused. Refusing fills the counter, so that the next request is answered after
/// more than two averages without an answer, and the next kiss comes after one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NtpdLimit {
    /// `discard minimum`, with 1 s of grace, s.
    pub minimum: i64,
    /// `discard average`, s.
    pub average: i64,
    /// Without `kod`, refused requests are dropped in silence.
    pub kod: bool,
}

/// chrony's `ratelimit`: a bucket of answers. Of the requests that find it empty, one in 2^`leak` is answered all
/// the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChronyLimit {
    /// Time in which the bucket gains one answer.
    pub interval: Duration,
    /// Answers that the bucket holds.
    pub burst: u32,
    /// Of requests that find it empty, one in 2 to this power is answered.
    pub leak: u32,
}

/// What a server remembers about one client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client {
    /// When its last request came, since the server's start; `None`: it never asked.
    last: Option<Duration>,
    requests: usize,
    /// ntpd's counter, s.
    leak: i64,
    /// chrony's bucket, ns: as many as make [`ChronyLimit::interval`] are one answer.
    tokens: u128,
}

impl NtpdLimit {
    /// As ntpd has it without `discard`.
    pub const DEFAULT: Self = Self { minimum: 2, average: 8, kod: true };
    /// Multiples of the average that the counter may reach.
    const AVERAGES: i64 = 8;
    /// What a request that is answered adds less than the average, s.
    const GRACE: i64 = 2;
}

impl ChronyLimit {
    /// As chrony has it for `ratelimit` without options.
    pub const DEFAULT: Self = Self { interval: Duration::from_secs(8), burst: 8, leak: 2 };
}

impl Limit {
    /// ntpd's `restrict default kod limited`.
    pub const NTPD: Self = Self::Ntpd(NtpdLimit::DEFAULT);
    /// chrony's `ratelimit`.
    pub const CHRONY: Self = Self::Chrony(ChronyLimit::DEFAULT);
    /// Every request is refused.
    pub const KISSES: Self = Self::Pattern(&[Admission::Kiss]);
    /// Refused and dropped in turn.
    pub const KISS_AND_DROP: Self = Self::Pattern(&[Admission::Kiss, Admission::Drop]);
    /// Refused once, then dropped for a while, as by a server that sends one kiss per guard time.
    pub const KISS_AND_DROPS: Self =
        Self::Pattern(&[Admission::Kiss, Admission::Drop, Admission::Drop, Admission::Drop]);
    /// Every other request is answered, the rest dropped.
    pub const EVERY_OTHER: Self = Self::Pattern(&[Admission::Answer, Admission::Drop]);

    /// Decides about a request of `client` that comes `at` after the server's start. Times must not run
    /// backwards.
    pub fn admit(self, client: &mut Client, at: Duration, rng: &mut fastrand::Rng) -> Admission {
        let last = client.last.replace(at);
        let count = client.requests;
        client.requests = count.wrapping_add(1);
        match self {
            Self::None => Admission::Answer,
            Self::Ntpd(limit) => last.map_or(Admission::Answer, |last| limit.admit(client, at, last)),
            Self::Chrony(limit) => limit.admit(client, at, last, rng),
            Self::Pattern(acts) => {
                let index = count.checked_rem(acts.len()).unwrap_or(0);
                acts.get(index).copied().unwrap_or(Admission::Answer)
            }
        }
    }
}

impl NtpdLimit {
    fn admit(self, client: &mut Client, at: Duration, last: Duration) -> Admission {
        // To the nearest second, half seconds up.
        let since = at.saturating_sub(last).saturating_add(Duration::from_millis(500));
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        client.leak = client.leak.saturating_sub(seconds).max(0);
        let (raised, most) = (client.leak + self.average, self.average * Self::AVERAGES);
        if seconds.saturating_add(1) >= self.minimum && raised < most {
            client.leak = raised - Self::GRACE;
            return Admission::Answer;
        }
        if client.leak >= most {
            return Admission::Drop;
        }
        client.leak = most + self.average;
        if self.kod { Admission::Kiss } else { Admission::Drop }
    }
}

impl ChronyLimit {
    fn admit(
        self,
        client: &mut Client,
        at: Duration,
        last: Option<Duration>,
        rng: &mut fastrand::Rng,
    ) -> Admission {
        let (one, full) =
            (self.interval.as_nanos(), self.interval.as_nanos().saturating_mul(self.burst.into()));
        // A new client has a full bucket.
        let gained = last.map_or(full, |last| at.saturating_sub(last).as_nanos());
        client.tokens = client.tokens.saturating_add(gained).min(full);
        if client.tokens >= one {
            client.tokens -= one;
            return Admission::Answer;
        }
        if rng.u64(0..1 << self.leak.min(32)) == 0 { Admission::Answer } else { Admission::Drop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Admission::{Answer, Drop, Kiss};

    /// What requests at these times lead to, ms.
    fn admitted(limit: Limit, millis: impl IntoIterator<Item = u64>) -> Vec<Admission> {
        let (mut client, mut rng) = (Client::default(), fastrand::Rng::with_seed(1));
        millis.into_iter().map(|at| limit.admit(&mut client, Duration::from_millis(at), &mut rng)).collect()
    }

    #[test]
    fn ntpd_answers_what_comes_at_least_a_rounded_second_apart() {
        assert_eq!(admitted(Limit::NTPD, [0, 500, 1_000]), [Answer; 3]);
        assert_eq!(admitted(Limit::NTPD, [0, 499]), [Answer, Kiss]);
        assert_eq!(admitted(Limit::NTPD, [0, 2_020, 4_040, 8_080, 16_000]), [Answer; 5]);
    }

    #[test]
    fn ntpd_refuses_once_per_average_and_drops_the_rest_until_two_averages_have_passed() {
        let times = [0, 100, 2_100, 4_100, 9_100, 11_100, 20_100, 27_600];
        let wanted = [Answer, Kiss, Drop, Drop, Kiss, Drop, Kiss, Drop];
        assert_eq!(admitted(Limit::NTPD, times), wanted);
        assert_eq!(admitted(Limit::NTPD, [0, 100, 16_100, 16_200]), [Answer, Kiss, Kiss, Drop]);
        assert_eq!(admitted(Limit::NTPD, [0, 100, 17_100]), [Answer, Kiss, Answer]);
        let quiet = Limit::Ntpd(NtpdLimit { kod: false, ..NtpdLimit::DEFAULT });
        assert_eq!(admitted(quiet, [0, 100, 17_100]), [Answer, Drop, Answer]);
    }

    #[test]
    fn ntpd_limits_the_average() {
        let every = |secs: u64| admitted(Limit::NTPD, (0..60).map(|n| n * secs * 1_000));
        assert_eq!(every(2).iter().position(|a| *a != Answer), Some(15));
        assert_eq!(every(6), [Answer; 60]);
    }

    #[test]
    fn chrony_answers_a_burst_then_one_per_interval_and_a_share_of_the_rest() {
        assert_eq!(admitted(Limit::CHRONY, (0..8).map(|n| n * 10)), [Answer; 8]);
        let many = admitted(Limit::CHRONY, (0..4_000).map(|n| n * 10));
        let answered = many.iter().filter(|a| **a == Answer).count();
        // 8 at first, 5 in 40 s, and a quarter of the others.
        assert!((900..1_110).contains(&answered), "{answered}");
        assert!(!many.contains(&Kiss));
        assert_eq!(admitted(Limit::CHRONY, (0..60).map(|n| n * 8_000)), [Answer; 60]);
    }

    #[test]
    fn patterns_repeat() {
        assert_eq!(admitted(Limit::KISS_AND_DROP, [0, 1, 2, 3]), [Kiss, Drop, Kiss, Drop]);
        assert_eq!(admitted(Limit::EVERY_OTHER, [0, 1, 2]), [Answer, Drop, Answer]);
        assert_eq!(admitted(Limit::Pattern(&[]), [0, 1]), [Answer; 2]);
    }
}
