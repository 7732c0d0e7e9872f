//! Every rule of a step at its limit, and that no step leads away from the truth.

use super::*;
use crate::estimate::{Candidate, Combined, combine};
use crate::ntp::server::ServerId;
use crate::time::Mono;
use crate::time::interval::Interval;

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
        windows: Vec::new(),
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

/// 20 s behind, as both pools report.
fn clear_case() -> Evidence {
    let reported = of(20 * SECOND, 2 * MS);
    Evidence {
        measured: Some(reported),
        contradiction: false,
        is_one_server: false,
        pools: vec![Some(reported), Some(reported)],
        assumed: BTreeSet::new(),
        leap: None,
        reference: Some(now()),
    }
}

const RESUME: Trigger = Trigger::Disruption(Class::Pause);

fn all_report(offset: i64, bound: i64) -> Evidence {
    let reported = of(offset, bound);
    Evidence { measured: Some(reported), pools: vec![Some(reported); 2], ..clear_case() }
}

#[test]
fn a_clear_case_is_stepped_by_the_measured_offset_for_every_trigger_and_direction() {
    for trigger in [
        RESUME,
        Trigger::Disruption(Class::Suspend),
        Trigger::Disruption(Class::Stall),
        Trigger::Operator(RequestedBy::Cli),
        Trigger::Operator(RequestedBy::Annotation("maintenance-1".into())),
    ] {
        for offset in [20 * SECOND, -20 * SECOND] {
            let Measurement { offset, .. } = of(offset, 2 * MS);
            assert_eq!(
                decide(&trigger, &all_report(offset.as_nanos(), 2 * MS), &StepBudget::default(), &settings()),
                Decision::Step(offset)
            );
        }
    }
}

#[test]
fn each_rule_alone_refuses_a_step() {
    let (case, unspent) = (clear_case(), StepBudget::default());
    let on = settings();
    let refuses = |why: StepRefusal,
                   trigger: &Trigger,
                   evidence: &Evidence,
                   budget: &StepBudget,
                   settings: &Settings| {
        assert_eq!(decide(trigger, evidence, budget, settings), Decision::Refuse(why.clone()), "{why}");
    };
    refuses(StepRefusal::Off, &RESUME, &case, &unspent, &Settings { mode: Mode::Off, ..on.clone() });
    for class in [Class::ClockSet, Class::RtcWrite] {
        refuses(StepRefusal::NotATrigger(class), &Trigger::Disruption(class), &case, &unspent, &on);
    }
    refuses(StepRefusal::NotMeasured, &RESUME, &Evidence { measured: None, ..case.clone() }, &unspent, &on);
    refuses(StepRefusal::NotMeasured, &RESUME, &Evidence { reference: None, ..case.clone() }, &unspent, &on);
    let reported = Some(of(20 * SECOND, 2 * MS));
    for pools in [vec![reported, None], vec![None, reported], vec![None], vec![]] {
        refuses(StepRefusal::NotAllPools, &RESUME, &Evidence { pools, ..case.clone() }, &unspent, &on);
    }
    let leap = StepRefusal::LeapSecond("time.example".into());
    let announced = Evidence { leap: Some("time.example".into()), ..case.clone() };
    refuses(leap, &RESUME, &announced, &unspent, &on);
    let latched = StepBudget { is_locked: true, ..StepBudget::default() };
    refuses(StepRefusal::BudgetLocked, &RESUME, &case, &latched, &on);
    for (annotation, why) in [
        (Annotation::Unread, StepRefusal::BudgetUnread),
        (Annotation::Unparsable, StepRefusal::BudgetUnknown),
    ] {
        refuses(why, &RESUME, &case, &StepBudget { annotation, ..StepBudget::default() }, &on);
    }
}

#[test]
fn refusals_read_as_the_end_of_a_sentence() {
    for (refusal, words) in [
        (StepRefusal::NotATrigger(Class::ClockSet), "clock-set does not trigger a step"),
        (
            StepRefusal::NotAllPools,
            "too few pools returned a consistent time: both of two must, and a majority of more",
        ),
        (
            StepRefusal::Uncertain(Bound::from_nanos(300 * MS)),
            "uncertainty ±300 ms exceeds a quarter of the offset",
        ),
        (
            StepRefusal::TooLarge(Offset::from_nanos(-100_000 * SECOND)),
            "the clock is 27 h 47 min ahead, over step.maxOffset: requires an operator request",
        ),
        (StepRefusal::HourlyLimit(Duration::from_secs(61)), "limit of 3 steps per hour reached: 61 s left"),
        (
            StepRefusal::LeapSecond("time.example".into()),
            "most servers of time.example announce a leap second: requires an operator request until a day after it",
        ),
    ] {
        assert_eq!(refusal.to_string(), words);
    }
}

