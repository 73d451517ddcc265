//! Hosts that other runtimes take for Unix-domain sockets, which here are names as any other.

#[cfg(target_os = "linux")]
pub use linux::is_a_plain_name;

#[cfg(not(target_os = "linux"))]
pub fn is_a_plain_name(id: &str, _address: sockeye::SocketAddress, _names: super::names::Names) {
    crate::support::skip(id, "no network of its own can be made here");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    use std::path::PathBuf;
    use std::{env, fs, io, process};

    use sockeye::{ErrorKind, SocketAddress};

    use crate::conformance::common::in_own_network;
    use crate::conformance::names::Names;
    use crate::support::{at_once, fails};

    /// Sockets called as the port is listen: the resolver is asked for the host, doesn't know it,
    /// and that is all.
    pub fn is_a_plain_name(id: &str, address: SocketAddress, names: Names) {
        // In a process of its own it may change its directory, where one of the sockets is made.
        in_own_network(id, &[], || {
            let sockets = Sockets::called(&address.port().to_string());
            let socket = names.connector().connect(&address).expect("it is an address");
            fails(at_once(|| socket.opened()), ErrorKind::Resolve);
            fails(socket.closed(), ErrorKind::Resolve);
            assert_eq!(names.asked(), [address.hostname()]);
            sockets.nobody_came();
        });
    }

    /// Unix-domain sockets of one name, in the present directory and without one.
    pub struct Sockets {
        listeners: [UnixListener; 2],
        directory: PathBuf,
    }

    impl Sockets {
        /// Goes to a new directory, which ends with the value.
        pub fn called(name: &str) -> Sockets {
            let directory = env::temp_dir().join(format!("sockeye-unix-{}", process::id()));
            fs::create_dir(&directory).expect("it is new");
            env::set_current_dir(&directory).expect("it is there");
            let abstracted = SocketAddr::from_abstract_name(name).expect("it is short");
            let listeners = [UnixListener::bind(name), UnixListener::bind_addr(&abstracted)];
            Sockets { listeners: listeners.map(|one| one.expect("the name is free")), directory }
        }

        #[track_caller]
        pub fn nobody_came(&self) {
            for listener in &self.listeners {
                listener.set_nonblocking(true).expect("an option of every listener");
                let came = listener.accept().map(drop).map_err(|error| error.kind());
                assert_eq!(came, Err(io::ErrorKind::WouldBlock));
            }
        }
    }

    impl Drop for Sockets {
        fn drop(&mut self) {
            // Nobody stays in it.
            let _ = env::set_current_dir("/");
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}
