//! Triggers, phases and budgets over time.

use super::*;
use crate::resume::Class;
use crate::step::policy::RequestedBy;
use crate::test_support::Reached;
use crate::time::{Bound, Measurement};
use proptest::prelude::*;

const SECOND: i64 = 1_000_000_000;
const RESUME: Trigger = Trigger::Disruption(Class::Pause);
const SUSPEND: Trigger = Trigger::Disruption(Class::Suspend);
/// The trigger waits for measurements.
const MEASURE: Triggered = Triggered::Measure(None);

fn settings() -> Settings {
    Settings {
        mode: Mode::Auto,
        min_offset: Duration::from_millis(100),
        max_offset: Duration::from_secs(86_400),
        cooldown: Duration::from_secs(300),
        dry_run: false,
        on_request: true,
        windows: Vec::new(),
    }
}

fn at(secs: i64) -> Reading {
    let wall = Wall::from_secs(1_795_341_600 + secs);
    Reading { wall, raw: Mono::from_nanos(secs * SECOND), suspended: Duration::ZERO }
}

fn restored(settings: Settings) -> Stepper {
    let mut stepper = Stepper::new(settings, Duration::from_secs(64));
    assert_eq!(stepper.restore(None, None, at(0).raw), Triggered::Nothing);
    stepper
}

/// Both pools report this.
fn measured(offset: i64, now: Reading) -> Evidence {
    let reported = Measurement::new(Offset::from_nanos(offset), Bound::from_nanos(1_000_000));
    Evidence {
        measured: Some(reported),
        contradiction: false,
        assumed: std::collections::BTreeSet::new(),
        is_one_server: false,
        pools: vec![Some(reported), Some(reported)],
        leap: None,
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
    assert_eq!(stepper.trigger(trigger, at(secs).raw), MEASURE);
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
        "The clock was 20 s behind and was stepped by kernel (pause); now it is 200 µs behind (±1 ms)."
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
        "offset afterwards: 20.0 s behind (±1 ms); automatic steps are disabled until an operator requests one"
    );
    assert!(stepper.last_text().unwrap().ends_with("latched"));
    assert_eq!(stepper.trigger(RESUME, at(4_000).raw), MEASURE);
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
    assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
    order(stepper.consider(&measured(20 * SECOND, at(10)), true, Ok(()), at(10)));
    assert_eq!(stepper.handle_done(StepDone::Stepped(Method::Chrony), at(11).raw), AfterStep::Measure);
    let when = stepper.last().map(|last| last.at);
    assert_eq!(when, Some(at(31).wall), "reference time, a second after the decision");
    let nothing = Evidence::default();
    assert_eq!(stepper.consider(&nothing, true, Ok(()), at(12)), None, "the burst goes on");
    assert_eq!(stepper.consider(&nothing, false, Ok(()), at(13)), None, "the network may come back");
    let failed = outcome(stepper.consider(&nothing, false, Ok(()), at(11 + 128)));
    assert_eq!(failed.result, StepResult::Failed);
    assert_eq!(
        failed.sentence(),
        "A step by chrony (pause) is not confirmed; before it the clock was 20 s behind; offset afterwards: not measured; the next attempt follows in 5 min."
    );
    assert!(!stepper.last().unwrap().is_latched, "no measurement shows that it has no effect");
    assert!(stepper.take_due(at(11 + 128 + 300).raw));
    let ended = outcome(stepper.consider(&measured(0, at(440)), true, Ok(()), at(440)));
    assert_eq!(ended.result, StepResult::NotNeeded);
}

