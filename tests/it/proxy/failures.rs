//! Proxies that refuse, answer nonsense or nothing, or cannot be reached.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use sockeye::{Connector, Error, ErrorKind, Proxy, ProxyReply, SocketOptions, Step, TcpOptions};

use super::{TARGET, http, http_proxy, read_head, socks4a, socks5, take, through};
use crate::support::peer::{Server, closed_port, reset};
use crate::support::{PROMPT, assert_ended_with, ms, with_watchdog};

/// Returns the error of a connect through this proxy, after all calls have reported it.
fn failure(proxy: Proxy) -> Error {
    let socket = through(proxy).connect(TARGET).unwrap();
    let error = socket.opened().unwrap_err();
    assert_ended_with(&socket, error.kind());
    error
}

/// Returns the error after an answer of a proxy with HTTP.
fn http_failure(answer: &'static [u8]) -> Error {
    let server = http_proxy(move |mut stream| {
        stream.write_all(answer).unwrap();
        // The client ends the connection.
        let _ = io::copy(&mut stream, &mut io::sink());
    });
    failure(http(server.address()))
}

/// Checks reply, kind, step and text. `PROXY` stands for the proxy's address.
#[track_caller]
fn assert_error(error: &Error, reply: ProxyReply, kind: io::ErrorKind, text: &str) {
    assert_eq!(error.kind(), ErrorKind::Proxy);
    assert_eq!(error.proxy_reply(), Some(reply));
    assert_eq!(error.step(), Some(Step::Proxy));
    assert!(error.timings().is_some_and(|it| it.proxy > Duration::ZERO));
    let message = error.to_string();
    let (start, rest) =
        message.split_once("proxy 127.0.0.1:").expect("the message names the proxy");
    let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    assert_eq!(
        format!("{start}{}", rest.trim_start()),
        format!("cannot connect to {TARGET}: {text}")
    );
    assert_eq!(io::Error::from(error.clone()).kind(), kind);
}

#[test]
fn a_refusal_of_http_has_its_status_and_reason() {
    use io::ErrorKind::{HostUnreachable, Other, PermissionDenied};
    with_watchdog(|| {
        for (answer, status, kind, text) in [
            (&b"HTTP/1.1 403 Forbidden\r\n\r\n"[..], 403, PermissionDenied, "refused: 403 Forbidden"),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", 502, HostUnreachable, "refused: 502 Bad Gateway"),
            (b"HTTP/1.1 504 \r\n\r\n", 504, HostUnreachable, "refused: 504"),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, Other, "refused: 101 Switching Protocols"),
            (
                b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"a\"\r\nProxy-Authenticate: Negotiate\r\n\r\n",
                407,
                PermissionDenied,
                "requires credentials: 407, it offers Basic, Negotiate",
            ),
            (b"HTTP/1.1 407 x\r\nConnection: close\r\n\r\n", 407, PermissionDenied, "requires credentials: 407"),
        ] {
            assert_error(&http_failure(answer), ProxyReply::Http(status), kind, text);
        }
    });
}

