//! A step by chronyd: `reset sources` discards its samples, `burst` makes it measure now, and `makestep` steps
//! by what it then has found.
//!
//! After a pause chronyd uses its old samples for minutes, and a `makestep` steps by nothing before it has
//! measured again. chronyd's own rule for stepping (`makestep` in chrony.conf) is not touched: chronyd has no
//! command that reports it, so a change could not be undone.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::os::chrony::{ChronyError, ChronyStatus, Client, Request, Tracking};

/// The agent has chronyd step by more than this. After a step, no more than this may be left.
pub const STEP_THRESHOLD: Duration = Duration::from_millis(100);
/// Good measurements wanted of each source. chronyd makes one in 2 s.
const MEASUREMENTS: u32 = 4;
/// Time between two queries whether chronyd has corrected the clock.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How long chronyd may take to measure and correct. 30 s is five times what it takes.
    pub deadline: Duration,
    /// Query chronyd, but change nothing.
    pub dry_run: bool,
}

/// What a step led to.
#[derive(Debug)]
pub struct Report {
    /// chronyd's state before; `None` when it did not answer. It is no evidence: after a suspend chronyd
    /// reports a small offset until it has measured again.
    pub before: Option<Tracking>,
    /// Commands that chronyd accepted, in order. Empty after a dry run.
    pub done: Vec<Request>,
    /// chronyd's last state after the burst was requested. It is no evidence: a chronyd that may not set the
    /// clock reports the same. Measure again.
    pub after: Option<Tracking>,
    /// Why the clock is not corrected; `None` when it is, and after a dry run that found nothing in the way.
    pub failure: Option<ChronyStepError>,
}

/// Why the clock is not corrected.
#[derive(Debug, thiserror::Error)]
pub enum ChronyStepError {
    /// chronyd does not report its state, for example because it is not running.
    #[error("cannot query chrony: {0}")]
    QueryFailed(ChronyError),
    /// chronyd has nothing to measure against.
    #[error("chrony has no source of time in its configuration")]
    NoSources,
    /// chronyd rejected a command, or did not answer it.
    #[error("chrony command \"{request}\" failed: {error}")]
    CommandFailed {
        /// The command.
        request: Request,
        /// Why.
        error: ChronyError,
    },
    /// chronyd accepted every command, and has not corrected the clock in time.
    #[error("chrony has not corrected the clock within {0:?}")]
    NotCorrected(Duration),
}

/// Steps the clock through chronyd, and waits until chronyd reports it.
pub async fn step(client: &Client, plan: &Plan) -> Report {
    let mut report = Report { before: None, done: Vec::new(), after: None, failure: None };
    report.failure = attempt(client, plan, &mut report).await.err();
    report
}

/// Makes chronyd discard what it measured, and measure now: for a clock that the agent has stepped by the
/// kernel.
pub async fn measure_again(client: &Client) -> Result<(), ChronyStepError> {
    let requests = [Request::ResetSources, Request::Burst { good: MEASUREMENTS, total: MEASUREMENTS }];
    for request in requests {
        match client.command(request).await {
            Ok(()) | Err(ChronyError::Refused(ChronyStatus::NoSuchSource)) => {}
            Err(error) => return Err(ChronyStepError::CommandFailed { request, error }),
        }
    }
    Ok(())
}

async fn attempt(client: &Client, plan: &Plan, report: &mut Report) -> Result<(), ChronyStepError> {
    let before = client.tracking().await.map_err(ChronyStepError::QueryFailed)?;
    report.before = Some(before);
    // Without sources chronyd could not measure again after a reset.
    if client.sources().await.map_err(ChronyStepError::QueryFailed)? == 0 {
        return Err(ChronyStepError::NoSources);
    }
    if plan.dry_run {
        return Ok(());
    }
    command(client, Request::ResetSources, report).await?;
    match command(client, Request::Burst { good: MEASUREMENTS, total: MEASUREMENTS }, report).await {
        // Reference clocks only: chronyd reads them every few seconds, and has no burst for them.
        Err(ChronyStepError::CommandFailed {
            error: ChronyError::Refused(ChronyStatus::NoSuchSource),
            ..
        }) => {}
        result => result?,
    }
    timeout(plan.deadline, correction(client, &before, report))
        .await
        .unwrap_or(Err(ChronyStepError::NotCorrected(plan.deadline)))
}

/// Waits until chronyd has measured again, and has it step by what it found.
async fn correction(client: &Client, before: &Tracking, report: &mut Report) -> Result<(), ChronyStepError> {
    let mut stepped_at = None;
    loop {
        let now = client.tracking().await.map_err(ChronyStepError::QueryFailed)?;
        report.after = Some(now);
        if has_updated(before, &now) {
            if now.offset.magnitude() <= STEP_THRESHOLD {
                return Ok(());
            }
            // chronyd has begun to slew. Once for each of its updates.
            if stepped_at != Some(now.reference_time) {
                stepped_at = Some(now.reference_time);
                command(client, Request::MakeStep, report).await?;
                continue;
            }
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Has chronyd updated the clock since the reset?
fn has_updated(before: &Tracking, now: &Tracking) -> bool {
    now.is_synchronised() && now.reference_time != before.reference_time
}

async fn command(client: &Client, request: Request, report: &mut Report) -> Result<(), ChronyStepError> {
    client.command(request).await.map_err(|error| ChronyStepError::CommandFailed { request, error })?;
    report.done.push(request);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use drift_core::ntp::packet::Leap;
    use drift_core::time::Wall;

    #[test]
    fn only_a_new_update_after_the_reset_counts() {
        let update = |second| Tracking {
            leap: Leap::None,
            reference_id: [192, 0, 2, 7],
            reference_time: Wall::from_secs(second),
            ..Tracking::NEVER
        };
        let before = update(100);
        assert!(has_updated(&before, &update(164)));
        // A step may set chronyd's own time back.
        assert!(has_updated(&before, &update(90)));
        assert!(!has_updated(&before, &update(100)), "the old update");
        let reset = Tracking { leap: Leap::Alarm, ..update(164) };
        assert!(!has_updated(&before, &reset), "the reset itself");
    }
}
