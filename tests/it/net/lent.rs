//! The lent descriptors: a number stays the stream's own until the stream is dropped.

use std::os::fd::{AsFd, AsRawFd};

use sockeye::net::{TcpListener, TcpStream};

use crate::support::with_watchdog;

#[test]
fn a_lent_number_is_not_used_again_after_a_close() {
    with_watchdog(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let stream = TcpStream::connect(address).expect("it listens");
        let clone = stream.try_clone().expect("it never fails");
        let number = stream.as_raw_fd();
        assert_eq!(clone.as_raw_fd(), number, "clones share it");
        stream.socket().close().expect("it is open");
        drop(clone);
        let others: Vec<_> =
            (0..50).map(|_| TcpStream::connect(address).expect("it listens").as_raw_fd()).collect();
        assert!(!others.contains(&number));
        let system = socket2::SockRef::from(&stream.as_fd()).local_addr();
        let system = system.expect("it is still a socket").as_socket().expect("of TCP");
        assert_eq!(system.port(), stream.local_addr().expect("it is known").port());
        let number = listener.as_raw_fd();
        listener.listener().close();
        let (first, second) = std::os::unix::net::UnixStream::pair().expect("descriptors are free");
        assert!(first.as_raw_fd() != number && second.as_raw_fd() != number);
    });
}
