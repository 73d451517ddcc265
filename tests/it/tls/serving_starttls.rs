//! STARTTLS as the server: the go-ahead, and bytes that an attacker injects around it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, mpsc};

use sockeye::{
    ClientAuth, Connector, ErrorKind, Health, ListenOptions, SecureTransport, ServerTlsOptions,
    Socket, SocketOptions, TcpOptions, listen_with,
};

use super::serving::server_tls;
use crate::support::net;
use crate::support::peer::listen;
use crate::support::tls::{Authority, authority, trust_only, with};
use crate::support::{
    PROMPT, WATCHDOG, assert_bytes_eq, assert_ended_with, assert_fails, eventually,
    fill_send_buffer, ms, random_bytes, read, read_exactly, spawn_blocked, spawn_call, timed,
    with_limit, with_watchdog,
};

const COMMAND: &[u8] = b"STARTTLS\r\n";
const GO_AHEAD: &[u8] = b"220 Ready\r\n";

fn upgradable(tls: ServerTlsOptions) -> SocketOptions {
    SocketOptions::new().secure_transport(SecureTransport::StartTls).server_tls(tls)
}

/// Returns an accepted socket in plaintext, and the stream of its client.
fn accepted(options: SocketOptions) -> (Socket, TcpStream) {
    // An accepted socket is half-open unless the options say otherwise.
    let options = options.allow_half_open(false);
    let options = ListenOptions::new().socket(options).handshake_timeout(ms(5_000));
    let listener = listen_with("127.0.0.1:0", options).expect("the options are valid");
    let address = listener.local_address().expect("it is bound");
    let client = net::connect(address).expect("the server listens");
    net::set_nodelay(&client).expect("it is connected");
    (listener.accept_timeout(WATCHDOG).expect("the client has connected"), client)
}

/// Returns an accepted socket, and a client's socket that can be upgraded.
fn pair() -> (Socket, Socket) {
    let (server, stream) = accepted(upgradable(server_tls()));
    let options = with(SecureTransport::StartTls, trust_only(authority()));
    (server, Connector::global().adopt(stream, options).expect("the options are valid"))
}

fn read_command(server: &Socket) {
    let mut line = Vec::new();
    server.reader().read_until(b'\n', &mut line, 512).expect("the client sends a line");
    assert_eq!(line, COMMAND);
}

#[test]
fn the_go_ahead_precedes_the_handshake_and_does_not_count_as_written() {
    with_watchdog(|| {
        let (server, client) = pair();
        (&client).write_all(COMMAND).expect("the server reads");
        read_command(&server);
        let secure = server.start_tls_after(GO_AHEAD).expect("nothing is unread");
        assert!(server.upgraded() && secure.secure_transport() == SecureTransport::On);
        assert_eq!(read_exactly(&client, GO_AHEAD.len()).expect("the go-ahead comes"), GO_AHEAD);
        let client = client.start_tls().expect("nothing is unread");
        let writing = spawn_call({
            let client = client.clone();
            move || (&client).write_all(b"secret\n")
        });
        let mut line = Vec::new();
        secure.reader().read_until(b'\n', &mut line, 100).expect("the client writes");
        assert_eq!(line, b"secret\n");
        writing.join().expect("the server reads");
        assert_eq!(secure.opened().unwrap().server_name(), Some("localhost"));
        let stats = secure.stats();
        assert_eq!((stats.bytes_read, stats.bytes_written), (7, 0));
        secure.close().expect("the client is there");
        assert!(read(&client, 1).expect("a clean end").is_empty());
    });
}

#[test]
fn a_client_can_send_a_preface_too_and_the_server_need_not_answer_it() {
    with_watchdog(|| {
        let (server, client) = pair();
        // As MySQL: the client sends a request, and its ClientHello right behind it.
        let secure = client.start_tls_after(b"SSLRequest").expect("nothing is unread");
        let opening = spawn_call(move || secure.opened().map(|_| secure));
        let request = read_exactly(&server, 10).expect("the client sends it");
        assert_eq!(request, b"SSLRequest");
        let served = server.start_tls().expect("the ClientHello may be there");
        served.opened().expect("the client is good");
        let secure = opening.join().expect("the server is trusted");
        (&served).write_all(b"x").expect("the client reads");
        assert_eq!(read_exactly(&secure, 1).expect("the server writes"), b"x");
    });
}

