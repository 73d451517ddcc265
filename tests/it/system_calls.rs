//! A system call's error about its arguments or about this process does not end the connection. Arguments that `std`
//! accepts are accepted. No call raises a signal.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sockeye::{ErrorKind, Socket, SocketOptions};

use crate::support::peer::PeerConn;
use crate::support::subprocess::in_subprocess;
use crate::support::tls::{
    Accepted, Opening, TlsPeer, authority, open as open_tls, options, server_config,
};
use crate::support::{
    Peer, WATCHDOG, assert_bytes_eq, assert_fails, assert_times_out, crate_kind, ms, open,
    open_with, read, read_exactly, skip, spawn_blocked, spawn_call, system_code, with_watchdog,
};

const LONG: Duration = Duration::from_secs(150);

// -------------------------------------------------------------------- many slices

const COUNTS: [(usize, usize); 5] =
    [(0, 1_024), (0, 1_025), (0, 5_000), (2_000, 1), (2_000, 1_500)];

/// Returns `empty` empty slices, followed by one slice for each byte.
fn slices(empty: usize, bytes: &[u8]) -> Vec<IoSlice<'_>> {
    let mut slices = vec![IoSlice::new(&[]); empty];
    slices.extend(bytes.chunks(1).map(IoSlice::new));
    slices
}

fn numbers(count: usize) -> Vec<u8> {
    (0..count)
        .map(|number| u8::try_from(number % 251).expect("the remainder fits in a byte"))
        .collect()
}

#[test]
fn a_vectored_write_takes_as_many_slices_as_one_call_allows() {
    for way in [Opening::Plain, Opening::On] {
        with_watchdog(move || {
            let peer = way.reading();
            let socket = way.open(&peer, SocketOptions::new());
            let mut expected = Vec::new();
            for (empty, full) in COUNTS {
                let bytes = numbers(full);
                let mut left = &mut slices(empty, &bytes)[..];
                while !left.is_empty() {
                    let taken = (&socket).write_vectored(left).expect("the peer reads");
                    assert!(taken > 0, "{empty} empty, {full} full");
                    IoSlice::advance_slices(&mut left, taken);
                }
                expected.extend(bytes);
            }
            assert_eq!(
                (&socket).write_vectored(&slices(5_000, &[])).expect("an empty write succeeds"),
                0
            );
            (&socket).write_all(b"after").expect("the connection is open");
            expected.extend(b"after");
            socket.close().expect("the peer reads");
            peer.assert_received(&expected);
        });
    }
}

#[test]
fn a_vectored_read_fills_as_many_slices_as_one_call_allows() {
    for way in [Opening::Plain, Opening::On] {
        with_watchdog(move || {
            let peer = way.scripted(|peer| {
                for (_, full) in COUNTS {
                    peer.send(&numbers(full));
                    peer.receive(1);
                }
                peer.send(b"after");
            });
            let socket = way.open(&peer, SocketOptions::new());
            for (empty, full) in COUNTS {
                let mut bytes = vec![0; full];
                let mut got = 0;
                while got < full {
                    let mut bufs: Vec<_> = (0..empty).map(|_| IoSliceMut::new(&mut [])).collect();
                    bufs.extend(bytes[got..].chunks_mut(1).map(IoSliceMut::new));
                    let count = (&socket).read_vectored(&mut bufs).expect("the peer sends");
                    assert!(count > 0, "{empty} empty, {full} full");
                    got += count;
                }
                assert_bytes_eq(&bytes, &numbers(full));
                (&socket).write_all(b"!").expect("the peer reads");
            }
            assert_eq!(read_exactly(&socket, 5).expect("the connection is open"), b"after");
            socket.close().expect("the peer reads");
            peer.finish();
        });
    }
}

// -------------------------------------------------------------------- unusual memory

/// A memory mapping of this process, unmapped when it is dropped.
struct Mapped {
    start: *mut libc::c_void,
    length: usize,
}

