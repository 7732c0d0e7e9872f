//! Whether to step the clock: one pure function with every rule in it.
//!
//! When in doubt it refuses and says why. It judges by what each pool says by itself, not only by what they say together:
//! whichever of them is honest, a step that passes brings the clock nearer to the truth.

use std::fmt;
use std::time::Duration;

use crate::resume::Class;
use crate::time::{Bound, Measurement, Offset, Span, Wall};

/// Steps in an hour without a person asking.
pub const STEPS_AN_HOUR: usize = 3;
/// An hour.
pub const HOUR: Duration = Duration::from_secs(3_600);
/// All steps together, without a person asking.
pub const MOST_IN_ALL: Duration = Duration::from_secs(24 * 3_600);
/// So long before and after a leap second no step is made: honest servers differ by up to a second then.
pub const LEAP_SHADOW: Duration = Duration::from_secs(24 * 3_600);
/// The bound must be below this share of the offset.
const BOUND_SHARE: u32 = 4;

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
    /// By the kernel, where nobody disciplines the clock, or chrony does and can be told to measure anew.
    Auto,
}

/// What may be stepped (`step.*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether and how.
    pub mode: Mode,
    /// Smaller offsets are not stepped.
    pub min_offset: Duration,
    /// Larger ones only when a person asks.
    pub max_offset: Duration,
    /// Time between two steps at least.
    pub cooldown: Duration,
    /// Do everything but the step itself.
    pub dry_run: bool,
    /// Take requests from the Node's annotation.
    pub on_request: bool,
}

/// Why a step is thought of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The machine did not run all the time.
    Disruption(Class),
    /// A person asked by the Node's annotation `step-request`, with this ID.
    Request(String),
    /// A person at the node: `drift-agent step`.
    Operator,
}

/// What was measured after the trigger, and only after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What a strict majority of the servers says together.
    pub agreed: Option<Measurement>,
    /// The servers contradict each other.
    pub contradiction: bool,
    /// What each configured pool says by itself; `None`: it is silent, or its own servers contradict each other.
    pub pools: Vec<Option<Measurement>>,
    /// A server announced a leap second within [`LEAP_SHADOW`].
    pub leap: bool,
    /// Reference time now.
    pub reference: Option<Wall>,
}

/// What was stepped before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Reference times of the last steps, oldest first; those of the last hour at least.
    pub recent: Vec<Wall>,
    /// The sizes of all steps since a person asked last.
    pub total: Duration,
    /// What an earlier run of the agent did cannot be told.
    pub is_unknown: bool,
    /// The last step did not help.
    pub is_latched: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Step by this; positive is forward.
    Step(Offset),
    /// The clock is within `minOffset`: there is nothing to step.
    NotNeeded(Offset),
    /// Do nothing, and say why.
    Refuse(StepRefusal),
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepRefusal {
    /// `step.mode` is off.
    Off,
    /// Only a resume or a person may ask for a step.
    NotATrigger(Class),
    /// What earlier steps cost is not known.
    BudgetUnknown,
    /// The last step did not help.
    Latched,
    /// Nobody answered.
    NothingMeasured,
    /// The servers contradict each other.
    PoolsDisagree,
    /// A pool is silent, or of two minds.
    NotAllPools,
    /// The pools are further apart than `minOffset`.
    PoolsApart(Duration),
    /// The offset is not known well enough.
    Uncertain(Bound),
    /// One pool by itself does not bear out so large a step.
    OnePoolsWord,
    /// The offset is over `maxOffset`.
    TooLarge(Offset),
    /// A leap second is near.
    Leap,
    /// The last step is not long enough ago.
    CoolDown(Duration),
    /// Too many steps in the last hour.
    TooMany,
    /// Too much in all.
    TooMuch(Duration),
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

impl Trigger {
    /// Did a person ask?
    pub const fn is_operator(&self) -> bool {
        matches!(self, Self::Request(_) | Self::Operator)
    }

    /// The word in the annotation `last-step` and in the audit.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Disruption(class) => class.label(),
            Self::Request(_) => "step-request",
            Self::Operator => "person",
        }
    }
}