#[test]
fn a_client_that_does_not_wait_is_served_by_start_tls_and_not_by_start_tls_after() {
    with_watchdog(|| {
        for waits in [true, false] {
            let (server, client) = pair();
            let secure = client.start_tls().expect("nothing is unread");
            eventually(PROMPT, "the ClientHello arrives", || {
                matches!(server.health(), Health::Unread)
            });
            let opening = spawn_call(move || secure.opened().map(drop));
            if waits {
                assert_fails(
                    server.start_tls_after(GO_AHEAD).map(drop),
                    ErrorKind::UnreadPlaintext,
                );
                assert_ended_with(&server, ErrorKind::UnreadPlaintext);
                opening.join().expect_err("the server has closed");
            } else {
                let served = server.start_tls().expect("this may be a ClientHello");
                served.opened().expect("it is one");
                opening.join().expect("the server is trusted");
            }
        }
    });
}

#[test]
fn a_go_ahead_of_another_length_changes_nothing() {
    with_watchdog(|| {
        let (server, client) = pair();
        for length in [0, 4097] {
            let go_ahead = vec![b'x'; length];
            assert_fails(server.start_tls_after(&go_ahead).map(drop), ErrorKind::InvalidOptions);
        }
        (&server).write_all(b"still plaintext").expect("nothing changed");
        assert_eq!(read_exactly(&client, 15).expect("the server writes"), b"still plaintext");
        let long = vec![b'x'; 4096];
        let _secure = server.start_tls_after(&long).expect("this is the longest");
        assert_eq!(read_exactly(&client, 4096).expect("the go-ahead comes"), long);
    });
}

#[test]
fn a_reader_of_the_plaintext_leaves_before_the_go_ahead_goes_out() {
    with_watchdog(|| {
        let (server, client) = pair();
        let reading = spawn_blocked({
            let server = server.clone();
            move || (&server).read(&mut [0; 64]).map_err(|error| error.to_string())
        });
        let secure = server.start_tls_after(GO_AHEAD).expect("nothing is unread");
        let error = reading.join_within(PROMPT).expect_err("the socket was upgraded");
        assert!(error.contains("upgraded"), "{error}");
        assert_eq!(read_exactly(&client, GO_AHEAD.len()).expect("the go-ahead comes"), GO_AHEAD);
        let client = client.start_tls().expect("nothing is unread");
        let opening = spawn_call(move || client.opened().map(drop));
        secure.opened().expect("the client is good");
        opening.join().expect("the server is trusted");
    });
}

#[test]
fn a_go_ahead_leaves_in_parts_once_the_client_reads() {
    with_watchdog(|| {
        for closes in [false, true] {
            let small = upgradable(server_tls()).tcp(TcpOptions::new().send_buffer_size(4096));
            let (server, client) = accepted(small);
            let filled = fill_send_buffer(&server);
            let go_ahead = random_bytes(7, 4096);
            let secure = server.start_tls_after(&go_ahead).expect("nothing is unread");
            let (opening, closing) = (secure.clone(), secure.clone());
            let opening = spawn_blocked(move || opening.opened().map(drop));
            let closing = closes.then(|| spawn_call(move || closing.close()));
            if let Some(closing) = closing {
                // A handshake that has not begun is nothing to wait for.
                closing.join_within(PROMPT).expect("all that was written is handed over");
                opening.join().expect_err("the socket is closed");
                let sent = rest_of(&client, "a close");
                assert!(sent.len() <= filled + go_ahead.len(), "{} bytes", sent.len());
                assert!(sent[..filled].iter().all(|&byte| byte == b'w'));
                assert_bytes_eq(&sent[filled..], &go_ahead[..sent.len() - filled]);
                continue;
            }
            let written = read_exactly(&client, filled).expect("the server writes");
            assert!(written.iter().all(|&byte| byte == b'w'));
            assert_bytes_eq(&read_exactly(&client, 4096).expect("it follows"), &go_ahead);
            let options = with(SecureTransport::StartTls, trust_only(authority()));
            let client = Connector::global().adopt(client, options).expect("it is valid");
            let client = client.start_tls().expect("nothing follows the go-ahead");
            client.opened().expect("the server is trusted");
            opening.join().expect("the client is good");
        }
    });
}

