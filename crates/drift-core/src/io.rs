//! What goes into the machine, and what comes out.

use std::fmt;
use std::net::SocketAddr;

use crate::http_date::DateSample;
use crate::http_date::coarse::HttpDateError;
use crate::http_date::search::SendPhase;
use crate::ntp::pool::Resolution;
use crate::ntp::sample::RejectReason;
use crate::ntp::server::{Answer, Ask, ServerId};
use crate::report::node::{NodeEvent, NodeReport, Prior};
use crate::report::publish::ApiError;
use crate::resume::{Detection, Observation};
use crate::step::outcome::Outcome;
use crate::step::policy::RequestedBy;
use crate::step::stepper::{StepDone, StepOrder};
use crate::step::time_daemon::DaemonReport;
use crate::verdict::State;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Time has passed. Once a second at least.
    Tick,
    /// A name was looked up.
    Resolved {
        /// Index of the pool in the settings.
        pool: usize,
        /// Its addresses, or why there are none.
        answer: Result<Resolution, String>,
    },
    /// A server was asked.
    Answered {
        /// Which one.
        server: ServerId,
        /// What came of it.
        answer: Answer,
    },
    /// A source of last resort was asked after [`Effect::AskDate`].
    HttpDateFetched {
        /// Index in the settings.
        source: usize,
        /// Which request.
        request: u32,
        /// What came of it.
        answer: Result<DateSample, HttpDateError>,
    },
    /// The Node was read back after [`Effect::ReadNode`].
    NodeRead(Result<Prior, ApiError>),
    /// The Node was written after [`Effect::WriteNode`].
    NodeWritten(Result<(), ApiError>),
    /// There is no API server to write the Node to: as good as written, but not counted.
    NodeWriteSkipped,
    /// An event was sent after [`Effect::SendEvent`].
    EventSent(Result<(), ApiError>),
    /// There is no API server to send the event to.
    EventSkipped,
    /// Time has passed, and this is what the signals say.
    Observed(Observation),
    /// The time daemon was looked at after [`Effect::LookAtDaemon`].
    Daemon(DaemonReport),
    /// A step was carried out, or not, after [`Effect::Step`].
    Stepped(StepDone),
    /// An operator requests a step.
    StepRequested {
        /// By which way.
        by: RequestedBy,
    },
    /// There is no time left: judge by what is there.
    Finish,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Look a pool's name up; answer with [`Input::Resolved`].
    Resolve {
        /// Index of the pool in the settings.
        pool: usize,
    },
    /// Ask a server; answer with [`Input::Answered`].
    Query {
        /// Whose answer it is.
        server: ServerId,
        /// Where it is.
        address: SocketAddr,
        /// What to ask.
        ask: Ask,
    },
    /// Ask a source of last resort for its date; answer with [`Input::HttpDateFetched`].
    AskDate {
        /// Index in the settings.
        source: usize,
        /// Which request.
        request: u32,
        /// When to send it.
        aim: Option<SendPhase>,
    },
    /// Read what an earlier run left on the Node; answer with [`Input::NodeRead`].
    ReadNode,
    /// Write the Node's annotations and condition; answer with [`Input::NodeWritten`].
    WriteNode(NodeReport),
    /// Send an event about the Node; answer with [`Input::EventSent`].
    SendEvent(NodeEvent),
    /// Look at the time daemon; answer with [`Input::Daemon`].
    LookAtDaemon,
    /// Step the clock; answer with [`Input::Stepped`].
    Step(StepOrder),
    /// Put on record what came of a trigger.
    LogStep(Outcome),
    /// Tell the people who read the log.
    Log(LogEvent),
}

