//! What the `Date` headers of all URLs come to: coarse, and never more than a word beside NTP's.

use std::time::Duration;

use super::search::MAX_HEADER_AGE;
use crate::time::{Bound, ExactSpan, Measurement, Offset};

/// Why an answer is no measurement, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpDateError {
    /// The name has no address.
    #[error("the name does not resolve: {0}")]
    Unresolved(String),
    /// Nobody answers there.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// Too slow.
    #[error("no answer in time")]
    TimedOut,
    /// What came back is something else.
    #[error("not an HTTP answer")]
    NotHttp,
    /// Its head is longer than we care to read.
    #[error("the head of its answer is too long")]
    HeadTooLong,
    /// It was written for somebody else, at another time.
    #[error("a cache on the way gave an old answer (it has an Age header)")]
    FromACache,
    /// RFC 9110 lets a server without a clock leave it out.
    #[error("its answer has no Date header")]
    NoDate,
    /// More than one, or not in the form of RFC 9110.
    #[error("its Date header cannot be read")]
    UnreadableDate,
    /// Its answers cannot all be true.
    #[error("its answers contradict each other")]
    Contradiction,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// The URL as it was given.
    pub url: String,
    /// Its host, with the port when it is not 80: its name in every output.
    pub host: String,
}

/// What one URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReading {
    /// Who says it.
    pub site: HttpSource,
    /// Offset and bound, from the answers that were good.
    pub measured: Option<Measurement>,
    /// Good answers.
    pub answers: u32,
    /// What came of the last request, when it was nothing good.
    pub rejected: Option<HttpDateError>,
}

/// What all of them say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoarseReadings(pub Vec<HttpReading>);

/// All of them as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CombinedReadings {
    /// None has an offset.
    Nothing,
    /// They contradict each other, or one of them itself.
    Contradiction,
    /// What they all allow.
    Agree(Measurement),
}

impl CoarseReadings {
    /// All of them as one.
    pub fn together(&self) -> CombinedReadings {
        if self.0.iter().any(|said| said.rejected == Some(HttpDateError::Contradiction)) {
            return CombinedReadings::Contradiction;
        }
        let ends = self.measured().map(|(_, measured)| measured.edges());
        let both = ends.reduce(|(low, high), (l, h)| (low.max(l), high.min(h)));
        match both {
            None => CombinedReadings::Nothing,
            Some((low, high)) if low > high => CombinedReadings::Contradiction,
            Some((low, high)) => {
                let half = Bound::from_nanos(high.saturating_sub(low) / 2 + 1);
                // Several that agree are no better than one: they may all keep their headers.
                CombinedReadings::Agree(Measurement {
                    offset: Offset::from_nanos(i64::midpoint(low, high)),
                    bound: half.max(MAX_HEADER_AGE),
                })
            }
        }
    }

    /// What they all allow, if they do not contradict each other.
    pub fn offset(&self) -> Option<Measurement> {
        match self.together() {
            CombinedReadings::Agree(measured) => Some(measured),
            CombinedReadings::Nothing | CombinedReadings::Contradiction => None,
        }
    }

    /// The offset that every URL with an offset puts over the threshold, beyond doubt; the only case in which these headers alone
    /// lead to a verdict.
    pub fn certainly_over(&self, threshold: Duration) -> Option<Measurement> {
        let CombinedReadings::Agree(combined) = self.together() else { return None };
        let mut all = self.measured().map(|(_, measured)| measured).chain([combined]);
        all.all(|measured| measured.certainly_exceeds(threshold)).then_some(combined)
    }

    /// What they say where NTP says nothing; `None` when they say nothing either.
    pub fn sentence(&self, threshold: Duration) -> Option<String> {
        let by = self.hosts();
        Some(match self.together() {
            CombinedReadings::Nothing => return None,
            CombinedReadings::Contradiction => {
                format!("The HTTP Date headers of {by} contradict each other: nothing is claimed.")
            }
            CombinedReadings::Agree(measured) => {
                let side = match self.certainly_over(threshold) {
                    Some(_) => format!("over the threshold of {}", ExactSpan(threshold)),
                    None => "which does not settle it".to_owned(),
                };
                format!("The clock is {measured} by the HTTP Date header of {by}, coarse: {side}.")
            }
        })
    }

    /// Those that cannot be true if NTP's word is, in a sentence.
    pub fn against(&self, ntp: Measurement) -> Option<String> {
        let against: Vec<String> = self
            .measured()
            .filter(|(_, measured)| !measured.overlaps(ntp))
            .map(|(said, measured)| format!("the HTTP Date header of {} says {measured}", said.site.host))
            .collect();
        (!against.is_empty())
            .then(|| format!("Against that, coarse and not believed: {}.", against.join("; ")))
    }

    fn measured(&self) -> impl Iterator<Item = (&HttpReading, Measurement)> {
        self.0.iter().filter_map(|said| Some((said, said.measured?)))
    }