#[test]
fn a_step_that_fails_is_tried_three_times_for_a_disruption_and_once_for_an_operator() {
    let mut stepper = restored(settings());
    assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
    let mut secs = 10;
    for wanted in [
        "no socket; the next attempt follows in 5 min",
        "no socket; the next attempt follows in 5 min",
        "no socket",
    ] {
        order(stepper.consider(&measured(SECOND, at(secs)), true, Ok(()), at(secs)));
        let ended = finished(stepper.handle_done(StepDone::Failed("no socket".into()), at(secs).raw));
        assert_eq!((ended.result, reason(&ended)), (StepResult::Failed, wanted));
        assert_eq!(stepper.awaiting_since(), None);
        secs += 300;
        assert!(!stepper.take_due(at(secs - 1).raw));
        assert_eq!(stepper.take_due(at(secs).raw), wanted.contains("next"));
    }

    let mut stepper = restored(Settings { cooldown: Duration::ZERO, ..settings() });
    assert_eq!(stepper.request("a".into(), at(10).raw), MEASURE);
    order(stepper.consider(&measured(SECOND, at(10)), true, Ok(()), at(10)));
    let ended = finished(stepper.handle_done(StepDone::Failed("no socket".into()), at(10).raw));
    assert_eq!(reason(&ended), "no socket");
    assert!(!stepper.take_due(at(1_000).raw));
    // Without a cool-down a minute lies between two attempts.
    assert_eq!(stepper.trigger(RESUME, at(20).raw), MEASURE);
    order(stepper.consider(&measured(SECOND, at(20)), true, Ok(()), at(20)));
    let ended = finished(stepper.handle_done(StepDone::Failed("no socket".into()), at(20).raw));
    assert_eq!(reason(&ended), "no socket; the next attempt follows in 1 min");
    assert!(!stepper.take_due(at(79).raw) && stepper.take_due(at(80).raw));
}

#[test]
fn a_disruption_during_a_failing_step_takes_the_place_of_the_next_attempt() {
    let mut stepper = restored(settings());
    assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
    order(stepper.consider(&measured(SECOND, at(10)), true, Ok(()), at(10)));
    assert_eq!(stepper.trigger(Trigger::Disruption(Class::Suspend), at(11).raw), MEASURE);
    let ended = finished(stepper.handle_done(StepDone::Failed("no socket".into()), at(12).raw));
    assert_eq!(reason(&ended), "no socket");
    assert_eq!(stepper.awaiting_since(), Some(at(11).raw));
}

#[test]
fn a_clock_that_another_process_sets_before_a_step_is_confirmed_is_measured_anew() {
    let mut stepper = restored(Settings { cooldown: Duration::ZERO, ..settings() });
    let clock_set = Trigger::Disruption(Class::ClockSet);
    assert_eq!(stepper.trigger(clock_set.clone(), at(5).raw), Triggered::Nothing);
    assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
    assert_eq!(stepper.trigger(clock_set.clone(), at(10).raw), Triggered::Nothing, "the wait goes on");
    order(stepper.consider(&measured(20 * SECOND, at(10)), true, Ok(()), at(10)));
    assert_eq!(stepper.handle_done(StepDone::Stepped(Method::Kernel), at(10).raw), AfterStep::Measure);
    let Triggered::Measure(Some(ended)) = stepper.trigger(clock_set, at(11).raw) else { panic!("not ended") };
    assert_eq!(
        (ended.result, reason(&ended)),
        (StepResult::Stepped, "another process set the clock before this was confirmed")
    );
    assert_eq!(stepper.awaiting_since(), Some(at(11).raw));
    let order = order(stepper.consider(&measured(-20 * SECOND, at(40)), true, Ok(()), at(40)));
    assert_eq!(order.offset, Offset::from_nanos(-20 * SECOND), "both have corrected it");
}

/// The deferral of a trigger: that it waits, once, and why.
fn deferred(decided: Option<Decided>) -> String {
    let ended = outcome(decided);
    assert_eq!(ended.result, StepResult::Deferred, "{ended:?}");
    reason(&ended).to_owned()
}