#[test]
fn credentials_are_sent_once_and_appear_in_no_text() {
    with_watchdog(|| {
        let (heads, requests) = std::sync::mpsc::channel();
        let server = Server::scripted(move |mut stream| {
            heads.send(read_head(&mut stream)).unwrap();
            stream.write_all(b"HTTP/1.1 407 Again\r\n\r\n").unwrap();
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        let proxy = http(server.address()).credentials("alice", "pa55word").unwrap();
        let error = failure(proxy.header("X-Key", "v4lue").unwrap());
        let head = String::from_utf8(requests.recv().unwrap()).unwrap();
        assert!(head.contains("\r\nProxy-Authorization: Basic YWxpY2U6cGE1NXdvcmQ=\r\n"), "{head}");
        assert!(head.contains("\r\nX-Key: v4lue\r\n"), "{head}");
        drop(server);
        assert!(requests.recv().is_err(), "there is no second try");
        for text in [error.to_string(), format!("{error:?}")] {
            for secret in ["alice", "pa55word", "YWxpY2U6", "v4lue"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    });
}

#[test]
fn an_answer_before_its_question_is_refused() {
    with_watchdog(|| {
        for answers in [
            &b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34"[..],
            b"\x05\x02\x01\x00",
            b"\x05\x02\x01",
        ] {
            let server = Server::scripted(move |mut stream| {
                take(&mut stream, 4);
                stream.write_all(answers).unwrap();
                let _ = io::copy(&mut stream, &mut io::sink());
            });
            let error = failure(socks5(server.address()).credentials("alice", "secret").unwrap());
            let text = "answered before it was asked";
            assert_error(&error, ProxyReply::Malformed, io::ErrorKind::InvalidData, text);
        }
    });
}

/// A proxy that answers at once, without reading, and resets: its limit of connections may be reached.
#[test]
fn a_refusal_that_cuts_the_request_off_is_reported() {
    with_watchdog(|| {
        let server = Server::scripted(|mut stream: TcpStream| {
            stream.write_all(b"HTTP/1.1 503 Too many connections\r\n\r\n").unwrap();
            // The end of the request does not fit into the buffers.
            std::thread::sleep(ms(100));
            reset(stream);
        });
        let long = "x".repeat(1024 * 1024);
        let proxy = http(server.address()).header("X-Long", &long).unwrap();
        let tcp = TcpOptions::new().send_buffer_size(16 * 1024);
        let options = SocketOptions::new().tcp(tcp);
        let socket = through(proxy).connect_with(TARGET, options).unwrap();
        let error = socket.opened().unwrap_err();
        let text = "refused: 503 Too many connections";
        assert_error(&error, ProxyReply::Http(503), io::ErrorKind::Other, text);
    });
}

#[test]
fn nonsense_is_quoted_and_recognised() {
    with_watchdog(|| {
        let answers = |answer: &'static [u8]| {
            Server::scripted(move |mut stream| {
                stream.write_all(answer).unwrap();
                let _ = io::copy(&mut stream, &mut io::sink());
            })
        };
        let bad_request = answers(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let malformed = |error: &Error, text: &str| {
            assert_error(error, ProxyReply::Malformed, io::ErrorKind::InvalidData, text);
        };
        malformed(
            &failure(socks5(bad_request.address())),
            "does not speak SOCKS 5: it answered \"HTTP/1.1 400 Bad\" (is it an HTTP proxy?)",
        );
        malformed(
            &failure(socks4a(bad_request.address())),
            "does not speak SOCKS 4: it answered \"HTTP/1.1 400 Bad\" (is it an HTTP proxy?)",
        );
        let greeting = answers(b"220 mail.example.com\r\n");
        malformed(
            &failure(http(greeting.address())),
            "does not speak HTTP: it answered \"220 mail.example\"",
        );
        malformed(
            &http_failure(b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n"),
            "sent a head with NUL, or with CR inside a line",
        );
    });
}

#[test]
fn a_head_without_an_end_is_malformed() {
    with_watchdog(|| {
        let server = http_proxy(|mut stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
            // Until the client has enough of it.
            while stream.write_all(b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n").is_ok() {
            }
        });
        let error = failure(http(server.address()));
        assert_eq!(error.proxy_reply(), Some(ProxyReply::Malformed));
        assert!(error.to_string().ends_with("sent a head longer than 16 KiB"), "{error}");
    });
}

#[test]
fn a_refusal_of_socks_has_its_code_and_meaning() {
    use io::ErrorKind::{
        ConnectionRefused, HostUnreachable, NetworkUnreachable, Other, PermissionDenied,
    };
    with_watchdog(|| {
        for (code, kind, meaning) in [
            (1, Other, "general failure"),
            (2, PermissionDenied, "not allowed by its rules"),
            (3, NetworkUnreachable, "network unreachable"),
            (4, HostUnreachable, "host unreachable"),
            (5, ConnectionRefused, "connection refused"),
            (8, Other, "address type not supported"),
        ] {
            let server = Server::scripted(move |mut stream| {
                take(&mut stream, 3);
                stream.write_all(b"\x05\x00").unwrap();
                take(&mut stream, 4 + 1 + 14 + 2);
                stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
                let _ = io::copy(&mut stream, &mut io::sink());
            });
            let text = format!("replied: {meaning} (SOCKS 5 reply {code})");
            let error = failure(socks5(server.address()));
            assert_error(&error, ProxyReply::Socks5(code), kind, &text);
        }
        let server = Server::scripted(|mut stream| {
            take(&mut stream, 3);
            stream.write_all(b"\x05\xff").unwrap();
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        let text = "accepts none of the offered ways to authenticate (SOCKS 5 method 255)";
        let error = failure(socks5(server.address()));
        assert_error(&error, ProxyReply::Socks5Auth(255), PermissionDenied, text);
        let server = Server::scripted(|mut stream| {
            take(&mut stream, 8 + 1 + 15);
            stream.write_all(&[0, 92, 0, 0, 0, 0, 0, 0]).unwrap();
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        let text = "replied: the proxy cannot reach identd on this host (SOCKS 4 reply 92)";
        assert_error(&failure(socks4a(server.address())), ProxyReply::Socks4(92), Other, text);
    });
}

#[test]
fn a_proxy_that_ends_or_resets_before_its_answer_has_disconnected() {
    with_watchdog(|| {
        let ends: [fn(TcpStream); 3] = [
            |stream| drop(stream),
            |mut stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let _ = io::copy(&mut stream, &mut io::sink());
            },
            reset,
        ];
        for end in ends {
            let server = http_proxy(end);
            let error = failure(http(server.address()));
            let text = "disconnected before its reply was complete";
            let kind = io::ErrorKind::UnexpectedEof;
            assert_error(&error, ProxyReply::Disconnected, kind, text);
        }
    });
}

#[test]
fn the_connect_timeout_covers_the_dialogue() {
    with_watchdog(|| {
        // A byte now and then does not extend it.
        let server = http_proxy(|mut stream| {
            for byte in b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'a')) {
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(ms(20));
            }
        });
        let connector = through(http(server.address()));
        for waits in [true, false] {
            let options = SocketOptions::new().connect_timeout(ms(300));
            let begun = Instant::now();
            let socket = connector.connect_with(TARGET, options).unwrap();
            if waits {
                socket.opened().unwrap_err();
                let took = begun.elapsed();
                assert!((ms(300)..ms(300) + PROMPT).contains(&took), "{took:?}");
            }
            let error = socket.closed().unwrap_err();
            assert_eq!((error.kind(), error.step()), (ErrorKind::TimedOut, Some(Step::Proxy)));
            let text = format!("proxy {} did not answer in time", server.address());
            assert!(error.to_string().ends_with(&text), "{error}");
        }
        let options = SocketOptions::new().connect_deadline(Instant::now() + ms(200));
        let socket = connector.connect_with(TARGET, options).unwrap();
        assert_eq!(socket.opened().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_proxy_that_cannot_be_reached_is_named() {
    with_watchdog(|| {
        let closed = closed_port();
        let address = closed.address;
        let error = failure(http(address));
        assert_eq!((error.kind(), error.step()), (ErrorKind::Connect, Some(Step::Connect)));
        let text = format!(
            "cannot connect to {TARGET}: cannot reach proxy {address}: the connection was refused"
        );
        assert_eq!(error.to_string(), text);
        assert_eq!(error.attempts().len(), 1);

        let resolver = |_: &str| Err(io::ErrorKind::NotFound.into());
        let proxy = Proxy::socks5("proxy.test:1080").unwrap();
        let connector = Connector::builder().resolver(resolver).proxy(proxy).build().unwrap();
        let error = connector.connect(TARGET).unwrap().opened().unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Resolve, Some(Step::Lookup)));
        assert_eq!(
            error.to_string(),
            format!(
                "cannot connect to {TARGET}: cannot reach proxy proxy.test:1080: the name did not resolve"
            )
        );
    });
}

#[test]
fn targets_that_no_proxy_can_get_fail_before_anything_is_sent() {
    use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
    let closed = closed_port();
    let scoped = SocketAddr::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 1));
    for proxy in [http(closed.address), socks5(closed.address), socks4a(closed.address)] {
        let error = through(proxy).connect(scoped).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{error}");
    }
    for proxy in [socks4a(closed.address), socks4a(closed.address).resolve_locally()] {
        let error = through(proxy).connect("[2001:db8::1]:80").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    }
}