    /// Those that had a word in it.
    fn hosts(&self) -> String {
        let spoke = |said: &&HttpReading| {
            said.measured.is_some() || said.rejected == Some(HttpDateError::Contradiction)
        };
        self.0.iter().filter(spoke).map(|said| said.site.host.as_str()).collect::<Vec<_>>().join(" and ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;
    const THRESHOLD: Duration = Duration::from_millis(100);

    fn said(host: &str, measured: Option<(i64, i64)>) -> HttpReading {
        let of = |(offset, bound): (i64, i64)| {
            Measurement::new(Offset::from_nanos(offset * MS), Bound::from_nanos(bound * MS))
        };
        let rejected = measured.is_none().then_some(HttpDateError::NoDate);
        HttpReading {
            site: HttpSource { url: format!("http://{host}/"), host: host.to_owned() },
            measured: measured.map(of),
            answers: 1,
            rejected,
        }
    }

    fn coarse(all: &[Option<(i64, i64)>]) -> CoarseReadings {
        CoarseReadings(
            all.iter().zip(["a", "b", "c"]).map(|(measured, host)| said(host, *measured)).collect(),
        )
    }

    #[test]
    fn what_all_allow_is_claimed_and_never_within_half_a_second() {
        let agree = |offset: i64, bound: i64| {
            CombinedReadings::Agree(Measurement::new(
                Offset::from_nanos(offset * MS),
                Bound::from_nanos(bound * MS),
            ))
        };
        assert_eq!(coarse(&[]).together(), CombinedReadings::Nothing);
        assert_eq!(coarse(&[None, None]).together(), CombinedReadings::Nothing);
        assert_eq!(coarse(&[Some((0, 600)), Some((1_100, 600))]).together(), agree(550, 500));
        assert_eq!(
            coarse(&[Some((0, 600)), None, Some((1_300, 600))]).together(),
            CombinedReadings::Contradiction
        );
    }

    #[test]
    fn it_drifts_only_when_each_is_certain_and_all_agree() {
        let over = |all: &[Option<(i64, i64)>]| coarse(all).certainly_over(THRESHOLD).is_some();
        assert!(over(&[Some((601, 500))]) && over(&[Some((-601, 500))]));
        assert!(!over(&[Some((600, 500))]), "the threshold itself is not over");
        assert!(over(&[Some((9_000, 520)), None, Some((9_400, 510))]));
        assert!(!over(&[Some((1_000, 500)), Some((900, 900))]), "one of them allows that it is in sync");
        assert!(!over(&[Some((9_000, 500)), Some((-9_000, 500))]));
        let mut with_a_liar = coarse(&[Some((9_000, 500)), None]);
        with_a_liar.0[1].rejected = Some(HttpDateError::Contradiction);
        assert_eq!(
            with_a_liar.certainly_over(THRESHOLD),
            None,
            "one tells two times: nobody knows which to believe"
        );
    }

    #[test]
    fn every_sentence_says_that_it_is_coarse_or_claims_nothing() {
        let sentence = |all: &[Option<(i64, i64)>]| coarse(all).sentence(THRESHOLD);
        assert_eq!(
            sentence(&[Some((12_345, 530)), None]).unwrap(),
            "The clock is 12.3 s behind (±530 ms) by the HTTP Date header of a, coarse: over the threshold of 100 ms."
        );
        let near = sentence(&[Some((200, 530)), Some((210, 530))]).unwrap();
        assert!(near.ends_with("of a and b, coarse: which does not settle it."), "{near}");
        assert!(sentence(&[Some((0, 500)), Some((9_000, 500))]).unwrap().contains("contradict each other"));
        assert_eq!(sentence(&[None]), None);
    }

    #[test]
    fn what_cannot_be_true_beside_ntp_is_told() {
        let ntp = Measurement::new(Offset::ZERO, Bound::from_nanos(MS));
        assert_eq!(coarse(&[Some((501, 500)), None]).against(ntp), None);
        let against = coarse(&[Some((0, 500)), Some((-502, 500))]).against(ntp).unwrap();
        assert!(
            against.contains("of b says 502 ms ahead (±500 ms)") && !against.contains("of a"),
            "{against}"
        );
        assert!(against.contains("not believed"), "{against}");
    }

    proptest! {
        #[test]
        fn what_all_allow_holds_the_truth(truth in -5_000i64..5_000, all in proptest::collection::vec((500i64..900, -1_000..=1_000i64), 1..4)) {
            let measured: Vec<_> = all.iter().map(|(bound, off)| Some((truth + bound * off / 1_000, *bound))).collect();
            let CombinedReadings::Agree(Measurement { offset, bound }) = coarse(&measured).together() else { panic!("they all hold the truth") };
            prop_assert!(bound >= MAX_HEADER_AGE);
            prop_assert!((offset.as_nanos() - truth * MS).abs() <= bound.as_nanos());
        }

        #[test]
        fn no_offset_is_a_panic(offsets in proptest::collection::vec((any::<i64>(), any::<i64>()), 0..4)) {
            let said = offsets.iter().map(|(offset, bound)| HttpReading {
                measured: Some(Measurement::new(Offset::from_nanos(*offset), Bound::from_nanos(*bound))),
                ..said("a", None)
            });
            let coarse = CoarseReadings(said.collect());
            let _ = (coarse.together(), coarse.sentence(THRESHOLD), coarse.against(Measurement::new(Offset::ZERO, Bound::default())));
        }
    }
}
