//! The loop: it carries inputs to the machine and effects to the world, and decides nothing.

use std::cell::RefCell;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::config::Settings;
use crate::config::http_url::HttpUrl;
use crate::config::pool::PoolName;
use crate::kubernetes::api::NodeApi;
use crate::os::clock::Clock;
use crate::os::random;
use crate::os::signals::Signals;
use crate::os::signals::waker::SignalWakeup;
use crate::sources::dns::Resolve;
use crate::sources::http_date::HttpDate;
use crate::sources::ntp::Ntp;
use crate::step::ClockStepper;
use drift_core::io::{Effect, Input};
use drift_core::machine::Machine;
use drift_core::report::node::Prior;
use drift_core::report::snapshot::Snapshot;
use drift_core::step::outcome::Outcome;
use drift_core::step::policy::RequestedBy;
use drift_core::step::stepper::StepDone;
use drift_core::time::{Mono, Reading};

/// The machine is looked at this often at least, so that a step of the wall clock shows.
const TICK: Duration = Duration::from_secs(1);
/// Answers that may wait for the loop; a sender that finds it full waits.
const QUEUE: usize = 64;

/// What the loop shares with those who only look.
pub struct AgentHandle {
    settings: Settings,
    machine: Mutex<Machine>,
    clock: Arc<dyn Clock>,
    last_tick: AtomicI64,
}

impl AgentHandle {
    /// What is known at this instant.
    pub fn snapshot(&self) -> Snapshot {
        self.look(Machine::snapshot)
    }

    /// Looks at the machine at this instant.
    pub fn look<T>(&self, look: impl FnOnce(&Machine, Reading) -> T) -> T {
        // The lock first: the clocks must be read when nothing can change any more.
        let machine = self.machine();
        look(&machine, self.clock.read())
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How long the loop has not turned.
    pub fn since_last_tick(&self) -> Duration {
        self.clock.read().raw.since(Mono::from_nanos(self.last_tick.load(Ordering::Relaxed)))
    }

    fn has_settled(&self) -> bool {
        let machine = self.machine();
        machine.has_settled(self.clock.read().raw)
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signals of a resume, and what says that it is time to look at them.
struct SignalWatch {
    signals: Box<dyn Signals>,
    waker: SignalWakeup,
}

/// The agent, without its HTTP server.
pub struct Agent<R> {
    shared: Arc<AgentHandle>,
    ntp: Ntp,
    dates: HttpDate<R>,
    resolver: R,
    pools: Vec<PoolName>,
    last_resort: Vec<HttpUrl>,
    api: Option<NodeApi>,
    clock_stepper: Option<ClockStepper>,
    signals: Option<SignalWatch>,
    inputs: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
}

impl<R: Resolve> Agent<R> {
    /// Nothing is asked before it runs. Without an API the Node is not written, and everything else is the same.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, resolver: R, api: Option<NodeApi>) -> Self {
        let now = clock.read();
        let machine = Machine::new(settings.core.clone(), random::bits(), now);
        Self {
            shared: Arc::new(AgentHandle {
                settings: settings.clone(),
                machine: Mutex::new(machine),
                clock: Arc::clone(&clock),
                last_tick: AtomicI64::new(now.raw.as_nanos()),
            }),
            ntp: Ntp::new(Arc::clone(&clock), settings.core.limits),
            dates: HttpDate::new(clock, resolver.clone()),
            resolver,
            pools: settings.pools.clone(),
            last_resort: settings.last_resort.clone(),
            api,
            clock_stepper: None,
            signals: None,
            inputs: mpsc::channel(QUEUE),
        }
    }

    /// Looks at the time daemon too, and steps the clock when the settings and the policy allow it.
    #[must_use]
    pub fn with_stepper(self, clock_stepper: ClockStepper) -> Self {
        Self { clock_stepper: Some(clock_stepper), ..self }
    }

    /// Looks at the signals of a resume too. To be called inside the runtime.
    #[must_use]
    pub fn with_signals(self, signals: Box<dyn Signals>) -> Self {
        let waker = SignalWakeup::new(signals.as_ref());
        Self { signals: Some(SignalWatch { signals, waker }), ..self }
    }

    /// Where inputs of others go: requests, signals.
    pub fn inputs(&self) -> mpsc::Sender<Input> {
        self.inputs.0.clone()
    }

    /// For those who only look.
    pub fn shared(&self) -> Arc<AgentHandle> {
        Arc::clone(&self.shared)
    }

    /// Runs until `end`; `observe` sees every effect before it is carried out.
    pub async fn run(&mut self, end: impl Future<Output = ()>, mut observe: impl FnMut(&Effect)) {
        let mut end = pin!(end);
        let now = self.shared.clock.read().raw;
        let first = self.look_around(now);
        self.feed(first, &mut observe);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return,
                () = self.turn(&mut observe) => {}
            }
        }
    }

