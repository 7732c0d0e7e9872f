//! The guest's serial lines: its output, with the host's time of arrival, and a shell to give it commands.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{DEADLINE, wait_for};

/// A boot takes 3 s on a host that has nothing else to do.
const BOOT: Duration = Duration::from_secs(180);

/// A line of text, and when it came.
pub type Line = (Instant, String);

/// All that came over a line so far.
#[derive(Clone, Default)]
pub struct Console(Arc<Mutex<Vec<Line>>>);

impl Console {
    /// Reads on until the other end closes.
    pub fn follow(&self, stream: UnixStream) {
        let all = Arc::clone(&self.0);
        std::thread::spawn(move || read_lines(stream, |line| all.lock().unwrap().push(line)));
    }

    /// Everything, as text.
    pub fn all(&self) -> String {
        self.0.lock().unwrap().iter().flat_map(|(_, line)| [line, "\n"]).collect()
    }

    /// Lines that came after `since`, oldest first.
    pub fn since(&self, since: Instant) -> Vec<Line> {
        self.0.lock().unwrap().iter().filter(|(at, _)| *at >= since).cloned().collect()
    }

    /// The first line with all of `words` that came after `since`, if there is one.
    pub fn find(&self, since: Instant, words: &[&str]) -> Option<Line> {
        self.since(since).into_iter().find(|(_, line)| words.iter().all(|word| line.contains(word)))
    }

    /// Waits for it.
    pub fn wait_for(&self, since: Instant, words: &[&str]) -> Line {
        wait_for(&format!("a line with {words:?}"), || self.find(since, words))
    }
}

/// A shell in the guest; one command at a time.
pub struct Shell {
    stream: UnixStream,
    lines: Receiver<Line>,
    commands: u64,
}

impl Shell {
    /// A shell in a guest that is up already.
    pub fn new(stream: UnixStream) -> Self {
        let (send, lines) = channel();
        let reader = stream.try_clone().expect("a second handle");
        std::thread::spawn(move || {
            read_lines(reader, |line| {
                let _ = send.send(line);
            });
        });
        Self { stream, lines, commands: 0 }
    }

    /// Waits until a guest that boots is up.
    pub fn wait_until_ready(&self) {
        while self.line_within(BOOT) != "ready" {}
    }

    /// Sends a command without waiting for its end. The next one waits until it is over.
    pub fn send(&mut self, command: &str) {
        assert!(!command.contains('\n'), "one line: {command}");
        self.commands += 1;
        // The tty's own buffer is a page.
        assert!(command.len() < 4_000, "too long for the line: {command}");
        writeln!(self.stream, "#{} {command}", self.commands).expect("the guest listens");
    }

    /// Waits for the end of the command that was sent last: its output and status.
    pub fn end(&mut self) -> (String, i32) {
        let prefix = format!("#{} ", self.commands);
        let mut output = Vec::new();
        loop {
            let line = self.line();
            if let Some(status) = line.strip_prefix(&prefix) {
                return (output.join("\n").trim().to_owned(), status.parse().expect("a status"));
            }
            output.push(line);
        }
    }

    /// Runs a command that must work; what it printed.
    pub fn run(&mut self, command: &str) -> String {
        self.send(command);
        let (output, status) = self.end();
        assert_eq!(status, 0, "{command}: {output}");
        output
    }

    fn line(&self) -> String {
        self.line_within(DEADLINE)
    }

    fn line_within(&self, span: Duration) -> String {
        match self.lines.recv_timeout(span) {
            Ok((_, line)) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the guest has said nothing for {span:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the guest is gone"),
        }
    }
}

fn read_lines(stream: UnixStream, mut each: impl FnMut(Line)) {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        each((Instant::now(), line));
        bytes.clear();
    }
}
