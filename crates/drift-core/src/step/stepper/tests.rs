//! Triggers, phases and budgets over time.

use super::*;
use crate::resume::Class;
use crate::test_support::Reached;
use crate::time::{Bound, Measurement};
use proptest::prelude::*;

const SECOND: i64 = 1_000_000_000;
const RESUME: Trigger = Trigger::Disruption(Class::Pause);

fn settings() -> Settings {
    Settings {
        mode: Mode::Auto,
        min_offset: Duration::from_millis(100),
        max_offset: Duration::from_secs(86_400),
        cooldown: Duration::from_secs(300),
        dry_run: false,
        on_request: true,
    }
}

fn at(secs: i64) -> Reading {
    let wall = Wall::from_secs(1_795_341_600 + secs);
    Reading { wall, raw: Mono::from_nanos(secs * SECOND), suspended: Duration::ZERO }
}

fn restored(settings: Settings) -> Stepper {
    let mut stepper = Stepper::new(settings, Duration::from_secs(64));
    assert_eq!(stepper.restore(None, None, at(0).raw), Burst::NotWanted);
    stepper
}

/// Both pools report this.
fn measured(offset: i64, now: Reading) -> Evidence {
    let reported = Measurement::new(Offset::from_nanos(offset), Bound::from_nanos(1_000_000));
    Evidence {
        agreed: Some(reported),
        contradiction: false,
        is_one_server: false,
        pools: vec![Some(reported), Some(reported)],
        leap: false,
        reference: Some(now.wall.plus(reported.offset)),
    }
}

fn order(decided: Option<Decided>) -> StepOrder {
    match decided {
        Some(Decided::Step(order)) => order,
        other => panic!("no order: {other:?}"),
    }
}

fn outcome(decided: Option<Decided>) -> Outcome {
    match decided {
        Some(Decided::Finished(outcome)) => outcome,
        other => panic!("not finished: {other:?}"),
    }
}

fn finished(after: AfterStep) -> Outcome {
    match after {
        AfterStep::Finished(outcome) => outcome,
        other => panic!("not finished: {other:?}"),
    }
}

fn reason(outcome: &Outcome) -> &str {
    outcome.reason.as_deref().expect("a reason")
}

/// From the trigger to the confirmation; what is measured before and after.
fn whole_step(stepper: &mut Stepper, trigger: Trigger, secs: i64, before: i64, after: i64) -> Outcome {
    assert_eq!(stepper.trigger(trigger, at(secs).raw), Burst::Wanted);
    let order = order(stepper.consider(&measured(before, at(secs)), true, Ok(()), at(secs)));
    assert_eq!(order.offset, Offset::from_nanos(before));
    let done = StepDone::Stepped(Method::Kernel);
    assert_eq!(stepper.handle_done(done, at(secs).raw), AfterStep::Measure);
    outcome(stepper.consider(&measured(after, at(secs + 1)), true, Ok(()), at(secs + 1)))
}

#[test]
fn a_step_is_ordered_once_confirmed_and_recorded() {
    let mut stepper = restored(settings());
    let done = whole_step(&mut stepper, RESUME, 10, 20 * SECOND, 200_000);
    assert_eq!((done.result, done.method), (StepResult::Stepped, Some(Method::Kernel)));
    assert_eq!(
        done.sentence(),
        "The clock was 20 s behind and was stepped by kernel (pause); now it is 200 µs behind."
    );
    assert_eq!(
        stepper.last_text().unwrap(),
        "2026-11-22T10:00:30Z before=+20.0000 after=+0.0002 method=kernel trigger=pause in-hour=1 total=20.0000",
        "in reference time"
    );
    assert_eq!(stepper.awaiting_since(), None, "a trigger is used once");
    assert_eq!(stepper.counts()[&(Some(Method::Kernel), StepResult::Stepped)], 1);
}

