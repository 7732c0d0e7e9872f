//! What the tests share: real parts as child processes, a plain HTTP GET, and waiting for a state instead of sleeping.

pub mod api_stub;
pub mod chronyd;
pub mod cluster;
pub mod dates;
pub mod fleet;
#[allow(dead_code, reason = "tests/alerts.rs uses the rest")]
pub mod monitoring;
pub mod page;
pub mod process;
pub mod seeds;
pub mod simulated;
pub mod test_node;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::{Server, TimeScale};

/// Longer than this no test waits for a state.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// A real part, where `tests/tools/install` has put it.
pub fn tool(name: &str) -> PathBuf {
    let set = |key: &str| std::env::var_os(key).map(PathBuf::from);
    let cache = set("DRIFT_AGENT_CACHE").or_else(|| {
        Some(set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("drift-agent"))
    });
    let path = cache.expect("HOME is set").join("bin").join(name);
    assert!(path.exists(), "{} is missing: run tests/tools/install", path.display());
    path
}

/// The binary under test.
pub fn drift_agent() -> Command {
    clean(Path::new(env!("CARGO_BIN_EXE_drift-agent")))
}

/// An agent without settings from this machine's environment.
pub fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    // The machine's own settings are not the test's.
    let theirs = ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "NODE_NAME"];
    let ours = std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("DRIFT_AGENT_"));
    theirs.into_iter().map(Into::into).chain(ours.map(|(key, _)| key)).for_each(|key| {
        command.env_remove(key);
    });
    command
}

