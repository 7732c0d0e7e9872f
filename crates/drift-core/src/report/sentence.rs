//! The verdict in words, for the condition's message, the log, the page and `drift-agent check`: what an
//! operator who has ten seconds must know, the most important first.

use std::time::Duration;

use crate::report::shape::Shape;
use crate::report::snapshot::{PoolSnapshot, Snapshot};
use crate::step::policy::Mode;
use crate::time::{ExactSpan, Measurement, Span};
use crate::verdict::State;

impl Snapshot {
    /// The verdict in a sentence or two: the offset with its bound, and which pools it does not rest on.
    pub fn sentence(&self) -> String {
        match self.coarse.sentence(self.threshold) {
            // Without NTP this verdict rests on the `Date` headers.
            Some(coarse) if self.state == State::Drifting && self.measured.is_none() => {
                coarse + &self.shape_in_words() + &self.unreachable_in_words()
            }
            Some(coarse) => format!("{} {coarse}", self.by_ntp()),
            None => self.by_ntp(),
        }
    }

    /// The verdict, and what an operator has to fix so that a step is possible.
    pub fn message(&self) -> String {
        let missing = self.daemon.as_ref().and_then(|d| d.ready.as_ref().err());
        match missing.filter(|_| self.step.mode != Mode::Off) {
            Some(missing) => format!("{} The clock cannot be stepped: {missing}.", self.sentence()),
            None => self.sentence(),
        }
    }

    /// The verdict by NTP alone, and what limits it.
    fn by_ntp(&self) -> String {
        let verdict = self.verdict_in_words();
        match self.state {
            // Nothing that was measured before counts.
            State::Disrupted => verdict,
            _ => [
                verdict,
                self.shape_in_words(),
                self.contradiction_in_words(),
                self.falsetickers_in_words(),
                self.unreachable_in_words(),
                self.slowed_in_words(),
                self.one_server_in_words(),
                self.single_pool_in_words(),
                self.assumed_in_words(),
            ]
            .concat(),
        }
    }

    /// The shape of the offset of a clock that drifts: by NTP, else by headers.
    pub fn shape(&self) -> Option<Shape> {
        let by_headers = || self.coarse.certainly_over(self.threshold);
        let measured = self.measured.or_else(by_headers).filter(|_| self.state == State::Drifting);
        measured.and_then(Shape::of)
    }

    /// What the size of the offset shows. Begins with a blank, or is empty; as all that follow.
    fn shape_in_words(&self) -> String {
        self.shape().map_or_else(String::new, |shape| format!(" That is {shape}: {}.", shape.remedy()))
    }

    fn verdict_in_words(&self) -> String {
        let threshold = ExactSpan(self.threshold);
        match (self.state, self.measured) {
            (State::InSync, Some(measured)) => {
                format!("The clock is {measured}, within the threshold of {threshold}.")
            }
            (State::Drifting, Some(measured)) => {
                format!("The clock is {measured}, over the threshold of {threshold}.")
            }
            (State::Disagree, _) => {
                let reports: Vec<String> = self.pools.iter().map(PoolSnapshot::report_in_words).collect();
                format!("The time servers disagree; no offset is reported: {}.", reports.join("; "))
            }
            (State::Disrupted, _) => {
                "The machine was suspended or paused, and the clock has not been measured since.".to_owned()
            }
            (_, Some(measured)) if measured.bound.as_duration() < self.threshold => {
                format!("Not settled yet: {measured}.")
            }
            (_, Some(measured)) => format!(
                "The clock is {measured}: this bound is wider than the threshold of {threshold}, so no verdict is possible."
            ),
            _ => match self.estimate_age {
                Some(age) => format!("Nothing measured for {}.", Span(age)),
                None => "Nothing measured yet.".to_owned(),
            },
        }
    }

    /// A contradiction that does not change the verdict.
    fn contradiction_in_words(&self) -> String {
        let side = match self.state {
            State::InSync if self.is_contradiction => "within",
            State::Drifting if self.is_contradiction => "over",
            _ => return String::new(),
        };
        let undecided: Vec<&str> =
            self.pools.iter().filter(|p| p.contradicts_itself()).map(|p| p.name.as_str()).collect();
        match self.disagreement().filter(|_| undecided.is_empty()) {
            Some(apart) => format!(" The pools differ by {}; all are {side} the threshold.", Span(apart)),
            None => format!(
                " The servers of {} contradict each other; all are {side} the threshold.",
                undecided.join(" and ")
            ),
        }
    }

