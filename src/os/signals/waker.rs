//! Waiting for a descriptor to become readable, in the runtime.

use std::future::pending;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::unix::AsyncFd;

/// Says when there is reason to look at the signals before the time.
pub struct Waker(AsyncFd<OwnedFd>);

impl Waker {
    /// To be made inside the runtime.
    #[expect(unsafe_code, reason = "tokio cannot know that nobody closes the descriptor meanwhile")]
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let own = fd.try_clone_to_owned()?;
        // SAFETY: the descriptor is our own duplicate; `AsyncFd` owns it, and closes it only after it has left the runtime's
        // list. An `OwnedFd` always has the same number.
        Ok(Self(unsafe { AsyncFd::register(own) }.map_err(io::Error::from)?))
    }

    /// Waits until it is readable.
    pub async fn woken(&self) {
        match self.0.readable().await {
            // Looking at the signals makes it unreadable again.
            Ok(mut guard) => guard.clear_ready(),
            // The runtime ends.
            Err(_) => pending().await,
        }
    }
}
