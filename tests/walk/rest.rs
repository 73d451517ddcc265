//! Many sockets, names, egress rules, streams of `std`, and health.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use sockeye::{Connector, EgressRules, ErrorKind, Health, SocketOptions};

use crate::peer::{Peer, error_kind, hold, read_exactly, read_to_end, reset};
use crate::{SHORTLY, WATCHDOG};

pub fn many() {
    const COUNT: usize = 200;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    let server = thread::spawn(move || {
        let streams: Vec<TcpStream> =
            (0..COUNT).map(|_| listener.accept().expect("a connection arrives").0).collect();
        for mut stream in streams {
            let bytes = read_exactly(&stream, 4).expect("the client writes");
            stream.write_all(&bytes).expect("the client reads");
        }
    });
    let connector = Connector::builder().build().expect("the rules are valid");
    let sockets: Vec<_> =
        (0..COUNT).map(|_| connector.connect(address).expect("the address is valid")).collect();
    for socket in &sockets {
        socket.opened_timeout(WATCHDOG).expect("the peer listens");
    }
    assert_eq!(connector.open_sockets(), COUNT);
    for (number, mut socket) in sockets.iter().enumerate() {
        let number = u32::try_from(number).expect("it is small");
        socket.write_all(&number.to_be_bytes()).expect("the peer reads");
    }
    for (number, socket) in sockets.iter().enumerate() {
        let number = u32::try_from(number).expect("it is small");
        assert_eq!(read_to_end(socket).expect("a clean end"), number.to_be_bytes());
    }
    server.join().expect("it serves all");
    drop(sockets);
    assert_eq!(connector.shutdown(WATCHDOG), 0);
}

pub fn names() {
    let peer = Peer::new(|stream| read_to_end(&stream).expect("the client ends"));
    let resolver = |name: &str| -> std::io::Result<Vec<IpAddr>> {
        match name {
            "peer.test" => Ok(vec![Ipv4Addr::LOCALHOST.into()]),
            "slow.test" => {
                thread::sleep(SHORTLY * 4);
                Ok(Vec::new())
            }
            _ => Err(std::io::ErrorKind::NotFound.into()),
        }
    };
    let connector = Connector::builder().resolver(resolver).build().expect("the rules are valid");
    let port = peer.address.port();
    let socket = connector.connect(("peer.test", port)).expect("the address is valid");
    socket.opened_timeout(WATCHDOG).expect("the peer listens");
    (&socket).write_all(b"named").expect("the peer reads");
    socket.close().expect("the peer reads");
    assert_eq!(peer.finish(), b"named");
    let unknown = connector.connect(("unknown.test", port)).expect("the address is valid");
    assert_eq!(error_kind(unknown.opened_timeout(WATCHDOG)), ErrorKind::Resolve);
    let options = SocketOptions::new().connect_timeout(SHORTLY);
    let slow = connector.connect_with(("slow.test", port), options).expect("the address is valid");
    assert_eq!(error_kind(slow.opened_timeout(WATCHDOG)), ErrorKind::TimedOut);
}

pub fn egress() {
    let build = |rules| Connector::builder().egress(rules).build().expect("the rules are valid");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    let guarded = build(EgressRules::public_only());
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254"] {
        let socket = guarded.connect((host, address.port()));
        let opened = socket.and_then(|socket| socket.opened_timeout(WATCHDOG));
        assert_eq!(error_kind(opened), ErrorKind::Denied, "{host}");
    }
    let own = EgressRules::allow_all().own_listener(address);
    let socket = build(own).connect(address);
    let opened = socket.and_then(|socket| socket.opened_timeout(WATCHDOG));
    assert_eq!(error_kind(opened), ErrorKind::Loop);
}

pub fn adopt() {
    let peer = Peer::new(|mut stream| {
        stream.write_all(b"one").expect("the client reads");
        read_exactly(&stream, 3).expect("the client writes")
    });
    let stream = TcpStream::connect(peer.address).expect("the peer listens");
    let adopt = |stream| Connector::global().adopt(stream, SocketOptions::new());
    let socket = adopt(stream).expect("it is connected");
    assert_eq!(read_exactly(&socket, 3).expect("the peer writes"), b"one");
    let mut stream = socket.detach().expect("no thread uses it");
    // It blocks, as a stream of `std` does.
    stream.write_all(b"two").expect("the peer reads");
    assert_eq!(peer.finish(), b"two");
    assert_eq!(read_to_end(&stream).expect("a clean end"), b"");
    // A stream that was reset is not adopted.
    let peer = Peer::new(reset);
    let stream = TcpStream::connect(peer.address).expect("the peer listens");
    peer.finish();
    stream.set_read_timeout(Some(WATCHDOG)).expect("not zero");
    read_exactly(&stream, 1).expect_err("the peer has reset it");
    assert_eq!(error_kind(adopt(stream)), ErrorKind::Connect);
}

pub fn health() {
    let (signal, wait) = mpsc::channel::<()>();
    let peer = Peer::new(move |mut stream| {
        hold(&stream, &wait);
        stream.write_all(b"data").expect("the client reads");
        hold(&stream, &wait);
    });
    let socket = peer.open();
    assert!(socket.health().is_idle());
    signal.send(()).expect("the peer waits");
    eventually(|| matches!(socket.health(), Health::Unread));
    assert_eq!(read_exactly(&socket, 4).expect("the peer writes"), b"data");
    assert!(socket.health().is_idle());
    drop(signal);
    peer.finish();
    eventually(|| matches!(socket.health(), Health::Ended));
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < WATCHDOG / 2, "it does not become true");
        thread::sleep(std::time::Duration::from_millis(5));
    }
}
