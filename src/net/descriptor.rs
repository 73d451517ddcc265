//! Lends the descriptors of streams and listeners.

#[cfg(any(all(unix, not(sockeye_shuttle)), windows))]
use super::{TcpListener, TcpStream};

#[cfg(all(unix, not(sockeye_shuttle)))]
macro_rules! lend {
    ($handle:ty) => {
        impl std::os::fd::AsFd for $handle {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.descriptor().as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $handle {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsFd::as_fd(self.descriptor()).as_raw_fd()
            }
        }
    };
}

#[cfg(windows)]
macro_rules! lend {
    ($handle:ty) => {
        impl std::os::windows::io::AsSocket for $handle {
            fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
                self.descriptor().as_socket()
            }
        }

        impl std::os::windows::io::AsRawSocket for $handle {
            fn as_raw_socket(&self) -> std::os::windows::io::RawSocket {
                std::os::windows::io::AsSocket::as_socket(self.descriptor()).as_raw_socket()
            }
        }
    };
}

#[cfg(any(all(unix, not(sockeye_shuttle)), windows))]
lend!(TcpStream);
#[cfg(any(all(unix, not(sockeye_shuttle)), windows))]
lend!(TcpListener);
