//! Whether to step the clock: one pure function with every rule in it.
//!
//! In doubt it refuses, and gives the reason. It judges by what each pool reports by itself, not only by what
//! all report together: whichever of the pools is honest, a step that passes brings the clock nearer to the
//! truth.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::budget::{Annotation, MAX_STEPS_PER_HOUR, MAX_TOTAL, StepBudget, cooling};
use super::window::Window;
use crate::resume::Class;
use crate::time::{Bound, HOUR, Measurement, Offset, Span, Wall};

/// No step is made for this long after a leap second was last announced: honest servers differ by up to a second
/// around it.
pub const LEAP_SHADOW: Duration = Duration::from_secs(24 * 3_600);
/// The bound must be below the offset divided by this.
const BOUND_DIVISOR: u32 = 4;

/// How the clock may be stepped (`step.mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Not at all.
    #[default]
    Off,
    /// By chrony, over its command socket.
    Chrony,
    /// By the kernel (`clock_adjtime`, `ADJ_SETOFFSET`).
    Kernel,
    /// By the kernel, where no daemon disciplines the clock, or where chrony does and can be made to measure
    /// again.
    Auto,
}

/// What may be stepped (`step.*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether and how the clock may be stepped.
    pub mode: Mode,
    /// Smaller offsets are not stepped.
    pub min_offset: Duration,
    /// Larger offsets are stepped only when an operator requests it.
    pub max_offset: Duration,
    /// Least time between two steps.
    pub cooldown: Duration,
    /// Do everything but the step itself.
    pub dry_run: bool,
    /// Accept requests by the Node's annotation `step-request`.
    pub on_request: bool,
    /// Times in which another `min_offset` and `cooldown` apply; the first that is open counts.
    pub windows: Vec<Window>,
}

/// Why a step is considered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The machine or the agent was stopped, or a process set a clock.
    Disruption(Class),
    /// An operator requests a step.
    Operator(RequestedBy),
}

/// How an operator requests a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedBy {
    /// `drift-agent step` on the node.
    Cli,
    /// The Node's annotation `step-request`, with its ID.
    Annotation(String),
}

/// What was measured after the trigger, and only after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What a strict majority of the reachable pools agrees on; where none does, all that any of them allows.
    pub measured: Option<Measurement>,
    /// The pools contradict each other.
    pub contradiction: bool,
    /// What each configured pool reports by itself; `None`: it is unreachable, or its own servers or the
    /// majority of the other pools contradict it.
    pub pools: Vec<Option<Measurement>>,
    /// The pools whose bound is an operator's promise (`rootDistance`), by index: they support no step.
    pub assumed: BTreeSet<usize>,
    /// Two pools look like one server.
    pub is_one_server: bool,
    /// The pool of which most servers announced a leap second within [`LEAP_SHADOW`], on the last day of a month.
    pub leap: Option<String>,
    /// Reference time now.
    pub reference: Option<Wall>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Step by this; positive is forward.
    Step(Offset),
    /// The clock is within `minOffset`: no step is needed.
    NotNeeded(Offset),
    /// Do not step, and why.
    Refuse(StepRefusal),
}

/// Why the clock is not stepped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepRefusal {
    /// `step.mode` is off.
    Off,
    /// A disruption of this class does not trigger a step.
    NotATrigger(Class),
    /// What earlier steps have cost is not known yet.
    BudgetUnread,
    /// What earlier steps have cost cannot be parsed.
    BudgetUnknown,
    /// The last step did not help.
    BudgetLocked,
    /// There is no measurement since the trigger.
    NotMeasured,
    /// The pools contradict each other, and are too far apart for a step that helps whichever is right.
    PoolsDisagree,
    /// A pool is unreachable, or its own servers contradict each other; of three pools or more, so many that
    /// no majority of the configured ones is left.
    NotAllPools,
    /// Two pools look like one server, which cannot confirm itself.
    OneServer,
    /// The bound exceeds a quarter of the offset.
    Uncertain(Bound),
    /// A pool by itself allows a true time from which the step would lead away.
    PoolDoesNotConfirm,
    /// Too few pools are left without those whose bound is an operator's promise (`rootDistance`).
    AssumedBound,
    /// One pool alone is configured (`allowSinglePool`): nothing confirms it.
    SinglePool,
    /// The offset is over `maxOffset`.
    TooLarge(Offset),
    /// This pool announces a leap second.
    LeapSecond(String),
    /// The cool-down after the last step goes on for this long.
    CoolDown(Duration),
    /// [`MAX_STEPS_PER_HOUR`] is reached, for this long.
    HourlyLimit(Duration),
    /// All steps together would be this large, which is over [`MAX_TOTAL`].
    TotalLimit(Duration),
}

