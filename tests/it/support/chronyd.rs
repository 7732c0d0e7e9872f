//! A real chronyd with its command socket, as on a node but for the clock, which it may not touch (`-x`); and peers that are none.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use drift_agent::os::chrony::{Client, Tracking};

use crate::support::{
    BackgroundRuntime, DEADLINE, Ended, Folder, Process, finish, free_udp_port, tool, wait_for,
};

/// The command's number, in a request and in a reply.
pub fn command_of(datagram: &[u8]) -> u16 {
    u16::from_be_bytes([datagram[4], datagram[5]])
}

/// chronyd, as a user of its own when the test runs as root, with the commands' socket in a folder that belongs to it.
pub struct Chronyd {
    pub process: Process,
    pub run: PathBuf,
    pub udp_port: u16,
}

impl Chronyd {
    /// Starts it with these directives; ready when it answers.
    pub fn start(background: &BackgroundRuntime, folder: &Folder, directives: &[&str]) -> Self {
        let chronyd = Self::launch(folder, directives);
        wait_for("chronyd to answer", || background.runtime().block_on(chronyd.client().tracking()).ok());
        chronyd
    }

    /// The same, but with a folder that is there already and that it refuses; ready when it answers by UDP.
    pub fn start_in_folder_of_root(
        background: &BackgroundRuntime,
        folder: &Folder,
        directives: &[&str],
    ) -> Self {
        let chronyd = Self::launch(folder, directives);
        let udp = Client::udp(([127, 0, 0, 1], chronyd.udp_port).into());
        wait_for("chronyd to answer", || background.runtime().block_on(udp.tracking()).ok());
        chronyd
    }

    fn launch(folder: &Folder, directives: &[&str]) -> Self {
        let id = |option| finish(Command::new("id").arg(option), "").stdout.trim().to_owned();
        let user = if id("-u") == "0" { "nobody".to_owned() } else { id("-un") };
        // It makes this folder itself, as it must be.
        let (run, udp_port) = (folder.path().join("run"), free_udp_port());
        let mut command = Command::new(tool("chronyd"));
        command.args(["-x", "-d", "-U", "-u", &user, "port 0"]).args([
            format!("pidfile {}", folder.path().join("chronyd.pid").display()),
            format!("bindcmdaddress {}", run.join("chronyd.sock").display()),
            "bindcmdaddress 127.0.0.1".to_owned(),
            format!("cmdport {udp_port}"),
        ]);
        let process = Process::start(command.args(directives), folder.path(), "chronyd");
        Self { process, run, udp_port }
    }

    pub fn socket(&self) -> PathBuf {
        self.run.join("chronyd.sock")
    }

    pub fn client(&self) -> Client {
        Client::unix(&self.socket())
    }

    /// Waits until what it believes fits.
    pub fn wait_for(
        &self,
        background: &BackgroundRuntime,
        what: &str,
        fits: impl Fn(&Tracking) -> bool,
    ) -> Tracking {
        wait_for(what, || background.runtime().block_on(self.client().tracking()).ok().filter(&fits))
    }
}

/// A server as a directive of chronyd; asked every second.
pub fn source(server: SocketAddr) -> String {
    format!("server {} port {} iburst minpoll 0 maxpoll 0", server.ip(), server.port())
}

/// The real chronyc, speaking to this socket.
pub fn chronyc(socket: &Path, arguments: &[&str]) -> Ended {
    finish(Command::new(tool("chronyc")).arg("-h").arg(socket).args(arguments), "")
}

/// Names in a folder.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A socket that takes requests and sends scripted answers.
pub struct Peer {
    pub socket: PathBuf,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// Answers each request with these datagrams.
    pub fn start(socket: PathBuf, mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let bound = UnixDatagram::bind(&socket).expect("a socket");
        bound.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (seen, end) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, ended) = (seen.clone(), end.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while !ended.load(Ordering::Relaxed) {
                let (length, from) = match bound.recv_from(&mut buffer) {
                    Ok(request) => request,
                    Err(e) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&e.kind()) => continue,
                    Err(e) => panic!("{e}"),
                };
                log.lock().unwrap().push(buffer[..length].to_vec());
                for reply in answer(&buffer[..length]) {
                    // Whoever asked may have given up.
                    let _ = bound.send_to(&reply, from.as_pathname().expect("a bound client"));
                }
            }
        });
        Self { socket, seen, end, thread: Some(thread) }
    }

    /// Hands everything to chronyd and back, and remembers the requests.
    pub fn relay(chronyd: &Chronyd, folder: &Folder) -> Self {
        Self::relay_changed(chronyd, folder, |_| {})
    }

    /// The same, but changes what goes to chronyd, and what comes back.
    pub fn relay_changed(
        chronyd: &Chronyd,
        folder: &Folder,
        mut change: impl FnMut(&mut [u8]) + Send + 'static,
    ) -> Self {
        let path = folder.path().join("relay-back.sock");
        let back = UnixDatagram::bind(&path).expect("a socket");
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("our own socket");
        back.connect(chronyd.socket()).expect("chronyd's socket");
        back.set_read_timeout(Some(DEADLINE)).unwrap();
        Self::start(folder.path().join("relay.sock"), move |request| {
            let mut datagram = request.to_vec();
            change(&mut datagram);
            back.send(&datagram).expect("chronyd takes it");
            datagram.resize(1024, 0);
            let length = back.recv(&mut datagram).expect("chronyd answers");
            datagram.truncate(length);
            change(&mut datagram);
            vec![datagram]
        })
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().clone()
    }

    /// The first request with this command since the last call, without its sequence number; forgets the rest.
    pub fn take(&self, command: u16) -> Vec<u8> {
        let requests = std::mem::take(&mut *self.seen.lock().unwrap());
        let mut request = requests.into_iter().find(|r| command_of(r) == command).expect("it was sent");
        request[8..12].fill(0);
        request
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
        let _ = std::fs::remove_file(&self.socket);
    }
}
