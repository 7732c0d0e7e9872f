//! The time daemons of a guest, started as Debian starts them.

use std::time::{Duration, Instant};

use super::{Guest, HOST};
use crate::support::wait_as_long;

/// Updates of the clock after which chrony with Debian's `makestep 1 3` never steps again by itself.
const UPDATES: usize = 4;
/// What chronyd logs of a step.
const STEPPED: &str = "System clock was stepped by";
/// chrony counts as done when it has left less than this, in seconds.
const CORRECTED: f64 = 0.03;
/// A dozen exchanges, two seconds apart, on a slow host.
const SETTLES: Duration = Duration::from_secs(150);

/// What chrony reports of itself: `chronyc -c tracking`.
#[derive(Clone, Debug)]
pub struct Tracking {
    /// Time of the last update, as chrony prints it.
    pub updated: String,
    /// Seconds by which it takes the clock to be off; positive, behind.
    pub offset: f64,
    /// `Normal` when it believes to be synchronised.
    pub leap: String,
}

impl Guest {
    /// Starts chronyd with one server on the host.
    pub fn start_chrony(&mut self, port: u16) {
        self.run("mkdir -m 0700 /run/chrony");
        // chronyd makes its command socket only in a folder of its own.
        self.run("chown _chrony:_chrony /run/chrony /var/lib/chrony /var/log/chrony");
        self.write("/etc/chrony/sources.d/host.sources", &format!("server {HOST} port {port} iburst"));
        self.run("chronyd -F 1 -l /tmp/chronyd.log");
    }

    /// Waits until chronyd has made its first updates, with more samples at once than it would ask for by itself, and asks for
    /// no more.
    pub fn settle_chrony(&mut self) {
        let mut updates: Vec<String> = Vec::new();
        wait_as_long(SETTLES, "chrony to settle", || {
            let tracking = self.tracking();
            if tracking.leap == "Normal" && updates.last() != Some(&tracking.updated) {
                updates.push(tracking.updated);
            }
            let is_settled = updates.len() > UPDATES;
            // A burst need not lead to an update: its samples may be worse than those before.
            let is_idle = self.has_chrony_measured();
            if is_idle && !is_settled {
                self.run("chronyc burst 2/4");
            }
            (is_idle && is_settled).then_some(())
        });
    }

    /// Is there no burst under way?
    fn has_chrony_measured(&mut self) -> bool {
        self.run("chronyc activity").contains("\n0 sources doing burst (return to online)")
    }

    /// What chrony believes.
    pub fn tracking(&mut self) -> Tracking {
        let line = self.run("chronyc -n -c tracking");
        let fields: Vec<&str> = line.split(',').collect();
        let field = |n: usize| fields.get(n).copied().unwrap_or_else(|| panic!("tracking: {line}"));
        let offset = field(4).parse().unwrap_or_else(|_| panic!("tracking: {line}"));
        Tracking { updated: field(3).to_owned(), offset, leap: field(13).to_owned() }
    }

    /// How often chronyd itself has stepped the clock.
    pub fn steps_by_chrony(&mut self) -> usize {
        self.run("cat /tmp/chronyd.log").matches(STEPPED).count()
    }

    /// How many steps chronyd makes when the clock is found so many seconds behind, and what it had measured before is
    /// forgotten: none if its rule does not allow one, for it slews then.
    pub fn steps_of_chrony_by(&mut self, seconds: f64) -> usize {
        // chronyd begins no burst during another.
        wait_as_long(SETTLES, "chrony's burst to end", || self.has_chrony_measured().then_some(()));
        let before = self.steps_by_chrony();
        self.step(-seconds);
        let since = Instant::now();
        self.run("chronyc reset sources");
        self.run("chronyc burst 4/4");
        self.truth.wait_for("chrony to correct the clock", since, |offset| offset.abs() < CORRECTED);
        self.steps_by_chrony() - before
    }

    /// Waits until timesyncd has synchronised the clock.
    pub fn settle_timesyncd(&mut self) {
        wait_as_long(SETTLES, "timesyncd to settle", || {
            let found = self.run("ls /run/systemd/timesync");
            found.lines().any(|name| name == "synchronized").then_some(())
        });
    }

    /// Carries datagrams from an address of the guest to a port of the host, and back.
    pub fn start_relay(&mut self, listen: &str, port: u16) {
        self.run(&format!("guest-probe relay {listen} {HOST}:{port} </dev/null >/dev/null 2>&1 &"));
    }

    /// Starts systemd-timesyncd with a server on the host; it knows no port but 123.
    pub fn start_timesyncd(&mut self, port: u16) {
        self.start_relay("127.0.0.1:123", port);
        self.run("mkdir -p /run/systemd/timesync /var/lib/systemd/timesync /etc/systemd");
        self.run("chown systemd-timesync:systemd-timesync /run/systemd/timesync /var/lib/systemd/timesync");
        self.run("printf '[Time]\\nNTP=127.0.0.1\\n' >/etc/systemd/timesyncd.conf");
        self.run("systemd-timesyncd </dev/null >/tmp/timesyncd.log 2>&1 &");
    }
}