#[test]
fn offset_limits_hold_at_their_edges() {
    let unspent = StepBudget::default();
    let decide = |evidence: &Evidence| decide(&RESUME, evidence, &unspent, &settings());
    assert_eq!(decide(&all_report(100 * MS - 1, MS)), Decision::NotNeeded(Offset::from_nanos(100 * MS - 1)));
    assert!(matches!(decide(&all_report(100 * MS, MS)), Decision::Step(..)));
    assert!(matches!(decide(&all_report(86_400 * SECOND, MS)), Decision::Step(..)));
    let Measurement { offset: too_large, .. } = of(86_400 * SECOND + 1, 0);
    assert_eq!(
        decide(&all_report(86_400 * SECOND + 1, MS)),
        Decision::Refuse(StepRefusal::TooLarge(too_large))
    );
    assert!(matches!(decide(&all_report(SECOND, 250 * MS - 1)), Decision::Step(..)));
    let bound = Bound::from_nanos(250 * MS);
    assert_eq!(decide(&all_report(SECOND, 250 * MS)), Decision::Refuse(StepRefusal::Uncertain(bound)));
}

#[test]
fn operators_override_size_budget_and_leap_seconds_but_no_doubt_about_the_measurement() {
    let far = all_report(30 * 86_400 * SECOND, MS);
    let spent = StepBudget {
        recent: vec![before(3_000), before(2_000), before(1)],
        total: MAX_TOTAL,
        annotation: Annotation::Unparsable,
        is_locked: true,
    };
    let far = Evidence { leap: Some("time.example".into()), ..far };
    let decided =
        |evidence: &Evidence| decide(&Trigger::Operator(RequestedBy::Cli), evidence, &spent, &settings());
    assert!(matches!(decided(&far), Decision::Step(..)));
    let reported = far.pools[0];
    let refused = [
        (StepRefusal::NotMeasured, Evidence { measured: None, ..far.clone() }),
        (StepRefusal::NotAllPools, Evidence { pools: vec![reported, None], ..far.clone() }),
        (StepRefusal::OneServer, Evidence { is_one_server: true, ..far.clone() }),
        (StepRefusal::PoolsDisagree, apart(20_000, -20_000)),
        (StepRefusal::PoolDoesNotConfirm, Evidence { pools: vec![reported, Some(of(0, MS))], ..far.clone() }),
        (StepRefusal::Uncertain(Bound::from_nanos(250 * MS)), all_report(SECOND, 250 * MS)),
    ];
    for (why, evidence) in refused {
        assert_eq!(decided(&evidence), Decision::Refuse(why));
    }
}

#[test]
fn cool_down_and_budgets_hold_at_their_edges() {
    let by_budget = |budget: &StepBudget| decide(&RESUME, &clear_case(), budget, &settings());
    let steps = |ago: &[i64]| StepBudget {
        recent: ago.iter().map(|s| before(*s)).collect(),
        ..StepBudget::default()
    };
    assert_eq!(
        by_budget(&steps(&[299])),
        Decision::Refuse(StepRefusal::CoolDown(Duration::from_secs(1))),
        "a cool-down of five minutes"
    );
    assert!(matches!(by_budget(&steps(&[300])), Decision::Step(..)));
    let limit = |left| Decision::Refuse(StepRefusal::HourlyLimit(Duration::from_secs(left)));
    assert_eq!(by_budget(&steps(&[3_599, 2_000, 1_000])), limit(1));
    assert_eq!(by_budget(&steps(&[3_598, 3_590, 2_000, 1_000])), limit(10), "the last three");
    assert!(matches!(by_budget(&steps(&[3_600, 2_000, 1_000])), Decision::Step(..)));
    let spent = |total: u64| StepBudget { total: Duration::from_secs(total), ..StepBudget::default() };
    assert!(matches!(by_budget(&spent(86_380)), Decision::Step(..)));
    assert_eq!(
        by_budget(&spent(86_381)),
        Decision::Refuse(StepRefusal::TotalLimit(Duration::from_secs(86_401)))
    );
}

