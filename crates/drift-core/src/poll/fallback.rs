//! The sources of last resort: asked only while no NTP server gives an estimate, and seldom, since they are not ours to burden.
//!
//! They lead to `drifting` where that is certain, and to words everywhere else. Never to `in-sync`, never to a step.

use std::time::Duration;

use crate::http_date::DateSample;
use crate::http_date::coarse::{CoarseReadings, HttpDateError, HttpReading, HttpSource};
use crate::http_date::search::Search;
use crate::io::{Effect, LogEvent};
use crate::time::{Mono, Reading};

/// No URL is asked more often.
pub const EVERY: Duration = Duration::from_secs(64);
/// A look-up, a connection, the wait for the right instant and the answer take less.
const PATIENCE: Duration = Duration::from_secs(10);

/// All of them.
#[derive(Clone, Debug)]
pub struct Fallback {
    sources: Vec<Source>,
    every: Duration,
    stale_after: Duration,
    /// The burst at the start, or after a resume, is over: who was silent in it is silent.
    ntp_was_heard_out: bool,
    is_wanted: bool,
    next_id: u32,
    rng: fastrand::Rng,
}

#[derive(Clone, Debug)]
struct Source {
    site: HttpSource,
    search: Search,
    /// What came of the last request.
    last: Option<Result<(), HttpDateError>>,
    /// When the last good answer came.
    heard: Option<Mono>,
    due: Mono,
    /// The request that is under way, and when it is given up on.
    pending: Option<(u32, Mono)>,
}

