//! The `Date` headers of all URLs as one coarse measurement. It never replaces or corrects a measurement by
//! NTP.

use std::time::Duration;

use super::search::MAX_HEADER_AGE;
use crate::time::{Bound, ExactSpan, Measurement, Offset};

/// Why a request gave no measurement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpDateError {
    /// The name has no address.
    #[error("the name does not resolve: {0}")]
    Unresolved(String),
    /// No connection: refused, reset or no route.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// No answer before the time-out.
    #[error("no answer in time")]
    TimedOut,
    /// The answer is not HTTP.
    #[error("not an HTTP answer")]
    NotHttp,
    /// The head of the answer is longer than 8 KiB.
    #[error("the head of its answer is too long")]
    HeadTooLong,
    /// The answer has an `Age` header: a cache stored it, so its date is that of an earlier request.
    #[error("a cache on the way gave an old answer (it has an Age header)")]
    FromACache,
    /// The answer has no `Date` header, as RFC 9110 section 6.6.1 allows for a server without a clock.
    #[error("its answer has no Date header")]
    NoDate,
    /// More than one `Date` header, or one that is not in the form of RFC 9110.
    #[error("its Date header cannot be read")]
    UnreadableDate,
    /// No single offset agrees with all answers of the server.
    #[error("its answers contradict each other")]
    Contradiction,
}

/// A URL that is asked for its `Date`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// The URL as configured.
    pub url: String,
    /// Its host, with the port when it is not 80: the source's name in every output.
    pub host: String,
}

/// What one URL reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReading {
    /// The URL.
    pub source: HttpSource,
    /// Offset and bound, from the accepted answers.
    pub measured: Option<Measurement>,
    /// Accepted answers.
    pub answers: u32,
    /// Why the last request gave nothing; `None` when its answer was accepted.
    pub rejected: Option<HttpDateError>,
}

/// The readings of all URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoarseReadings(pub Vec<HttpReading>);

/// What all URLs together give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CombinedReadings {
    /// No URL gives an offset.
    Nothing,
    /// The readings contradict each other, or the answers of one URL do.
    Contradiction,
    /// The offsets that every reading allows.
    Agree(Measurement),
}

impl CoarseReadings {
    /// All readings as one.
    pub fn combined(&self) -> CombinedReadings {
        if self.0.iter().any(|reading| reading.rejected == Some(HttpDateError::Contradiction)) {
            return CombinedReadings::Contradiction;
        }
        let ends = self.measured().map(|(_, measured)| measured.edges());
        let both = ends.reduce(|(low, high), (l, h)| (low.max(l), high.min(h)));
        match both {
            None => CombinedReadings::Nothing,
            Some((low, high)) if low > high => CombinedReadings::Contradiction,
            Some((low, high)) => {
                let half = Bound::from_nanos(high.saturating_sub(low) / 2 + 1);
                // Several that agree are no better than one: all of them may send a header that is up to a
                // second old.
                CombinedReadings::Agree(Measurement {
                    offset: Offset::from_nanos(i64::midpoint(low, high)),
                    bound: half.max(MAX_HEADER_AGE),
                })
            }
        }
    }

    /// What every reading allows; `None` without a reading, or when the readings contradict each other.
    pub fn offset(&self) -> Option<Measurement> {
        match self.combined() {
            CombinedReadings::Agree(measured) => Some(measured),
            CombinedReadings::Nothing | CombinedReadings::Contradiction => None,
        }
    }

    /// The combined offset, when every reading and their combination certainly exceed the threshold; else
    /// `None`.
    ///
    /// The only case in which HTTP dates alone lead to the state `drifting`.
    pub fn certainly_over(&self, threshold: Duration) -> Option<Measurement> {
        let CombinedReadings::Agree(combined) = self.combined() else { return None };
        let mut all = self.measured().map(|(_, measured)| measured).chain([combined]);
        all.all(|measured| measured.certainly_exceeds(threshold)).then_some(combined)
    }