#[test]
fn a_step_that_did_not_help_locks_the_budget_until_an_operator_requests_one() {
    let mut stepper = restored(settings());
    let done = whole_step(&mut stepper, RESUME, 10, 20 * SECOND, 20 * SECOND - 100_000);
    assert_eq!(done.result, StepResult::Failed);
    assert_eq!(
        reason(&done),
        "offset afterwards: 20.0 s behind; automatic steps are disabled until an operator requests one"
    );
    assert!(stepper.last_text().unwrap().ends_with("latched"));
    stepper.trigger(RESUME, at(4_000).raw);
    let refused = outcome(stepper.consider(&measured(SECOND, at(4_001)), true, Ok(()), at(4_001)));
    assert_eq!(refused.result, StepResult::Refused);
    assert_eq!(reason(&refused), "the last step did not help; the next one requires an operator request");
    let requested = Trigger::Operator(RequestedBy::Cli);
    let requested = whole_step(&mut stepper, requested, 5_000, 20 * SECOND, 0);
    assert_eq!(requested.result, StepResult::Stepped);
    assert_eq!(
        whole_step(&mut stepper, RESUME, 9_000, SECOND, 0).result,
        StepResult::Stepped,
        "the request has unlocked the budget"
    );
}

#[test]
fn a_step_without_a_measurement_afterwards_fails_after_two_intervals() {
    let mut stepper = restored(settings());
    stepper.trigger(RESUME, at(10).raw);
    order(stepper.consider(&measured(20 * SECOND, at(10)), true, Ok(()), at(10)));
    assert_eq!(stepper.handle_done(StepDone::Stepped(Method::Chrony), at(11).raw), AfterStep::Measure);
    let when = stepper.last().map(|last| last.at);
    assert_eq!(when, Some(at(31).wall), "reference time, a second after the decision");
    let nothing = Evidence::default();
    assert_eq!(stepper.consider(&nothing, true, Ok(()), at(12)), None, "the burst goes on");
    assert_eq!(stepper.consider(&nothing, false, Ok(()), at(13)), None, "the network may come back");
    let failed = outcome(stepper.consider(&nothing, false, Ok(()), at(11 + 128)));
    assert_eq!(failed.result, StepResult::Failed);
}

#[test]
fn refusals_that_may_pass_wait_for_the_burst_and_for_an_unreachable_network_two_intervals() {
    let mut stepper = restored(settings());
    stepper.trigger(RESUME, at(10).raw);
    let contradiction = Evidence { contradiction: true, agreed: None, ..measured(SECOND, at(10)) };
    assert_eq!(stepper.consider(&contradiction, true, Ok(()), at(10)), None);
    let refused = outcome(stepper.consider(&contradiction, false, Ok(()), at(12)));
    assert_eq!(refused.result, StepResult::Refused);
    assert_eq!(reason(&refused), "the servers contradict each other");

    stepper.trigger(RESUME, at(20).raw);
    assert_eq!(stepper.consider(&Evidence::default(), false, Ok(()), at(24)), None);
    assert_eq!(
        order(stepper.consider(&measured(SECOND, at(80)), false, Ok(()), at(80))).offset,
        Offset::from_nanos(SECOND),
        "the network is back"
    );
}

#[test]
fn an_unready_stepper_refuses_with_what_is_missing_only_when_a_step_is_needed() {
    let mut stepper = restored(settings());
    stepper.trigger(RESUME, at(10).raw);
    let refused = outcome(stepper.consider(&measured(SECOND, at(10)), true, Err("no SYS_TIME"), at(10)));
    assert_eq!((refused.result, reason(&refused)), (StepResult::Refused, "no SYS_TIME"));
    stepper.trigger(RESUME, at(20).raw);
    let calm = outcome(stepper.consider(&measured(50_000_000, at(20)), true, Err("no SYS_TIME"), at(20)));
    assert_eq!((calm.result, calm.reason), (StepResult::NotNeeded, None));
}

