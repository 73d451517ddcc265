//! Mosquitto: MQTT 3.1.1 over TLS, with a reader that waits while others write.

use std::io::{Read, Write};

use sockeye::SecureTransport::{Off, On};
use sockeye::{Socket, SocketOptions, TlsVersion};

use super::certificates::Certificates;
use super::harness::{
    LIMIT, NO_SECRET, Scratch, Server, bounded, example_of, installed, start, text,
};
use super::tls::{
    bound, check_clean_end, check_refused, check_secured, dial, suspicious, trust_only,
};
use crate::support::spawn_blocked;

#[test]
fn mosquitto_answers_pings_and_delivers_while_a_reader_waits() {
    let certificates = Certificates::new();
    let test = "mosquitto_answers_pings_and_delivers_while_a_reader_waits";
    let Some(server) = mosquitto(test, &certificates) else { return };
    let socket = dial(server.at(SECURED), On, trust_only(&certificates));
    assert_eq!(check_secured(&socket), TlsVersion::Tls13);
    connect(&socket, "subscriber");
    send(&socket, SUBSCRIBE, b"\x00\x01\x00\x06salmon\x00");
    assert_eq!(packet(&socket), (SUBACK, vec![0, 1, 0]));

    for _ in 0..3 {
        let reader = socket.clone();
        let waiting = spawn_blocked(move || packet(&reader));
        send(&socket, PINGREQ, b"");
        assert_eq!(waiting.join_within(LIMIT), (PINGRESP, vec![]));
    }

    // The message comes from a client in plaintext.
    let options = SocketOptions::new().secure_transport(Off).connect_timeout(LIMIT);
    let plain = sockeye::connect_with(server.at(PLAIN), options).unwrap();
    bound(&plain);
    connect(&plain, "publisher");
    for fish in [1, 20_000] {
        let reader = socket.clone();
        let waiting = spawn_blocked(move || packet(&reader));
        let message = [b"\x00\x06salmon".to_vec(), vec![b'!'; fish]].concat();
        send(&plain, PUBLISH, &message);
        assert!(waiting.join_within(LIMIT) == (PUBLISH, message));
    }
    for socket in [socket, plain] {
        send(&socket, DISCONNECT, b"");
        check_clean_end(&socket);
    }
}

#[test]
fn mosquitto_of_an_unknown_authority_gets_no_credential() {
    let certificates = Certificates::new();
    let test = "mosquitto_of_an_unknown_authority_gets_no_credential";
    let Some(server) = mosquitto(test, &certificates) else { return };
    check_refused(&dial(server.at(SECURED), On, suspicious()), &server);
}

#[test]
fn mosquitto_delivers_to_the_mqtt_watch_example_over_tls() {
    let certificates = Certificates::new();
    let test = "mosquitto_delivers_to_the_mqtt_watch_example_over_tls";
    let Some(server) = mosquitto(test, &certificates) else { return };
    let options = SocketOptions::new().secure_transport(Off).connect_timeout(LIMIT);
    let plain = sockeye::connect_with(server.at(PLAIN), options).unwrap();
    bound(&plain);
    connect(&plain, "publisher");
    // The server retains these messages for later subscribers; its answer to a ping shows that it has them.
    send(&plain, PUBLISH | RETAIN, b"\x00\x08salmon/1upstream");
    send(&plain, PUBLISH | RETAIN, b"\x00\x08salmon/2home");
    send(&plain, PINGREQ, b"");
    assert_eq!(packet(&plain), (PINGRESP, vec![]));

    let address = server.at(SECURED).to_string();
    let args = [&address, "salmon/+", "2", "--ca", &server.file("ca.pem")];
    let Some(output) = example_of(test, "mqtt_watch", &args, NO_SECRET, "") else { return };
    assert_eq!(text(&output.stderr), "subscribed to salmon/+\n");
    let mut shown: Vec<&str> = text(&output.stdout).lines().collect();
    shown.sort_unstable();
    assert_eq!(shown, ["salmon/1: upstream", "salmon/2: home"]);
    assert_eq!(output.status.code(), Some(0));
}

// -------------------------------------------------------------------- the protocol

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const RETAIN: u8 = 0x01;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const PINGREQ: u8 = 0xc0;
const PINGRESP: u8 = 0xd0;
const DISCONNECT: u8 = 0xe0;

/// Begins a session, which the server has to accept.
fn connect(socket: &Socket, client: &str) {
    let length = u8::try_from(client.len()).unwrap();
    // MQTT 3.1.1, a clean session, a keep-alive of 60 s.
    let head = [b"\x00\x04MQTT\x04\x02\x00\x3c\x00", &[length][..]].concat();
    send(socket, CONNECT, &[&head, client.as_bytes()].concat());
    assert_eq!(packet(socket), (CONNACK, vec![0, 0]));
}

fn send(socket: &Socket, kind: u8, body: &[u8]) {
    let mut message = vec![kind];
    let mut length = body.len();
    // Seven bits per byte, least significant first; the eighth bit says that more follow.
    while length > 0x7f {
        message.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    message.push(u8::try_from(length).unwrap());
    message.extend_from_slice(body);
    socket.writer().write_all(&message).unwrap();
}

fn packet(socket: &Socket) -> (u8, Vec<u8>) {
    let mut reader = socket.reader();
    let mut byte = || {
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        byte[0]
    };
    let kind = byte();
    let mut length = 0;
    for shift in (0..).step_by(7) {
        let part = byte();
        length |= usize::from(part & 0x7f) << shift;
        if part & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (kind, body)
}

// -------------------------------------------------------------------- the server

/// The ports.
const PLAIN: usize = 0;
const SECURED: usize = 1;

fn mosquitto(test: &str, certificates: &Certificates) -> Option<Server> {
    let mosquitto = installed(test, "mosquitto")?;
    let files = Scratch::new();
    certificates.write(&files, None);
    Some(start(files, " running", |files, [plain, secured]| {
        let config = files.join("mosquitto.conf");
        let root = files.display();
        // As root, Mosquitto would switch to a user that cannot read the key.
        let text = format!(
            "user root\nallow_anonymous true\npersistence false\nlog_dest stderr\n\
             listener {plain} 127.0.0.1\nlistener {secured} 127.0.0.1\n\
             cafile {root}/ca.pem\ncertfile {root}/chain.pem\nkeyfile {root}/key.pem\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = bounded(&mosquitto);
        command.arg("-c").arg(&config);
        command
    }))
}
