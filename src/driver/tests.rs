//! Calls on the event loop's own thread, such as a logger makes when the loop calls it. None of them waits.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::event_loop;
use crate::error::ErrorKind;
use crate::info::Phase;
use crate::{
    Connector, Error, Identity, SecureTransport, ServerTlsOptions, Socket, SocketOptions,
    TlsOptions,
};

const LONG: Duration = Duration::from_secs(60);

/// Returns a connected socket and its peer.
fn pair(options: SocketOptions) -> (Socket, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let socket = connector().connect_with(listener.local_addr().unwrap(), options).unwrap();
    let (peer, _) = listener.accept().unwrap();
    (socket, peer)
}

fn connector() -> Connector {
    Connector::builder().build().unwrap()
}

/// Runs `work` on a thread that is marked as the event loop's, and checks that it returns at once.
fn on_the_loop<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let begun = Instant::now();
            let result = event_loop::run_as_loop_thread(work);
            assert!(begun.elapsed() < Duration::from_secs(5), "the call waited");
            result
        });
        thread.join().unwrap()
    })
}

#[track_caller]
fn refused<T>(result: Result<T, impl Into<io::Error>>) {
    let Err(error) = result else { panic!("the call must be refused") };
    let error: io::Error = error.into();
    let error = error.get_ref().and_then(|error| error.downcast_ref::<Error>()).unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidState, "{error}");
    assert!(error.to_string().contains("this call would block the event loop"), "{error}");
}

#[test]
fn a_read_or_write_that_would_block_the_loop_is_refused() {
    for limit in [None, Some(LONG)] {
        let (socket, mut peer) = pair(SocketOptions::new());
        socket.opened().unwrap();
        socket.set_read_timeout(limit).unwrap();
        socket.set_write_timeout(limit).unwrap();
        on_the_loop(|| {
            refused((&socket).read(&mut [0; 10]));
            // A call that need not wait still works.
            peer.write_all(b"abc").unwrap();
            let until = Instant::now() + LONG;
            let read = loop {
                match (&socket).read(&mut [0; 10]) {
                    Err(_) if Instant::now() < until => std::thread::yield_now(),
                    result => break result.unwrap(),
                }
            };
            assert_eq!(read, 3);
            let full = (&socket).write_all(&vec![0; 100_000_000]);
            refused(full);
            (&socket).flush().unwrap();
        });
        // Other threads are not affected.
        peer.write_all(b"abc").unwrap();
        assert_eq!((&socket).read(&mut [0; 10]).unwrap(), 3);
    }
}

/// Reads a line on the loop's thread, and says how many bytes came.
#[track_caller]
fn read_line_on_the_loop(socket: &Socket) -> usize {
    on_the_loop(|| {
        socket.reader().read_until(b'\n', &mut Vec::new(), 100_000).expect("the line is there")
    })
}

#[test]
fn a_line_that_has_arrived_is_read_on_the_loop() {
    let (socket, mut peer) = pair(SocketOptions::new());
    socket.opened().unwrap();
    let mut line = vec![b'x'; 20_000];
    line.push(b'\n');
    peer.write_all(&line).unwrap();
    assert_eq!(read_line_on_the_loop(&socket), line.len());

    let key = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let identity = Identity::from_pem(key.cert.pem(), key.signing_key.serialize_pem()).unwrap();
    let tls = TlsOptions::new().server_name("a.test").danger_accept_invalid_certs(true);
    let secure = SocketOptions::new().secure_transport(SecureTransport::On);
    let (client, stream) = pair(secure.clone().tls(tls));
    let server =
        connector().adopt(stream, secure.server_tls(ServerTlsOptions::new(identity))).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| server.opened().map(drop).unwrap());
        client.opened().map(drop).unwrap();
    });
    // A record that one receive takes.
    (&client).write_all(&line[19_000..]).unwrap();
    assert_eq!(read_line_on_the_loop(&server), 1001);
}

#[test]
fn waiting_for_opened_or_closed_is_refused_on_the_loop() {
    // The server sends nothing.
    let (securing, _peer) = pair(
        SocketOptions::new()
            .secure_transport(SecureTransport::On)
            .tls(TlsOptions::new().server_name("a.test")),
    );
    let (open, _other) = pair(SocketOptions::new());
    open.opened().unwrap();
    let (upgradable, _third) = pair(
        SocketOptions::new()
            .secure_transport(SecureTransport::StartTls)
            .tls(TlsOptions::new().server_name("a.test")),
    );
    upgradable.opened().unwrap();
    on_the_loop(|| {
        refused(securing.opened());
        refused(securing.opened_timeout(LONG));
        refused((&securing).read(&mut [0]));
        refused((&securing).write(&[0]));
        refused(securing.writer().close());
        refused(open.closed());
        refused(open.closed_timeout(LONG));
        refused(upgradable.start_tls());
        open.opened().unwrap();
        let _ = securing.health();
        assert_eq!(open.phase(), Phase::Open, "the socket is unharmed");
        // A call need not wait for something that has happened already.
        securing.close().unwrap();
        open.abort();
        assert_eq!(open.closed().unwrap_err().kind(), ErrorKind::Closed);
    });
}

/// An iterator that has ended stays at its end, although the listener is open.
#[test]
fn waiting_for_a_client_is_refused_on_the_loop() {
    let listener = crate::listen((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_address().unwrap();
    let mut incoming = listener.incoming();
    on_the_loop(|| {
        refused(listener.accept());
        refused(listener.accept_timeout(LONG));
        refused(listener.closed());
        assert!(incoming.next().is_none());
    });
    let _clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
    assert!(incoming.next().is_none(), "it is fused");
    // A call that need not wait still works.
    on_the_loop(|| drop(listener.accept().unwrap()));
    assert!(listener.incoming().next().is_some());
}

#[test]
fn calls_that_need_not_wait_work_on_the_loop() {
    let (socket, mut peer) = pair(SocketOptions::new());
    socket.opened().unwrap();
    on_the_loop(move || drop(socket));
    assert_eq!(peer.read(&mut [0; 10]).unwrap(), 0, "the socket was closed");

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let connector = connector();
    on_the_loop(|| {
        connector.scope(|scope| drop(scope.connect(address).unwrap().clone()));
        let kept = connector.connect(address).unwrap();
        assert_eq!(connector.shutdown(LONG), 0);
        drop(kept);
    });
    let until = Instant::now() + LONG;
    while connector.open_sockets() > 0 && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(connector.open_sockets(), 0);
}