impl StepRefusal {
    /// More exchanges may change it.
    pub const fn may_pass(self) -> bool {
        matches!(
            self,
            Self::NothingMeasured
                | Self::PoolsDisagree
                | Self::NotAllPools
                | Self::PoolsApart(_)
                | Self::Uncertain(_)
                | Self::OnePoolsWord
        )
    }
}

/// Step, or not, and why.
pub fn decide(trigger: &Trigger, evidence: &Evidence, past: &Past, settings: &Settings) -> Decision {
    match check(trigger, evidence, past, settings) {
        Ok(decision) => decision,
        Err(why) => Decision::Refuse(why),
    }
}

fn check(
    trigger: &Trigger,
    evidence: &Evidence,
    past: &Past,
    settings: &Settings,
) -> Result<Decision, StepRefusal> {
    // Taken apart whole, so that a new setting cannot be forgotten here.
    let Settings { mode, min_offset, max_offset, cooldown, dry_run: _, on_request: _ } = *settings;
    if mode == Mode::Off {
        return Err(StepRefusal::Off);
    }
    if let Trigger::Disruption(class) = trigger
        && !class.may_step()
    {
        return Err(StepRefusal::NotATrigger(*class));
    }
    let measured = measured(evidence, min_offset)?;
    let offset = measured.offset;
    if offset.magnitude() < min_offset {
        return Ok(Decision::NotNeeded(offset));
    }
    is_certain(evidence, measured)?;
    if evidence.leap {
        return Err(StepRefusal::Leap);
    }
    if offset.magnitude() > max_offset && !trigger.is_operator() {
        return Err(StepRefusal::TooLarge(offset));
    }
    within_budget(trigger, evidence, past, offset, cooldown)?;
    Ok(Decision::Step(offset))
}

/// What all pools agree on.
fn measured(evidence: &Evidence, min_offset: Duration) -> Result<Measurement, StepRefusal> {
    if evidence.contradiction {
        return Err(StepRefusal::PoolsDisagree);
    }
    let agreed = evidence.agreed.ok_or(StepRefusal::NothingMeasured)?;
    let pools: Option<Vec<Offset>> = evidence.pools.iter().map(|p| p.map(|m| m.offset)).collect();
    let pools = pools.filter(|pools| pools.len() > 1).ok_or(StepRefusal::NotAllPools)?;
    let (low, high) = (pools.iter().min(), pools.iter().max());
    let apart = low.zip(high).map_or(0, |(low, high)| high.as_nanos().abs_diff(low.as_nanos()));
    let apart = Duration::from_nanos(apart);
    if apart > min_offset {
        return Err(StepRefusal::PoolsApart(apart));
    }
    Ok(agreed)
}

/// Is the offset known well enough, whichever pool is honest?
fn is_certain(evidence: &Evidence, Measurement { offset, bound }: Measurement) -> Result<(), StepRefusal> {
    if bound.as_duration() >= offset.magnitude() / BOUND_SHARE {
        return Err(StepRefusal::Uncertain(bound));
    }
    // A truth beyond half the way is nearer to where the step leads than to where the clock is.
    let half = Offset::from_nanos(offset.as_nanos() / 2);
    if evidence.pools.iter().flatten().all(|own| own.certainly_beyond(half)) {
        Ok(())
    } else {
        Err(StepRefusal::OnePoolsWord)
    }
}

