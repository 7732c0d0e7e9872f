//! HTTP servers on loopback that are asked for their `Date`, and may answer anything.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// What it answers.
#[derive(Clone, Debug)]
pub enum Manner {
    /// A `Date` that is so far ahead of this machine's time, with a status and headers more.
    Date(SignedDuration, &'static str, &'static str),
    /// Whatever these bytes are.
    Bytes(Vec<u8>),
    /// Two times by turns.
    Two(SignedDuration, SignedDuration),
    /// Nothing; the connection stays open.
    Silence,
    /// Nothing; the connection is closed.
    Close,
}

/// It runs until it is dropped.
pub struct DateServer {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    heads: Arc<Mutex<Vec<String>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The header as RFC 9110 has it, for a time so far ahead of this machine's.
pub fn date(ahead: SignedDuration) -> String {
    (Timestamp::now() + ahead).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// A right answer.
pub fn ahead(by: SignedDuration) -> Manner {
    Manner::Date(by, "200 OK", "")
}

impl DateServer {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (manner, heads) = (Arc::new(Mutex::new(manner)), Arc::new(Mutex::new(Vec::new())));
        let end = Arc::new(AtomicBool::new(false));
        let (theirs, log, ended) = (manner.clone(), heads.clone(), end.clone());
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = stream.expect("a connection");
                let Some(head) = read_head(&mut stream) else { continue };
                let count = {
                    let mut heads = log.lock().unwrap();
                    heads.push(head);
                    heads.len()
                };
                let with = |by, status: &str, more: &str| {
                    format!("HTTP/1.1 {status}\r\nDate: {}\r\n{more}\r\n", date(by)).into_bytes()
                };
                let answer = match theirs.lock().unwrap().clone() {
                    Manner::Date(by, status, more) => with(by, status, more),
                    Manner::Two(first, second) => with([second, first][count % 2], "200 OK", ""),
                    Manner::Bytes(bytes) => bytes,
                    Manner::Close => continue,
                    Manner::Silence => {
                        kept.push(stream);
                        continue;
                    }
                };
                // Whoever asked may have given up.
                let _ = stream.write_all(&answer);
            }
        });
        Self { address, manner, heads, end, thread: Some(thread) }
    }

    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// `None` when the client has given up.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.extend(byte),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

impl Drop for DateServer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // It waits for a connection.
        let _ = TcpStream::connect(self.address);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}
