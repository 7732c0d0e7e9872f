//! Status pages of simulated nodes in each state. The page covers two hours, too long for real nodes.

use std::time::Duration;

use drift_agent::config::Settings;
use drift_agent::config::raw::{ConfigText, RawConfig};
use drift_agent::http::page::{PageContext, render};
use drift_agent::os::timex::KernelClock;
use drift_agent::sim::behaviour::{Behaviour, ServerModel};
use drift_agent::sim::world::{Host, Oscillator, Path, Plan, World, default_settings};
use drift_core::step::policy::Mode;
use drift_core::time::{Offset, Ppb, Wall};
use drift_core::verdict::State;

const MINUTE: Duration = Duration::from_secs(60);

/// Two pools of four servers. The clock is correct, except for what a time daemon leaves.
fn node() -> World {
    let host = |millis: u64, behaviour| Host {
        model: ServerModel::new(behaviour),
        path: Path {
            there: Duration::from_millis(millis),
            back: Duration::from_millis(millis + 1),
            jitter: Duration::from_micros(700),
            loss: 0.02,
        },
    };
    let falseticker = Behaviour::Offset(Offset::from_nanos(1_400_000_000));
    let pools = vec![
        [2, 3, 5, 8].map(|millis| host(millis, Behaviour::Honest)).to_vec(),
        vec![
            host(4, Behaviour::Honest),
            host(6, Behaviour::Honest),
            host(6, falseticker),
            host(9, Behaviour::Silent),
        ],
    ];
    let mut settings = default_settings();
    settings.step.mode = Mode::Auto;
    World::new(Plan {
        seed: 7,
        present: Wall::from_secs(1_795_341_600),
        offset: Offset::ZERO,
        oscillator: Oscillator { error: Ppb::from_ppm(12), swing: Ppb(900), period: MINUTE * 90 },
        rtc_ahead: Offset::ZERO,
        pools,
        settings,
        api_errors: 0.0,
        steps_work: true,
    })
}

/// Runs for `span`, with a time daemon that keeps the clock within a few milliseconds.
fn run_with_daemon(world: &mut World, span: Duration) {
    let end = world.elapsed() + span;
    while world.elapsed() < end {
        let error = world.truth().as_nanos();
        // Half of the offset in a minute, and against the oscillator's 12 ppm; at most 500 ppm, as daemons
        // do.
        world.slew_wall(Ppb((error / 120 - 12_000).clamp(-500_000, 500_000)));
        let next = (world.elapsed() + MINUTE).min(end);
        world.run_until(next, |_| Ok(())).unwrap();
    }
}

fn behave(world: &mut World, pool: usize, behaviour: Behaviour) {
    for index in 0..4 {
        world.change(pool, index, ServerModel::new(behaviour));
    }
}

/// A node in this state, about two hours after its agent started.
pub fn world(state: State) -> World {
    let mut world = node();
    run_with_daemon(&mut world, MINUTE * 50);
    match state {
        State::InSync => {
            run_with_daemon(&mut world, MINUTE * 15);
            world.pause(Duration::from_secs(25));
            run_with_daemon(&mut world, MINUTE * 65);
        }
        State::Drifting => {
            run_with_daemon(&mut world, MINUTE * 45);
            world.slew_wall(Ppb::from_ppm(-140));
            let end = world.elapsed() + MINUTE * 24;
            world.run_until(end, |_| Ok(())).unwrap();
        }
        State::Disagree => {
            run_with_daemon(&mut world, MINUTE * 60);
            behave(&mut world, 1, Behaviour::Offset(Offset::from_nanos(-620_000_000)));
            run_with_daemon(&mut world, MINUTE * 9);
        }
        State::Unknown => {
            run_with_daemon(&mut world, MINUTE * 45);
            for pool in [0, 1] {
                behave(&mut world, pool, Behaviour::Silent);
            }
            run_with_daemon(&mut world, MINUTE * 17);
        }
        State::Disrupted => {
            run_with_daemon(&mut world, MINUTE * 52);
            world.sleep(MINUTE * 14, Duration::from_secs(30));
            let end = world.elapsed() + Duration::from_millis(20);
            world.run_until(end, |_| Ok(())).unwrap();
        }
    }
    assert_eq!(world.snapshot().state, state);
    world
}

/// The page of such a node.
pub fn page(world: &World) -> String {
    let text = |text: &str| Some(ConfigText(text.to_owned()));
    let mut snapshot = world.snapshot();
    let names = ["time.google.com", "time.cloudflare.com"];
    snapshot.pools.iter_mut().zip(names).for_each(|(pool, name)| name.clone_into(&mut pool.name));
    let raw = RawConfig { node_name: text("node-7.example"), ..RawConfig::default() };
    let mut settings = Settings::new(raw, RawConfig::default()).unwrap();
    settings.core = world.machine.settings().clone();
    let kernel = KernelClock {
        synchronized: true,
        max_error: Duration::from_micros(4_211),
        frequency: Ppb(-12_043),
        ..KernelClock::default()
    };
    let context = PageContext {
        snapshot: &snapshot,
        history: world.machine.history(),
        now: world.reading(),
        settings: &settings,
        kernel: Some(kernel),
    };
    render(&context, None)
}
