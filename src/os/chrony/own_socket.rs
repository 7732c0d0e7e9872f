//! The socket that chronyd sends its answers to, in the folder of chronyd's own.

use std::fs::{OpenOptions, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixDatagram;

use crate::os::random;

/// A bound datagram socket. Its file is removed when it is dropped.
pub struct OwnSocket {
    pub socket: UnixDatagram,
    path: PathBuf,
}

impl OwnSocket {
    /// Binds one in this folder.
    ///
    /// The name is random instead of the process ID: agents in two containers are both process 1, and an old
    /// and a new one may run at the same time.
    pub fn bind(folder: &Path) -> Result<Self> {
        let path = folder.join(format!("drift-agent.{:016x}.sock", random::bits()));
        UnixDatagram::bind(&path).map(|socket| Self { socket, path })
    }

    /// Lets every user write to it, since chronyd answers as a user of its own (Debian: `_chrony`).
    ///
    /// To be called once it is connected: from then on the kernel takes datagrams from its peer only.
    /// chronyd's user owns the folder and could replace the file by a link, and the agent may be root. So the
    /// mode is changed through a handle that follows no link.
    pub fn open_to_peer(&self) -> Result<()> {
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(&self.path)?;
        if !file.metadata()?.file_type().is_socket() {
            return Err(Error::new(
                ErrorKind::PermissionDenied,
                "another process replaced the agent's socket",
            ));
        }
        std::fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), Permissions::from_mode(0o666))
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        // An error means that another process has removed the file.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("drift-agent-{name}-{:016x}", random::bits()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn sockets_have_distinct_names_and_remove_their_files() {
        let folder = Folder::new("own-socket");
        let sockets = [(); 3].map(|()| OwnSocket::bind(&folder.0).unwrap());
        for own in &sockets {
            own.open_to_peer().unwrap();
            assert_eq!(mode(&own.path), 0o666);
        }
        drop(sockets);
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn links_in_the_place_of_a_socket_keep_their_mode() {
        let folder = Folder::new("own-socket-link");
        let secret = folder.0.join("secret");
        for replace in [
            (|secret, place| std::os::unix::fs::symlink(secret, place)) as fn(&Path, &Path) -> Result<()>,
            |secret, place| std::fs::hard_link(secret, place),
        ] {
            std::fs::write(&secret, "").unwrap();
            std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
            let own = OwnSocket::bind(&folder.0).unwrap();
            std::fs::remove_file(&own.path).unwrap();
            replace(&secret, &own.path).unwrap();
            assert!(own.open_to_peer().is_err());
            assert_eq!(mode(&secret), 0o600);
        }
    }
}
