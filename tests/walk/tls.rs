//! TLS from the start, and upgrades.

use std::io::Write;
use std::thread;

use sockeye::SecureTransport::{On, StartTls};
use sockeye::{ErrorKind, SocketOptions, TlsOptions};

use crate::WATCHDOG;
use crate::peer::{Identity, Peer, close_tls, error_kind, kind, read_exactly, read_to_end};

pub fn echo() {
    let identity = Identity::new();
    let server = identity.server();
    let peer = Peer::new(move |stream| {
        let mut stream = server(stream).expect("the client trusts the certificate");
        let bytes = read_exactly(&mut stream, 5).expect("the client writes");
        stream.write_all(&bytes).expect("the client reads");
        close_tls(stream);
    });
    let socket = peer.open_with(identity.options(On));
    (&socket).write_all(b"hello").expect("the peer reads");
    assert_eq!(read_to_end(&socket).expect("a clean end"), b"hello");
    assert!(socket.opened().expect("it was open").tls().is_some());
    peer.finish();
}

pub fn ends() {
    let identity = Identity::new();
    for clean in [true, false] {
        let server = identity.server();
        let peer = Peer::new(move |stream| {
            let mut stream = server(stream).expect("the client trusts the certificate");
            stream.write_all(b"data").expect("the client reads");
            if clean {
                close_tls(stream);
            } else {
                stream.sock.shutdown(std::net::Shutdown::Write).expect("it is connected");
            }
        });
        let socket = peer.open_with(identity.options(On));
        assert_eq!(read_exactly(&socket, 4).expect("the peer writes"), b"data");
        if clean {
            assert_eq!(read_to_end(&socket).expect("a clean end"), b"");
        } else {
            assert_eq!(kind(read_to_end(&socket)), ErrorKind::Truncated);
        }
        peer.finish();
    }
}

pub fn untrusted() {
    let identity = Identity::new();
    let server = identity.server();
    let peer = Peer::new(move |stream| server(stream).is_err());
    let options =
        SocketOptions::new().secure_transport(On).tls(TlsOptions::new().server_name("peer.test"));
    let socket = sockeye::connect_with(peer.address, options).expect("the address is valid");
    assert_eq!(error_kind(socket.opened_timeout(WATCHDOG)), ErrorKind::Tls);
    assert!(peer.finish(), "the client has sent an alert");
}

pub fn upgrade() {
    let identity = Identity::new();
    let server = identity.server();
    let peer = Peer::new(move |mut stream| {
        assert_eq!(read_exactly(&stream, 8).expect("the client writes"), b"STARTTLS");
        stream.write_all(b"go").expect("the client reads");
        let mut stream = server(stream).expect("the client trusts the certificate");
        stream.write_all(b"secret").expect("the client reads");
        close_tls(stream);
    });
    let plain = peer.open_with(identity.options(StartTls));
    (&plain).write_all(b"STARTTLS").expect("the peer reads");
    assert_eq!(read_exactly(&plain, 2).expect("the peer writes"), b"go");
    let secure = plain.start_tls().expect("the upgrade may start");
    secure.opened_timeout(WATCHDOG).expect("the peer is trusted");
    assert!(plain.upgraded());
    assert_eq!(kind((&plain).write(b"late")), ErrorKind::Upgraded);
    assert_eq!(read_to_end(&secure).expect("a clean end"), b"secret");
    peer.finish();
}

pub fn injection() {
    let identity = Identity::new();
    let peer = Peer::new(move |mut stream| {
        assert_eq!(read_exactly(&stream, 8).expect("the client writes"), b"STARTTLS");
        stream.write_all(b"go-injected").expect("the client reads");
        let _ = read_to_end(&stream);
    });
    let plain = peer.open_with(identity.options(StartTls));
    (&plain).write_all(b"STARTTLS").expect("the peer reads");
    assert_eq!(read_exactly(&plain, 2).expect("the peer writes"), b"go");
    // The call itself fails if the plaintext has already arrived.
    let opened = plain.start_tls().and_then(|secure| secure.opened_timeout(WATCHDOG));
    assert_eq!(error_kind(opened), ErrorKind::UnreadPlaintext);
    drop(plain);
    peer.finish();
}

pub fn duplex() {
    const COUNT: usize = 1 << 20;
    let identity = Identity::new();
    let server = identity.server();
    let peer = Peer::new(move |stream| {
        let mut stream = server(stream).expect("the client trusts the certificate");
        for _ in 0..COUNT / 4096 {
            let bytes = read_exactly(&mut stream, 4096).expect("the client writes");
            stream.write_all(&bytes).expect("the client reads");
        }
        close_tls(stream);
    });
    let socket = peer.open_with(identity.options(On));
    let mut writer = socket.writer();
    let writing = thread::spawn(move || writer.write_all(&vec![b'd'; COUNT]));
    let bytes = read_to_end(&socket).expect("a clean end");
    assert_eq!(bytes.len(), COUNT);
    assert!(bytes.iter().all(|byte| *byte == b'd'));
    writing.join().expect("it only writes").expect("the peer reads");
    peer.finish();
}