impl Mode {
    /// The word in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Chrony => "chrony",
            Self::Kernel => "kernel",
            Self::Auto => "auto",
        }
    }
}

impl Settings {
    /// `min_offset` and `cooldown` in force at this reference time.
    pub fn limits_at(&self, reference: Option<Wall>) -> (Duration, Duration) {
        let open = reference.and_then(|at| self.windows.iter().find(|window| window.is_open(at)));
        open.map_or((self.min_offset, self.cooldown), |window| (window.min_offset, window.cooldown))
    }
}

impl Trigger {
    /// Does an operator request the step?
    pub const fn is_operator(&self) -> bool {
        matches!(self, Self::Operator(_))
    }

    /// The trigger's name in the annotation `last-step`, in sentences and in the audit log.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Disruption(class) => class.label(),
            Self::Operator(RequestedBy::Annotation(_)) => "step-request",
            Self::Operator(RequestedBy::Cli) => "operator",
        }
    }
}

/// What may lift a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// An answer of servers that do not answer.
    Network,
    /// More answers.
    Measurement,
    /// Time: as much.
    Wait(Duration),
    /// The Node's annotations.
    Node,
    /// Nothing that the agent could wait for.
    Operator,
}

impl StepRefusal {
    /// What may lift it.
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::NotMeasured | Self::NotAllPools => Remedy::Network,
            Self::PoolsDisagree | Self::OneServer | Self::Uncertain(_) | Self::PoolDoesNotConfirm => {
                Remedy::Measurement
            }
            Self::CoolDown(left) | Self::HourlyLimit(left) => Remedy::Wait(*left),
            Self::BudgetUnread => Remedy::Node,
            Self::Off
            | Self::NotATrigger(_)
            | Self::BudgetUnknown
            | Self::BudgetLocked
            | Self::AssumedBound
            | Self::SinglePool
            | Self::TooLarge(_)
            | Self::LeapSecond(_)
            | Self::TotalLimit(_) => Remedy::Operator,
        }
    }
}

/// Decides whether to step the clock.
pub fn decide(trigger: &Trigger, evidence: &Evidence, budget: &StepBudget, settings: &Settings) -> Decision {
    match check(trigger, evidence, budget, settings) {
        Ok(decision) => decision,
        Err(why) => Decision::Refuse(why),
    }
}

fn check(
    trigger: &Trigger,
    evidence: &Evidence,
    budget: &StepBudget,
    settings: &Settings,
) -> Result<Decision, StepRefusal> {
    // Without `..`, so that a new setting cannot be forgotten here.
    let Settings { mode, min_offset: _, max_offset, cooldown: _, dry_run: _, on_request: _, windows: _ } =
        settings;
    let (min_offset, _) = settings.limits_at(evidence.reference);
    if *mode == Mode::Off {
        return Err(StepRefusal::Off);
    }
    if let Trigger::Disruption(class) = trigger
        && !class.may_step()
    {
        return Err(StepRefusal::NotATrigger(*class));
    }
    let measured = measured(evidence)?;
    let offset = measured.offset;
    // Where the pools contradict each other, none of them may allow more.
    let is_small = if evidence.contradiction {
        measured.certainly_within(min_offset)
    } else {
        offset.magnitude() < min_offset
    };
    if is_small {
        return Ok(Decision::NotNeeded(offset));
    }
    if evidence.pools.len().saturating_sub(evidence.assumed.len()) < pools_needed(evidence.pools.len()) {
        return Err(StepRefusal::AssumedBound);
    }
    if evidence.pools.len() == 1 && !trigger.is_operator() {
        return Err(StepRefusal::SinglePool);
    }
    is_certain(evidence, measured)
        .map_err(|why| if evidence.contradiction { StepRefusal::PoolsDisagree } else { why })?;
    if !trigger.is_operator() {
        if let Some(pool) = &evidence.leap {
            return Err(StepRefusal::LeapSecond(pool.clone()));
        }
        if offset.magnitude() > *max_offset {
            return Err(StepRefusal::TooLarge(offset));
        }
        within_budget(evidence, budget, offset, settings)?;
    }
    Ok(Decision::Step(offset))
}

/// The offset, if enough pools report one.
fn measured(evidence: &Evidence) -> Result<Measurement, StepRefusal> {
    let measured = evidence.measured.ok_or(StepRefusal::NotMeasured)?;
    if evidence.pools.iter().flatten().count() < pools_needed(evidence.pools.len()) {
        return Err(StepRefusal::NotAllPools);
    }
    if evidence.is_one_server { Err(StepRefusal::OneServer) } else { Ok(measured) }
}

/// How many pools must each support a step: both of two, and of more a majority of the configured ones. Where an
/// operator has configured one alone, that one, and only on request.
pub(crate) fn pools_needed(configured: usize) -> usize {
    if configured == 1 { 1 } else { (configured / 2 + 1).max(2) }
}