    /// One sentence for operators while NTP gives no measurement; `None` without a reading.
    pub fn sentence(&self, threshold: Duration) -> Option<String> {
        let by = self.hosts();
        Some(match self.combined() {
            CombinedReadings::Nothing => return None,
            CombinedReadings::Contradiction => {
                format!("The HTTP Date headers of {by} contradict each other; no offset is reported.")
            }
            CombinedReadings::Agree(measured) => {
                let side = match self.certainly_over(threshold) {
                    Some(_) => format!("over the threshold of {}", ExactSpan(threshold)),
                    None => "too imprecise for a verdict".to_owned(),
                };
                format!("The clock is {measured} by the HTTP Date header of {by}, coarse: {side}.")
            }
        })
    }

    /// The readings that contradict the measurement by NTP, as a sentence; `None` without one.
    pub fn contradictions(&self, ntp: Measurement) -> Option<String> {
        let contradicting: Vec<String> = self
            .measured()
            .filter(|(_, measured)| !measured.overlaps(ntp))
            .map(|(reading, measured)| {
                format!("the HTTP Date header of {} reports {measured}", reading.source.host)
            })
            .collect();
        (!contradicting.is_empty())
            .then(|| format!("Contradicts NTP, coarse and not used: {}.", contradicting.join("; ")))
    }

    fn measured(&self) -> impl Iterator<Item = (&HttpReading, Measurement)> {
        self.0.iter().filter_map(|reading| Some((reading, reading.measured?)))
    }