#[test]
fn only_operators_trigger_a_stepper_that_is_off_and_are_refused() {
    let mut stepper = restored(Settings { mode: Mode::Off, ..settings() });
    assert_eq!(stepper.trigger(RESUME, at(1).raw), Burst::NotWanted);
    let set = Trigger::Disruption(Class::ClockSet);
    assert_eq!(restored(settings()).trigger(set, at(1).raw), Burst::NotWanted);
    assert_eq!(stepper.request("w42".into(), at(1).raw), Burst::Wanted);
    outcome(stepper.consider(&measured(SECOND, at(2)), true, Ok(()), at(2)));
    assert_eq!(stepper.answer().unwrap(), "w42: The clock is not stepped (step-request): step.mode is off.");
}

#[test]
fn a_request_is_answered_once_also_over_a_restart() {
    let mut stepper = restored(settings());
    assert_eq!(stepper.request("a".into(), at(1).raw), Burst::Wanted);
    assert_eq!(stepper.request("a".into(), at(1).raw), Burst::NotWanted, "under way");
    outcome(stepper.consider(&measured(0, at(2)), true, Ok(()), at(2)));
    let answer = stepper.answer().unwrap().clone();
    assert_eq!(answer, "a: No step is needed (step-request): the clock is on time.");
    assert_eq!(stepper.request("a".into(), at(3).raw), Burst::NotWanted);
    assert_eq!(stepper.request("b".into(), at(3).raw), Burst::Wanted);

    let mut next = Stepper::new(settings(), Duration::from_secs(64));
    assert_eq!(next.request("a".into(), at(0).raw), Burst::NotWanted, "the answers are not known yet");
    assert_eq!(next.restore(None, Some(&answer), at(0).raw), Burst::NotWanted, "answered already");
    assert_eq!(next.answer(), Some(&answer));
    let mut other = Stepper::new(settings(), Duration::from_secs(64));
    assert_eq!(other.request("c".into(), at(0).raw), Burst::NotWanted);
    assert_eq!(other.restore(None, Some(&answer), at(0).raw), Burst::Wanted, "not answered yet");
}

#[test]
fn a_later_disruption_does_not_replace_an_operators_request() {
    let mut stepper = restored(settings());
    assert_eq!(stepper.request("a".into(), at(1).raw), Burst::Wanted);
    stepper.trigger(RESUME, at(5).raw);
    assert_eq!(stepper.awaiting_since(), Some(at(5).raw), "measurements from before the pause do not count");
    outcome(stepper.consider(&measured(0, at(6)), true, Ok(()), at(6)));
    assert!(stepper.answer().is_some());
}

#[test]
fn budgets_survive_a_restart_and_an_unreadable_one_refuses_automatic_steps() {
    let mut first = restored(settings());
    for secs in [10, 400, 800] {
        assert_eq!(whole_step(&mut first, RESUME, secs, 2 * SECOND, 0).result, StepResult::Stepped);
    }
    let text = first.last_text().unwrap();
    assert!(text.ends_with("in-hour=3 total=6.0000"), "{text}");
    let refusal = |last: Option<&str>, secs: i64| {
        let mut stepper = Stepper::new(settings(), Duration::from_secs(64));
        if let Some(last) = last {
            assert_eq!(stepper.restore(Some(last), None, at(0).raw), Burst::NotWanted);
        }
        stepper.trigger(RESUME, at(secs).raw);
        match stepper.consider(&measured(SECOND, at(secs)), true, Ok(()), at(secs)) {
            Some(Decided::Finished(outcome)) => outcome.reason.unwrap_or_default(),
            other => format!("{other:?}"),
        }
    };
    assert!(refusal(Some(&text), 1_200).contains("3 steps per hour"));
    assert!(refusal(Some(&text), 4_500).starts_with("Some(Step("), "an hour later");
    assert!(refusal(Some("whatever"), 1_200).contains("cannot be parsed"));
    assert!(refusal(None, 1_200).contains("was not read"), "the Node was not read yet");
}

