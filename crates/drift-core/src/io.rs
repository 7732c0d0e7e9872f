//! What goes into the machine, and what comes out: [`Machine`](crate::machine::Machine) takes an [`Input`]
//! and returns [`Effect`]s. Whoever drives it carries each effect out, without making the machine wait, and
//! hands the result back as the input that answers it:
//!
//! | effect                    | carried out by       | answered by                                         |
//! |---------------------------|----------------------|-----------------------------------------------------|
//! | [`Effect::Resolve`]       | `sources::dns`       | [`Input::Resolved`]                                 |
//! | [`Effect::Query`]         | `sources::ntp`       | [`Input::Answered`]                                 |
//! | [`Effect::FetchHttpDate`] | `sources::http_date` | [`Input::HttpDateFetched`]                          |
//! | [`Effect::ReadNode`]      | `kubernetes::api`    | [`Input::NodeRead`]                                 |
//! | [`Effect::WriteNode`]     | `kubernetes::api`    | [`Input::NodeWritten`], [`Input::NodeWriteSkipped`] |
//! | [`Effect::SendEvent`]     | `kubernetes::api`    | [`Input::EventSent`], [`Input::EventSkipped`]       |
//! | [`Effect::InspectDaemon`] | `step::ClockStepper` | [`Input::DaemonInspected`]                          |
//! | [`Effect::Step`]          | `step::ClockStepper` | [`Input::Stepped`]                                  |
//! | [`Effect::LogStep`]       | `log`                | none                                                |
//! | [`Effect::Log`]           | `log`                | none                                                |
//!
//! The other inputs answer no effect. [`Input::Tick`] or [`Input::Observed`] is due once a second at least,
//! and sooner where the machine says so. Inputs may come in any order; the raw clock of their readings must
//! not run backwards.

use std::net::SocketAddr;
use std::time::Duration;

use crate::http_date::DateSample;
use crate::http_date::coarse::HttpDateError;
use crate::http_date::search::SendPhase;
use crate::ntp::pool::{Client, Resolution};
use crate::ntp::reject::RejectReason;
use crate::ntp::server::{Answer, Ask, ServerId};
use crate::report::node::{NodeEvent, NodeReport, Prior};
use crate::report::publish::ApiError;
use crate::resume::{Detection, Observation, RtcFault};
use crate::step::outcome::Outcome;
use crate::step::policy::RequestedBy;
use crate::step::stepper::{StepDone, StepOrder};
use crate::step::time_daemon::DaemonReport;
use crate::time::Measurement;
use crate::verdict::State;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Time has passed. Only the clocks were read.
    Tick,
    /// Time has passed. The signals of a disruption were read as well as the clocks.
    Observed(Observation),
    /// The look-up of a name has ended.
    Resolved {
        /// Index of the pool in the settings.
        pool: usize,
        /// The name's addresses, or why there are none.
        answer: Result<Resolution, String>,
    },
    /// An exchange with a server has ended, also when it timed out.
    Answered {
        /// The server that was asked.
        server: ServerId,
        /// What it answered.
        answer: Answer,
    },
    /// A request to a source of last resort has ended.
    HttpDateFetched {
        /// Index of the source in the settings.
        source: usize,
        /// The number in [`Effect::FetchHttpDate`]; an answer with an older one is ignored.
        request: u32,
        /// The date, or why there is none.
        answer: Result<DateSample, HttpDateError>,
    },
    /// What an earlier run left on the Node; without an API server, nothing.
    NodeRead(Result<Prior, ApiError>),
    /// The write to the Node has ended.
    NodeWritten(Result<(), ApiError>),
    /// There is no API server to write the Node to. As good as written, but not counted.
    NodeWriteSkipped,
    /// The request that creates an event has ended.
    EventSent(Result<(), ApiError>),
    /// There is no API server to send the event to.
    EventSkipped,
    /// What disciplines the clock, and whether it could be stepped.
    DaemonInspected(DaemonReport),
    /// A step was carried out, or was not.
    Stepped(StepDone),
    /// An operator requests a step.
    StepRequested {
        /// By which way.
        by: RequestedBy,
    },
    /// There is no time left: judge by what is known.
    Finish,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Look up a pool's name.
    Resolve {
        /// Index of the pool in the settings.
        pool: usize,
    },
    /// Ask a server.
    Query {
        /// Index in the settings of the pool that the server belongs to.
        pool: usize,
        /// The server's name in [`Input::Answered`].
        server: ServerId,
        /// The server's address.
        address: SocketAddr,
        /// How this pool's servers are asked.
        client: Client,
        /// What to ask for.
        ask: Ask,
    },
    /// Ask a source of last resort for its HTTP `Date` header.
    FetchHttpDate {
        /// Index of the source in the settings.
        source: usize,
        /// The number of this request.
        request: u32,
        /// At which fraction of a second to send it; `None`: at once.
        phase: Option<SendPhase>,
    },
    /// Read what an earlier run left on the Node.
    ReadNode,
    /// Write the Node's annotations and condition.
    WriteNode(NodeReport),
    /// Create an event about the Node.
    SendEvent(NodeEvent),
    /// Find out what disciplines the clock, and whether it could be stepped.
    InspectDaemon,
    /// Step the clock.
    Step(StepOrder),
    /// Log for audit what a trigger led to.
    LogStep(Outcome),
    /// Log this.
    Log(LogEvent),
}

