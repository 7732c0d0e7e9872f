//! When to write to the API server: at once on a change, rarely otherwise, and not at the same time as the
//! rest of a fleet.

use std::time::Duration;

use crate::time::Mono;
use crate::time::backoff::{Backoff, Bucket};

/// Time between heartbeats; each is moved by up to a tenth, so that a fleet spreads out.
pub const HEARTBEAT: Duration = Duration::from_secs(600);
/// The label `result` of a request that succeeded.
pub const WRITTEN: &str = "ok";

/// Why a request to the API server failed; the label `result` of `drift_agent_kubernetes_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// 401, 403: the service account is not allowed to.
    Forbidden,
    /// 404: there is no such Node.
    NotFound,
    /// 409, 422 and the like: the API server rejects this very request.
    Rejected,
    /// 429: the API server is rate limiting; with the wait from `Retry-After`, if there is one.
    TooManyRequests(Option<Duration>),
    /// 5xx; with the wait from `Retry-After`, if there is one.
    Server(Option<Duration>),
    /// The API server could not be reached, or the request timed out.
    Unreachable,
}

/// Decides when the newest state is written. It holds no copy of that state, which could be out of date by
/// then.
#[derive(Clone, Debug)]
pub struct Publisher {
    bucket: Bucket,
    changed: bool,
    /// What has changed must not be lost when the agent ends: it waits for no token.
    is_urgent: bool,
    in_flight: bool,
    heartbeat_at: Mono,
    retry_at: Option<Mono>,
    backoff: Backoff,
}

impl ApiError {
    /// Every label but [`WRITTEN`].
    pub const LABELS: [&str; 6] =
        ["forbidden", "not_found", "rejected", "too_many_requests", "server_error", "unreachable"];

    /// The label `result`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Rejected => "rejected",
            Self::TooManyRequests(_) => "too_many_requests",
            Self::Server(_) => "server_error",
            Self::Unreachable => "unreachable",
        }
    }

    /// The wait from `Retry-After`.
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::TooManyRequests(wait) | Self::Server(wait) => wait,
            _ => None,
        }
    }
}

impl Publisher {
    /// Nothing is due before the first change.
    pub fn new(now: Mono) -> Self {
        Self {
            bucket: Bucket::new(now),
            changed: false,
            is_urgent: false,
            in_flight: false,
            heartbeat_at: now.plus(HEARTBEAT),
            retry_at: None,
            backoff: Backoff::default(),
        }
    }

    /// What is published has changed.
    pub fn changed(&mut self) {
        self.changed = true;
    }

    /// What a later run needs has changed: it is written at once. For what happens a few times an hour at most.
    pub fn changed_for_good(&mut self) {
        (self.changed, self.is_urgent) = (true, true);
    }

    /// Takes the write that is due. `true` starts one, which [`Self::done`] or [`Self::done_reading`] must
    /// end.
    #[must_use]
    pub fn take(&mut self, now: Mono) -> bool {
        if self.in_flight || self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        // A retry and a heartbeat carry the newest state, too, and take no token.
        let due = self.retry_at.is_some()
            || now >= self.heartbeat_at
            || (self.changed && (self.bucket.take(now) || self.is_urgent));
        if due {
            (self.changed, self.is_urgent, self.in_flight, self.retry_at) = (false, false, true, None);
        }
        due
    }

    /// The request was a read, and it succeeded. The write follows at once and takes no token.
    pub fn done_reading(&mut self, now: Mono) {
        (self.in_flight, self.retry_at) = (false, Some(now));
    }

    /// A write has ended. `random` in 0..1 spreads a fleet.
    pub fn done(&mut self, result: Result<(), ApiError>, now: Mono, random: f64) {
        self.in_flight = false;
        match result {
            Ok(()) => {
                self.backoff = Backoff::default();
                self.heartbeat_at = now.plus(HEARTBEAT.mul_f64(0.9 + 0.2 * random));
            }
            Err(error) => self.retry_at = Some(now.plus(self.backoff.wait(error.retry_after(), random))),
        }
    }

