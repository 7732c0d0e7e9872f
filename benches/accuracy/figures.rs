//! What was observed, and the figures that are made of it.

use crate::clients::STATES;
use crate::path::CLIENTS;
use crate::scenario::Scenario;

/// What the three publish at one instant.
pub struct Sample {
    /// Seconds since the start.
    pub at: f64,
    /// The same as a share of the whole run.
    pub share: f64,
    /// The agent's.
    pub state: Option<&'static str>,
    /// `None`: it publishes no offset.
    pub agent: Option<Seen>,
    /// chronyd's error in seconds; `None` while it is not synchronised.
    pub chronyd: Option<f64>,
    /// The one-shot client's error in seconds.
    pub one_shot: Option<f64>,
}

/// The agent's error and bound, in seconds.
#[derive(Clone, Copy)]
pub struct Seen {
    pub error: f64,
    pub bound: f64,
}

impl Seen {
    /// Is the truth outside offset ± bound?
    pub fn is_outside(self) -> bool {
        self.error.abs() > self.bound
    }
}

/// One run of a scenario.
pub struct Run {
    pub scenario: &'static Scenario,
    pub seed: u64,
    pub samples: Vec<Sample>,
    /// The one-shot client's, in seconds.
    pub round_trips: Vec<f64>,
    /// What chronyd reports at the end.
    pub chronyd: String,
    /// Requests of each client that reached a server, per server that it polls and minute.
    pub requests: [f64; CLIENTS],
}

/// p50, p95 and the largest of a list of magnitudes.
pub struct Spread {
    sorted: Vec<f64>,
}

impl Spread {
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.map(f64::abs).collect();
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    /// Not a number, when the list is empty.
    pub fn at(&self, percent: usize) -> f64 {
        let last = self.sorted.len().max(1) - 1;
        self.sorted.get((last * percent).div_ceil(100)).copied().unwrap_or(f64::NAN)
    }
}

/// The samples of a row: of all its runs, and of one part of them.
pub struct Group<'a> {
    pub name: String,
    samples: Vec<&'a Sample>,
    /// As in [`Run`], of whole runs.
    pub requests: [f64; CLIENTS],
}

impl<'a> Group<'a> {
    pub fn of(name: &str, runs: impl Iterator<Item = &'a Run>, belongs: impl Fn(&Sample) -> bool) -> Self {
        let (mut samples, mut requests, mut number) = (Vec::new(), [0.0; CLIENTS], 0.0);
        for run in runs {
            samples.extend(run.samples.iter().filter(|sample| belongs(sample)));
            number += 1.0;
            requests.iter_mut().zip(run.requests).for_each(|(sum, rate)| *sum += rate);
        }
        Self { name: name.to_owned(), samples, requests: requests.map(|sum| sum / number) }
    }

    /// The samples from this second of their run on: at its start no client has measured for long.
    pub fn settled(&self, from: f64) -> impl Iterator<Item = &Sample> {
        self.samples.iter().copied().filter(move |sample| sample.at >= from)
    }

    pub fn agent(&self, from: f64) -> Spread {
        Spread::of(self.settled(from).filter_map(|sample| Some(sample.agent?.error)))
    }

    pub fn bound(&self, from: f64) -> Spread {
        Spread::of(self.settled(from).filter_map(|sample| Some(sample.agent?.bound)))
    }

    pub fn chronyd(&self, from: f64) -> Spread {
        Spread::of(self.settled(from).filter_map(|sample| sample.chronyd))
    }

    pub fn one_shot(&self, from: f64) -> Spread {
        Spread::of(self.settled(from).filter_map(|sample| sample.one_shot))
    }

    /// Scrapes with an offset, and those of them with the truth outside; in this state, or in any.
    pub fn outside(&self, state: Option<&str>) -> (usize, usize) {
        let fits = |sample: &&&Sample| state.is_none() || sample.state == state;
        let seen: Vec<Seen> = self.samples.iter().filter(fits).filter_map(|sample| sample.agent).collect();
        (seen.len(), seen.iter().filter(|seen| seen.is_outside()).count())
    }

    /// The largest error in bounds.
    pub fn worst(&self) -> f64 {
        let ratios = self.samples.iter().filter_map(|sample| sample.agent);
        ratios.map(|seen| seen.error.abs() / seen.bound).fold(0.0, f64::max)
    }

    /// The share of scrapes for which there is something.
    pub fn share(&self, has: impl Fn(&Sample) -> bool) -> f64 {
        self.samples.iter().filter(|sample| has(sample)).count() as f64 / self.samples.len().max(1) as f64
    }

    /// Scrapes with an offset and those of them with the truth outside, for each state.
    pub fn by_state(&self) -> [(usize, usize); STATES.len()] {
        STATES.map(|state| self.outside(Some(state)))
    }
}