/// What was stepped before. A person who asks clears all but the cool-down: two requests in a row are more likely a mistake
/// than a wish.
fn within_budget(
    trigger: &Trigger,
    evidence: &Evidence,
    past: &Past,
    offset: Offset,
    cooldown: Duration,
) -> Result<(), StepRefusal> {
    let now = evidence.reference.ok_or(StepRefusal::NothingMeasured)?;
    // A time in the future is one that nobody can have written honestly: it counts as now.
    let ago = |at: &Wall| Duration::from_nanos(u64::try_from(now.minus(*at).as_nanos()).unwrap_or(0));
    let left = past.recent.last().map_or(Duration::ZERO, |last| cooldown.saturating_sub(ago(last)));
    if !left.is_zero() {
        return Err(StepRefusal::CoolDown(left));
    }
    if trigger.is_operator() {
        return Ok(());
    }
    if past.is_unknown {
        return Err(StepRefusal::BudgetUnknown);
    }
    if past.is_latched {
        return Err(StepRefusal::Latched);
    }
    if past.recent.iter().filter(|at| ago(at) < HOUR).count() >= STEPS_AN_HOUR {
        return Err(StepRefusal::TooMany);
    }
    let total = past.total.saturating_add(offset.magnitude());
    if total > MOST_IN_ALL { Err(StepRefusal::TooMuch(total)) } else { Ok(()) }
}

