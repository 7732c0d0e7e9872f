//! The sources of last resort: when each URL is asked for its `Date`, and what all of them report.
//!
//! They are asked only while NTP gives no estimate, and seldom, since most are public servers. They can lead
//! to the state `drifting` if that is certain; never to `in-sync`, and never to a step.

use std::time::Duration;

use crate::http_date::DateSample;
use crate::http_date::coarse::{CoarseReadings, HttpDateError, HttpReading, HttpSource};
use crate::http_date::search::Search;
use crate::io::{Effect, LogEvent};
use crate::time::{Mono, Reading};

/// The shortest time between two requests to one URL.
pub const MIN_INTERVAL: Duration = Duration::from_secs(64);
/// A request without an answer for so long has timed out: above what the look-up, the connection, the wait
/// for the send phase and the answer take together.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// All sources of last resort.
#[derive(Clone, Debug)]
pub struct Fallback {
    sources: Vec<SourceState>,
    interval: Duration,
    stale_after: Duration,
    /// The burst at the start, or the last one after a disruption, has ended: NTP has had its chance.
    ntp_burst_ended: bool,
    is_wanted: bool,
    next_id: u32,
    rng: fastrand::Rng,
}

#[derive(Clone, Debug)]
struct SourceState {
    source: HttpSource,
    search: Search,
    /// The result of the last request; `None` before the first.
    last_result: Option<Result<(), HttpDateError>>,
    /// When the last accepted answer came.
    last_answer: Option<Mono>,
    due: Mono,
    /// The request that is under way, and when it times out.
    pending: Option<(u32, Mono)>,
}