#[test]
fn in_a_window_its_own_least_offset_and_cool_down_apply() {
    use crate::step::window::{Schedule, Window, Zone};
    // 2026-11-22T10:00:00Z is a Sunday.
    let open = |cron: &str, min_offset: u64, cooldown: u64| Window {
        schedule: Schedule::parse(cron).unwrap(),
        duration: Duration::from_secs(3_600),
        zone: Zone::parse("UTC").unwrap(),
        min_offset: Duration::from_millis(min_offset),
        cooldown: Duration::from_secs(cooldown),
    };
    let decided = |windows: Vec<Window>, evidence: &Evidence, last: i64| {
        let budget = StepBudget { recent: vec![before(last)], ..StepBudget::default() };
        decide(&RESUME, evidence, &budget, &Settings { windows, ..settings() })
    };
    let (small, step) = (all_report(50 * MS, MS), Decision::Step(Offset::from_nanos(50 * MS)));
    let not_needed = Decision::NotNeeded(Offset::from_nanos(50 * MS));
    let (sunday, saturday) = (open("0 10 * * 0", 20, 10), open("0 10 * * 6", 20, 10));
    assert_eq!(decided(vec![], &small, 3_000), not_needed);
    assert_eq!(decided(vec![saturday.clone()], &small, 3_000), not_needed);
    assert_eq!(decided(vec![saturday, sunday.clone()], &small, 3_000), step);
    assert_eq!(decided(vec![sunday.clone()], &small, 10), step, "the cool-down of the window");
    let cooling = Decision::Refuse(StepRefusal::CoolDown(Duration::from_secs(1)));
    assert_eq!(decided(vec![sunday.clone()], &small, 9), cooling);
    let stricter = open("* * * * *", 60_000, 10);
    assert_eq!(decided(vec![sunday, stricter.clone()], &small, 3_000), step, "the first that is open");
    let Decision::NotNeeded(_) = decided(vec![stricter], &clear_case(), 3_000) else {
        panic!("60 s at least")
    };
    let soon = open("5 10 * * 0", 20, 30);
    for (windows, last, left) in [
        (vec![soon.clone()], 100, 200),
        (vec![Window { cooldown: Duration::from_secs(350), ..soon.clone() }], 0, 300),
        (vec![Window { schedule: Schedule::parse("2 10 * * 0").unwrap(), ..soon.clone() }], 100, 120),
        (
            vec![Window {
                cooldown: Duration::from_secs(150),
                schedule: Schedule::parse("2 10 * * 0").unwrap(),
                ..soon
            }],
            0,
            150,
        ),
    ] {
        let wait = Decision::Refuse(StepRefusal::CoolDown(Duration::from_secs(left)));
        let waits = format!("{left} s, until the cool-down in force has passed: {windows:?}");
        assert_eq!(decided(windows, &clear_case(), last), wait, "{waits}");
    }
    // By reference time: the node's own clock has no part in it.
    let later = Evidence { reference: Some(before(-3_600)), ..small };
    assert_eq!(decided(vec![open("0 10 * * 0", 20, 10)], &later, 3_000), not_needed);
}

#[test]
fn a_pool_that_allows_another_true_time_by_itself_refuses_the_step() {
    // Together the pools report 110 ms behind, but the second alone allows 90 ms ahead. If the first one
    // is a falseticker, a step leads away from the truth.
    let pools = vec![Some(of(110 * MS, 5 * MS)), Some(of(10 * MS, 100 * MS))];
    let evidence = Evidence { measured: Some(of(110 * MS, 5 * MS)), pools, ..clear_case() };
    assert_eq!(
        decide(&RESUME, &evidence, &StepBudget::default(), &settings()),
        Decision::Refuse(StepRefusal::PoolDoesNotConfirm)
    );
}

#[test]
fn each_pool_must_support_more_than_half_of_the_step() {
    // 20 s behind: one of the pools allows no less than 10 s, or a little less.
    let decided = |bound_ms: i64| {
        let pools = vec![Some(of(20_000 * MS, MS)), Some(of(20_000 * MS, bound_ms * MS))];
        let evidence = Evidence { measured: Some(of(20_000 * MS, MS)), pools, ..clear_case() };
        decide(&RESUME, &evidence, &StepBudget::default(), &settings())
    };
    assert_eq!(decided(9_999), Decision::Step(Offset::from_nanos(20_000 * MS)));
    assert_eq!(decided(10_001), Decision::Refuse(StepRefusal::PoolDoesNotConfirm));
}

