//! The verdict of one measurement without an agent: a burst of NTP exchanges, and the HTTP `Date` headers
//! that were requested beside it.

use crate::http_date::coarse::CoarseReadings;
use crate::report::snapshot::Snapshot;
use crate::time::Measurement;
use crate::verdict::State;

/// What one burst and the `Date` headers show together.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// The state after the burst. The readings are part of it only where NTP gave nothing.
    pub snapshot: Snapshot,
    /// Every URL that was requested, whether it counts or not.
    pub readings: CoarseReadings,
}

impl Diagnosis {
    /// NTP alone decides the state. Where no NTP server answered, readings that are certainly over the
    /// threshold make it drifting; readings never make it in-sync.
    pub fn new(mut snapshot: Snapshot, readings: CoarseReadings) -> Self {
        let no_server_answered = snapshot.pools.iter().all(|pool| pool.reachable_servers() == 0);
        if snapshot.state == State::Unknown && no_server_answered {
            if readings.certainly_over(snapshot.threshold).is_some() {
                snapshot.state = State::Drifting;
            }
            snapshot.coarse = readings.clone();
        }
        Self { snapshot, readings }
    }

    /// The verdict.
    pub fn state(&self) -> State {
        self.snapshot.state
    }

    /// The measurement behind the verdict: by NTP, else by headers that are certainly over the threshold.
    pub fn measured(&self) -> Option<Measurement> {
        self.snapshot.measured.or_else(|| self.coarse())
    }

    /// The coarse measurement that the verdict rests on; `None` wherever NTP decides.
    pub fn coarse(&self) -> Option<Measurement> {
        self.snapshot.coarse.certainly_over(self.snapshot.threshold)
    }

    /// The verdict in words, with the readings that contradict NTP.
    pub fn sentence(&self) -> String {
        let sentence = self.snapshot.sentence();
        match self.snapshot.measured.and_then(|measured| self.readings.contradictions(measured)) {
            Some(against) => format!("{sentence} {against}"),
            None => sentence,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::fixtures::settings;
    use crate::http_date::coarse::{HttpReading, HttpSource};
    use crate::machine::Machine;
    use crate::ntp::server::ServerState;
    use crate::report::snapshot::ServerSnapshot;
    use crate::time::{Bound, Mono, Offset, Reading, Wall};

    /// One pool that does not answer; threshold 100 ms.
    fn unreachable() -> Snapshot {
        let now = Reading {
            wall: Wall::from_secs(1_795_341_600),
            raw: Mono::from_nanos(0),
            suspended: Duration::ZERO,
        };
        Machine::new(settings(&["a.example"]), 1, now).snapshot(now)
    }

    fn measurement(offset_ms: i64, bound_ms: i64) -> Measurement {
        Measurement::new(Offset::from_nanos(offset_ms * 1_000_000), Bound::from_nanos(bound_ms * 1_000_000))
    }

    fn readings(offset_ms: i64) -> CoarseReadings {
        CoarseReadings(vec![HttpReading {
            source: HttpSource { url: "http://web.example/".to_owned(), host: "web.example".to_owned() },
            measured: Some(measurement(offset_ms, 500)),
            answers: 1,
            rejected: None,
        }])
    }

    #[test]
    fn certain_readings_make_the_state_drifting_where_no_ntp_server_answered() {
        let diagnosis = Diagnosis::new(unreachable(), readings(-20_000));
        assert_eq!(diagnosis.state(), State::Drifting);
        assert_eq!(diagnosis.coarse().unwrap().offset, Offset::from_nanos(-20_000_000_000));
        assert_eq!(diagnosis.measured(), diagnosis.coarse());
        assert!(diagnosis.sentence().contains("coarse"), "{}", diagnosis.sentence());
    }

    #[test]
    fn readings_near_the_threshold_leave_the_state_unknown() {
        let diagnosis = Diagnosis::new(unreachable(), readings(600));
        assert_eq!((diagnosis.state(), diagnosis.measured()), (State::Unknown, None));
    }

    #[test]
    fn readings_decide_nothing_once_an_ntp_server_answered() {
        let mut snapshot = unreachable();
        snapshot.pools[0].servers = vec![ServerSnapshot {
            address: SocketAddr::from(([192, 0, 2, 1], 123)),
            state: ServerState::Reachable,
            is_falseticker: false,
            measured: None,
            last: Some(Ok(())),
            rejected: None,
        }];
        let diagnosis = Diagnosis::new(snapshot, readings(20_000));
        assert_eq!((diagnosis.state(), diagnosis.measured()), (State::Unknown, None));
    }

    #[test]
    fn readings_that_contradict_ntp_are_reported_and_not_believed() {
        let mut snapshot = unreachable();
        (snapshot.state, snapshot.measured) = (State::InSync, Some(measurement(0, 1)));
        let diagnosis = Diagnosis::new(snapshot, readings(20_000));
        assert_eq!(diagnosis.state(), State::InSync);
        assert_eq!((diagnosis.coarse(), diagnosis.measured()), (None, Some(measurement(0, 1))));
        assert!(diagnosis.sentence().contains("Contradicts NTP"), "{}", diagnosis.sentence());
        let agreeing = Diagnosis::new(diagnosis.snapshot, readings(400));
        assert!(!agreeing.sentence().contains("Contradicts NTP"), "{}", agreeing.sentence());
    }
}
