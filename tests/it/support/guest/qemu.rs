//! A process of QEMU: its command line, and QMP to stop, save and wake it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{DEADLINE, tool, wait_for};

/// Runs a program in the background, prints its process id, and ends it when the pipe to us closes: so it ends with us,
/// however we end.
const HOLD: &str = r#"exec 2>/dev/null; trap : INT TERM HUP; "$@" </dev/null >"$LOG" 2>&1 & echo $!; read -r _; kill -9 $!; wait $!"#;
/// In the order in which they are given to QEMU.
const SOCKETS: [&str; 3] = ["console", "shell", "qmp"];

/// A running QEMU; ended when dropped.
pub struct Qemu {
    shell: Child,
    id: String,
    log: PathBuf,
    writer: UnixStream,
    answers: Receiver<Value>,
    events: Arc<Mutex<Vec<(Instant, Value)>>>,
}

impl Qemu {
    /// Starts it with a clock that follows the host's, without KVM, whatever the machine has. Sockets and log go into
    /// `folder`; the first serial line is the console, the second a shell's.
    pub fn start(folder: &Path, program: &str, arguments: &[String]) -> (Self, UnixStream, UnixStream) {
        let listeners = SOCKETS.map(|name| {
            let path = folder.join(name);
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(path).expect("a socket");
            listener.set_nonblocking(true).expect("a socket");
            listener
        });
        let socket = |name: &str| format!("socket,id={name},path={}", folder.join(name).display());
        let log = folder.join("qemu.log");
        let mut command = Command::new("sh");
        command
            .args(["-c", HOLD, "sh"])
            .arg(tool(program))
            .args([
                "-accel",
                "tcg",
                "-rtc",
                "base=utc,clock=host",
                "-display",
                "none",
                "-nodefaults",
                "-no-reboot",
            ])
            .args(["-chardev", &socket("console"), "-serial", "chardev:console"])
            .args(["-chardev", &socket("shell"), "-serial", "chardev:shell"])
            .args(["-chardev", &socket("qmp"), "-mon", "chardev=qmp,mode=control"])
            .args(arguments)
            .env("LOG", &log);
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut id = String::new();
        BufReader::new(shell.stdout.take().expect("a pipe")).read_line(&mut id).expect("a process id");
        let [console, commands, qmp] = listeners.map(|listener| {
            let stream = wait_for("QEMU to connect", || {
                assert!(is_alive(id.trim()), "QEMU says: {}", read(&log));
                listener.accept().ok().map(|(stream, _)| stream)
            });
            stream.set_nonblocking(false).expect("a socket");
            stream
        });
        let (send, answers) = channel();
        let events = Arc::new(Mutex::new(Vec::new()));
        let (reader, all) = (qmp.try_clone().expect("a second handle"), Arc::clone(&events));
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                let message: Value = serde_json::from_str(&line).unwrap_or_default();
                if message["event"].is_string() {
                    all.lock().unwrap().push((Instant::now(), message));
                } else if message["QMP"].is_null() {
                    let _ = send.send(message);
                }
            }
        });
        let mut qemu = Self { shell, id: id.trim().to_owned(), log, writer: qmp, answers, events };
        qemu.execute("qmp_capabilities", &json!({}));
        (qemu, console, commands)
    }

    /// A command of QMP and what it returns; it must work.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Value {
        writeln!(self.writer, "{}", json!({"execute": command, "arguments": arguments}))
            .unwrap_or_else(|e| panic!("{command}: {e}; QEMU says: {}", read(&self.log)));
        let answer = self.answers.recv_timeout(DEADLINE);
        let answer = answer.unwrap_or_else(|e| panic!("{command}: {e}; QEMU says: {}", read(&self.log)));
        assert!(answer["error"].is_null(), "{command} {arguments}: {}", answer["error"]);
        answer["return"].clone()
    }

    /// When events of this name came.
    pub fn events(&self, name: &str) -> Vec<Instant> {
        let events = self.events.lock().unwrap();
        events.iter().filter(|(_, event)| event["event"] == name).map(|(at, _)| *at).collect()
    }

    /// Waits until the machine is in this state.
    pub fn wait_for_status(&mut self, status: &str) {
        wait_for(&format!("a machine that is {status}"), || {
            (self.execute("query-status", &json!({}))["status"] == status).then_some(())
        });
    }

    /// Runs a job (`blockdev-create`, `snapshot-save` …) to its end.
    pub fn job(&mut self, command: &str, mut arguments: Value) {
        arguments["job-id"] = json!("job");
        self.execute(command, &arguments);
        let done = wait_for(command, || {
            let jobs = self.execute("query-jobs", &json!({}));
            let job = jobs.as_array()?.iter().find(|j| j["id"] == "job")?.clone();
            (job["status"] == "concluded").then_some(job)
        });
        assert!(done["error"].is_null(), "{command}: {done}");
        self.execute("job-dismiss", &json!({"id": "job"}));
    }

    /// Sends a signal to the process of QEMU: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {}", self.id);
    }

    /// Ends it at once.
    pub fn end(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.end();
    }
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

/// Its parent, the shell, takes note of its end only when we close the pipe: until then it is a zombie.
fn is_alive(id: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
