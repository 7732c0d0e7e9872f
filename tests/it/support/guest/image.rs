//! What a guest consists of: Debian's kernel for clouds, busybox, the agent as it is released, and a time daemon if wanted.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::Spec;
use super::archive::Archive;
use super::release::static_build;
use crate::support::tool;

/// The network card's driver, and what it stands on.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_net", "ptp_vmclock"];
const FOLDERS: [&str; 7] = ["bin", "dev", "proc", "run", "sys", "tmp", "etc"];
/// As Debian has them; the daemons give up root for theirs.
const USERS: &str =
    "root:x:0:0::/:/bin/sh\n_chrony:x:104:104::/:/bin/false\nsystemd-timesync:x:105:105::/:/bin/false\n";
const GROUPS: &str = "root:x:0:\n_chrony:x:104:\nsystemd-timesync:x:105:\n";
/// What chrony asks for leap seconds.
const LEAP_SECONDS: &str = "/usr/share/zoneinfo/right/UTC";

/// `makestep` of Debian's configuration of chrony.
pub const MAKESTEP: &str = "1 3";

/// Who keeps the time in the guest, as Debian configures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// Nobody.
    None,
    /// chronyd, and chronyc to look at it.
    Chrony,
    /// systemd-timesyncd.
    Timesyncd,
}

/// The kernel of that folder of the cache.
pub fn kernel(name: &str) -> PathBuf {
    tool(name).join("vmlinuz")
}

/// The file system of such a guest.
pub fn initramfs(spec: &Spec) -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.folder(folder);
    }
    archive.script("init", include_str!("init.sh"));
    archive.program("bin/busybox", &tool("busybox"), &[]);
    archive.modules(&tool(spec.kernel).join("modules"), &MODULES);
    let [agent, probe] = built();
    archive.program("bin/drift-agent", agent, &[]);
    archive.program("bin/guest-probe", probe, &[]);
    archive.text("etc/passwd", USERS);
    archive.text("etc/group", GROUPS);
    match spec.daemon {
        Daemon::None => {}
        Daemon::Chrony => chrony(&mut archive, spec.makestep),
        Daemon::Timesyncd => {
            let program = tool("guest-daemons").join("usr/lib/systemd/systemd-timesyncd");
            archive.program("bin/systemd-timesyncd", &program, &libraries());
        }
    }
    archive.finish()
}

/// Debian's configuration without its pool, and with this rule for stepping; the test adds its own server.
fn chrony(archive: &mut Archive, makestep: &str) {
    let tree = tool("guest-daemons");
    for (name, path) in [("bin/chronyd", "usr/sbin/chronyd"), ("bin/chronyc", "usr/bin/chronyc")] {
        archive.program(name, &tree.join(path), &libraries());
    }
    let debian =
        std::fs::read_to_string(tree.join("usr/share/chrony/chrony.conf")).expect("Debian's chrony.conf");
    let (pools, rest): (Vec<&str>, Vec<&str>) = debian.lines().partition(|line| line.starts_with("pool "));
    let rule = format!("makestep {MAKESTEP}");
    assert!(
        !pools.is_empty() && rest.contains(&rule.as_str()),
        "Debian's configuration has changed: {debian}"
    );
    let configuration = rest.join("\n").replace(&rule, &format!("makestep {makestep}"));
    archive.text("etc/chrony/chrony.conf", &format!("{configuration}\n"));
    archive.text("etc/chrony/chrony.keys", "");
    for folder in ["etc/chrony/sources.d", "etc/chrony/conf.d", "var/lib/chrony", "var/log/chrony"] {
        archive.folder(folder);
    }
    if let Ok(leaps) = std::fs::read(LEAP_SECONDS) {
        archive.data(LEAP_SECONDS.trim_start_matches('/'), &leaps);
    }
}

/// Libraries that were unpacked with the daemons come before the system's own.
fn libraries() -> Vec<PathBuf> {
    let machine = tool("guest-daemons").join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    vec![machine.join("systemd"), machine]
}

/// The agent, unless `DRIFT_AGENT_GUEST_BINARY` names another static one, and the program that is not the agent.
fn built() -> &'static [PathBuf; 2] {
    static BUILT: OnceLock<[PathBuf; 2]> = OnceLock::new();
    BUILT.get_or_init(|| {
        let agent = std::env::var_os("DRIFT_AGENT_GUEST_BINARY").map(PathBuf::from);
        [
            agent.unwrap_or_else(|| static_build("Cargo.toml", "drift-agent")),
            static_build("tests/guest-probe/Cargo.toml", "guest-probe"),
        ]
    })
}
