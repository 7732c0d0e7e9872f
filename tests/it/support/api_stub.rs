//! An API server with scripted answers, for answers that a real one cannot be made to give. Plain HTTP, one thread per
//! connection, one request per connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    /// Such as `PATCH`.
    pub method: String,
    pub path: String,
    pub content_type: String,
    pub accept: String,
    pub body: Value,
}

/// How a request is answered.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// As a server that does what it is asked.
    Well,
    /// With this status, and so many seconds in Retry-After.
    Status(u16, Option<u64>),
    /// With these bytes instead of an object.
    Raw(&'static str),
    /// With the text of a `Date` header, and these bytes.
    DateSample(&'static str, &'static str),
    /// Never.
    Hang,
    /// By closing the connection.
    HangUp,
}

/// A server that runs until the test ends.
pub struct Stub {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Request {
    /// Is it about an event, rather than the Node?
    pub fn is_event(&self) -> bool {
        self.path.starts_with("/apis/events.k8s.io/v1/namespaces/default/events")
    }

    /// Is it the write of the Node, rather than its reading?
    pub fn is_write(&self) -> bool {
        self.content_type == "application/apply-patch+yaml"
    }
}

impl Stub {
    /// `answer` is given each request, and how many of its kind (events, or Node) came before it.
    pub fn start(answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        // It ends with the process: nothing here outlives that.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { port, requests }
    }

    /// What came in so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The requests about the Node.
    pub fn node_requests(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|r| !r.is_event()).collect()
    }

    /// The requests about events.
    pub fn event_requests(&self) -> Vec<Request> {
        self.requests().into_iter().filter(Request::is_event).collect()
    }

    /// Writes a kubeconfig that leads here.
    pub fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{}", self.port)}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        let file = folder.join("kubeconfig");
        std::fs::write(&file, config.to_string()).expect("a file");
        file
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request, usize) -> Answer) {
    let Some(request) = read(&stream) else { return };
    let before = {
        let mut seen = seen.lock().unwrap();
        let before = seen.iter().filter(|r| r.is_event() == request.is_event()).count();
        seen.push(request.clone());
        before
    };
    let respond = |stream: &mut TcpStream, status: u16, more: &str, body: &str| {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} Told\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n");
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
    };
    match answer(&request, before) {
        Answer::Well if request.is_event() => respond(&mut stream, 201, "", &request.body.to_string()),
        Answer::Well => {
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n0"}});
            respond(&mut stream, 200, "", &node.to_string());
        }
        Answer::Status(status, retry_after) => {
            let header = retry_after.map_or_else(String::new, |s| format!("Retry-After: {s}\r\n"));
            let body = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": status});
            respond(&mut stream, status, &header, &body.to_string());
        }
        Answer::Raw(body) => respond(&mut stream, 200, "", body),
        Answer::DateSample(date, body) => respond(&mut stream, 200, &format!("Date: {date}\r\n"), body),
        // Until the agent gives up.
        Answer::Hang => drop(stream.read(&mut [0])),
        Answer::HangUp => {}
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let at = Instant::now();
    let mut words = first.split(' ');
    let (method, uri) = (words.next()?.to_owned(), words.next()?);
    let path = uri.split('?').next()?.to_owned();
    let (mut length, mut content_type, mut accept) = (0, String::new(), String::new());
    loop {
        let header = line()?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "content-type" => value.clone_into(&mut content_type),
            "accept" => value.clone_into(&mut accept),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Request { at, method, path, content_type, accept, body })
}
