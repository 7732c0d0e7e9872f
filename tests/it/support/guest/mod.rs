//! A virtual machine whose clock may be stepped, paused and restored: QEMU without KVM, Debian's kernel, and the agent as it
//! is released. `tests/tools/install guest` fetches what it needs.

mod archive;
mod daemons;
mod image;
mod qemu;
#[path = "../release.rs"]
mod release;
pub mod scenario;
mod serial;
mod truth;

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

pub use image::{Daemon, MAKESTEP};
use qemu::Qemu;
use serial::{Console, Shell};
pub use truth::Truth;

use crate::support::{Folder, free_tcp_port, free_udp_port};

/// The host's loopback, as the guest sees it.
pub const HOST: &str = "10.0.2.2";
/// Ports in the guest: `guest-probe serve` and the agent's.
const PROBE_PORT: u16 = 10_124;
const HTTP_PORT: u16 = 10_123;
/// The guest's clock counts as right within this many seconds.
pub const RIGHT: f64 = 0.005;

/// Setting the hardware clock restarts its second.
pub const INTEL: &str = "GenuineIntel";
/// It does not.
pub const AMD: &str = "AuthenticAMD";

/// What to boot.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: &'static str,
    pub daemon: Daemon,
    /// chrony's rule for stepping by itself: `makestep` of its configuration.
    pub makestep: &'static str,
    /// Added to the kernel's command line.
    pub kernel_options: &'static str,
    /// The folder of the cache with the kernel.
    pub kernel: &'static str,
    /// The program of the cache that is QEMU.
    pub qemu: &'static str,
    /// Who has made the processor: what setting the hardware clock does to its second depends on it.
    pub vendor: &'static str,
    /// Added to QEMU's command line.
    pub devices: &'static [&'static str],
}

impl Spec {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            daemon: Daemon::None,
            makestep: MAKESTEP,
            kernel_options: "",
            kernel: "guest-kernel",
            qemu: "qemu-system-x86_64",
            vendor: INTEL,
            devices: &[],
        }
    }

    /// On a kernel that has no driver for the hardware clock, as on machines that have none.
    pub fn without_rtc(name: &'static str) -> Self {
        Self { kernel_options: "initcall_blacklist=cmos_init", ..Self::new(name) }
    }

    /// With a vmclock, and QEMU and a kernel that are new enough for it.
    pub fn with_vmclock(name: &'static str) -> Self {
        Self {
            kernel: "guest-kernel-vmclock",
            qemu: "qemu-backports",
            devices: &["-device", "vmclock"],
            ..Self::new(name)
        }
    }
}

/// A running guest. Its clock is observed all the time.
pub struct Guest {
    pub console: Console,
    pub truth: Truth,
    pub qemu: Qemu,
    /// Where the agent's HTTP is, on the host.
    pub http: u16,
    shell: Shell,
    spec: Spec,
    folder: Folder,
}

impl Guest {
    /// Boots one, and sets its clock right.
    pub fn boot(spec: Spec) -> Self {
        let folder = Folder::new(&format!("guest-{}", spec.name));
        std::fs::write(folder.path().join("initramfs"), image::initramfs(&spec)).expect("room");
        let Started { qemu, console: stream, shell, probe, http } = start_qemu(&spec, &folder, &[]);
        let console = Console::default();
        console.follow(stream);
        let mut guest =
            Self { console, truth: Truth::start(probe), qemu, http, shell: Shell::new(shell), spec, folder };
        guest.shell.wait_until_ready();
        guest.set_clock_right();
        guest
    }

    /// Room for the test's files, gone with the guest.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Runs a command in the guest that must work; what it printed.
    pub fn run(&mut self, command: &str) -> String {
        self.shell.run(command)
    }

    /// Writes a file in the guest.
    pub fn write(&mut self, path: &str, text: &str) {
        self.run(&format!(": >{path}"));
        for line in text.lines() {
            assert!(!line.contains('\''), "no quotes: {line}");
            self.run(&format!("printf '%s\\n' '{line}' >>{path}"));
        }
    }

    /// The kernel's current clock source.
    pub fn clock_source(&mut self) -> String {
        self.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource")
    }

    /// The clock is up to a second off at the start: a pause is recognised by what it adds.
    fn set_clock_right(&mut self) {
        for _ in 0..5 {
            let reading = self.truth.now();
            if reading.offset.abs() + reading.bound <= RIGHT {
                return;
            }
            self.step(reading.offset);
        }
        panic!("the guest's clock does not keep time: {:?}", self.truth.now());
    }

    /// Somebody in the guest, not the agent, steps the clock forward by so many seconds.
    #[allow(clippy::cast_possible_truncation, reason = "a test's own number")]
    pub fn step(&mut self, seconds: f64) {
        let nanos = (seconds * 1e9) as i64;
        self.shell.run(&format!("guest-probe step {nanos}"));
    }

    /// Has the kernel set the hardware clock to a time about so many seconds before the wall clock's: half a second more or less, by its
    /// second and the writer's. How many it came to be.
    pub fn leave_rtc_behind(&mut self, seconds: f64) -> f64 {
        self.step(-seconds);
        self.run("hwclock --systohc --utc");
        self.step(seconds);
        let ahead = self.run("guest-probe rtc");
        -ahead.trim().parse::<f64>().unwrap_or_else(|_| panic!("rtc: {ahead}")) / 1e9
    }