impl Mapped {
    /// Maps the first page of a file that has since been truncated, so that access to it fails.
    fn of_a_cut_file() -> Mapped {
        const PAGE: usize = 4096;
        let path = format!("{}/cut-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .expect("the send buffer has room");
        std::fs::remove_file(path).expect("the file exists");
        file.write_all_at(&[7; PAGE], 0).expect("the send buffer has room");
        let mapped = Mapped::new(PAGE, libc::MAP_SHARED, file.as_raw_fd());
        file.set_len(0).expect("it is writable");
        mapped.expect("the system maps a page")
    }

    /// Maps zeros, which use no memory unless they are written. Returns `None` if the system does not overcommit.
    fn zeros(length: usize) -> Option<Mapped> {
        Mapped::new(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1)
    }

    fn new(length: usize, flags: i32, file: i32) -> Option<Mapped> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, file, 0) };
        (start != libc::MAP_FAILED).then_some(Mapped { start, length })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as `self`, and this function does not read it.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: no borrow of the mapping is left.
        unsafe { libc::munmap(self.start, self.length) };
    }
}

#[track_caller]
fn fails_by(result: io::Result<usize>, code: i32) {
    let error = result.expect_err("the buffer is not accessible");
    assert_eq!(crate_kind(&error), ErrorKind::Io);
    let error = sockeye::Error::from_io(&error).expect("kind_of found it");
    assert_eq!(system_code(error), Some(code), "{error}");
}

/// In `std` such a call leaves the stream unchanged, too.
#[test]
fn an_inaccessible_buffer_fails_only_that_call() {
    with_watchdog(|| {
        let peer = Peer::scripted(|wire: &mut PeerConn| {
            wire.receive(5);
            wire.send(b"hello");
            wire.wait_signal();
            wire.send(b"again");
        });
        let socket = open(&peer);
        let mut mapped = Mapped::of_a_cut_file();
        fails_by((&socket).write(mapped.bytes()), libc::EFAULT);
        fails_by((&socket).write_vectored(&[IoSlice::new(mapped.bytes()); 2]), libc::EFAULT);
        (&socket).write_all(b"words").expect("the connection is open");
        // Test one read that finds data at once, and one that has to wait.
        fails_by((&socket).read(mapped.bytes_mut()), libc::EFAULT);
        assert_eq!(read_exactly(&socket, 5).expect("nothing was lost"), b"hello");
        let mut reader = socket.reader();
        let waiting = spawn_blocked(move || reader.read(mapped.bytes_mut()));
        peer.signal();
        fails_by(waiting.join(), libc::EFAULT);
        assert_eq!(read_exactly(&socket, 5).expect("nothing was lost"), b"again");
        socket.close().expect("the peer reads");
        peer.assert_received(b"words");
    });
}

// SAFETY: it is memory of the process, and one thread has it at a time.
unsafe impl Send for Mapped {}

#[test]
fn buffers_beyond_the_limit_of_one_call_are_used_in_part() {
    const NAME: &str = "system_calls::buffers_beyond_the_limit_of_one_call_are_used_in_part";
    const LARGE: usize = 3 << 30;
    if usize::BITS < 64 {
        return skip(NAME, "the address space is too small");
    }
    let Some(mut zeros) = Mapped::zeros(LARGE) else {
        return skip(NAME, "the system does not overcommit memory");
    };
    with_watchdog(move || {
        let peer = Peer::scripted(|wire: &mut PeerConn| {
            wire.spawn_part(|stream| drop(io::copy(&mut &stream, &mut io::sink())));
            wire.wait_signal();
            wire.send(b"hello");
        });
        let socket = open(&peer);
        let count = (&socket).write(zeros.bytes()).expect("the peer reads");
        assert!(0 < count && count < LARGE, "{count} bytes");
        let many = vec![IoSlice::new(zeros.bytes()); 1_500];
        let count = (&socket).write_vectored(&many).expect("the peer reads");
        assert!(0 < count && count < LARGE, "{count} bytes");
        let small = [IoSlice::new(b"x"), IoSlice::new(zeros.bytes())];
        let count = (&socket).write_vectored(&small).expect("the peer reads");
        assert!(0 < count && count < LARGE, "{count} bytes");
        peer.signal();
        let count = (&socket).read(zeros.bytes_mut()).expect("the peer sends");
        assert_eq!(&zeros.bytes()[..count], &b"hello"[..count]);
        socket.abort();
    });
}

// -------------------------------------------------------------------- a process at its limits

