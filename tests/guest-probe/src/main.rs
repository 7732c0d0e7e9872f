//! Runs inside the virtual machines of `tests/guest` and nowhere else: it tells the host what the guest's clocks read,
//! without believing the agent, and it is the somebody else who steps the clock.
//!
//! ```text
//! guest-probe serve PORT              answers each datagram with itself, CLOCK_REALTIME and CLOCK_MONOTONIC_RAW in ns
//! guest-probe step NANOSECONDS        sets the clock that much forward (or back)
//! guest-probe rtc                     how far the hardware clock is ahead of CLOCK_REALTIME, in ns
//! guest-probe relay LISTEN TARGET     carries datagrams, for a client that knows no port but 123
//! ```
#![allow(clippy::disallowed_methods, reason = "it is a clock")]

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// The kernel's command line has this in a guest of ours.
const GUEST: &str = "drift-agent-guest";
/// Time stamps that the answer adds to the question.
const CLOCKS: [ClockId; 2] = [ClockId::Realtime, ClockId::MonotonicRaw];
const NANOS_PER_SEC: i64 = 1_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    if !std::fs::read_to_string("/proc/cmdline")?.contains(GUEST) {
        return Err("this is no virtual machine of the tests".into());
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", port] => serve(port.parse()?),
        ["step", by] => step(by.parse()?),
        ["rtc"] => rtc(),
        ["relay", listen, target] => relay(listen.parse()?, target.parse()?),
        _ => Err("usage: guest-probe serve PORT | step NANOSECONDS | rtc | relay LISTEN TARGET".into()),
    }
}

fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    let mut question = [0; 64];
    loop {
        let (length, from) = socket.recv_from(&mut question)?;
        let mut answer = question.get(..length).unwrap_or_default().to_vec();
        answer.extend(CLOCKS.into_iter().flat_map(|clock| nanos(clock).to_be_bytes()));
        // Who asked may be gone.
        let _ = socket.send_to(&answer, from);
    }
}

fn step(by: i64) -> Result<(), Box<dyn Error>> {
    let to = nanos(ClockId::Realtime) + by;
    let to = Timespec { tv_sec: to.div_euclid(NANOS_PER_SEC), tv_nsec: to.rem_euclid(NANOS_PER_SEC) };
    Ok(clock_settime(ClockId::Realtime, to)?)
}

/// It shows whole seconds: how far it is shows when it comes to the next.
fn rtc() -> Result<(), Box<dyn Error>> {
    let shown = || -> Result<i64, Box<dyn Error>> {
        Ok(std::fs::read_to_string("/sys/class/rtc/rtc0/since_epoch")?.trim().parse()?)
    };
    let first = shown()?;
    loop {
        let now = shown()?;
        if now != first {
            println!("{}", now * NANOS_PER_SEC - nanos(ClockId::Realtime));
            return Ok(());
        }
    }
}

/// One client at a time, and one answer for each of its questions.
fn relay(listen: SocketAddr, target: SocketAddr) -> Result<(), Box<dyn Error>> {
    let (front, back) = (UdpSocket::bind(listen)?, UdpSocket::bind("0.0.0.0:0")?);
    back.connect(target)?;
    back.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut packet = [0; 512];
    loop {
        let (length, client) = front.recv_from(&mut packet)?;
        back.send(packet.get(..length).unwrap_or_default())?;
        if let Ok(length) = back.recv(&mut packet) {
            front.send_to(packet.get(..length).unwrap_or_default(), client)?;
        }
    }
}

fn nanos(clock: ClockId) -> i64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    tv_sec * NANOS_PER_SEC + tv_nsec
}
