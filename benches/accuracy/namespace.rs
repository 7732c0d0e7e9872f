//! A user, network and mount namespace for the bench: addresses for names that two servers share, NTP's own port, and no permission to
//! set the machine's clock.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::support::Folder;

/// Set in the bench that runs inside.
const INSIDE: &str = "DRIFT_AGENT_BENCH_INSIDE";
/// RFC 2544: for benches.
const ADDRESSES: &str = "198.18.0.0/16";

/// Servers of a world: two pools of two.
pub const SERVERS: usize = 4;
/// The addresses of a world's clients come after this many.
const FIRST_CLIENT: usize = 100;

/// Starts this program again inside, in the place of this process; returns there.
pub fn enter() {
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount", "--propagation", "private", "--"]);
    command.arg(program).args(std::env::args_os().skip(1).collect::<Vec<OsString>>()).env(INSIDE, "1");
    panic!("unshare (util-linux) does not start: {}", command.exec());
}

/// Addresses and names for this number of worlds.
pub fn prepare(folder: &Folder, worlds: usize) {
    run("ip", &["link", "set", "lo", "up"]);
    run("ip", &["route", "add", "local", ADDRESSES, "dev", "lo"]);
    let hosts = (0..worlds).flat_map(|world| {
        (0..SERVERS).map(move |server| format!("{} {}\n", address(world, server), pool(world, server / 2)))
    });
    replace("/etc/hosts", &folder.path().join("hosts"), &hosts.collect::<String>());
    // No name server listens there: a name that is not in the file above fails at once.
    replace("/etc/resolv.conf", &folder.path().join("resolv.conf"), "nameserver 127.0.0.1\n");
}

/// Where a server listens, on port 123.
pub fn address(world: usize, server: usize) -> Ipv4Addr {
    let [world, server] = [world, server + 1].map(|n| u8::try_from(n).expect("fewer than 256"));
    Ipv4Addr::new(198, 18, world, server)
}

/// Where the packets of chronyd (1) and of the one-shot client (2) come from; the agent's come from other addresses.
pub fn client_address(world: usize, client: usize) -> Ipv4Addr {
    address(world, FIRST_CLIENT + client)
}

/// Whose packet it is: the agent's (0), or as above.
pub fn client_of(address: Ipv4Addr) -> usize {
    usize::from(address.octets()[3]).saturating_sub(FIRST_CLIENT + 1)
}

/// The name of the first or second pool of a world.
pub fn pool(world: usize, number: usize) -> String {
    format!("pool-{number}.world-{world}.example")
}

fn replace(path: &str, by: &Path, text: &str) {
    std::fs::write(by, text).expect("a file of ours");
    run("mount", &["--bind", &by.display().to_string(), path]);
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {arguments:?} failed");
}
