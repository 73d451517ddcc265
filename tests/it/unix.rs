//! Unix-domain sockets by their own functions: addresses, connecting, listening, adopting, credentials and rules.
//!
//! With `--cfg sockeye_unix`, the tests of the other modules run over Unix-domain sockets too.

mod addresses;
mod connecting;
mod ends;
mod listening;
mod lives;
mod options;
mod permissions;
mod polling;
mod rules;
mod secured;
mod tunnels;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sockeye::{ListenOptions, Listener, Socket, SocketOptions, UnixAddress};

use crate::support::WATCHDOG;

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sockeye-it-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the name is unused");
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn address(&self, name: &str) -> UnixAddress {
        address(&self.path(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn address(path: &Path) -> UnixAddress {
    UnixAddress::from_pathname(path).expect("the path is short")
}

/// A listener of std, with its path.
struct StdServer {
    listener: UnixListener,
    folder: Folder,
}

impl StdServer {
    fn new() -> StdServer {
        let folder = Folder::new();
        let listener = UnixListener::bind(folder.path("s")).expect("the path is free");
        StdServer { listener, folder }
    }

    fn address(&self) -> UnixAddress {
        self.folder.address("s")
    }

    fn accept(&self) -> UnixStream {
        let (stream, _) = self.listener.accept().expect("a client has connected");
        stream.set_read_timeout(Some(WATCHDOG)).expect("the limit is not zero");
        stream
    }

    /// Connects a socket to this server, and returns both ends.
    #[track_caller]
    fn open(&self, options: SocketOptions) -> (Socket, UnixStream) {
        let socket = sockeye::connect_unix(self.address(), options).expect("the options are valid");
        socket.opened().expect("it listens");
        (socket, self.accept())
    }
}

/// A listener of the crate, with its path.
struct OwnServer {
    listener: Listener,
    folder: Folder,
}

impl OwnServer {
    #[track_caller]
    fn new(options: ListenOptions) -> OwnServer {
        let folder = Folder::new();
        let listener =
            sockeye::listen_unix(folder.address("s"), options).expect("the path is free");
        OwnServer { listener, folder }
    }

    fn client(&self) -> UnixStream {
        let client = UnixStream::connect(self.folder.path("s")).expect("it listens");
        client.set_read_timeout(Some(WATCHDOG)).expect("the limit is not zero");
        client
    }

    #[track_caller]
    fn accept(&self) -> Socket {
        self.listener.accept_timeout(WATCHDOG).expect("a client has connected")
    }
}

/// Checks that both ends talk to each other.
#[track_caller]
fn assert_talks(mut peer: &UnixStream, mut socket: &Socket) {
    let mut buf = [0; 4];
    peer.write_all(b"ping").expect("the socket reads");
    socket.read_exact(&mut buf).expect("the peer has written");
    socket.write_all(&buf).expect("the peer reads");
    peer.read_exact(&mut buf).expect("the socket has written");
    assert_eq!(&buf, b"ping");
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
