//! Hosts that other runtimes treat as Unix-domain sockets, and that are ordinary names here.

#[cfg(target_os = "linux")]
pub use linux::is_a_plain_name;

#[cfg(not(target_os = "linux"))]
pub fn is_a_plain_name(id: &str, _address: sockeye::SocketAddress, _names: super::names::Names) {
    crate::support::skip(id, "this machine cannot create a network namespace");
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
    use crate::support::{assert_fails, at_once};

    /// Checks that the resolver is asked for the host and does not know it, although Unix-domain sockets with the
    /// port's number as their name listen.
    pub fn is_a_plain_name(id: &str, address: SocketAddress, names: Names) {
        // A process of its own may change its directory, in which one of the sockets is created.
        in_own_network(id, &[], || {
            let sockets = Sockets::called(&address.port().to_string());
            let socket = names.connector().connect(&address).expect("it is an address");
            assert_fails(at_once(|| socket.opened()), ErrorKind::Resolve);
            assert_fails(socket.closed(), ErrorKind::Resolve);
            assert_eq!(names.asked(), [address.hostname()]);
            sockets.nobody_came();
        });
    }

    /// Unix-domain sockets with one name, in the current directory and in the abstract namespace.
    pub struct Sockets {
        listeners: [UnixListener; 2],
        directory: PathBuf,
    }

    impl Sockets {
        /// Changes to a new directory, which is removed with the value.
        pub fn called(name: &str) -> Sockets {
            let directory = env::temp_dir().join(format!("sockeye-unix-{}", process::id()));
            fs::create_dir(&directory).expect("the directory is new");
            env::set_current_dir(&directory).expect("the directory exists");
            let abstracted = SocketAddr::from_abstract_name(name).expect("the name is short");
            let listeners = [UnixListener::bind(name), UnixListener::bind_addr(&abstracted)];
            Sockets { listeners: listeners.map(|one| one.expect("the name is free")), directory }
        }

        #[track_caller]
        pub fn nobody_came(&self) {
            for listener in &self.listeners {
                listener.set_nonblocking(true).expect("every listener has the option");
                let came = listener.accept().map(drop).map_err(|error| error.kind());
                assert_eq!(came, Err(io::ErrorKind::WouldBlock));
            }
        }
    }

    impl Drop for Sockets {
        fn drop(&mut self) {
            // The directory can be removed only if the process leaves it.
            let _ = env::set_current_dir("/");
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}