    /// Runs until the first burst is over and judged, or `deadline` has passed.
    pub async fn measure_once(&mut self, deadline: Duration, mut observe: impl FnMut(&Effect)) {
        self.feed(Input::Tick, &mut observe);
        let settled = async {
            while !self.shared.has_settled() {
                self.turn(&mut observe).await;
            }
        };
        if timeout(deadline, settled).await.is_err() {
            self.feed(Input::Finish, &mut observe);
        }
    }

    /// A person asks for a step: measures, decides, steps if it is right, measures again; what came of it. May be dropped.
    pub async fn step_once(&mut self, mut observe: impl FnMut(&Effect)) -> Outcome {
        let outcome = RefCell::new(None);
        let mut watch = |effect: &Effect| {
            if let Effect::LogStep(told) = effect {
                outcome.replace(Some(told.clone()));
            }
            observe(effect);
        };
        self.feed(Input::StepRequested { by: RequestedBy::Cli }, &mut watch);
        loop {
            self.turn(&mut watch).await;
            if let Some(told) = outcome.take() {
                return told;
            }
        }
    }

    /// Waits for one input and feeds it. May be dropped while it waits.
    async fn turn(&mut self, observe: &mut impl FnMut(&Effect)) {
        let now = self.shared.clock.read().raw;
        let idle = self.shared.machine().poll_timeout(now).min(TICK);
        let due = now.plus(idle);
        let input = tokio::select! {
            biased;
            input = self.inputs.1.recv() => input,
            () = sleep(idle) => None,
            () = woken(self.signals.as_ref()) => None,
        };
        let input = input.unwrap_or_else(|| self.look_around(due));
        self.feed(input, observe);
    }

    /// Time has passed; what do the signals show? `due`: when they were to be looked at.
    fn look_around(&mut self, due: Mono) -> Input {
        match &mut self.signals {
            Some(watched) => Input::Observed(watched.signals.observe(due)),
            None => Input::Tick,
        }
    }

    fn feed(&mut self, input: Input, observe: &mut impl FnMut(&Effect)) {
        let now = self.shared.clock.read();
        self.shared.last_tick.store(now.raw.as_nanos(), Ordering::Relaxed);
        let effects = self.shared.machine().handle(input, now);
        for effect in effects {
            observe(&effect);
            self.carry_out(effect);
        }
    }

    fn carry_out(&self, effect: Effect) {
        match effect {
            Effect::Resolve { pool } => {
                let Some(name) = self.pools.get(pool).cloned() else { return };
                let resolver = self.resolver.clone();
                self.spawn(async move { Input::Resolved { pool, answer: resolver.resolve(name).await } });
            }
            Effect::Query { server, address, ask } => {
                let ntp = self.ntp.clone();
                self.spawn(async move { Input::Answered { server, answer: ntp.ask(address, ask).await } });
            }
            Effect::AskDate { source, request, aim } => {
                let Some(url) = self.last_resort.get(source).cloned() else { return };
                let dates = self.dates.clone();
                self.spawn(async move {
                    Input::HttpDateFetched { source, request, answer: dates.ask(&url, aim).await }
                });
            }
            Effect::ReadNode => self.write(Input::NodeRead(Ok(Prior::default())), |api| async move {
                Input::NodeRead(api.read().await)
            }),
            Effect::WriteNode(report) => {
                self.write(Input::NodeWriteSkipped, |api| async move {
                    Input::NodeWritten(api.write(&report).await)
                });
            }
            Effect::SendEvent(event) => {
                self.write(Input::EventSkipped, |api| async move {
                    Input::EventSent(api.send_event(&event).await)
                });
            }
            Effect::LookAtDaemon => {
                let Some(clock_stepper) = self.clock_stepper.clone() else { return };
                self.spawn(async move { Input::Daemon(clock_stepper.look().await) });
            }
            Effect::Step(order) => {
                let clock_stepper = self.clock_stepper.clone();
                self.spawn(async move {
                    Input::Stepped(match clock_stepper {
                        Some(clock_stepper) => clock_stepper.step(order).await,
                        None => StepDone::Failed("there is nothing to step it with".to_owned()),
                    })
                });
            }
            Effect::LogStep(_) | Effect::Log(_) => {}
        }
    }

    /// Writes to the API server; without one the input is `otherwise`.
    fn write<F: Future<Output = Input> + Send + 'static>(
        &self,
        otherwise: Input,
        write: impl FnOnce(NodeApi) -> F,
    ) {
        match self.api.clone() {
            Some(api) => self.spawn(write(api)),
            None => self.spawn(async { otherwise }),
        }
    }

    /// The loop never waits for the world: each effect runs by itself and comes back as an input.
    fn spawn(&self, work: impl Future<Output = Input> + Send + 'static) {
        let inputs = self.inputs.0.clone();
        tokio::spawn(async move {
            // The loop is gone only when the agent ends.
            let _ = inputs.send(work.await).await;
        });
    }
}

/// Waits for a reason to look at the signals before the time; for ever, where nobody looks at them.
async fn woken(watched: Option<&SignalWatch>) {
    match watched {
        Some(watched) => watched.waker.woken().await,
        None => pending().await,
    }
}