/// A child process that ends with the test, also when the test fails. Its output goes to a file, shown when that happens.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; standard output and error go to `DIR/NAME.log`.
    pub fn start(command: &mut Command, dir: &Path, name: &str) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
        Self { child, log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until its output has `text`.
    pub fn wait_for_output(&self, text: &str) {
        wait_for(&format!("{text:?} in the output"), || self.output().contains(text).then_some(()));
    }

    /// Has it ended by itself?
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().expect("a child of ours").map(|status| status.code().unwrap_or(-1))
    }

    /// Sends SIGTERM and waits for the end.
    #[allow(dead_code, reason = "for a bench")]
    pub fn terminate(&mut self) {
        let _ = Command::new("kill").arg(self.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && self.exit_code().is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.output();
            let tail = output.char_indices().rev().nth(4_000).map_or(0, |(at, _)| at);
            eprintln!("--- {} ---\n{}", self.log.display(), &output[tail..]);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The tests share a process: a number keeps two folders of one name apart.
static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// A folder that goes with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let root =
            if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("drift-agent-test-{name}-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Polls until there is something. Panics after [`DEADLINE`]: a state that does not come is a failure, not a delay.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_as_long(DEADLINE, what, look)
}

/// The same for what takes long by itself.
pub fn wait_as_long<T>(span: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + span;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {span:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A TCP port that was free a moment ago.
pub fn free_tcp_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    not_given_before(&GIVEN, || {
        TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("bound").port()
    })
}

/// A UDP port that was free a moment ago.
pub fn free_udp_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    not_given_before(&GIVEN, || {
        UdpSocket::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("bound").port()
    })
}

/// The tests run in one process, and a port is bound only some time after it was given to one of them.
fn not_given_before(given: &Mutex<BTreeSet<u16>>, mut free: impl FnMut() -> u16) -> u16 {
    let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = free();
        if given.insert(port) {
            return port;
        }
    }
}

/// Status and body of a GET; `None` while no server listens.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// A scrape of `/metrics`.
pub struct Exposition(pub String);

impl Exposition {
    /// The value of a series as it stands in the text: `drift_agent_state{state="drifting"}`; `None` when it is absent.
    pub fn value(&self, series: &str) -> Option<f64> {
        self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Is this the verdict in force?
    pub fn is_state(&self, state: &str) -> bool {
        self.value(&format!("drift_agent_state{{state=\"{state}\"}}")) == Some(1.0)
    }

    /// The value of a metric for one pool.
    pub fn of_pool(&self, metric: &str, pool: &str) -> Option<f64> {
        self.value(&format!("drift_agent_{metric}{{pool=\"{pool}\"}}"))
    }

    /// Exchanges with a pool, by result.
    pub fn samples(&self, pool: &str) -> BTreeMap<String, u64> {
        let prefix = format!("drift_agent_samples_total{{pool=\"{pool}\",result=\"");
        let read = |line: &str| {
            let (result, count) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
            Some((result.to_owned(), count.parse().ok()?))
        };
        self.0.lines().filter_map(read).filter(|(_, count)| *count > 0).collect()
    }
}

/// The agent as a process, observing these pools.
pub struct RunningAgent {
    pub process: Process,
    pub port: u16,
}

impl RunningAgent {
    /// Starts `drift-agent run` with one `--pool` for each, a short interval, and these arguments more.
    pub fn start(
        dir: &Path,
        pools: &[String],
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let port = free_tcp_port();
        let mut command = drift_agent();
        command.arg("run").args([
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--interval",
            "1s",
            "--stale-after",
            "10s",
        ]);
        command.args(pools.iter().flat_map(|pool| ["--pool", pool])).args(arguments);
        prepare(&mut command);
        let process = Process::start(&mut command, dir, &format!("agent-{port}"));
        Self { process, port }
    }

    /// A scrape now; `None` while it does not listen.
    pub fn scrape(&self) -> Option<Exposition> {
        let (status, text) = get(self.port, "/metrics")?;
        assert_eq!(status, 200);
        Some(Exposition(text))
    }

    /// Waits for an exposition in which something is to be found.
    pub fn wait_for_scrape<T>(&self, what: &str, look: impl Fn(&Exposition) -> Option<T>) -> T {
        wait_for(what, || look(&self.scrape()?))
    }

    /// The value of a series as it stands in the exposition; `None` when it is absent.
    pub fn metric(&self, series: &str) -> Option<f64> {
        self.scrape()?.value(series)
    }

    /// Waits until a series has a value that fits.
    pub fn wait_for_metric(&self, series: &str, fits: impl Fn(f64) -> bool) -> f64 {
        wait_for(series, || self.metric(series).filter(|value| fits(*value)))
    }

    /// Waits for a verdict.
    pub fn wait_for_state(&self, state: &str) {
        self.wait_for_metric(&format!("drift_agent_state{{state=\"{state}\"}}"), |value| value > 0.5);
    }
}

/// How a command ended by itself.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command, with this on its standard input, until it ends. Panics after [`DEADLINE`], and ends it then.
pub fn finish(command: &mut Command, input: &str) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that reads none of it is not our concern.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break Some(status);
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let [stdout, stderr] = [stdout, stderr].map(|text| text.join().expect("no panic in a reader"));
    let Some(status) = status else {
        panic!("{command:?} did not end within {DEADLINE:?}\n{stdout}\n{stderr}")
    };
    Ended { code: status.code().unwrap_or(-1), stdout, stderr }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.expect("a pipe").read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Where servers run while the test's own thread waits: a tokio runtime on a thread of its own.
pub struct BackgroundRuntime {
    runtime: tokio::runtime::Handle,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl BackgroundRuntime {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        let (end, ended) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(ended);
        });
        Self { runtime: handle, end: Some(end), thread: Some(thread) }
    }

    /// The runtime.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    /// An NTP server on a free port of 127.0.0.1.
    pub fn server(&self, time: &TimeScale, behaviour: Behaviour) -> Server {
        self.runtime.block_on(Server::start(time.clone(), behaviour)).expect("a free port")
    }

    /// The same on another of this machine's own addresses, 127.0.0.`host`: chronyd takes each address once.
    pub fn server_on(&self, host: u8, time: &TimeScale, behaviour: Behaviour) -> Server {
        let address = ([127, 0, 0, host], 0).into();
        self.runtime.block_on(Server::start_at(address, time.clone(), behaviour)).expect("a free port")
    }
}

impl Drop for BackgroundRuntime {
    fn drop(&mut self) {
        drop(self.end.take());
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// How a server is named as a pool.
pub fn pool(server: &Server) -> String {
    server.address().to_string()
}
