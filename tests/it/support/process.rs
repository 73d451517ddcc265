//! Information that Linux provides about this process: descriptors, threads and memory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use rustix::process::{
    PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, getpid, getrlimit, pidfd_getfd, pidfd_open,
    setrlimit,
};

use super::ms;

/// Returns the numbers of the open descriptors.
pub fn descriptors() -> BTreeSet<i32> {
    let mut open: BTreeSet<i32> = fs::read_dir("/proc/self/fd")
        .expect("Linux has the file")
        .map(|entry| entry.expect("it stays readable").file_name())
        .map(|name| name.to_string_lossy().parse().expect("names are numbers"))
        .collect();
    // Excludes the descriptor of the directory itself, which is closed by now.
    open.retain(|number| fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok());
    open
}

/// Checks whether the descriptor is close-on-exec.
pub fn closes_on_exec(descriptor: i32) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).expect("it is open");
    let flags =
        info.lines().find_map(|line| line.strip_prefix("flags:")).expect("Linux reports the flags");
    let flags = u32::from_str_radix(flags.trim(), 8).expect("the flags are octal");
    flags & 0o2_000_000 != 0
}

pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("Linux has the file").count()
}

/// Returns the resident memory in bytes.
pub fn memory() -> usize {
    memory_of("VmRSS:")
}

/// Returns the size of this process's address space, in bytes.
pub fn address_space() -> usize {
    memory_of("VmSize:")
}

/// Returns the resident anonymous memory in bytes: heap and stacks.
pub fn own_memory() -> usize {
    memory_of("RssAnon:")
}

fn memory_of(sort: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has the file");
    let line = status.lines().find_map(|line| line.strip_prefix(sort)).expect("Linux reports it");
    let kibibytes: usize = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
    kibibytes * 1024
}

/// Returns the CPU time that this process has used so far. Needs no descriptor.
pub fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("it is not negative")
}

/// Duplicates this process's descriptor of the connection between these two addresses.
pub fn connection(local: SocketAddr, remote: SocketAddr) -> socket2::Socket {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).expect("Linux 5.3 has it");
    descriptors()
        .into_iter()
        .filter_map(|number| pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok())
        .map(socket2::Socket::from)
        .find(|socket| {
            let ends = (socket.local_addr(), socket.peer_addr());
            matches!(ends, (Ok(l), Ok(r)) if l.as_socket() == Some(local) && r.as_socket() == Some(remote))
        })
        .expect("the connection has a descriptor")
}

/// Returns the number of sockets on this machine that are still connecting to `address`.
pub fn attempts_towards(address: SocketAddr) -> usize {
    const SYN_SENT: &str = "02";
    let remote = in_hex(address);
    connections()
        .lines()
        .filter(|line| {
            let mut fields = line.split_whitespace();
            fields.nth(2) == Some(&remote) && fields.next() == Some(SYN_SENT)
        })
        .count()
}

/// Returns the bytes in the kernel's queues for a connection's end `local`: sent but not acknowledged, and received but
/// not read.
pub fn queues(local: SocketAddr, remote: SocketAddr) -> (usize, usize) {
    let ends = [in_hex(local), in_hex(remote)];
    let connections = connections();
    let mut lines = connections.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|fields| fields[1..3] == ends).expect("the list has the connection");
    let (sent, came) = line[4].split_once(':').expect("Linux reports both");
    let number = |hex| usize::from_str_radix(hex, 16).expect("it is hexadecimal");
    (number(sent), number(came))
}

/// Returns the kernel's list of TCP connections over IPv4.
fn connections() -> String {
    fs::read_to_string("/proc/net/tcp").expect("Linux has the file")
}

/// Returns an address in the format of that list.
fn in_hex(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("an IPv4 address") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

/// Returns the number of open descriptors once it no longer falls.
pub fn settled_descriptors() -> usize {
    let mut last = descriptors().len();
    let mut looks = 0;
    while looks < 20 {
        thread::sleep(ms(10));
        let now = descriptors().len();
        looks = if now < last { 0 } else { looks + 1 };
        last = last.min(now);
    }
    last
}

/// Opens descriptors until none is left, after lowering the limit.
pub fn take_all_descriptors() -> Vec<File> {
    let open = descriptors().len() as u64;
    let limit = Rlimit { current: Some(open + 32), maximum: getrlimit(Resource::Nofile).maximum };
    setrlimit(Resource::Nofile, limit).expect("a limit may be lowered");
    let mut taken = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => return taken,
            Err(error) => panic!("unexpected error: {error}"),
        }
    }
}