/// Is the offset known well enough, whichever pool is honest?
fn is_certain(evidence: &Evidence, Measurement { offset, bound }: Measurement) -> Result<(), StepRefusal> {
    if bound.as_duration() >= offset.magnitude() / BOUND_DIVISOR {
        return Err(StepRefusal::Uncertain(bound));
    }
    // A true offset beyond half of the step is nearer to the clock after the step than to the clock before
    // it.
    let half = Offset::from_nanos(offset.as_nanos() / 2);
    let supports = |(index, own): &(usize, &Option<Measurement>)| {
        !evidence.assumed.contains(index) && own.is_some_and(|own| own.certainly_beyond(half))
    };
    let supporting = evidence.pools.iter().enumerate().filter(supports).count();
    if supporting >= pools_needed(evidence.pools.len()) {
        Ok(())
    } else {
        Err(StepRefusal::PoolDoesNotConfirm)
    }
}

/// Do earlier steps leave room for this one? An operator decides without regard to them.
fn within_budget(
    evidence: &Evidence,
    budget: &StepBudget,
    offset: Offset,
    settings: &Settings,
) -> Result<(), StepRefusal> {
    let now = evidence.reference.ok_or(StepRefusal::NotMeasured)?;
    let ago = |at: &Wall| Duration::from_nanos(u64::try_from(now.minus(*at).as_nanos()).unwrap_or(0));
    match budget.annotation {
        Annotation::Unread => return Err(StepRefusal::BudgetUnread),
        Annotation::Unparsable => return Err(StepRefusal::BudgetUnknown),
        Annotation::Known => {}
    }
    if budget.is_locked {
        return Err(StepRefusal::BudgetLocked);
    }
    let cooldown_at = |at: Wall| settings.limits_at(Some(at)).1;
    let left = budget.recent.last().map_or(Duration::ZERO, |last| cooling(*last, now, cooldown_at));
    if !left.is_zero() {
        return Err(StepRefusal::CoolDown(left));
    }
    // The last step but two must be an hour ago.
    let third = budget.recent.iter().nth_back(MAX_STEPS_PER_HOUR - 1);
    let full = third.map_or(Duration::ZERO, |at| HOUR.saturating_sub(ago(at)));
    if !full.is_zero() {
        return Err(StepRefusal::HourlyLimit(full));
    }
    let total = budget.total.saturating_add(offset.magnitude());
    if total > MAX_TOTAL { Err(StepRefusal::TotalLimit(total)) } else { Ok(()) }
}

impl fmt::Display for StepRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("step.mode is off"),
            Self::NotATrigger(class) => write!(f, "{} does not trigger a step", class.label()),
            Self::BudgetUnread => {
                f.write_str("the step budget is not known: the annotation last-step was not read yet")
            }
            Self::BudgetUnknown => f.write_str(
                "the step budget is not known: the annotation last-step cannot be parsed; requires an operator request",
            ),
            Self::BudgetLocked => {
                f.write_str("the last step did not help; the next one requires an operator request")
            }
            Self::NotMeasured => f.write_str("no measurement since the trigger"),
            Self::PoolsDisagree => f.write_str("the time servers disagree, and not every one of them supports a step"),
            Self::NotAllPools => f.write_str(
                "too few pools returned a consistent time: both of two must, and a majority of more",
            ),
            Self::OneServer => f.write_str("two pools look like one server, which cannot confirm itself"),
            Self::Uncertain(bound) => {
                write!(f, "uncertainty ±{} exceeds a quarter of the offset", bound.in_words())
            }
            Self::PoolDoesNotConfirm => f.write_str("a pool alone does not support a step of this size"),
            Self::AssumedBound => f.write_str(
                "the bound is assumed (rootDistance of a pool): a promise supports no step, and too few other pools are configured",
            ),
            Self::SinglePool => f.write_str(
                "one pool alone is configured (allowSinglePool), and nothing confirms it: requires an operator request",
            ),
            Self::TooLarge(offset) => {
                write!(
                    f,
                    "the clock is {}, over step.maxOffset: requires an operator request",
                    offset.in_words()
                )
            }
            Self::LeapSecond(pool) => {
                write!(f, "most servers of {pool} announce a leap second: requires an operator request until a day after it")
            }
            Self::CoolDown(left) => {
                write!(f, "the last step is too recent: {} of step.cooldown left", Span(*left))
            }
            Self::HourlyLimit(left) => {
                write!(f, "limit of {MAX_STEPS_PER_HOUR} steps per hour reached: {} left", Span(*left))
            }
            Self::TotalLimit(total) => {
                write!(f, "all steps together would be {}: requires an operator request", Span(*total))
            }
        }
    }
}

#[cfg(test)]
mod tests;
