//! HTTP servers that want a listener of `std`, or bind one by themselves: a port forward in front takes the TLS off.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;

use sockeye::{Identity, ListenOptions, SecureTransport, ServerTlsOptions};

use crate::certificates::Certificates;
use crate::support::{Forward, LIMIT, plain, secured, within};

/// Requests a page over TLS from a server in plaintext.
#[track_caller]
fn check(server: SocketAddr, expected: &str) {
    let certificates = Certificates::new();
    let identity = Identity::from_pem(&certificates.server_chain, &certificates.server_key);
    let accept = plain()
        .secure_transport(SecureTransport::On)
        .server_tls(ServerTlsOptions::new(identity.unwrap()));
    let forward = Forward::with(server, plain(), ListenOptions::new().socket(accept));
    let dial = secured(&certificates.authority);
    let mut client = sockeye::connect_with(forward.address(), dial).unwrap();
    client
        .write_all(b"GET /fish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(expected), "{answer}");
    assert_eq!(forward.count(), 1);
}

#[test]
fn tiny_http_serves_behind_a_forward() {
    within(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = tiny_http::Server::from_listener(listener, None).unwrap();
        let serving = thread::spawn(move || {
            let request = server.recv_timeout(LIMIT).unwrap().expect("one comes");
            assert_eq!(request.url(), "/fish");
            request.respond(tiny_http::Response::from_string("salmon")).unwrap();
        });
        check(address, "salmon");
        serving.join().unwrap();
    });
}

#[test]
fn rouille_serves_behind_a_forward() {
    within(|| {
        let handler = |request: &rouille::Request| rouille::Response::text(request.url());
        let server = rouille::Server::new("127.0.0.1:0", handler).unwrap();
        let address = server.server_addr();
        let (end, ended) = mpsc::channel();
        let serving = thread::spawn(move || {
            while ended.try_recv().is_err() {
                server.poll_timeout(std::time::Duration::from_millis(10));
            }
        });
        check(address, "/fish");
        end.send(()).unwrap();
        serving.join().unwrap();
    });
}