/// What goes to the log, as values: the edge decides about words and levels.
///
/// Each is logged when it changes, but for the three about single exchanges, which are for debugging.
#[derive(Clone, Debug, PartialEq)]
pub enum LogEvent {
    /// The state changed, or the first verdict is there.
    StateChanged {
        /// The new one.
        state: State,
        /// The offset, where there is one.
        measured: Option<Measurement>,
        /// How many pools support it.
        pools_agreeing: usize,
        /// The verdict in a sentence.
        detail: String,
    },
    /// A name resolves, for the first time or again.
    PoolResolved {
        /// The pool's name.
        pool: String,
        /// How many of its servers are used.
        servers: usize,
    },
    /// A name does not resolve, or not for the same reason as before.
    PoolUnresolved {
        /// The pool's name.
        pool: String,
        /// Why.
        reason: String,
    },
    /// A server's exchanges give samples, for the first time or again.
    ServerAccepted {
        /// The pool's name.
        pool: String,
        /// The server's address.
        server: SocketAddr,
    },
    /// A server's exchanges give no sample, or not for the same reason as before.
    ServerRejected {
        /// The pool's name.
        pool: String,
        /// The server's address.
        server: SocketAddr,
        /// Why.
        reason: RejectReason,
    },
    /// One exchange gave a sample.
    SampleAccepted {
        /// The pool's name.
        pool: String,
        /// The server's address.
        server: SocketAddr,
        /// The node's offset by this sample alone.
        measured: Measurement,
        /// Its round trip, without the server's own time.
        round_trip: Duration,
    },
    /// One exchange gave no sample.
    SampleRejected {
        /// The pool's name.
        pool: String,
        /// The server's address.
        server: SocketAddr,
        /// Why.
        reason: RejectReason,
    },
    /// A cross-check has ended.
    CrossChecked {
        /// The pool's name.
        pool: String,
        /// The server's address.
        server: SocketAddr,
        /// What it measured, without the server's own error; `None`: nothing.
        measured: Option<Measurement>,
    },
    /// A source of last resort gives a usable date, for the first time or again.
    HttpDateAccepted {
        /// Its host.
        host: String,
    },
    /// A source of last resort gives no usable date, or not for the same reason as before.
    HttpDateRejected {
        /// Its host.
        host: String,
        /// Why.
        reason: HttpDateError,
    },
    /// The machine did not run all the time, or one of its clocks was set.
    Disrupted(Detection),
    /// The kernel counts time by another clocksource than before, so that the rate is measured again.
    ClocksourceChanged {
        /// The name of the one before.
        before: String,
        /// The name of the new one.
        now: String,
    },
    /// The RTC is no clock, and is not used for a while.
    RtcUnusable(RtcFault),
    /// This machine has no signal that shows a pause.
    NoPauseSignal {
        /// The servers are polled this often instead.
        poll: Duration,
    },
    /// The clock could be stepped if it had to be, for the first time or again.
    StepAvailable,
    /// The clock could not be stepped if it had to be.
    StepUnavailable {
        /// What is missing.
        reason: String,
    },
    /// Writes to the Node fail, or not for the same reason as before.
    NodeWriteFailed(ApiError),
    /// Writes to the Node succeed again.
    NodeWriteRecovered,
    /// Events cannot be sent, or not for the same reason as before.
    EventFailed(ApiError),
    /// Events are sent again.
    EventRecovered,
}