impl Fallback {
    /// No request is under way.
    pub fn new(
        sources: &[HttpSource],
        interval: Duration,
        stale_after: Duration,
        seed: u64,
        now: Mono,
    ) -> Self {
        let state = |source: &HttpSource| SourceState {
            source: source.clone(),
            search: Search::default(),
            last_result: None,
            last_answer: None,
            due: now,
            pending: None,
        };
        Self {
            sources: sources.iter().map(state).collect(),
            interval: interval.max(MIN_INTERVAL),
            stale_after,
            ntp_burst_ended: false,
            is_wanted: false,
            next_id: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Enables the sources: the burst to the NTP servers has ended.
    pub fn handle_burst_end(&mut self) {
        self.ntp_burst_ended = true;
    }

    /// Are the readings published? Not before the first burst to the NTP servers has ended.
    pub fn may_report(&self) -> bool {
        self.ntp_burst_ended
    }

    /// Sends what is due and times out what is overdue. `is_wanted`: the burst has ended, and NTP gives no
    /// estimate.
    pub fn tick(&mut self, is_wanted: bool, now: Mono, out: &mut Vec<Effect>) {
        self.is_wanted = is_wanted;
        for (index, source) in self.sources.iter_mut().enumerate() {
            if source.pending.is_some_and(|(_, until)| until <= now) {
                source.pending = None;
                source.record(Err(HttpDateError::TimedOut), out);
            }
            if is_wanted && source.pending.is_none() && source.due <= now {
                // Spread, so that a fleet that loses NTP at one instant does not ask in step ever after.
                source.due = now.plus(self.interval.mul_f64(1.0 + self.rng.f64() / 4.0));
                self.next_id = self.next_id.wrapping_add(1);
                source.pending = Some((self.next_id, now.plus(REQUEST_TIMEOUT)));
                out.push(Effect::FetchHttpDate {
                    source: index,
                    request: self.next_id,
                    phase: source.search.send_phase(),
                });
            }
        }
    }

    /// Takes in the result of a request; discards one of a request that has timed out or was reset.
    pub fn handle_answer(
        &mut self,
        index: usize,
        request: u32,
        answer: Result<DateSample, HttpDateError>,
        now: Mono,
        out: &mut Vec<Effect>,
    ) {
        let Some(source) = self.sources.get_mut(index) else { return };
        if source.pending.take_if(|(id, _)| *id == request).is_none() {
            return;
        }
        let result = answer.and_then(|sample| {
            source.last_answer = Some(now);
            let DateSample { date, sent, received } = sample;
            source.search.handle_answer(date, sent, received).map_err(|_| HttpDateError::Contradiction)
        });
        source.record(result, out);
    }

    /// Discards all readings and the requests under way: the raw clock did not count all of the time.
    pub fn reset(&mut self) {
        self.ntp_burst_ended = false;
        for source in &mut self.sources {
            (source.search, source.last_answer, source.pending, source.last_result) =
                (Search::default(), None, None, None);
        }
    }

    /// What each URL reports now; a reading older than `stale_after` is left out.
    pub fn readings(&self, now: Reading) -> CoarseReadings {
        // Not before every source has answered or failed once: the fastest alone would decide otherwise.
        let all_asked = self.sources.iter().all(|source| source.last_result.is_some());
        let readings = self.sources.iter().map(|source| {
            let fresh = source.last_answer.filter(|at| all_asked && now.raw.since(*at) < self.stale_after);
            // A later failure does not resolve a contradiction.
            let is_contradicted = fresh.is_some() && source.search.is_contradicted();
            HttpReading {
                source: source.source.clone(),
                measured: fresh.and_then(|_| source.search.measured(now)),
                answers: source.search.answers(),
                rejected: if is_contradicted {
                    Some(HttpDateError::Contradiction)
                } else {
                    source.last_result.clone().and_then(Result::err)
                },
            }
        });
        CoarseReadings(readings.collect())
    }

    /// How long until [`Self::tick`] has something to do; [`Duration::MAX`] for never.
    pub fn poll_timeout(&self, now: Mono) -> Duration {
        let due = |source: &SourceState| match source.pending {
            Some((_, until)) => Some(until),
            None => self.is_wanted.then_some(source.due),
        };
        self.sources.iter().filter_map(due).min().map_or(Duration::MAX, |at| at.since(now))
    }
}

impl SourceState {
    /// Keeps the result of a request, and logs a change.
    fn record(&mut self, result: Result<(), HttpDateError>, out: &mut Vec<Effect>) {
        if self.last_result.as_ref() != Some(&result) {
            let host = self.source.host.clone();
            out.push(Effect::Log(match result.clone() {
                Ok(()) => LogEvent::HttpDateAccepted { host },
                Err(reason) => LogEvent::HttpDateRejected { host, reason },
            }));
        }
        self.last_result = Some(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Offset, Wall};

    const SECOND: Duration = Duration::from_secs(1);

    fn source(host: &str) -> HttpSource {
        HttpSource { url: format!("http://{host}/"), host: host.to_owned() }
    }

    fn at(secs: u64) -> Mono {
        Mono::from_nanos(0).plus(SECOND * u32::try_from(secs).unwrap())
    }

    fn reading(secs: u64) -> Reading {
        let wall = Wall::from_secs(1_795_341_600 + i64::try_from(secs).unwrap());
        Reading { wall, raw: at(secs), suspended: Duration::ZERO }
    }

    /// A server that is 20 s ahead of this clock.
    fn sample(secs: u64) -> DateSample {
        let date = reading(secs).wall.plus(Offset::from_nanos(20_000_000_000));
        DateSample { date, sent: at(secs), received: at(secs) }
    }

    fn sources(hosts: &[&str]) -> Fallback {
        let sources: Vec<HttpSource> = hosts.iter().map(|host| source(host)).collect();
        Fallback::new(&sources, SECOND, Duration::from_secs(600), 7, at(0))
    }

    /// The requests of one tick.
    fn asked(sources: &mut Fallback, is_wanted: bool, secs: u64) -> Vec<(usize, u32)> {
        let mut out = Vec::new();
        sources.tick(is_wanted, at(secs), &mut out);
        let request = |effect: Effect| match effect {
            Effect::FetchHttpDate { source, request, .. } => Some((source, request)),
            _ => None,
        };
        out.into_iter().filter_map(request).collect()
    }

    #[test]
    fn sources_are_asked_while_wanted_and_at_most_once_in_64_s() {
        let mut sources = sources(&["a", "b"]);
        assert_eq!(asked(&mut sources, false, 0), []);
        assert_eq!(sources.poll_timeout(at(0)), Duration::MAX);
        let mut times = Vec::new();
        for secs in 1..1_000 {
            for (source, request) in asked(&mut sources, true, secs) {
                if source == 0 {
                    times.push(secs);
                }
                sources.handle_answer(source, request, Ok(sample(secs)), at(secs), &mut Vec::new());
            }
        }
        assert_eq!(times[0], 1, "at once");
        assert!(times.windows(2).all(|pair| (64..=81).contains(&(pair[1] - pair[0]))), "{times:?}");
        assert_eq!(asked(&mut sources, false, 2_000), []);
    }

    #[test]
    fn intervals_above_64_s_are_used() {
        let mut slow = Fallback::new(&[source("a")], SECOND * 300, SECOND * 900, 7, at(0));
        let times: Vec<u64> = (0..2_000).filter(|secs| !asked(&mut slow, true, *secs).is_empty()).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 300), "{times:?}");
    }

    #[test]
    fn answers_to_no_current_request_are_discarded() {
        let mut sources = sources(&["a"]);
        let (source, request) = asked(&mut sources, true, 0)[0];
        let mut out = Vec::new();
        sources.handle_answer(source, request + 1, Ok(sample(0)), at(0), &mut out);
        sources.handle_answer(9, request, Ok(sample(0)), at(0), &mut out);
        assert_eq!((sources.readings(reading(0)).0[0].measured, out.len()), (None, 0));
        sources.reset();
        sources.handle_answer(source, request, Ok(sample(0)), at(1), &mut out);
        assert_eq!(
            sources.readings(reading(1)).0[0].measured,
            None,
            "the machine was disrupted after the request"
        );
    }

    #[test]
    fn readings_end_when_stale_and_at_a_reset() {
        let mut sources = sources(&["a"]);
        let (source, request) = asked(&mut sources, true, 0)[0];
        sources.handle_answer(source, request, Ok(sample(0)), at(0), &mut Vec::new());
        assert!(sources.readings(reading(599)).0[0].measured.is_some());
        assert_eq!(sources.readings(reading(600)).0[0].measured, None);
        sources.reset();
        assert_eq!(sources.readings(reading(1)).0[0].measured, None);
    }

    #[test]
    fn changed_results_are_logged_and_a_timeout_is_a_result() {
        let mut sources = sources(&["a"]);
        let mut results = Vec::new();
        let mut note = |out: &mut Vec<Effect>| {
            for effect in out.drain(..) {
                match effect {
                    Effect::Log(LogEvent::HttpDateAccepted { .. }) => results.push(Ok(())),
                    Effect::Log(LogEvent::HttpDateRejected { reason, .. }) => results.push(Err(reason)),
                    _ => {}
                }
            }
        };
        let mut out = Vec::new();
        for secs in 0..600 {
            sources.tick(true, at(secs), &mut out);
            let request = out.iter().find_map(|effect| match effect {
                Effect::FetchHttpDate { request, .. } => Some(*request),
                _ => None,
            });
            // The first three requests are answered, the later ones time out.
            if let Some(request) = request.filter(|id| *id <= 3) {
                sources.handle_answer(0, request, Ok(sample(secs)), at(secs), &mut out);
            }
            note(&mut out);
        }
        assert_eq!(results, [Ok(()), Err(HttpDateError::TimedOut)]);
        assert!(
            sources.readings(reading(400)).0[0].measured.is_some(),
            "the earlier reading is not stale yet"
        );
    }
}