    /// Stops the machine for so long (QMP `stop` and `cont`); when it went on.
    pub fn pause(&mut self, span: Duration) -> Instant {
        self.qemu.execute("stop", &json!({}));
        std::thread::sleep(span);
        self.go_on()
    }

    /// The same, and the network is cut before it, and comes back so long after the machine went on. When the machine went on, and
    /// when the network came back.
    pub fn pause_and_miss_network(&mut self, span: Duration, missing: Duration) -> (Instant, Instant) {
        self.set_link(false);
        let since = self.pause(span);
        std::thread::sleep(missing);
        let back = Instant::now();
        self.set_link(true);
        (since, back)
    }

    /// Plugs the cable of the network card in, or pulls it.
    fn set_link(&mut self, up: bool) {
        self.qemu.execute("set_link", &json!({"name": "net", "up": up}));
    }

    fn go_on(&mut self) -> Instant {
        let since = Instant::now();
        self.qemu.execute("cont", &json!({}));
        since
    }

    /// Stops QEMU itself, as an overcommitted host does; when it went on.
    pub fn freeze(&self, span: Duration) -> Instant {
        self.qemu.signal("STOP");
        std::thread::sleep(span);
        let since = Instant::now();
        self.qemu.signal("CONT");
        since
    }

    /// Suspends the guest to RAM for so long, and wakes it; when it woke.
    pub fn suspend(&mut self, span: Duration) -> Instant {
        self.shell.send("echo mem >/sys/power/state");
        self.qemu.wait_for_status("suspended");
        std::thread::sleep(span);
        let since = Instant::now();
        self.qemu.execute("system_wakeup", &json!({}));
        let (output, status) = self.shell.end();
        assert_eq!(status, 0, "suspend: {output}");
        since
    }

    /// Saves the machine into a file, ends QEMU, and goes on in a new process after so long; when it went on.
    pub fn save_and_restore(&mut self, span: Duration) -> Instant {
        let file = self.folder.path().join("state").display().to_string();
        self.qemu.execute("migrate", &json!({"uri": format!("exec:cat >'{file}'")}));
        self.qemu.wait_for_status("postmigrate");
        self.qemu.end();
        std::thread::sleep(span);
        // With `-S` it waits for `cont`, so that the moment is ours.
        let incoming = ["-S".to_owned(), "-incoming".to_owned(), format!("exec:cat '{file}'")];
        let started = start_qemu(&self.spec, &self.folder, &incoming);
        self.console.follow(started.console);
        self.shell = Shell::new(started.shell);
        (self.qemu, self.http, self.truth) = (started.qemu, started.http, Truth::start(started.probe));
        self.qemu.wait_for_status("paused");
        self.go_on()
    }

    /// Takes a snapshot, lets so long pass, and goes back to it (`loadvm`); when it went on from there.
    pub fn snapshot_and_load(&mut self, span: Duration) -> Instant {
        let file = self.folder.path().join("snapshot.qcow2").display().to_string();
        let raw = json!({"driver": "file", "filename": file, "size": 0});
        self.qemu.job("blockdev-create", json!({"options": raw}));
        self.qemu.execute("blockdev-add", &json!({"driver": "file", "filename": file, "node-name": "file"}));
        let image = json!({"driver": "qcow2", "file": "file", "size": 1 << 20});
        self.qemu.job("blockdev-create", json!({"options": image}));
        self.qemu.execute("blockdev-add", &json!({"driver": "qcow2", "file": "file", "node-name": "disk"}));
        let snapshot = json!({"tag": "then", "vmstate": "disk", "devices": ["disk"]});
        self.qemu.job("snapshot-save", snapshot.clone());
        std::thread::sleep(span);
        self.qemu.execute("stop", &json!({}));
        self.qemu.job("snapshot-load", snapshot);
        self.go_on()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.spec.name, self.console.all());
        }
    }
}

/// A process of QEMU and the host's ends of what leads into the guest.
struct Started {
    qemu: Qemu,
    console: UnixStream,
    shell: UnixStream,
    probe: u16,
    http: u16,
}

fn start_qemu(spec: &Spec, folder: &Folder, more: &[String]) -> Started {
    let (probe, http) = (free_udp_port(), free_tcp_port());
    let network = format!(
        "user,id=net,hostfwd=udp:127.0.0.1:{probe}-:{PROBE_PORT},hostfwd=tcp:127.0.0.1:{http}-:{HTTP_PORT}"
    );
    let initramfs = folder.path().join("initramfs").display().to_string();
    let kernel = image::kernel(spec.kernel).display().to_string();
    // A busy host must not make the kernel think that its timer is broken.
    let always = "console=ttyS0 quiet panic=-1 no_timer_check nowatchdog drift-agent-guest";
    let options = format!("{always} {}", spec.kernel_options);
    let mut arguments: Vec<String> = [
        ["-machine", "pc"],
        ["-cpu", &format!("qemu64,vendor={}", spec.vendor)],
        ["-m", "192"],
        ["-netdev", &network],
        ["-device", "virtio-net-pci,netdev=net,romfile="],
        ["-kernel", &kernel],
        ["-initrd", &initramfs],
        ["-append", &options],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect();
    arguments.extend(spec.devices.iter().map(|device| (*device).to_owned()));
    arguments.extend_from_slice(more);
    let (qemu, console, shell) = Qemu::start(folder.path(), spec.qemu, &arguments);
    Started { qemu, console, shell, probe, http }
}