    /// How long no write becomes due by itself. A change that waits for a token is checked with each tick.
    pub fn poll_timeout(&self, now: Mono) -> Duration {
        if self.in_flight {
            return Duration::MAX;
        }
        self.retry_at.unwrap_or(self.heartbeat_at).since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Reached;
    use crate::time::backoff::BUCKET_REFILL;
    use proptest::prelude::*;

    fn at(secs: u64) -> Mono {
        Mono::from_nanos(0).plus(Duration::from_secs(secs))
    }

    /// The seconds at which writes began; `each` may change the publisher and gives the result of a write.
    fn writes(
        seconds: std::ops::Range<u64>,
        publisher: &mut Publisher,
        mut each: impl FnMut(u64, &mut Publisher) -> Result<(), ApiError>,
    ) -> Vec<u64> {
        let mut written = Vec::new();
        for second in seconds {
            let result = each(second, publisher);
            if publisher.take(at(second)) {
                written.push(second);
                publisher.done(result, at(second), 0.5);
            }
        }
        written
    }

    #[test]
    fn no_write_is_due_before_the_first_change() {
        assert_eq!(writes(0..599, &mut Publisher::new(at(0)), |_, _| Ok(())), [0; 0]);
    }

    #[test]
    fn a_quiet_node_writes_a_heartbeat_every_ten_minutes() {
        let mut publisher = Publisher::new(at(0));
        publisher.changed();
        assert_eq!(writes(0..3_600, &mut publisher, |_, _| Ok(())), [0, 600, 1_200, 1_800, 2_400, 3_000]);
    }

    #[test]
    fn a_flapping_node_writes_three_times_and_then_once_a_minute() {
        let written = writes(0..301, &mut Publisher::new(at(0)), |_, p| {
            p.changed();
            Ok(())
        });
        assert_eq!(written, [0, 1, 2, 60, 120, 180, 240, 300]);
    }

    #[test]
    fn what_a_later_run_needs_waits_for_no_token() {
        let written = writes(0..90, &mut Publisher::new(at(0)), |s, p| {
            match s {
                10 => p.changed_for_good(),
                _ => p.changed(),
            }
            Ok(())
        });
        assert_eq!(written, [0, 1, 2, 10, 60]);
    }

    #[test]
    fn a_long_quiet_time_saves_up_no_more_than_three_tokens() {
        let mut bucket = Bucket::new(at(0));
        assert!(bucket.take(at(1)));
        let taken: Vec<u64> = (7_200..7_400).filter(|s| bucket.take(at(*s))).collect();
        assert_eq!(taken, [7_200, 7_201, 7_202, 7_260, 7_320, 7_380]);
    }

    #[test]
    fn errors_back_off_and_writes_go_on_when_they_end() {
        let mut publisher = Publisher::new(at(0));
        publisher.changed();
        let written =
            writes(0..400, &mut publisher, |s, _| if s < 300 { Err(ApiError::Unreachable) } else { Ok(()) });
        assert_eq!(written, [0, 2, 5, 11, 23, 47, 95, 185, 275, 365]);
    }

    #[test]
    fn retry_after_is_honoured() {
        let mut publisher = Publisher::new(at(0));
        publisher.changed();
        let wait = Some(Duration::from_secs(77));
        let written = writes(0..100, &mut publisher, |s, _| {
            if s == 0 { Err(ApiError::TooManyRequests(wait)) } else { Ok(()) }
        });
        assert_eq!(written, [0, 77]);
    }

    #[test]
    fn writes_never_overlap() {
        let mut publisher = Publisher::new(at(0));
        publisher.changed();
        assert!(publisher.take(at(0)));
        publisher.changed();
        assert!(!publisher.take(at(700)), "the first is under way");
        publisher.done(Ok(()), at(700), 0.5);
        assert!(publisher.take(at(700)));
    }

    #[test]
    fn timeouts_during_a_write_are_long_although_a_heartbeat_is_due() {
        let mut publisher = Publisher::new(at(0));
        assert!(publisher.take(at(600)), "a heartbeat");
        assert!(publisher.poll_timeout(at(605)) > BUCKET_REFILL, "only its answer changes what is due");
    }

    #[test]
    fn a_token_that_is_put_back_can_be_taken_once() {
        let mut bucket = Bucket::new(at(0));
        bucket.put_back();
        assert_eq!([0; 5].map(|s| bucket.take(at(s))), [true, true, true, false, false]);
        bucket.put_back();
        assert_eq!([0; 2].map(|s| bucket.take(at(s))), [true, false]);
    }

    #[test]
    fn a_read_takes_no_token_from_the_writes() {
        let mut publisher = Publisher::new(at(0));
        publisher.changed();
        assert!(publisher.take(at(0)));
        publisher.done_reading(at(0));
        let written = writes(0..61, &mut publisher, |_, p| {
            p.changed();
            Ok(())
        });
        assert_eq!(written, [0, 1, 2, 60]);
    }

    #[test]
    fn writes_stay_below_the_rate_limit_for_any_changes_and_errors() {
        let reached = Reached::new([
            ("as many writes as the limit allows", 10),
            ("12 writes", 20),
            ("a token too few for a change", 20),
            ("a heartbeat", 6),
        ]);
        // Of the changes of one run, all come within a second or two, or within minutes.
        let gaps = proptest::sample::select(vec![2_u64, 10, 90, 400]);
        let events = (gaps, 0u8..=10).prop_flat_map(|(gap, fails)| {
            let failing = (0u8..10).prop_map(move |n| n < fails);
            proptest::collection::vec((0..gap, any::<bool>(), failing), 1..300)
        });
        proptest!(|(events in events, random in 0.0f64..1.0)| {
            let (mut has_waited, mut has_heartbeat) = (false, false);
            let (mut publisher, mut now, mut successes, mut in_minute) = (Publisher::new(at(0)), 0, 0_u64, Vec::new());
            for (gap, change, fails) in events {
                now += gap;
                if change { publisher.changed(); }
                let is_heartbeat = !publisher.changed && publisher.retry_at.is_none();
                has_waited |= publisher.changed && publisher.retry_at.is_none() && !publisher.clone().take(at(now));
                if publisher.take(at(now)) {
                    has_heartbeat |= is_heartbeat;
                    in_minute.push(now);
                    successes += u64::from(!fails);
                    publisher.done(if fails { Err(ApiError::Server(None)) } else { Ok(()) }, at(now), random);
                }
            }
            let (minutes, heartbeats) = (now / 60 + 1, now / 540 + 1);
            prop_assert!(successes <= 3 + minutes + heartbeats);
            reached.case("as many writes as the limit allows", successes >= 3 + now / 60);
            reached.case("12 writes", in_minute.len() >= 12);
            reached.case("a token too few for a change", has_waited);
            reached.case("a heartbeat", has_heartbeat);
            for window in in_minute.windows(12) {
                prop_assert!(window[11] - window[0] >= 30, "12 writes within {:?}", window);
            }
        });
    }
}