#[test]
fn what_more_answers_may_lift_waits_for_the_burst_and_then_for_an_hour() {
    let mut stepper = restored(settings());
    assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
    let own = Measurement::new(Offset::from_nanos(SECOND), Bound::from_nanos(SECOND));
    let wide =
        |secs| Evidence { measured: Some(own), pools: vec![Some(own); 2], ..measured(SECOND, at(secs)) };
    assert_eq!(stepper.consider(&wide(10), true, Ok(()), at(10)), None);
    let why = deferred(stepper.consider(&wide(12), false, Ok(()), at(12)));
    assert_eq!(why, "uncertainty ±1 s exceeds a quarter of the offset");
    assert_eq!(stepper.consider(&wide(64), false, Ok(()), at(64)), None, "said once");
    let mut patient = stepper;
    order(patient.consider(&measured(SECOND, at(3_609)), false, Ok(()), at(3_609)));

    let mut stepper = restored(settings());
    assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
    deferred(stepper.consider(&wide(12), false, Ok(()), at(12)));
    let ended = outcome(stepper.consider(&wide(3_612), false, Ok(()), at(3_612)));
    assert_eq!(ended.result, StepResult::Refused);
    assert_eq!(stepper.awaiting_since(), None);
}

#[test]
fn a_disruption_waits_for_the_network_as_long_as_it_takes_and_an_operator_two_intervals() {
    let mut stepper = restored(settings());
    let nothing = Evidence::default();
    assert_eq!(stepper.trigger(RESUME, at(20).raw), MEASURE);
    assert_eq!(stepper.consider(&nothing, false, Ok(()), at(24)), None);
    assert_eq!(stepper.consider(&nothing, false, Ok(()), at(20 + 127)), None, "it may come back soon");
    let why = deferred(stepper.consider(&nothing, false, Ok(()), at(20 + 128)));
    assert_eq!(why, "no measurement since the trigger");
    assert_eq!(stepper.consider(&nothing, false, Ok(()), at(90_000)), None);
    order(stepper.consider(&measured(SECOND, at(90_001)), false, Ok(()), at(90_001)));

    let mut stepper = restored(settings());
    assert_eq!(stepper.request("a".into(), at(20).raw), MEASURE);
    assert_eq!(stepper.consider(&nothing, false, Ok(()), at(20 + 127)), None);
    assert_eq!(outcome(stepper.consider(&nothing, false, Ok(()), at(20 + 128))).result, StepResult::Refused);
}

#[test]
fn a_trigger_within_the_cool_down_waits_for_its_end_and_is_measured_again() {
    let mut stepper = restored(settings());
    assert_eq!(whole_step(&mut stepper, RESUME, 10, 20 * SECOND, 0).result, StepResult::Stepped);
    assert_eq!(stepper.trigger(RESUME, at(40).raw), MEASURE);
    // The first step was recorded 20 s later by reference time, and half of the second is over.
    let why = deferred(stepper.consider(&measured(20 * SECOND, at(40)), true, Ok(()), at(40)));
    assert_eq!(why, "the last step is too recent: 4 min 30 s of step.cooldown left");
    assert_eq!(stepper.awaiting_since(), None, "nothing that is measured before the end counts");
    assert_eq!(stepper.consider(&measured(20 * SECOND, at(100)), true, Ok(()), at(100)), None);
    assert!(
        !stepper.take_due(at(309).raw) && stepper.take_due(at(310).raw) && !stepper.take_due(at(310).raw)
    );
    assert_eq!(stepper.awaiting_since(), Some(at(310).raw));
    let second = order(stepper.consider(&measured(19 * SECOND, at(311)), true, Ok(()), at(311)));
    assert_eq!(second.offset, Offset::from_nanos(19 * SECOND), "as measured at the end");
}

