//! Sends requests to a running chronyd.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::codec::{Fields, ReplyError, Request, read_is_reachable, read_reply, read_sources};
use super::own_socket::OwnSocket;
use super::status::ChronyStatus;
use super::tracking::Tracking;
use crate::os::random;

/// How long one request may take by default. chronyd answers within a millisecond.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// More sources are not looked at.
const SOURCES_MAX: u32 = 16;
/// Permissions of users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;
/// Longer than any reply of the protocol.
const LONGEST_REPLY: usize = 1024;

/// Where a chronyd listens. Every request has a socket of its own, so that none is left over when chronyd
/// restarts.
#[derive(Clone, Debug)]
pub struct Client {
    peer: Peer,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum Peer {
    Unix(PathBuf),
    Udp(SocketAddr),
}

/// Why there is no answer. Each text names what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ChronyError {
    /// The socket's file or folder does not exist.
    #[error(
        "no socket at {}: is chronyd running, and is its folder mounted at the same path as on the host? If its service created \
         the folder again, restart the pod", .0.display()
    )]
    NoSocket(PathBuf),
    /// The socket does not exist, and its folder is one in which chronyd makes none.
    #[error(
        "no socket in {}, and chronyd will refuse this folder: it is root's and open to other users (chronyd logs \"Wrong \
         permissions\" and runs without its command socket). Remove the folder, restart chronyd, then the pod", .0.display()
    )]
    RefusedFolder(PathBuf),
    /// The socket exists, or the port was asked, but no process listens.
    #[error("no process listens at {0}: chronyd has ended")]
    NotListening(String),
    /// The agent's own socket cannot be made.
    #[error(
        "cannot make a socket in {}: {error}. chronyd answers to a socket beside its own: mount the folder writable, and be chronyd's \
         user, or root with CAP_DAC_OVERRIDE", .folder.display()
    )]
    NotWritable {
        /// Beside chronyd's socket.
        folder: PathBuf,
        /// Why.
        error: Error,
    },
    /// The agent may not write to chronyd's socket.
    #[error("not allowed to write to {}: be chronyd's user, or root with CAP_DAC_OVERRIDE", .0.display())]
    Forbidden(PathBuf),
    /// No answer in time. chronyd may or may not have executed the request.
    #[error(
        "no answer from {peer} within {after:?}{}. chronyd answers to a socket only if its folder has the same path here as on the host",
        if *.strays { ", only to other requests" } else { "" }
    )]
    TimedOut {
        /// Where the request went.
        peer: String,
        /// The timeout.
        after: Duration,
        /// Answers to other requests came instead.
        strays: bool,
    },
    /// chronyd rejected the request.
    #[error("{0}")]
    Refused(ChronyStatus),
    /// The answer is no reply of the protocol.
    #[error("the answer is not one of chronyd's: {0}")]
    Garbage(ReplyError),
    /// Anything else.
    #[error("cannot reach {peer}: {error}")]
    Io {
        /// Where the request went.
        peer: String,
        /// The kernel's error.
        error: Error,
    },
}

impl Client {
    /// By the Unix socket, over which chronyd takes every command; chrony's default is
    /// `/run/chrony/chronyd.sock`.
    ///
    /// The path must be absolute, and the same for chronyd as for the agent: chronyd sends its answer to a
    /// path in the same folder.
    pub fn unix(path: &Path) -> Self {
        Self { peer: Peer::Unix(path.to_owned()), timeout: REQUEST_TIMEOUT }
    }

    /// By UDP, over which chronyd answers queries only; chrony's default is port 323 of the loopback
    /// addresses.
    pub fn udp(address: SocketAddr) -> Self {
        Self { peer: Peer::Udp(address), timeout: REQUEST_TIMEOUT }
    }

    /// Waits this long for each answer, instead of 2 s.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// chronyd's state of the clock.
    pub async fn tracking(&self) -> Result<Tracking, ChronyError> {
        self.ask(Request::Tracking, Tracking::read).await
    }

    /// How many sources chronyd has.
    pub async fn sources(&self) -> Result<u32, ChronyError> {
        self.ask(Request::Sources, read_sources).await
    }

    /// How many sources answered at least one of chronyd's last eight polls; of the first 16.
    pub async fn reachable_sources(&self) -> Result<u32, ChronyError> {
        let mut reachable = 0;
        for number in 0..self.sources().await?.min(SOURCES_MAX) {
            reachable += u32::from(self.ask(Request::SourceData(number), read_is_reachable).await?);
        }
        Ok(reachable)
    }