#[test]
fn a_done_without_an_order_changes_nothing() {
    let mut stepper = restored(settings());
    stepper.trigger(RESUME, at(1).raw);
    assert_eq!(stepper.handle_done(StepDone::Stepped(Method::Kernel), at(2).raw), AfterStep::NotOrdered);
    assert_eq!((stepper.awaiting_since(), stepper.last()), (Some(at(1).raw), None));
}

#[test]
fn a_partly_applied_step_that_did_not_help_fails_with_its_error() {
    for (after, result, why) in
        [(SECOND, StepResult::Failed, Some("no answer")), (0, StepResult::Stepped, None)]
    {
        let mut stepper = restored(settings());
        stepper.trigger(RESUME, at(1).raw);
        order(stepper.consider(&measured(SECOND, at(1)), true, Ok(()), at(1)));
        let done = StepDone::PartlyApplied(Method::Chrony, "no answer".into());
        assert_eq!(stepper.handle_done(done, at(2).raw), AfterStep::Measure);
        let ended = outcome(stepper.consider(&measured(after, at(3)), true, Ok(()), at(3)));
        assert_eq!((ended.result, ended.reason.as_deref()), (result, why));
    }
}

#[test]
fn restoring_any_annotation_never_panics() {
    let reached = Reached::new([("restored", 5), ("a step is ordered", 2), ("a step is refused", 20)]);
    proptest!(|(
        date in prop_oneof![3 => "2026-11-22T0[0-9]:00:00Z", 1 => "[0-9]{1,5}-[0-9]{2}-[0-9]{2}T[0-9]{2}:00:00Z"],
        (before, after) in (prop_oneof![1 => "[-+]?[0-9]{1,30}(\\.[0-9]{1,9})?", 2 => "[-+]?[0-9]{1,5}"], "[-+]?[0-9.e]{0,12}|nan|inf"),
        in_hour in prop_oneof![1 => "[0-9]{1,40}|-1", 2 => "[0-3]"],
        total in prop_oneof![1 => "[0-9]{1,40}(\\.[0-9]{1,9})?|1e308|inf|-0", 2 => "[0-9]{1,4}"],
        tail in ".{0,100}",
        arbitrary in ".{0,300}",
    )| {
        let built = format!("{date} before={before} after={after} in-hour={in_hour} total={total} {tail}");
        for text in [&built, &arbitrary] {
            let mut stepper = Stepper::new(settings(), Duration::from_secs(64));
            let _ = stepper.restore(Some(text), Some(&arbitrary), at(0).raw);
            stepper.trigger(RESUME, at(10).raw);
            let decided = stepper.consider(&measured(SECOND, at(10)), true, Ok(()), at(10));
            reached.case("restored", text.parse::<LastStep>().is_ok());
            reached.case("a step is ordered", matches!(decided, Some(Decided::Step(_))));
            reached.case("a step is refused", matches!(decided, Some(Decided::Finished(_))));
            let _ = stepper.last_text();
        }
    });
}

#[test]
fn a_trigger_during_a_step_waits_and_dry_runs_and_failures_spend_no_budget() {
    let mut stepper = restored(Settings { dry_run: true, ..settings() });
    stepper.trigger(RESUME, at(10).raw);
    assert!(order(stepper.consider(&measured(SECOND, at(10)), true, Ok(()), at(10))).dry_run);
    stepper.trigger(RESUME, at(11).raw);
    assert_eq!(stepper.awaiting_since(), None);
    let ended = finished(stepper.handle_done(StepDone::DryRun(Method::Chrony), at(12).raw));
    assert_eq!(ended.result, StepResult::DryRun);
    assert_eq!(stepper.awaiting_since(), Some(at(11).raw), "the second trigger is next");
    assert_eq!(stepper.last(), None);
    order(stepper.consider(&measured(SECOND, at(13)), true, Ok(()), at(13)));
    let ended = finished(stepper.handle_done(StepDone::Failed("no socket".into()), at(14).raw));
    assert_eq!((ended.result, reason(&ended)), (StepResult::Failed, "no socket"));
    assert_eq!(stepper.last(), None, "nothing was changed");
}