#[test]
fn a_trigger_over_the_hourly_limit_waits_until_it_has_room_and_an_operator_does_not() {
    let mut stepper = restored(settings());
    for secs in [0, 400, 800] {
        assert_eq!(whole_step(&mut stepper, RESUME, secs, SECOND, 0).result, StepResult::Stepped);
    }
    assert_eq!(stepper.trigger(RESUME, at(1_200).raw), MEASURE);
    let why = deferred(stepper.consider(&measured(SECOND, at(1_200)), true, Ok(()), at(1_200)));
    assert_eq!(why, "limit of 3 steps per hour reached: 40 min left");
    assert!(!stepper.take_due(at(3_599).raw) && stepper.take_due(at(3_600).raw));
    order(stepper.consider(&measured(SECOND, at(3_601)), true, Ok(()), at(3_601)));

    let mut stepper = restored(settings());
    for secs in [0, 400, 800, 801] {
        let requested = Trigger::Operator(RequestedBy::Cli);
        assert_eq!(whole_step(&mut stepper, requested, secs, SECOND, 0).result, StepResult::Stepped);
    }
}

#[test]
fn a_trigger_before_the_node_was_read_waits_for_it() {
    let mut stepper = Stepper::new(settings(), Duration::from_secs(64));
    assert_eq!(stepper.trigger(RESUME, at(1).raw), MEASURE);
    let why = deferred(stepper.consider(&measured(SECOND, at(2)), true, Ok(()), at(2)));
    assert!(why.contains("was not read yet"), "{why}");
    assert!(!stepper.take_due(at(3).raw));
    assert_eq!(stepper.restore(None, None, at(500).raw), MEASURE);
    assert_eq!(stepper.awaiting_since(), Some(at(500).raw));
    order(stepper.consider(&measured(SECOND, at(501)), true, Ok(()), at(501)));
}

#[test]
fn a_disruption_while_a_step_is_confirmed_supersedes_it_and_locks_nothing() {
    let mut stepper = restored(settings());
    assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
    order(stepper.consider(&measured(20 * SECOND, at(10)), true, Ok(()), at(10)));
    assert_eq!(stepper.handle_done(StepDone::Stepped(Method::Kernel), at(10).raw), AfterStep::Measure);
    let Triggered::Measure(Some(ended)) = stepper.trigger(RESUME, at(11).raw) else {
        panic!("not superseded")
    };
    assert_eq!((ended.result, ended.after), (StepResult::Stepped, None));
    assert_eq!(
        ended.sentence(),
        "The clock was 20 s behind and was stepped by kernel (pause); another disruption came before this was confirmed."
    );
    // Another 20 s were lost: the first step has helped, though the clock is as wrong as before.
    deferred(stepper.consider(&measured(20 * SECOND, at(12)), true, Ok(()), at(12)));
    assert!(!stepper.last_text().unwrap().contains("latched"));
    assert!(stepper.take_due(at(400).raw));
    order(stepper.consider(&measured(20 * SECOND, at(401)), true, Ok(()), at(401)));
}

#[test]
fn a_disruption_while_a_step_is_carried_out_supersedes_its_confirmation() {
    let mut stepper = restored(settings());
    assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
    order(stepper.consider(&measured(20 * SECOND, at(10)), true, Ok(()), at(10)));
    assert_eq!(stepper.trigger(RESUME, at(15).raw), MEASURE);
    let AfterStep::Superseded(ended) = stepper.handle_done(StepDone::Stepped(Method::Chrony), at(30).raw)
    else {
        panic!("not superseded")
    };
    assert_eq!(ended.result, StepResult::Stepped);
    assert_eq!(
        stepper.awaiting_since(),
        Some(at(30).raw),
        "what was measured before the step does not count"
    );

    // An operator's request waits for the confirmation.
    let mut stepper = restored(settings());
    assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
    order(stepper.consider(&measured(20 * SECOND, at(10)), true, Ok(()), at(10)));
    assert_eq!(stepper.request("a".into(), at(11).raw), MEASURE);
    assert_eq!(stepper.handle_done(StepDone::Stepped(Method::Kernel), at(12).raw), AfterStep::Measure);
}