#[test]
fn a_go_ahead_goes_out_although_a_verifier_of_the_program_blocks() {
    with_watchdog(|| {
        let clients = Authority::new();
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let tls = server_tls()
            .client_auth(ClientAuth::Required)
            .add_client_root_pem(clients.pem())
            .expect("it is PEM")
            .add_client_verifier(move |_| {
                // Until the test ends, if it fails.
                let _ = released.lock().expect("it is asked once").recv();
                Ok(())
            });
        let (server, stream) = accepted(upgradable(tls));
        let secure = server.start_tls_after(GO_AHEAD).expect("nothing is unread");
        let go_ahead = timed(|| read_exactly(&stream, GO_AHEAD.len()).expect("it comes"));
        assert_eq!(go_ahead.0, GO_AHEAD);
        assert!(go_ahead.1 < PROMPT, "{:?}", go_ahead.1);
        let own = clients.client("client.test");
        let tls = trust_only(authority()).client_auth_pem(own.chain_pem(), own.key_pem());
        let options = with(SecureTransport::StartTls, tls.expect("it is valid"));
        let client = Connector::global().adopt(stream, options).expect("it is valid");
        let client = client.start_tls().expect("nothing follows the go-ahead");
        let opening = spawn_call({
            let client = client.clone();
            move || client.opened().map(drop)
        });
        assert_fails(secure.opened_timeout(ms(300)).map(drop), ErrorKind::TimedOut);
        release.send(()).expect("the verifier waits");
        secure.opened().expect("the verifier agrees");
        opening.join().expect("the server is trusted");
        (&secure).write_all(b"x").expect("the client reads");
        assert_eq!(read_exactly(&client, 1).expect("only this follows"), b"x");
        assert_eq!(secure.stats().bytes_written, 1);
    });
}

// -------------------------------------------------------------------- injections

/// Returns what attackers inject: commands of several protocols, and bytes that look like TLS.
fn injections() -> Vec<(&'static str, Vec<u8>)> {
    let text = |name, bytes: &[u8]| (name, bytes.to_vec());
    vec![
        text("SMTP", b"NOOP\r\n"),
        text("SMTP, without CR", b"RSET\n"),
        text("SMTP, a mail", b"MAIL FROM:<evil@a.test>\r\nRCPT TO:<you@a.test>\r\nDATA\r\n"),
        text("SMTP, a login", b"AUTH PLAIN AGV2aWwAZXZpbA==\r\n"),
        text("IMAP", b"a001 LOGIN evil evil\r\n"),
        text("POP3", b"USER evil\r\nPASS evil\r\n"),
        text("an empty line", b"\r\n"),
        text("zero bytes", b"\0"),
        text("PostgreSQL", b"\0\0\0\x2a\0\x03\0\0user\0evil\0database\0evil\0\0"),
        text("a data record", &[23, 3, 3, 0, 4, b'e', b'v', b'i', b'l']),
        text("a handshake record", &[22, 3, 1, 0, 5, 1, 0, 0, 1, 3]),
        ("a ClientHello", client_hello()),
    ]
}

/// Returns the ClientHello of another client.
fn client_hello() -> Vec<u8> {
    let listener = listen();
    let client = net::connect(listener.local_addr().unwrap()).unwrap();
    let options = with(SecureTransport::On, trust_only(authority()));
    let client = Connector::global().adopt(client, options).expect("the options are valid");
    let (mut stream, _) = listener.accept().expect("the client has connected");
    let opening = spawn_call(move || client.opened().map(drop));
    let mut header = [0; 5];
    stream.read_exact(&mut header).expect("the client speaks first");
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut body).expect("the record is complete");
    drop(stream);
    opening.join().expect_err("no answer comes");
    [&header[..], &body].concat()
}

/// The sizes of an injection, in bytes.
const SIZES: [usize; 5] = [1, 7, 512, 4097, 20_000];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timing {
    /// In the segment of the command.
    WithCommand,
    /// After the server has read the command, before it upgrades.
    BeforeUpgrade,
    /// After the server has sent the go-ahead, before the victim's ClientHello. The server has read the command here.
    AfterGoAhead,
}