#[test]
fn of_more_than_two_pools_a_majority_of_the_configured_ones_must_support_the_step() {
    let own = Some(of(20_000 * MS, MS));
    let decided = |pools: Vec<Option<Measurement>>| {
        let evidence = Evidence { measured: own, pools, ..clear_case() };
        decide(&RESUME, &evidence, &StepBudget::default(), &settings())
    };
    let (step, too_few) =
        (Decision::Step(Offset::from_nanos(20_000 * MS)), Decision::Refuse(StepRefusal::NotAllPools));
    assert_eq!(decided(vec![own, own, None]), step);
    assert_eq!(decided(vec![own, None, None]), too_few);
    assert_eq!(decided(vec![own, own, None, None]), too_few, "half of four");
    assert_eq!(decided(vec![own, own, own, None, None]), step);
    assert_eq!(decided(vec![own, own, None, None, None]), too_few);
    let wide = Some(of(20_000 * MS, 15_000 * MS));
    assert_eq!(decided(vec![own, wide, wide]), Decision::Refuse(StepRefusal::PoolDoesNotConfirm));
}

#[test]
fn one_pool_alone_steps_only_for_an_operator_and_only_if_it_supports_the_step() {
    let alone = |own: Measurement| Evidence { measured: Some(own), pools: vec![Some(own)], ..clear_case() };
    let decided = |trigger: &Trigger, own| decide(trigger, &alone(own), &StepBudget::default(), &settings());
    let operator = Trigger::Operator(RequestedBy::Cli);
    let clear = of(20 * SECOND, 2 * MS);
    for class in [Class::Pause, Class::Suspend, Class::Stall] {
        let refused = Decision::Refuse(StepRefusal::SinglePool);
        assert_eq!(decided(&Trigger::Disruption(class), clear), refused);
    }
    assert_eq!(StepRefusal::SinglePool.remedy(), Remedy::Operator, "it does not wait");
    assert_eq!(decided(&operator, clear), Decision::Step(clear.offset));
    let bound = Bound::from_nanos(5 * SECOND);
    let wide = of(20 * SECOND, 5 * SECOND);
    assert_eq!(decided(&operator, wide), Decision::Refuse(StepRefusal::Uncertain(bound)));
    let unreachable = Evidence { pools: vec![None], ..clear_case() };
    let refused = Decision::Refuse(StepRefusal::NotAllPools);
    assert_eq!(decide(&operator, &unreachable, &StepBudget::default(), &settings()), refused);
    let small = of(10 * MS, MS);
    assert_eq!(
        decided(&RESUME, small),
        Decision::NotNeeded(small.offset),
        "no refusal where no step is needed"
    );
}

#[test]
fn pools_with_an_assumed_bound_support_no_step() {
    let own = Some(of(20 * SECOND, 2 * MS));
    let decided = |trigger: &Trigger, pools: usize, assumed: &[usize]| {
        let assumed = assumed.iter().copied().collect();
        let evidence = Evidence { pools: vec![own; pools], assumed, ..clear_case() };
        decide(trigger, &evidence, &StepBudget::default(), &settings())
    };
    let operator = Trigger::Operator(RequestedBy::Cli);
    for trigger in [&RESUME, &operator] {
        for (pools, assumed) in [(2, &[0][..]), (2, &[0, 1]), (3, &[1, 2]), (1, &[0])] {
            assert_eq!(decided(trigger, pools, assumed), Decision::Refuse(StepRefusal::AssumedBound));
        }
        assert!(matches!(decided(trigger, 3, &[2]), Decision::Step(..)), "two are left");
    }
    // The third pool may not take the place of one that does not support the step.
    let wide = Some(of(20 * SECOND, 15 * SECOND));
    let evidence = Evidence { pools: vec![own, wide, own], assumed: [2].into(), ..clear_case() };
    assert_eq!(
        decide(&RESUME, &evidence, &StepBudget::default(), &settings()),
        Decision::Refuse(StepRefusal::PoolDoesNotConfirm)
    );
}

#[test]
fn pools_that_look_like_one_server_are_no_two_pieces_of_evidence() {
    let evidence = Evidence { is_one_server: true, ..clear_case() };
    assert_eq!(
        decide(&RESUME, &evidence, &StepBudget::default(), &settings()),
        Decision::Refuse(StepRefusal::OneServer)
    );
}

