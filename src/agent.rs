//! The loop: it feeds inputs to the machine and carries out the effects. It decides nothing.
//!
//! Each effect runs in a task of its own, which sends the input that answers it ([`drift_core::io`] has the
//! table). So the loop never waits for a server, the API server or chronyd.

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
use drift_core::ntp::pool::Client;
use drift_core::report::node::Prior;
use drift_core::report::snapshot::Snapshot;
use drift_core::step::outcome::Outcome;
use drift_core::step::policy::RequestedBy;
use drift_core::step::stepper::StepDone;
use drift_core::time::{Mono, Reading};

/// The longest wait between two inputs. A step of the wall clock is noticed within it.
const TICK: Duration = Duration::from_secs(1);
/// Inputs that may wait for the loop. A sender that finds the queue full waits.
const QUEUE_LENGTH: usize = 64;

/// Reads the agent's state while its loop runs: what the HTTP server and the demo have of it.
pub struct AgentHandle {
    settings: Settings,
    machine: Mutex<Machine>,
    clock: Arc<dyn Clock>,
    last_tick: AtomicI64,
}

impl AgentHandle {
    /// What is known now.
    pub fn snapshot(&self) -> Snapshot {
        self.with_machine(Machine::snapshot)
    }

    /// Calls `read` with the machine and the clocks' reading now.
    pub fn with_machine<T>(&self, read: impl FnOnce(&Machine, Reading) -> T) -> T {
        // Lock first: a reading from before the lock could be older than what the machine has seen.
        let machine = self.machine();
        read(&machine, self.clock.read())
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The time since the loop last took an input.
    pub fn since_last_tick(&self) -> Duration {
        self.clock.read().raw.since(Mono::from_nanos(self.last_tick.load(Ordering::Relaxed)))
    }

    fn has_settled(&self) -> bool {
        let machine = self.machine();
        machine.has_settled(self.clock.read())
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signals of a disruption, and what wakes the loop when one of them has changed.
struct SignalWatch {
    signals: Box<dyn Signals>,
    wakeup: SignalWakeup,
}

/// The agent, without its HTTP server.
pub struct Agent<R> {
    handle: Arc<AgentHandle>,
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
    /// An agent that is not running yet: it sends nothing before one of the methods that run it. Without
    /// `api` the Node is neither read nor written; everything else is the same.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, resolver: R, api: Option<NodeApi>) -> Self {
        let now = clock.read();
        let machine = Machine::new(settings.core.clone(), random::bits(), now);
        Self {
            handle: Arc::new(AgentHandle {
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
            inputs: mpsc::channel(QUEUE_LENGTH),
        }
    }

    /// With this the agent also inspects the time daemon, and steps the clock when the settings and the
    /// policy allow it.
    #[must_use]
    pub fn with_stepper(self, clock_stepper: ClockStepper) -> Self {
        Self { clock_stepper: Some(clock_stepper), ..self }
    }

    /// With this the agent also reads the signals of a disruption. Must be called inside the tokio runtime.
    #[must_use]
    pub fn with_signals(self, signals: Box<dyn Signals>) -> Self {
        let wakeup = SignalWakeup::new(signals.as_ref());
        Self { signals: Some(SignalWatch { signals, wakeup }), ..self }
    }

    /// Where other tasks send inputs: the watch for step requests.
    pub fn inputs(&self) -> mpsc::Sender<Input> {
        self.inputs.0.clone()
    }

    /// Reads the agent's state while it runs, for the HTTP server and others.
    pub fn handle(&self) -> Arc<AgentHandle> {
        Arc::clone(&self.handle)
    }

    /// Runs until `end` completes. `observe` is called with every effect before it is carried out.
    pub async fn run(&mut self, end: impl Future<Output = ()>, mut observe: impl FnMut(&Effect)) {
        let mut end = pin!(end);
        let now = self.handle.clock.read().raw;
        let first = self.observe_signals(now);
        self.feed(first, &mut observe);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return,
                () = self.turn(&mut observe) => {}
            }
        }
    }

    /// Runs until the first burst is over and judged, or `deadline` has passed. What is known by then is
    /// judged.
    pub async fn measure_once(&mut self, deadline: Duration, mut observe: impl FnMut(&Effect)) {
        self.feed(Input::Tick, &mut observe);
        let settled = async {
            while !self.handle.has_settled() {
                self.turn(&mut observe).await;
            }
        };
        if timeout(deadline, settled).await.is_err() {
            self.feed(Input::Finish, &mut observe);
        }
    }

    /// Requests a step for an operator: measures, decides, steps where the policy allows it, and measures
    /// again. Returns what that led to. It has no deadline of its own, and may be dropped.
    pub async fn step_once(&mut self, mut observe: impl FnMut(&Effect)) -> Outcome {
        let outcome = RefCell::new(None);
        let mut watch = |effect: &Effect| {
            if let Effect::LogStep(logged) = effect {
                outcome.replace(Some(logged.clone()));
            }
            observe(effect);
        };
        self.feed(Input::StepRequested { by: RequestedBy::Cli }, &mut watch);
        loop {
            self.turn(&mut watch).await;
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
        }
    }

    /// Waits for one input and feeds it to the machine. May be dropped while it waits.
    async fn turn(&mut self, observe: &mut impl FnMut(&Effect)) {
        // From the last input on: the time that its effects took counts, so that a stall in their midst shows.
        let last = Mono::from_nanos(self.handle.last_tick.load(Ordering::Relaxed));
        let due = last.plus(self.handle.machine().poll_timeout(last).min(TICK));
        let idle = due.since(self.handle.clock.read().raw);
        let input = tokio::select! {
            biased;
            input = self.inputs.1.recv() => input,
            () = sleep(idle) => None,
            () = woken(self.signals.as_ref()) => None,
        };
        // An input that waited through a stall must not hide it, so an overdue observation comes first.
        if input.is_none() || self.handle.clock.read().raw > due {
            let observed = self.observe_signals(due);
            self.feed(observed, observe);
        }
        if let Some(input) = input {
            self.feed(input, observe);
        }
    }

    /// The input for time that has passed, with what the signals show. `due`: when this read was planned for.
    fn observe_signals(&mut self, due: Mono) -> Input {
        match &mut self.signals {
            Some(watch) => Input::Observed(watch.signals.observe(due)),
            None => Input::Tick,
        }
    }

    fn feed(&mut self, input: Input, observe: &mut impl FnMut(&Effect)) {
        let now = self.handle.clock.read();
        self.handle.last_tick.store(now.raw.as_nanos(), Ordering::Relaxed);
        let effects = self.handle.machine().handle(input, now);
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
            Effect::Query { pool, server, address, client, ask } => match client {
                Client::Ntp => {
                    let ntp = self.ntp.with_limits(self.handle.settings.core.limits_of(pool));
                    self.spawn(
                        async move { Input::Answered { server, answer: ntp.ask(address, ask).await } },
                    );
                }
            },
            Effect::FetchHttpDate { source, request, phase } => {
                let Some(url) = self.last_resort.get(source).cloned() else { return };
                let dates = self.dates.clone();
                self.spawn(async move {
                    Input::HttpDateFetched { source, request, answer: dates.ask(&url, phase).await }
                });
            }
            Effect::ReadNode => self.call_api(Input::NodeRead(Ok(Prior::default())), |api| async move {
                Input::NodeRead(api.read().await)
            }),
            Effect::WriteNode(report) => {
                self.call_api(Input::NodeWriteSkipped, |api| async move {
                    Input::NodeWritten(api.write(&report).await)
                });
            }
            Effect::SendEvent(event) => {
                self.call_api(Input::EventSkipped, |api| async move {
                    Input::EventSent(api.send_event(&event).await)
                });
            }
            Effect::InspectDaemon => {
                let Some(clock_stepper) = self.clock_stepper.clone() else { return };
                self.spawn(async move { Input::DaemonInspected(clock_stepper.inspect().await) });
            }
            Effect::Step(order) => {
                let clock_stepper = self.clock_stepper.clone();
                self.spawn(async move {
                    Input::Stepped(match clock_stepper {
                        Some(clock_stepper) => clock_stepper.step(order).await,
                        None => {
                            StepDone::Failed("this agent was started without the means to step".to_owned())
                        }
                    })
                });
            }
            // `observe` has seen them: they are for the log.
            Effect::LogStep(_) | Effect::Log(_) => {}
        }
    }

    /// Runs a request to the API server. Where there is none, the input is `otherwise`.
    fn call_api<F: Future<Output = Input> + Send + 'static>(
        &self,
        otherwise: Input,
        request: impl FnOnce(NodeApi) -> F,
    ) {
        match self.api.clone() {
            Some(api) => self.spawn(request(api)),
            None => self.spawn(async { otherwise }),
        }
    }

    /// Runs this in a task of its own and sends the input that it ends with.
    fn spawn(&self, work: impl Future<Output = Input> + Send + 'static) {
        let inputs = self.inputs.0.clone();
        tokio::spawn(async move {
            // This fails only when the agent has ended.
            let _ = inputs.send(work.await).await;
        });
    }
}

/// Completes when a signal must be read before its time; never, where no signals are read.
async fn woken(watch: Option<&SignalWatch>) {
    match watch {
        Some(watch) => watch.wakeup.woken().await,
        None => pending().await,
    }
}