#[test]
fn a_step_is_confirmed_or_not_only_by_a_measurement_that_decides_it() {
    let mut stepper = restored(settings());
    assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
    order(stepper.consider(&measured(20 * SECOND, at(10)), true, Ok(()), at(10)));
    assert_eq!(stepper.handle_done(StepDone::Stepped(Method::Kernel), at(10).raw), AfterStep::Measure);
    let own = Measurement::new(Offset::from_nanos(0), Bound::from_nanos(15 * SECOND));
    let wide = Evidence { measured: Some(own), contradiction: true, ..measured(0, at(11)) };
    assert_eq!(stepper.consider(&wide, false, Ok(()), at(11)), None, "the pools are 30 s apart");
    let confirmed = outcome(stepper.consider(&measured(SECOND, at(12)), false, Ok(()), at(12)));
    assert_eq!(confirmed.result, StepResult::Stepped);
}

#[test]
fn a_last_step_in_the_future_counts_as_now_once() {
    let mut stepper = Stepper::new(settings(), Duration::from_secs(64));
    let future = "2027-11-22T10:00:00Z before=+20.0000 method=kernel trigger=pause in-hour=1 total=20.0000";
    assert_eq!(stepper.restore(Some(future), None, at(0).raw), Triggered::Nothing);
    let version = stepper.version();
    assert_eq!(stepper.trigger(RESUME, at(1).raw), MEASURE);
    let why = deferred(stepper.consider(&measured(SECOND, at(1)), true, Ok(()), at(1)));
    assert_eq!(why, "the last step is too recent: 5 min of step.cooldown left");
    assert!(stepper.version() > version && stepper.last_text().unwrap().starts_with("2026-11-22T10:00:02Z"));
    assert!(stepper.take_due(at(301).raw));
    order(stepper.consider(&measured(SECOND, at(301)), true, Ok(()), at(301)));
}

#[test]
fn an_unready_stepper_refuses_with_what_is_missing_only_when_a_step_is_needed() {
    let mut stepper = restored(settings());
    assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
    let refused = outcome(stepper.consider(&measured(SECOND, at(10)), true, Err("no SYS_TIME"), at(10)));
    assert_eq!((refused.result, reason(&refused)), (StepResult::Refused, "no SYS_TIME"));
    assert_eq!(stepper.trigger(RESUME, at(20).raw), MEASURE);
    let calm = outcome(stepper.consider(&measured(50_000_000, at(20)), true, Err("no SYS_TIME"), at(20)));
    assert_eq!((calm.result, calm.reason), (StepResult::NotNeeded, None));
}

#[test]
fn only_operators_trigger_a_stepper_that_is_off_and_are_refused() {
    let mut stepper = restored(Settings { mode: Mode::Off, ..settings() });
    assert_eq!(stepper.trigger(RESUME, at(1).raw), Triggered::Nothing);
    let set = Trigger::Disruption(Class::ClockSet);
    assert_eq!(restored(settings()).trigger(set, at(1).raw), Triggered::Nothing);
    assert_eq!(stepper.request("w42".into(), at(1).raw), MEASURE);
    outcome(stepper.consider(&measured(SECOND, at(2)), true, Ok(()), at(2)));
    assert_eq!(stepper.answer().unwrap(), "w42: The clock is not stepped (step-request): step.mode is off.");
}

#[test]
fn a_request_is_answered_once_also_over_a_restart() {
    let mut stepper = restored(settings());
    assert_eq!(stepper.request("a".into(), at(1).raw), MEASURE);
    assert_eq!(stepper.request("a".into(), at(1).raw), Triggered::Nothing, "under way");
    outcome(stepper.consider(&measured(0, at(2)), true, Ok(()), at(2)));
    let answer = stepper.answer().unwrap().clone();
    assert_eq!(answer, "a: No step is needed (step-request): the clock is on time.");
    assert_eq!(stepper.request("a".into(), at(3).raw), Triggered::Nothing);
    assert_eq!(stepper.request("b".into(), at(3).raw), MEASURE);

    let mut next = Stepper::new(settings(), Duration::from_secs(64));
    assert_eq!(next.request("a".into(), at(0).raw), Triggered::Nothing, "the answers are not known yet");
    assert_eq!(next.restore(None, Some(&answer), at(0).raw), Triggered::Nothing, "answered already");
    assert_eq!(next.answer(), Some(&answer));
    let mut other = Stepper::new(settings(), Duration::from_secs(64));
    assert_eq!(other.request("c".into(), at(0).raw), Triggered::Nothing);
    assert_eq!(other.restore(None, Some(&answer), at(0).raw), MEASURE, "not answered yet");
}

