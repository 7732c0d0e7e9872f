//! When to write to the API server: at once on a change, rarely otherwise, and never in a crowd.

use std::time::Duration;

use crate::time::Mono;
use crate::time::backoff::{Backoff, Bucket};

/// Time between heartbeats; each is moved by up to a tenth, so that a fleet spreads out.
pub const HEARTBEAT: Duration = Duration::from_secs(600);
/// What came of a write; the label `result` of `drift_agent_kubernetes_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// 401, 403: not allowed.
    Forbidden,
    /// 404: the node is gone.
    NotFound,
    /// 409, 422 and other refusals of this very write.
    Rejected,
    /// 429, with the server's wait when it named one.
    TooManyRequests(Option<Duration>),
    /// 5xx, with the server's wait when it named one.
    Server(Option<Duration>),
    /// The server could not be reached, or did not answer in time.
    Unreachable,
}

/// Decides when the newest state is written. It holds no state of the node itself: there is nothing to go out of date.
#[derive(Clone, Debug)]
pub struct Publisher {
    bucket: Bucket,
    changed: bool,
    in_flight: bool,
    heartbeat_at: Mono,
    retry_at: Option<Mono>,
    backoff: Backoff,
}

impl ApiError {
    /// Every label but `ok`.
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

    /// How long the server asked us to wait.
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::TooManyRequests(wait) | Self::Server(wait) => wait,
            _ => None,
        }
    }
}

impl Publisher {
    /// The first write is a change and goes out when the first verdict is there.
    pub fn new(now: Mono) -> Self {
        Self {
            bucket: Bucket::new(now),
            changed: false,
            in_flight: false,
            heartbeat_at: now.plus(HEARTBEAT),
            retry_at: None,
            backoff: Backoff::default(),
        }
    }

    /// The verdict has changed.
    pub fn changed(&mut self) {
        self.changed = true;
    }

    /// Write now? A `true` must be followed by [`Self::done`].
    pub fn take(&mut self, now: Mono) -> bool {
        if self.in_flight || self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        // What goes out anyhow carries a change along, and costs no token.
        let due =
            self.retry_at.is_some() || now >= self.heartbeat_at || (self.changed && self.bucket.take(now));
        if due {
            (self.changed, self.in_flight, self.retry_at) = (false, true, None);
        }
        due
    }

    /// What was to be read was read. The write itself is still to come, and was paid for with the reading.
    pub fn done_reading(&mut self, now: Mono) {
        (self.in_flight, self.retry_at) = (false, Some(now));
    }

    /// What came of the write. `random` in 0..1 spreads a fleet.
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

    /// How long [`Self::take`] says nothing new by itself; a change that waits for a token is looked at with each tick.
    pub fn next(&self, now: Mono) -> Duration {
        if self.in_flight {
            return Duration::MAX;
        }
        self.retry_at.unwrap_or(self.heartbeat_at).since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::backoff::BUCKET_REFILL;
    use proptest::prelude::*;

    fn at(secs: u64) -> Mono {
        Mono::from_nanos(0).plus(Duration::from_secs(secs))
    }

    /// The seconds at which writes went out, with what `each` second brings.
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
    fn nothing_is_written_before_there_is_a_verdict() {
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
    fn hours_of_quiet_buy_no_crowd_later() {
        let mut bucket = Bucket::new(at(0));
        assert!(bucket.take(at(1)));
        let taken: Vec<u64> = (7_200..7_400).filter(|s| bucket.take(at(*s))).collect();
        assert_eq!(taken, [7_200, 7_201, 7_202, 7_260, 7_320, 7_380]);
    }

    #[test]
    fn errors_back_off_and_the_newest_state_goes_out_when_they_end() {
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
    fn one_write_at_a_time() {
        let mut publisher = Publisher::new(at(0));
        publisher.changed();
        assert!(publisher.take(at(0)));
        publisher.changed();
        assert!(!publisher.take(at(700)), "the first has not come back");
        publisher.done(Ok(()), at(700), 0.5);
        assert!(publisher.take(at(700)));
    }

    #[test]
    fn what_is_due_while_a_write_is_under_way_is_waited_for_and_not_spun_on() {
        let mut publisher = Publisher::new(at(0));
        assert!(publisher.take(at(600)), "a heartbeat");
        assert!(publisher.next(at(605)) > BUCKET_REFILL, "only its answer brings news");
    }

    #[test]
    fn a_token_that_is_put_back_is_there_again_and_no_more() {
        let mut bucket = Bucket::new(at(0));
        bucket.put_back();
        assert_eq!([0; 5].map(|s| bucket.take(at(s))), [true, true, true, false, false]);
        bucket.put_back();
        assert_eq!([0; 2].map(|s| bucket.take(at(s))), [true, false]);
    }

    #[test]
    fn reading_first_costs_no_write() {
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

    proptest! {
        #[test]
        fn no_sequence_of_changes_and_errors_writes_more_than_promised(
            events in proptest::collection::vec((0u64..90, any::<bool>(), any::<bool>()), 1..300), random in 0.0f64..1.0
        ) {
            let (mut publisher, mut now, mut successes, mut in_minute) = (Publisher::new(at(0)), 0, 0_u64, Vec::new());
            for (gap, change, fails) in events {
                now += gap;
                if change { publisher.changed(); }
                if publisher.take(at(now)) {
                    in_minute.push(now);
                    successes += u64::from(!fails);
                    publisher.done(if fails { Err(ApiError::Server(None)) } else { Ok(()) }, at(now), random);
                }
            }
            let (minutes, heartbeats) = (now / 60 + 1, now / 540 + 1);
            prop_assert!(successes <= 3 + minutes + heartbeats);
            for window in in_minute.windows(12) {
                prop_assert!(window[11] - window[0] >= 30, "12 writes within {:?}", window);
            }
        }
    }
}