    /// Sends a command: every request but those above.
    pub async fn command(&self, request: Request) -> Result<(), ChronyError> {
        self.ask(request, |_| Ok(())).await
    }

    async fn ask<T>(
        &self,
        request: Request,
        read: fn(&mut Fields<'_>) -> Result<T, ReplyError>,
    ) -> Result<T, ChronyError> {
        let mut strays = false;
        let answer = timeout(self.timeout, self.exchange(request, read, &mut strays)).await;
        answer.unwrap_or(Err(ChronyError::TimedOut {
            peer: self.peer.to_string(),
            after: self.timeout,
            strays,
        }))
    }

    async fn exchange<T>(
        &self,
        request: Request,
        read: fn(&mut Fields<'_>) -> Result<T, ReplyError>,
        strays: &mut bool,
    ) -> Result<T, ChronyError> {
        #[expect(clippy::cast_possible_truncation, reason = "any 32 bits of it are random")]
        let sequence = random::bits() as u32;
        let connection = self.peer.connect().await?;
        connection.send(&request.encode(sequence)).await.map_err(|e| self.peer.io_error(e))?;
        let mut buffer = [0; LONGEST_REPLY];
        loop {
            let length = connection.receive(&mut buffer).await.map_err(|e| self.peer.io_error(e))?;
            let bytes = buffer.get(..length).unwrap_or_default();
            match read_reply(bytes, request, sequence).and_then(|mut data| read(&mut data)) {
                Ok(value) => return Ok(value),
                // An answer to an earlier request. The answer to this one may still come.
                Err(ReplyError::OtherSequence) => *strays = true,
                Err(ReplyError::Refused(status)) => return Err(ChronyError::Refused(status)),
                Err(error) => return Err(ChronyError::Garbage(error)),
            }
        }
    }
}

enum Connection {
    Unix(OwnSocket),
    Udp(UdpSocket),
}

impl Connection {
    async fn send(&self, bytes: &[u8]) -> Result<usize, Error> {
        match self {
            Self::Unix(own) => own.socket.send(bytes).await,
            Self::Udp(socket) => socket.send(bytes).await,
        }
    }

    async fn receive(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        match self {
            Self::Unix(own) => own.socket.recv(buffer).await,
            Self::Udp(socket) => socket.recv(buffer).await,
        }
    }
}

impl Peer {
    async fn connect(&self) -> Result<Connection, ChronyError> {
        match self {
            Self::Unix(path) => {
                let folder = path.parent().unwrap_or(Path::new("/"));
                let own = OwnSocket::bind(folder).map_err(|error| match error.kind() {
                    ErrorKind::NotFound => ChronyError::NoSocket(path.clone()),
                    // Whoever may not write there may still see why chronyd has no socket.
                    _ if !path.exists() && is_refused(folder) => {
                        ChronyError::RefusedFolder(folder.to_owned())
                    }
                    _ => ChronyError::NotWritable { folder: folder.to_owned(), error },
                })?;
                own.socket.connect(path).map_err(|error| match error.kind() {
                    ErrorKind::NotFound => no_socket(path, folder),
                    ErrorKind::PermissionDenied => ChronyError::Forbidden(path.clone()),
                    _ => self.io_error(error),
                })?;
                own.open_to_peer().map_err(|error| self.io_error(error))?;
                Ok(Connection::Unix(own))
            }
            Self::Udp(address) => {
                let any: IpAddr = match address {
                    SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let socket = UdpSocket::bind((any, 0)).await.map_err(|error| self.io_error(error))?;
                socket.connect(address).await.map_err(|error| self.io_error(error))?;
                Ok(Connection::Udp(socket))
            }
        }
    }

    fn io_error(&self, error: Error) -> ChronyError {
        match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => {
                ChronyError::NotListening(self.to_string())
            }
            _ => ChronyError::Io { peer: self.to_string(), error },
        }
    }
}

fn no_socket(path: &Path, folder: &Path) -> ChronyError {
    if is_refused(folder) {
        ChronyError::RefusedFolder(folder.to_owned())
    } else {
        ChronyError::NoSocket(path.to_owned())
    }
}

/// Does chronyd refuse to make its socket in this folder, whichever user it runs as? The folder must be its own
/// and closed to others. kubelet makes a missing `hostPath` folder as root, open to others.
fn is_refused(folder: &Path) -> bool {
    std::fs::metadata(folder).is_ok_and(|m| m.is_dir() && m.uid() == 0 && m.mode() & OTHERS != 0)
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Udp(address) => write!(f, "{address}"),
        }
    }
}