impl fmt::Display for StepRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("step.mode is off"),
            Self::NotATrigger(class) => write!(f, "{} is no reason for a step", class.label()),
            Self::BudgetUnknown => {
                f.write_str("what earlier steps added up to is not known: the annotation last-step was not read, or cannot be")
            }
            Self::Latched => f.write_str("the last step did not help; a person has to ask for the next one"),
            Self::NothingMeasured => f.write_str("nothing was measured since"),
            Self::PoolsDisagree => f.write_str("the servers contradict each other"),
            Self::NotAllPools => f.write_str("not every pool answers with one voice, and one is not enough"),
            Self::PoolsApart(apart) => write!(f, "the pools are {} apart", Span(*apart)),
            Self::Uncertain(bound) => {
                write!(f, "the offset is known to ±{} only, not to a quarter of itself", bound.in_words())
            }
            Self::OnePoolsWord => f.write_str("one pool by itself does not bear out so large a step"),
            Self::TooLarge(offset) => {
                write!(f, "the clock is {}, over step.maxOffset: a person has to ask", offset.in_words())
            }
            Self::Leap => f.write_str("a server announces a leap second within 24 h"),
            Self::CoolDown(left) => {
                write!(f, "the last step is too recent: wait {} more", Span(*left))
            }
            Self::TooMany => write!(f, "{STEPS_AN_HOUR} steps within an hour are the most"),
            Self::TooMuch(total) => {
                write!(f, "all steps together would be {}; a person has to ask", Span(*total))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;
    const SECOND: i64 = 1_000 * MS;

    fn settings() -> Settings {
        Settings {
            mode: Mode::Auto,
            min_offset: Duration::from_millis(100),
            max_offset: Duration::from_secs(86_400),
            cooldown: Duration::from_secs(300),
            dry_run: false,
            on_request: false,
        }
    }

    fn of(offset: i64, bound: i64) -> Measurement {
        Measurement::new(Offset::from_nanos(offset), Bound::from_nanos(bound))
    }

    fn now() -> Wall {
        Wall::from_secs(1_795_341_600)
    }

    fn before(seconds: i64) -> Wall {
        now().plus(Offset::from_nanos(-seconds * SECOND))
    }

    /// Twenty seconds behind, and everybody says so.
    fn clear_case() -> Evidence {
        let said = of(20 * SECOND, 2 * MS);
        Evidence {
            agreed: Some(said),
            contradiction: false,
            pools: vec![Some(said), Some(said)],
            leap: false,
            reference: Some(now()),
        }
    }

    const RESUME: Trigger = Trigger::Disruption(Class::Pause);

    fn all_say(offset: i64, bound: i64) -> Evidence {
        let said = of(offset, bound);
        Evidence { agreed: Some(said), pools: vec![Some(said); 2], ..clear_case() }
    }

    #[test]
    fn a_clear_case_is_stepped_by_what_was_measured_whoever_asks_and_in_both_directions() {
        for trigger in [
            RESUME,
            Trigger::Disruption(Class::Suspend),
            Trigger::Disruption(Class::Stall),
            Trigger::Operator,
            Trigger::Request("maintenance-1".into()),
        ] {
            for offset in [20 * SECOND, -20 * SECOND] {
                let Measurement { offset, .. } = of(offset, 2 * MS);
                assert_eq!(
                    decide(&trigger, &all_say(offset.as_nanos(), 2 * MS), &Past::default(), &settings()),
                    Decision::Step(offset)
                );
            }
        }
    }

    #[test]
    fn each_rule_refuses_by_itself() {
        let (case, calm) = (clear_case(), Past::default());
        let on = settings();
        let refuses =
            |why: StepRefusal, trigger: &Trigger, evidence: &Evidence, past: &Past, settings: &Settings| {
                assert_eq!(decide(trigger, evidence, past, settings), Decision::Refuse(why), "{why}");
            };
        refuses(StepRefusal::Off, &RESUME, &case, &calm, &Settings { mode: Mode::Off, ..on });
        for class in [Class::ClockSet, Class::RtcWrite] {
            refuses(StepRefusal::NotATrigger(class), &Trigger::Disruption(class), &case, &calm, &on);
        }
        refuses(
            StepRefusal::PoolsDisagree,
            &RESUME,
            &Evidence { contradiction: true, ..case.clone() },
            &calm,
            &on,
        );
        refuses(
            StepRefusal::NothingMeasured,
            &RESUME,
            &Evidence { agreed: None, ..case.clone() },
            &calm,
            &on,
        );
        refuses(
            StepRefusal::NothingMeasured,
            &RESUME,
            &Evidence { reference: None, ..case.clone() },
            &calm,
            &on,
        );
        let said = Some(of(20 * SECOND, 2 * MS));
        for pools in [vec![said, None], vec![None, said], vec![said], vec![]] {
            refuses(StepRefusal::NotAllPools, &RESUME, &Evidence { pools, ..case.clone() }, &calm, &on);
        }
        let apart = vec![said, Some(of(20 * SECOND + 101 * MS, 200 * MS))];
        let why = StepRefusal::PoolsApart(Duration::from_millis(101));
        refuses(why, &RESUME, &Evidence { pools: apart, ..case.clone() }, &calm, &on);
        refuses(StepRefusal::Leap, &RESUME, &Evidence { leap: true, ..case.clone() }, &calm, &on);
        let latched = Past { is_latched: true, ..Past::default() };
        refuses(StepRefusal::Latched, &RESUME, &case, &latched, &on);
        let unknown = Past { is_unknown: true, ..Past::default() };
        refuses(StepRefusal::BudgetUnknown, &RESUME, &case, &unknown, &on);
    }

    #[test]
    fn limits_hold_at_their_edges() {
        let calm = Past::default();
        let decide = |evidence: &Evidence| decide(&RESUME, evidence, &calm, &settings());
        assert_eq!(decide(&all_say(100 * MS - 1, MS)), Decision::NotNeeded(Offset::from_nanos(100 * MS - 1)));
        assert!(matches!(decide(&all_say(100 * MS, MS)), Decision::Step(..)));
        assert!(matches!(decide(&all_say(86_400 * SECOND, MS)), Decision::Step(..)));
        let Measurement { offset: too_large, .. } = of(86_400 * SECOND + 1, 0);
        assert_eq!(
            decide(&all_say(86_400 * SECOND + 1, MS)),
            Decision::Refuse(StepRefusal::TooLarge(too_large))
        );
        assert!(matches!(decide(&all_say(SECOND, 250 * MS - 1)), Decision::Step(..)));
        let bound = Bound::from_nanos(250 * MS);
        assert_eq!(decide(&all_say(SECOND, 250 * MS)), Decision::Refuse(StepRefusal::Uncertain(bound)));
    }

    #[test]
    fn a_person_may_go_past_the_largest_offset_and_the_budgets_but_not_past_doubt() {
        let far = all_say(30 * 86_400 * SECOND, MS);
        let spent = Past {
            recent: vec![before(3_000), before(2_000), before(1_000)],
            total: MOST_IN_ALL,
            is_unknown: true,
            is_latched: true,
        };
        assert!(matches!(decide(&Trigger::Operator, &far, &spent, &settings()), Decision::Step(..)));
        let just_now = Past { recent: vec![before(1)], ..Past::default() };
        assert!(matches!(
            decide(&Trigger::Operator, &far, &just_now, &settings()),
            Decision::Refuse(StepRefusal::CoolDown(_))
        ));
        let doubt = Evidence { contradiction: true, ..far };
        assert_eq!(
            decide(&Trigger::Operator, &doubt, &Past::default(), &settings()),
            Decision::Refuse(StepRefusal::PoolsDisagree)
        );
    }

    #[test]
    fn cool_down_and_budgets_hold_at_their_edges() {
        let of_past = |past: &Past| decide(&RESUME, &clear_case(), past, &settings());
        let steps =
            |ago: &[i64]| Past { recent: ago.iter().map(|s| before(*s)).collect(), ..Past::default() };
        assert_eq!(
            of_past(&steps(&[299])),
            Decision::Refuse(StepRefusal::CoolDown(Duration::from_secs(1))),
            "five minutes"
        );
        assert!(matches!(of_past(&steps(&[300])), Decision::Step(..)));
        assert!(
            matches!(of_past(&steps(&[-10])), Decision::Refuse(StepRefusal::CoolDown(_))),
            "from the future"
        );
        assert_eq!(of_past(&steps(&[3_599, 2_000, 1_000])), Decision::Refuse(StepRefusal::TooMany));
        assert!(matches!(of_past(&steps(&[3_600, 2_000, 1_000])), Decision::Step(..)));
        let spent = |total: u64| Past { total: Duration::from_secs(total), ..Past::default() };
        assert!(matches!(of_past(&spent(86_380)), Decision::Step(..)));
        assert_eq!(
            of_past(&spent(86_381)),
            Decision::Refuse(StepRefusal::TooMuch(Duration::from_secs(86_401)))
        );
    }

    #[test]
    fn a_pool_whose_own_word_allows_another_truth_stops_the_step() {
        // Together they say 110 ms behind, but the second alone allows 90 ms ahead: if the first one lies, a step is wrong.
        let pools = vec![Some(of(110 * MS, 5 * MS)), Some(of(10 * MS, 100 * MS))];
        let evidence = Evidence { agreed: Some(of(110 * MS, 5 * MS)), pools, ..clear_case() };
        assert_eq!(
            decide(&RESUME, &evidence, &Past::default(), &settings()),
            Decision::Refuse(StepRefusal::OnePoolsWord)
        );
    }

    proptest! {
        /// Whatever is said: if the truth is inside any one pool's own interval, a step brings the clock nearer to it.
        #[test]
        fn no_step_leads_away_from_the_truth(
            agreed in (-3_000..3_000_i64, 0..2_000_i64),
            pools in proptest::collection::vec((-3_000..3_000_i64, 0..2_000_i64), 2..4),
            inside in -1_000..=1_000_i64,
        ) {
            let said = |(offset, bound): (i64, i64)| of(offset * MS, bound * MS);
            let evidence = Evidence {
                agreed: Some(said(agreed)),
                pools: pools.iter().map(|p| Some(said(*p))).collect(),
                ..clear_case()
            };
            if let Decision::Step(step) = decide(&RESUME, &evidence, &Past::default(), &settings()) {
                for (offset, bound) in pools {
                    let truth = offset * MS + bound * MS / 1_000 * inside;
                    prop_assert!((truth - step.as_nanos()).abs() <= truth.abs(), "{truth} {step:?}");
                }
            }
        }
    }
}