/// Injects into the dialogue before an upgrade, and returns the socket when everything has arrived.
fn injected(bytes: &[u8], timing: Timing) -> (Socket, TcpStream) {
    let (server, mut client) = accepted(upgradable(server_tls()));
    match timing {
        Timing::WithCommand => {
            client.write_all(&[COMMAND, bytes].concat()).expect("the server listens");
            read_command(&server);
        }
        Timing::BeforeUpgrade => {
            client.write_all(COMMAND).expect("the server listens");
            read_command(&server);
            client.write_all(bytes).expect("the server listens");
        }
        Timing::AfterGoAhead => {
            client.write_all(COMMAND).expect("the server listens");
            read_command(&server);
            return (server, client);
        }
    }
    eventually(PROMPT, "the injection arrives", || matches!(server.health(), Health::Unread));
    (server, client)
}

const EARLY: [Timing; 2] = [Timing::WithCommand, Timing::BeforeUpgrade];

fn each_injection(timings: &[Timing], mut check: impl FnMut(&str, &[u8], Timing)) {
    let mut cases = 0;
    for (name, injection) in injections() {
        for &timing in timings {
            for size in SIZES {
                let bytes: Vec<u8> = injection.iter().copied().cycle().take(size).collect();
                check(&format!("{name}, {size} bytes, {timing:?}"), &bytes, timing);
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 60 * timings.len());
}

/// Reads up to the server's end, which is no reset.
fn rest_of(mut client: &TcpStream, name: &str) -> Vec<u8> {
    client.set_read_timeout(Some(PROMPT)).unwrap();
    let mut sent = Vec::new();
    client.read_to_end(&mut sent).unwrap_or_else(|error| panic!("{name}: {error}"));
    sent
}

#[test]
fn no_injected_byte_is_believed_by_start_tls_after() {
    with_limit(4 * WATCHDOG, || {
        each_injection(&EARLY, |name, bytes, timing| {
            let (server, client) = injected(bytes, timing);
            let Err(error) = server.start_tls_after(GO_AHEAD) else {
                panic!("{name}: the upgrade went on");
            };
            assert_eq!(error.kind(), ErrorKind::UnreadPlaintext, "{name}");
            assert_ended_with(&server, ErrorKind::UnreadPlaintext);
            assert_eq!(rest_of(&client, name), b"", "{name}: nothing was sent");
        });
    });
}

#[test]
fn no_injected_byte_is_believed_by_start_tls() {
    with_limit(4 * WATCHDOG, || {
        each_injection(&EARLY, |name, bytes, timing| {
            let (server, client) = injected(bytes, timing);
            (&server).write_all(GO_AHEAD).expect("the client is there");
            let secure = match server.start_tls() {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::UnreadPlaintext, "{name}");
                    assert_ne!(bytes[0], 22, "{name}: this may be a ClientHello");
                    assert_ended_with(&server, ErrorKind::UnreadPlaintext);
                    assert_eq!(rest_of(&client, name), GO_AHEAD, "{name}");
                    return;
                }
                Ok(secure) => secure,
            };
            assert_eq!(bytes[0], 22, "{name}: this is no ClientHello");
            assert_eq!(read_exactly(&client, GO_AHEAD.len()).expect("it comes"), GO_AHEAD);
            assert_not_believed(name, &secure, client);
        });
    });
}

/// Lets the victim continue with a handshake of its own, behind what was injected. The server believes neither.
fn assert_not_believed(name: &str, mut secure: &Socket, client: TcpStream) {
    let options = with(SecureTransport::StartTls, trust_only(authority()));
    let mut filler = client.try_clone().expect("there is a descriptor");
    let victim = Connector::global().adopt(client, options).expect("it is valid");
    let victim = victim.start_tls();
    // An injected header may announce more than the ClientHello. The server may have refused it already.
    let _ = filler.write_all(&[0; 16 * 1024 + 256]);
    let reading = secure.read(&mut [0; 64]);
    assert!(reading.is_err(), "{name}: {reading:?} was believed");
    assert_fails(secure.opened().map(drop), ErrorKind::Tls);
    assert_eq!(secure.stats().bytes_read, 0, "{name}");
    drop(victim);
}

#[test]
fn no_byte_injected_behind_the_go_ahead_is_believed() {
    with_limit(4 * WATCHDOG, || {
        each_injection(&[Timing::AfterGoAhead], |name, bytes, timing| {
            let (server, mut client) = injected(bytes, timing);
            let secure = server.start_tls_after(GO_AHEAD).expect("nothing is unread");
            assert_eq!(read_exactly(&client, GO_AHEAD.len()).expect("it comes"), GO_AHEAD);
            client.write_all(bytes).expect("the server listens");
            assert_not_believed(name, &secure, client);
        });
    });
}