    /// Pools that a majority of the others contradicts.
    fn falsetickers_in_words(&self) -> String {
        let wrong = self.pools.iter().filter(|p| p.is_falseticker);
        let sentences = wrong.map(|p| format!(" Pool {} is wrong: {}.", p.name, self.error_in_words(p)));
        sentences.collect::<Vec<_>>().concat()
    }

    /// How far a falseticker's time is from that of the others: `10.0 s ahead of the others`.
    pub fn error_in_words(&self, pool: &PoolSnapshot) -> String {
        match pool.measured.zip(self.measured) {
            Some((own, agreed)) => {
                let ahead = own.offset.as_nanos().saturating_sub(agreed.offset.as_nanos());
                let side = if ahead < 0 { "behind" } else { "ahead of" };
                format!("{} {side} the others", Span(Duration::from_nanos(ahead.unsigned_abs())))
            }
            None if pool.contradicts_itself() => "its servers contradict each other".to_owned(),
            None => "it contradicted the others when it was last reachable".to_owned(),
        }
    }

    /// Which pools are unreachable, why, and which ones are left.
    fn unreachable_in_words(&self) -> String {
        let unreachable: Vec<String> = self
            .unreachable_pools()
            .filter_map(|p| Some(format!("{} is unreachable ({})", p.name, p.trouble()?)))
            .collect();
        let reachable = self.pools.iter().filter(|p| p.reachable_servers() > 0 && !p.is_falseticker);
        let reachable: Vec<&str> = reachable.map(|p| p.name.as_str()).collect();
        match (unreachable.as_slice(), reachable.as_slice()) {
            ([], _) => String::new(),
            (_, []) => format!(" No pool answers: {}.", unreachable.join("; ")),
            // The list of what the pools report names these, too.
            _ if self.state == State::Disagree => String::new(),
            (_, names) => {
                format!(" Measured against {} alone: {}.", names.join(" and "), unreachable.join("; "))
            }
        }
    }

    /// Pools whose servers all asked for fewer requests.
    fn slowed_in_words(&self) -> String {
        let slowed: Vec<&str> =
            self.pools.iter().filter(|p| p.is_slowed()).map(|p| p.name.as_str()).collect();
        match slowed.as_slice() {
            [] => String::new(),
            [name] => format!(" {name} is slowed by its servers (kiss-o'-death)."),
            names => format!(" {} are slowed by their servers (kiss-o'-death).", names.join(" and ")),
        }
    }

    /// Pools whose root distance is an operator's promise.
    fn assumed_in_words(&self) -> String {
        let assumed = self.assumed_pools().filter_map(|p| Some((&p.name, p.assumed_root_distance?)));
        let all: Vec<String> = assumed.map(|(name, d)| format!("{} for {name}", ExactSpan(d))).collect();
        if all.is_empty() {
            return String::new();
        }
        format!(" The bound is assumed: it rests on a configured rootDistance of {}.", all.join(" and "))
    }

    /// A pool that is the only one.
    fn single_pool_in_words(&self) -> String {
        let name = self.pools.first().filter(|_| self.is_single_pool() && self.measured.is_some());
        name.map_or_else(String::new, |pool| {
            format!(" {} is the only pool (allowSinglePool): nothing confirms it.", pool.name)
        })
    }

    /// Pools that look like one clock.
    fn one_server_in_words(&self) -> String {
        let pairs = self.pools.iter().enumerate().filter_map(|(index, pool)| {
            let other = pool.same_server_as.filter(|other| *other < index)?;
            Some((self.pools.get(other)?.name.as_str(), pool.name.as_str()))
        });
        let sentences = pairs.map(|(first, second)| {
            format!(" {first} and {second} look like one server: neither confirms the other.")
        });
        sentences.collect::<Vec<_>>().concat()
    }
}

impl PoolSnapshot {
    /// `A reports 43 µs behind`
    fn report_in_words(&self) -> String {
        match self.measured {
            Some(Measurement { offset, .. }) => format!("{} reports {}", self.name, offset.in_words()),
            None if self.contradicts_itself() => {
                format!("the servers of {} contradict each other", self.name)
            }
            None => match self.trouble() {
                Some(trouble) => format!("{} is unreachable ({trouble})", self.name),
                None => format!("{} is unreachable", self.name),
            },
        }
    }
}

#[cfg(test)]
mod tests;