    /// The hosts that [`Self::combined`] depends on.
    fn hosts(&self) -> String {
        let counts = |reading: &&HttpReading| {
            reading.measured.is_some() || reading.rejected == Some(HttpDateError::Contradiction)
        };
        self.0
            .iter()
            .filter(counts)
            .map(|reading| reading.source.host.as_str())
            .collect::<Vec<_>>()
            .join(" and ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Reached;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;
    const THRESHOLD: Duration = Duration::from_millis(100);

    fn reading(host: &str, measured: Option<(i64, i64)>) -> HttpReading {
        let of = |(offset, bound): (i64, i64)| {
            Measurement::new(Offset::from_nanos(offset * MS), Bound::from_nanos(bound * MS))
        };
        let rejected = measured.is_none().then_some(HttpDateError::NoDate);
        HttpReading {
            source: HttpSource { url: format!("http://{host}/"), host: host.to_owned() },
            measured: measured.map(of),
            answers: 1,
            rejected,
        }
    }

    fn coarse(all: &[Option<(i64, i64)>]) -> CoarseReadings {
        CoarseReadings(
            all.iter().zip(["a", "b", "c"]).map(|(measured, host)| reading(host, *measured)).collect(),
        )
    }

    #[test]
    fn combined_bounds_are_never_below_half_a_second() {
        let agree = |offset: i64, bound: i64| {
            CombinedReadings::Agree(Measurement::new(
                Offset::from_nanos(offset * MS),
                Bound::from_nanos(bound * MS),
            ))
        };
        assert_eq!(coarse(&[]).combined(), CombinedReadings::Nothing);
        assert_eq!(coarse(&[None, None]).combined(), CombinedReadings::Nothing);
        assert_eq!(coarse(&[Some((0, 600)), Some((1_100, 600))]).combined(), agree(550, 500));
        assert_eq!(
            coarse(&[Some((0, 600)), None, Some((1_300, 600))]).combined(),
            CombinedReadings::Contradiction
        );
    }

    #[test]
    fn drifting_needs_certain_readings_that_agree() {
        let over = |all: &[Option<(i64, i64)>]| coarse(all).certainly_over(THRESHOLD).is_some();
        assert!(over(&[Some((601, 500))]) && over(&[Some((-601, 500))]));
        assert!(!over(&[Some((600, 500))]), "the threshold itself is not over");
        assert!(over(&[Some((9_000, 520)), None, Some((9_400, 510))]));
        assert!(!over(&[Some((1_000, 500)), Some((900, 900))]), "one of them allows that it is in sync");
        assert!(!over(&[Some((9_000, 500)), Some((-9_000, 500))]));
        let mut contradicted = coarse(&[Some((9_000, 500)), None]);
        contradicted.0[1].rejected = Some(HttpDateError::Contradiction);
        assert_eq!(
            contradicted.certainly_over(THRESHOLD),
            None,
            "one URL contradicts itself, so neither time can be trusted"
        );
    }

    #[test]
    fn sentences_mark_offsets_as_coarse() {
        let sentence = |all: &[Option<(i64, i64)>]| coarse(all).sentence(THRESHOLD);
        assert_eq!(
            sentence(&[Some((12_345, 530)), None]).unwrap(),
            "The clock is 12.3 s behind (±530 ms) by the HTTP Date header of a, coarse: over the threshold of 100 ms."
        );
        let near = sentence(&[Some((200, 530)), Some((210, 530))]).unwrap();
        assert!(near.ends_with("of a and b, coarse: too imprecise for a verdict."), "{near}");
        assert!(sentence(&[Some((0, 500)), Some((9_000, 500))]).unwrap().contains("contradict each other"));
        assert_eq!(sentence(&[None]), None);
    }

    #[test]
    fn readings_that_contradict_ntp_are_listed() {
        let ntp = Measurement::new(Offset::ZERO, Bound::from_nanos(MS));
        assert_eq!(coarse(&[Some((501, 500)), None]).contradictions(ntp), None);
        let listed = coarse(&[Some((0, 500)), Some((-502, 500))]).contradictions(ntp).unwrap();
        assert!(
            listed.contains("of b reports 502 ms ahead (±500 ms)") && !listed.contains("of a"),
            "{listed}"
        );
        assert!(listed.contains("not used"), "{listed}");
    }

    #[test]
    fn combined_readings_hold_the_true_offset() {
        let reached =
            Reached::new([("narrower than the age of a header", 10), ("narrowed by another, and wider", 8)]);
        proptest!(|(truth in -5_000i64..5_000, all in proptest::collection::vec((500i64..1_200, -1_000..=1_000i64), 1..4))| {
            let measured: Vec<_> = all.iter().map(|(bound, off)| Some((truth + bound * off / 1_000, *bound))).collect();
            let CombinedReadings::Agree(Measurement { offset, bound }) = coarse(&measured).combined() else { panic!("all of them hold the true offset") };
            prop_assert!(bound >= MAX_HEADER_AGE);
            prop_assert!((offset.as_nanos() - truth * MS).abs() <= bound.as_nanos());
            let narrowest = all.iter().map(|(bound, _)| bound * MS).min().unwrap();
            reached.case("narrower than the age of a header", all.len() > 1 && bound == MAX_HEADER_AGE);
            reached.case("narrowed by another, and wider", bound > MAX_HEADER_AGE && bound.as_nanos() < narrowest);
        });
    }

    #[test]
    fn never_panics_for_any_offset() {
        let reached = Reached::new([
            ("agreement", 15),
            ("contradiction", 10),
            ("certainly over the threshold", 5),
            ("a contradiction of NTP", 10),
        ]);
        let offset = prop_oneof![any::<i64>(), -2_000 * MS..2_000 * MS];
        proptest!(|(offsets in proptest::collection::vec((offset, prop_oneof![any::<i64>(), 0..1_000 * MS]), 0..4))| {
            let readings = offsets.iter().map(|(offset, bound)| HttpReading {
                measured: Some(Measurement::new(Offset::from_nanos(*offset), Bound::from_nanos(*bound))),
                ..reading("a", None)
            });
            let coarse = CoarseReadings(readings.collect());
            let combined = coarse.combined();
            reached.case("agreement", matches!(combined, CombinedReadings::Agree(_)));
            reached.case("contradiction", combined == CombinedReadings::Contradiction);
            reached.case("certainly over the threshold", coarse.certainly_over(THRESHOLD).is_some());
            let contradictions = coarse.contradictions(Measurement::new(Offset::ZERO, Bound::default()));
            reached.case("a contradiction of NTP", contradictions.is_some());
            prop_assert_eq!(coarse.sentence(THRESHOLD).is_some(), !offsets.is_empty());
        });
    }
}