#[test]
fn a_later_disruption_does_not_replace_an_operators_request() {
    let mut stepper = restored(settings());
    assert_eq!(stepper.request("a".into(), at(1).raw), MEASURE);
    assert_eq!(stepper.trigger(RESUME, at(5).raw), MEASURE);
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
            assert_eq!(stepper.restore(Some(last), None, at(0).raw), Triggered::Nothing);
        }
        assert_eq!(stepper.trigger(RESUME, at(secs).raw), MEASURE);
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
fn a_refuted_pause_is_dropped_unless_it_stands_for_another_disruption() {
    for (earlier, is_kept) in [(vec![], false), (vec![SUSPEND], true), (vec![RESUME], true)] {
        let mut stepper = restored(settings());
        for trigger in &earlier {
            assert_eq!(stepper.trigger(trigger.clone(), at(10).raw), MEASURE);
        }
        assert_eq!(stepper.trigger(RESUME, at(11).raw), MEASURE);
        stepper.withdraw_pause();
        assert_eq!(stepper.awaiting_since().is_some(), is_kept, "{earlier:?}");
    }
    // The step of the earlier disruption was not confirmed.
    let mut stepper = restored(settings());
    assert_eq!(stepper.trigger(SUSPEND, at(10).raw), MEASURE);
    order(stepper.consider(&measured(SECOND, at(10)), true, Ok(()), at(10)));
    assert_eq!(stepper.handle_done(StepDone::Stepped(Method::Kernel), at(10).raw), AfterStep::Measure);
    assert!(matches!(stepper.trigger(RESUME, at(11).raw), Triggered::Measure(Some(_))));
    stepper.withdraw_pause();
    assert_eq!(stepper.awaiting_since(), Some(at(11).raw));
    // A suspend is no pause.
    let mut stepper = restored(settings());
    assert_eq!(stepper.trigger(SUSPEND, at(10).raw), MEASURE);
    stepper.withdraw_pause();
    assert_eq!(stepper.awaiting_since(), Some(at(10).raw));
}

#[test]
fn a_step_for_a_pause_that_is_refuted_meanwhile_is_not_tried_again() {
    for is_refuted in [false, true] {
        let mut stepper = restored(settings());
        assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
        order(stepper.consider(&measured(SECOND, at(10)), true, Ok(()), at(10)));
        if is_refuted {
            stepper.withdraw_pause();
        }
        let failed = finished(stepper.handle_done(StepDone::Failed("busy".into()), at(11).raw));
        let is_tried_again = reason(&failed).contains("the next attempt follows");
        assert_eq!((is_tried_again, stepper.take_due(at(1_000).raw)), (!is_refuted, !is_refuted));
    }
}