impl Fallback {
    /// Nothing is asked yet.
    pub fn new(
        sites: &[HttpSource],
        interval: Duration,
        stale_after: Duration,
        seed: u64,
        now: Mono,
    ) -> Self {
        let source = |site: &HttpSource| Source {
            site: site.clone(),
            search: Search::default(),
            last: None,
            heard: None,
            due: now,
            pending: None,
        };
        Self {
            sources: sites.iter().map(source).collect(),
            every: interval.max(EVERY),
            stale_after,
            ntp_was_heard_out: false,
            is_wanted: false,
            next_id: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// The burst to the NTP servers is over.
    pub fn ntp_was_heard_out(&mut self) {
        self.ntp_was_heard_out = true;
    }

    /// Not before NTP had its chance.
    pub fn may_speak(&self) -> bool {
        self.ntp_was_heard_out
    }

    /// Time has passed. `is_wanted`: NTP was heard out, and gives nothing.
    pub fn tick(&mut self, is_wanted: bool, now: Mono, out: &mut Vec<Effect>) {
        self.is_wanted = is_wanted;
        for (index, source) in self.sources.iter_mut().enumerate() {
            if source.pending.is_some_and(|(_, until)| until <= now) {
                source.pending = None;
                source.turned(Err(HttpDateError::TimedOut), out);
            }
            if is_wanted && source.pending.is_none() && source.due <= now {
                // A fleet that lost NTP together must not ask together for ever.
                source.due = now.plus(self.every.mul_f64(1.0 + self.rng.f64() / 4.0));
                self.next_id = self.next_id.wrapping_add(1);
                source.pending = Some((self.next_id, now.plus(PATIENCE)));
                out.push(Effect::FetchHttpDate {
                    source: index,
                    request: self.next_id,
                    aim: source.search.aim(),
                });
            }
        }
    }

    /// An answer to a request, or none. One that nobody waits for any more is void.
    pub fn answered(
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
        let result = answer.and_then(|told| {
            source.heard = Some(now);
            source.search.on(told.date, told.sent, told.received).map_err(|_| HttpDateError::Contradiction)
        });
        source.turned(result, out);
    }

    /// The raw clock did not run through: what was said is void, and so is what is under way.
    pub fn forget(&mut self) {
        self.ntp_was_heard_out = false;
        for source in &mut self.sources {
            (source.search, source.heard, source.pending, source.last) =
                (Search::default(), None, None, None);
        }
    }

    /// What they say now. What is too old is not said any more.
    pub fn says(&self, now: Reading) -> CoarseReadings {
        // Nobody is believed alone just for being faster: each has had its turn.
        let all_turned = self.sources.iter().all(|source| source.last.is_some());
        let says = self.sources.iter().map(|source| {
            let young = source.heard.filter(|at| all_turned && now.raw.since(*at) < self.stale_after);
            // A contradiction is not taken back by silence.
            let is_contradicted = young.is_some() && source.search.is_contradicted();
            HttpReading {
                site: source.site.clone(),
                measured: young.and_then(|_| source.search.measured(now)),
                answers: source.search.answers(),
                rejected: if is_contradicted {
                    Some(HttpDateError::Contradiction)
                } else {
                    source.last.clone().and_then(Result::err)
                },
            }
        });
        CoarseReadings(says.collect())
    }

    /// How long nothing happens of its own accord.
    pub fn next(&self, now: Mono) -> Duration {
        let due = |source: &Source| match source.pending {
            Some((_, until)) => Some(until),
            None => self.is_wanted.then_some(source.due),
        };
        self.sources.iter().filter_map(due).min().map_or(Duration::MAX, |at| at.since(now))
    }
}

impl Source {
    /// Remembers what came of a request, and tells when it is something new.
    fn turned(&mut self, result: Result<(), HttpDateError>, out: &mut Vec<Effect>) {
        if self.last.as_ref() != Some(&result) {
            let host = self.site.host.clone();
            out.push(Effect::Log(match result.clone() {
                Ok(()) => LogEvent::HttpDateAccepted { host },
                Err(reason) => LogEvent::HttpDateRejected { host, reason },
            }));
        }
        self.last = Some(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Offset, Wall};

    const SECOND: Duration = Duration::from_secs(1);

    fn site(host: &str) -> HttpSource {
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
    fn told(secs: u64) -> DateSample {
        let date = reading(secs).wall.plus(Offset::from_nanos(20_000_000_000));
        DateSample { date, sent: at(secs), received: at(secs) }
    }

    fn sources(hosts: &[&str]) -> Fallback {
        let sites: Vec<HttpSource> = hosts.iter().map(|host| site(host)).collect();
        Fallback::new(&sites, SECOND, Duration::from_secs(600), 7, at(0))
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
    fn each_is_asked_while_it_is_wanted_and_at_most_once_in_64_s() {
        let mut sources = sources(&["a", "b"]);
        assert_eq!(asked(&mut sources, false, 0), []);
        assert_eq!(sources.next(at(0)), Duration::MAX);
        let mut times = Vec::new();
        for secs in 1..1_000 {
            for (source, request) in asked(&mut sources, true, secs) {
                if source == 0 {
                    times.push(secs);
                }
                sources.answered(source, request, Ok(told(secs)), at(secs), &mut Vec::new());
            }
        }
        assert_eq!(times[0], 1, "at once");
        assert!(times.windows(2).all(|pair| (64..=81).contains(&(pair[1] - pair[0]))), "{times:?}");
        assert_eq!(asked(&mut sources, false, 2_000), []);
    }

    #[test]
    fn a_longer_interval_is_kept() {
        let mut slow = Fallback::new(&[site("a")], SECOND * 300, SECOND * 900, 7, at(0));
        let times: Vec<u64> = (0..2_000).filter(|secs| !asked(&mut slow, true, *secs).is_empty()).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 300), "{times:?}");
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_void() {
        let mut sources = sources(&["a"]);
        let (source, request) = asked(&mut sources, true, 0)[0];
        let mut out = Vec::new();
        sources.answered(source, request + 1, Ok(told(0)), at(0), &mut out);
        sources.answered(9, request, Ok(told(0)), at(0), &mut out);
        assert_eq!((sources.says(reading(0)).0[0].measured, out.len()), (None, 0));
        sources.forget();
        sources.answered(source, request, Ok(told(0)), at(1), &mut out);
        assert_eq!(sources.says(reading(1)).0[0].measured, None, "the machine stood still in between");
    }

    #[test]
    fn what_was_said_is_forgotten_after_a_while_and_after_a_resume() {
        let mut sources = sources(&["a"]);
        let (source, request) = asked(&mut sources, true, 0)[0];
        sources.answered(source, request, Ok(told(0)), at(0), &mut Vec::new());
        assert!(sources.says(reading(599)).0[0].measured.is_some());
        assert_eq!(sources.says(reading(600)).0[0].measured, None);
        sources.forget();
        assert_eq!(sources.says(reading(1)).0[0].measured, None);
    }

    #[test]
    fn what_comes_of_it_is_told_when_it_changes_and_no_answer_is_a_result_too() {
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
            // The first three are good, then nobody answers.
            if let Some(request) = request.filter(|id| *id <= 3) {
                sources.answered(0, request, Ok(told(secs)), at(secs), &mut out);
            }
            note(&mut out);
        }
        assert_eq!(results, [Ok(()), Err(HttpDateError::TimedOut)]);
        assert!(sources.says(reading(400)).0[0].measured.is_some(), "what was said before still holds");
    }
}