/// Something worth telling, once per change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// The verdict has changed.
    Verdict {
        /// The new one.
        state: State,
        /// What it means, in a sentence.
        sentence: String,
    },
    /// A name resolved, after it had not, or for the first time.
    Resolved {
        /// The pool's name.
        pool: String,
        /// Servers in use.
        servers: usize,
    },
    /// A name did not resolve.
    Unresolved {
        /// The pool's name.
        pool: String,
        /// Why.
        error: String,
    },
    /// A server gives another result than the last time.
    Server {
        /// The pool's name.
        pool: String,
        /// The server's address.
        address: SocketAddr,
        /// What it gives now.
        result: Result<(), RejectReason>,
    },
    /// A source of last resort gives another result than the last time.
    HttpDate {
        /// Its name.
        host: String,
        /// What it gives now.
        result: Result<(), HttpDateError>,
    },
    /// The machine did not run all the time, or somebody set a clock.
    Resume(Detection),
    /// Signals of a resume that this machine does not have, and what that means.
    NoPauseSignal,
    /// The clock could not be stepped if it had to be: what is missing.
    StepUnavailable(String),
    /// It could be, by now.
    StepAvailable,
    /// The API server does not take what we write.
    NodeWriteFailed(ApiError),
    /// It does again.
    NodeWriteRecovered,
    /// The API server does not take events.
    EventFailed(ApiError),
    /// It does again.
    EventRecovered,
}

impl LogEvent {
    /// Does somebody have to do something about it?
    pub fn is_warning(&self) -> bool {
        match self {
            Self::Verdict { state, .. } => *state != State::InSync,
            Self::Server { result, .. } => result.is_err(),
            Self::HttpDate { result, .. } => result.is_err(),
            Self::Unresolved { .. }
            | Self::NodeWriteFailed(_)
            | Self::EventFailed(_)
            | Self::Resume(_)
            | Self::NoPauseSignal
            | Self::StepUnavailable(_) => true,
            Self::Resolved { .. } | Self::NodeWriteRecovered | Self::EventRecovered | Self::StepAvailable => {
                false
            }
        }
    }
}

impl fmt::Display for LogEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict { state, sentence } => write!(f, "{}: {sentence}", state.label()),
            Self::Resolved { pool, servers: 1 } => write!(f, "{pool}: asking 1 server"),
            Self::Resolved { pool, servers } => write!(f, "{pool}: asking {servers} servers"),
            Self::Unresolved { pool, error } => write!(f, "{pool}: the name does not resolve: {error}"),
            Self::Server { pool, address, result: Ok(()) } => write!(f, "{pool}: {address} answers"),
            Self::Server { pool, address, result: Err(refusal) } => {
                write!(f, "{pool}: {address}: {}", refusal.in_words())
            }
            Self::HttpDate { host, result: Ok(()) } => {
                write!(f, "{host}: no NTP server answers, and its HTTP Date header is of use, coarse")
            }
            Self::HttpDate { host, result: Err(refused) } => {
                write!(f, "{host}: its HTTP Date header is of no use: {refused}")
            }
            Self::Resume(detection) => write!(f, "{}: {detection}; measuring again", detection.class.label()),
            Self::NoPauseSignal => f.write_str(
                "this machine has neither a real-time clock nor a vmclock to see a pause by: the pools are asked every 16 s at least",
            ),
            Self::StepUnavailable(missing) => write!(f, "the clock cannot be stepped: {missing}; observing goes on"),
            Self::StepAvailable => f.write_str("the clock can be stepped"),
            Self::NodeWriteFailed(error) => {
                write!(f, "the Node is not written: {}; measuring goes on", advice(*error))
            }
            Self::EventFailed(error) => write!(f, "events are not sent: {}", advice(*error)),
            Self::EventRecovered => f.write_str("events are sent again"),
            Self::NodeWriteRecovered => f.write_str("the Node is written again"),
        }
    }
}

/// What a refusal means, and where to look.
fn advice(error: ApiError) -> &'static str {
    match error {
        ApiError::Forbidden => "not allowed: check the service account's token and its roles",
        ApiError::NotFound => "no such Node: check NODE_NAME",
        ApiError::Rejected => "the API server refuses this write",
        ApiError::TooManyRequests(_) => "the API server asks for patience",
        ApiError::Server(_) => "the API server has an error",
        ApiError::Unreachable => "the API server does not answer",
    }
}