/// Two pools that contradict each other, in ms behind.
fn apart(first: i64, second: i64) -> Evidence {
    let hull = of((first + second) * MS / 2, (first - second).abs() * MS / 2 + MS);
    let pools = vec![Some(of(first * MS, MS)), Some(of(second * MS, MS))];
    Evidence { measured: Some(hull), contradiction: true, pools, ..clear_case() }
}

#[test]
fn pools_that_disagree_allow_a_step_that_helps_whichever_of_them_is_right() {
    let decided = |first, second| decide(&RESUME, &apart(first, second), &StepBudget::default(), &settings());
    // Google smears a leap second and Cloudflare does not: 300 ms apart, after a pause of 20 s.
    assert_eq!(decided(20_000, 20_300), Decision::Step(Offset::from_nanos(20_150 * MS)));
    let refused = Decision::Refuse(StepRefusal::PoolsDisagree);
    assert_eq!(decided(20_000, 40_000), refused, "the bound is over a quarter");
    assert_eq!(decided(300, -100), refused);
    let step = Decision::Step(Offset::from_nanos(110 * MS));
    assert_eq!(decided(90, 130), step, "20 ms off afterwards at most");
    assert_eq!(decided(40, 200), refused, "one of them supports less than half of it");
    assert_eq!(decided(60, 80), Decision::NotNeeded(Offset::from_nanos(70 * MS)), "both say so");
}

/// A truth, pools around it, and falsetickers among them: one of two, or less than half of more.
fn draw(rng: &mut fastrand::Rng) -> (i64, Evidence) {
    let truth = rng.i64(100..20_000) * MS * if rng.bool() { 1 } else { -1 };
    let count = rng.usize(2..6);
    let falsetickers = rng.usize(0..=if count == 2 { 1 } else { (count - 1) / 2 });
    let pool = |index: usize, rng: &mut fastrand::Rng| {
        let error = rng.i64(-40..40) * MS;
        let far = rng.i64(-20_000..20_000) * MS;
        match (index < falsetickers, rng.u8(0..3)) {
            // Near enough to be inside, far away, or so wide that it allows almost everything.
            (true, 0) => of(truth + far, MS),
            (true, 1) => of(truth + far / 200, rng.i64(0..200) * MS),
            (true, _) => of(truth + far, far.abs() + rng.i64(0..100) * MS),
            (false, _) => of(truth + error, error.abs() + rng.i64(0..60) * MS),
        }
    };
    let pools: Vec<Measurement> = (0..count).map(|index| pool(index, rng)).collect();
    let candidates: Vec<Candidate> = pools
        .iter()
        .enumerate()
        .map(|(pool, own)| Candidate {
            pool,
            server: ServerId(0),
            interval: Interval::around(Wall::from_nanos(own.offset.as_nanos()), own.bound),
            newest: Mono::from_nanos(0),
        })
        .collect();
    let combined = combine(&candidates, Duration::from_millis(10), |pool| pool);
    let (all, falsetickers) = match &combined {
        Combined::Agree { interval, falsetickers, .. } => (*interval, falsetickers.clone()),
        Combined::Disagree { hull } => (*hull, std::collections::BTreeSet::new()),
        Combined::Nothing => panic!("no pool"),
    };
    let middle = Offset::from_nanos(all.middle().as_nanos());
    let pools = pools.into_iter().enumerate();
    let evidence = Evidence {
        measured: Some(Measurement::new(middle, all.bound())),
        contradiction: matches!(combined, Combined::Disagree { .. }),
        pools: pools.map(|(index, own)| Some(own).filter(|_| !falsetickers.contains(&index))).collect(),
        ..clear_case()
    };
    (truth, evidence)
}

/// Whatever one of two pools, or less than half of more, report.
#[test]
fn steps_never_lead_away_from_the_truth() {
    const CASES: u32 = 30_000;
    let mut stepped = 0;
    for seed in 0..CASES {
        let (truth, evidence) = draw(&mut fastrand::Rng::with_seed(seed.into()));
        if let Decision::Step(step) = decide(&RESUME, &evidence, &StepBudget::default(), &settings()) {
            stepped += 1;
            assert!(
                (truth - step.as_nanos()).abs() <= truth.abs(),
                "seed {seed}: {truth} {step:?} {evidence:?}"
            );
        }
    }
    println!("{stepped} of {CASES} cases stepped");
    assert!(stepped > CASES / 3, "{stepped} of {CASES} cases stepped");
}