/// poll(2) then fails, because two descriptors exceed the limit of the process.
#[test]
fn a_process_with_a_descriptor_limit_of_zero_still_reads_and_writes() {
    const NAME: &str =
        "system_calls::a_process_with_a_descriptor_limit_of_zero_still_reads_and_writes";
    in_subprocess(NAME, LONG, || {
        let peer = Peer::scripted(|wire: &mut PeerConn| {
            wire.wait_signal();
            wire.send(b"hello");
            wire.wait_signal();
        });
        let secured = TlsPeer::secured(&server_config(), |peer| {
            peer.wait_signal();
            peer.send(b"hello");
            peer.wait_signal();
        });
        let sockets = [open(&peer), open_tls(&secured, options(authority()))];
        // A thread keeps its wake handle from its first wait on.
        for socket in &sockets {
            socket.set_read_timeout(Some(ms(20))).expect("not zero");
            assert_times_out(read(socket, 5));
            socket.set_read_timeout(None).expect("`None` removes the limit");
        }
        let limit = Rlimit { current: Some(0), maximum: getrlimit(Resource::Nofile).maximum };
        setrlimit(Resource::Nofile, limit).expect("a limit may be lowered");
        let cues = spawn_call(move || {
            thread::sleep(ms(100));
            peer.signal();
            secured.signal();
            (peer, secured)
        });
        for socket in &sockets {
            assert_eq!(read_exactly(socket, 5).expect("the connection is open"), b"hello");
        }
        let (peer, secured) = cues.join();
        let writing = sockets.each_ref().map(|socket| {
            let mut writer = socket.writer();
            spawn_blocked(move || writer.write_all(&vec![b'w'; 16 << 20]))
        });
        peer.signal();
        secured.signal();
        for writing in writing {
            writing.join().expect("the peer reads now");
        }
        for socket in &sockets {
            socket.close().expect("the peer reads");
        }
        assert_eq!(peer.finish().bytes.len(), 16 << 20);
        assert_eq!(secured.finish().bytes.len(), 16 << 20);
    });
}

// -------------------------------------------------------------------- signals

/// Makes every call that sends, on connections whose write side was shut down without the library's knowledge. SIGPIPE
/// has its default action, which would end the process.
#[test]
fn nothing_that_sends_on_a_broken_pipe_raises_a_signal() {
    const NAME: &str = "system_calls::nothing_that_sends_on_a_broken_pipe_raises_a_signal";
    in_subprocess(NAME, LONG, || {
        // SAFETY: it installs no handler, and no other thread changes the action.
        let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        assert_ne!(before, libc::SIG_ERR);
        let two = [IoSlice::new(b"some"), IoSlice::new(b"words")];
        let one = &two[..1];
        let is_broken = |result: io::Result<usize>| assert_fails(result, ErrorKind::Reset);
        for way in [Opening::Plain, Opening::On] {
            // The write itself may succeed if its data is sealed first and sent later.
            let check = |result: io::Result<usize>| match way {
                Opening::Plain => is_broken(result),
                Opening::On | Opening::Upgraded => drop(result),
            };
            with_a_broken_pipe(way, |mut socket| check(socket.write(b"words")));
            with_a_broken_pipe(way, |mut socket| check(socket.write_vectored(one)));
            with_a_broken_pipe(way, |mut socket| check(socket.write_vectored(&two)));
            with_a_broken_pipe(way, |mut socket| {
                let _ = socket.write_vectored(&two);
                let _ = socket.flush();
            });
            with_a_broken_pipe(way, |socket| drop(socket.writer().close()));
            with_a_broken_pipe(way, |socket| drop(socket.close()));
            with_a_broken_pipe(way, |socket| socket.abort());
            with_a_broken_pipe(way, |_| ());
        }
        // The first message of the handshake of an upgrade.
        let peer = Peer::scripted(|wire: &mut PeerConn| wire.wait_signal());
        let upgradable = options(authority()).secure_transport(sockeye::SecureTransport::StartTls);
        let socket = open_with(&peer, upgradable);
        break_the_pipe(&socket);
        let upgraded = socket.start_tls().expect("the upgrade may start");
        assert_fails(upgraded.opened(), ErrorKind::Reset);
        peer.signal();
    });
}

fn with_a_broken_pipe(way: Opening, work: impl FnOnce(&Socket)) {
    let peer = way.scripted(Accepted::wait_signal);
    let socket = way.open(&peer, SocketOptions::new().close_timeout(WATCHDOG));
    // The last flight of a handshake may be unsent, if the event loop drives the handshake.
    (&socket).flush().expect("the peer reads");
    break_the_pipe(&socket);
    work(&socket);
    drop(socket);
    peer.signal();
    peer.finish();
}

fn break_the_pipe(socket: &Socket) {
    let descriptor = socket.descriptor().expect("it is connected");
    rustix::net::shutdown(descriptor.as_fd(), rustix::net::Shutdown::Write)
        .expect("it is connected");
}
