//! Waits for a descriptor of the signals under tokio.

use std::future::pending;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Signals;

/// Wakes the agent when an observation should be made before it is due.
#[derive(Debug)]
pub struct SignalWakeup(Option<AsyncFd<OwnedFd>>);

impl SignalWakeup {
    /// For these signals; to be called inside a runtime. Never wakes where they have no descriptor, or tokio
    /// cannot wait for it.
    #[expect(unsafe_code, reason = "tokio requires the caller to guarantee that the descriptor stays open")]
    pub fn new(signals: &dyn Signals) -> Self {
        let descriptor = signals.waker().and_then(|fd| fd.try_clone_to_owned().ok());
        // SAFETY: an `OwnedFd` is the same open descriptor until it is dropped, and `AsyncFd` gives no
        // mutable access to it.
        let register = |fd| unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Self(descriptor.and_then(|fd| register(fd).ok()))
    }

    /// Waits until an observation should be made. Only [`Signals::observe`] makes it wait again. Cancel-safe.
    pub async fn woken(&self) {
        match &self.0 {
            None => pending().await,
            Some(fd) => match fd.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is shutting down.
                Err(_) => pending().await,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Write, pipe};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use drift_core::resume::Observation;
    use drift_core::time::Mono;

    #[derive(Debug)]
    struct Pipe(Option<OwnedFd>);

    impl Signals for Pipe {
        fn observe(&mut self, _: Mono) -> Observation {
            unreachable!("no test observes")
        }

        fn waker(&self) -> Option<BorrowedFd<'_>> {
            self.0.as_ref().map(AsFd::as_fd)
        }
    }

    #[tokio::test]
    async fn readable_descriptors_wake_once_each_time() {
        let (reader, mut writer) = pipe().unwrap();
        let waker = SignalWakeup::new(&Pipe(Some(reader.into())));
        let wakes = async || timeout(Duration::from_millis(50), waker.woken()).await.is_ok();
        assert!(!wakes().await);
        for _ in 0..2 {
            writer.write_all(b"!").unwrap();
            timeout(Duration::from_secs(30), waker.woken()).await.unwrap();
            assert!(!wakes().await);
        }
    }

    #[tokio::test]
    async fn signals_without_a_descriptor_never_wake() {
        let waker = SignalWakeup::new(&Pipe(None));
        assert!(timeout(Duration::from_millis(50), waker.woken()).await.is_err());
    }
}