#[test]
fn a_disruption_behind_a_request_that_ends_without_a_step_is_measured_again() {
    // The disruption came before the request, or after it.
    let came = |stepper: &mut Stepper, is_first: bool| {
        let disruption = |stepper: &mut Stepper| assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
        if is_first {
            disruption(stepper);
        }
        assert_eq!(stepper.request("window-7".into(), at(10).raw), MEASURE);
        if !is_first {
            disruption(stepper);
        }
    };
    for is_first in [false, true] {
        let mut stepper = restored(settings());
        came(&mut stepper, is_first);
        let doubtful = Evidence { is_one_server: true, ..measured(SECOND, at(11)) };
        let refused = outcome(stepper.consider(&doubtful, false, Ok(()), at(11)));
        assert_eq!((refused.result, refused.trigger.is_operator()), (StepResult::Refused, true));
        let again = order(stepper.consider(&measured(SECOND, at(20)), false, Ok(()), at(20)));
        assert_eq!(again.offset, Offset::from_nanos(SECOND), "for the disruption");

        let mut stepper = restored(settings());
        came(&mut stepper, is_first);
        order(stepper.consider(&measured(SECOND, at(11)), false, Ok(()), at(11)));
        assert!(
            reason(&finished(stepper.handle_done(StepDone::Failed("busy".into()), at(12).raw))) == "busy"
        );
        order(stepper.consider(&measured(SECOND, at(20)), false, Ok(()), at(20)));

        let mut stepper = restored(settings());
        came(&mut stepper, is_first);
        let missing = outcome(stepper.consider(&measured(SECOND, at(11)), false, Err("no chronyd"), at(11)));
        assert_eq!(missing.result, StepResult::Refused);
        order(stepper.consider(&measured(SECOND, at(20)), false, Ok(()), at(20)));
    }
    // A request alone has none behind it.
    let mut stepper = restored(settings());
    assert_eq!(stepper.request("window-7".into(), at(10).raw), MEASURE);
    let doubtful = Evidence { is_one_server: true, ..measured(SECOND, at(11)) };
    outcome(stepper.consider(&doubtful, false, Ok(()), at(11)));
    assert_eq!(stepper.consider(&measured(SECOND, at(20)), false, Ok(()), at(20)), None);
}

#[test]
fn a_done_without_an_order_changes_nothing() {
    let mut stepper = restored(settings());
    assert_eq!(stepper.trigger(RESUME, at(1).raw), MEASURE);
    assert_eq!(stepper.handle_done(StepDone::Stepped(Method::Kernel), at(2).raw), AfterStep::NotOrdered);
    assert_eq!((stepper.awaiting_since(), stepper.last()), (Some(at(1).raw), None));
}

#[test]
fn a_partly_applied_step_that_did_not_help_fails_with_its_error() {
    for (after, result, why) in [
        (SECOND, StepResult::Failed, Some("no answer; the next attempt follows in 5 min")),
        (0, StepResult::Stepped, None),
    ] {
        let mut stepper = restored(settings());
        assert_eq!(stepper.trigger(RESUME, at(1).raw), MEASURE);
        order(stepper.consider(&measured(SECOND, at(1)), true, Ok(()), at(1)));
        let done = StepDone::PartlyApplied(Method::Chrony, "no answer".into());
        assert_eq!(stepper.handle_done(done, at(2).raw), AfterStep::Measure);
        let ended = outcome(stepper.consider(&measured(after, at(3)), true, Ok(()), at(3)));
        assert_eq!((ended.result, ended.reason.as_deref()), (result, why));
        assert!(!stepper.last().unwrap().is_latched);
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
            assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
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
    assert_eq!(stepper.trigger(RESUME, at(10).raw), MEASURE);
    assert!(order(stepper.consider(&measured(SECOND, at(10)), true, Ok(()), at(10))).dry_run);
    assert_eq!(stepper.trigger(RESUME, at(11).raw), MEASURE);
    assert_eq!(stepper.awaiting_since(), None);
    let ended = finished(stepper.handle_done(StepDone::DryRun(Method::Chrony), at(12).raw));
    assert_eq!(ended.result, StepResult::DryRun);
    assert_eq!(stepper.awaiting_since(), Some(at(11).raw), "the second trigger is next");
    assert_eq!(stepper.last(), None);
    order(stepper.consider(&measured(SECOND, at(13)), true, Ok(()), at(13)));
    let ended = finished(stepper.handle_done(StepDone::Failed("no socket".into()), at(14).raw));
    assert_eq!(
        (ended.result, reason(&ended)),
        (StepResult::Failed, "no socket; the next attempt follows in 5 min")
    );
    assert_eq!(stepper.last(), None, "nothing was changed");
}
