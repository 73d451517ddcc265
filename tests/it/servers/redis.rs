//! Redis: TLS from the start, with a reader and a writer on one socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::thread;

use sockeye::SecureTransport::On;
use sockeye::{Reader, Socket};

use super::certificates::Certificates;
use super::harness::{Scratch, Server, bounded, example_of, installed, knows_setting, start, text};
use super::tls::{check_clean_end, check_refused, check_secured, dial, suspicious, trust_only};

#[test]
fn redis_answers_a_secured_client_and_ends_cleanly() {
    let certificates = Certificates::new();
    let Some(server) = redis("redis_answers_a_secured_client_and_ends_cleanly", &certificates)
    else {
        return;
    };
    let (socket, mut reader) = authenticated(&server, &certificates);
    check_answer(&socket, &mut reader, "PING", "+PONG");
    let fish = "salmon ".repeat(100_000);
    let set = format!("*3\r\n$3\r\nSET\r\n$4\r\nfish\r\n${}\r\n{fish}", fish.len());
    check_answer(&socket, &mut reader, &set, "+OK");
    check_answer(&socket, &mut reader, "GET fish", &format!("${}", fish.len()));
    let mut got = String::new();
    reader.read_line(&mut got).unwrap();
    assert!(got.trim_end_matches("\r\n") == fish, "{} bytes", got.len());
    check_answer(&socket, &mut reader, "QUIT", "+OK");
    assert_eq!(reader.buffer(), b"");
    check_clean_end(&socket);
}

#[test]
fn redis_answers_a_writer_while_a_reader_reads() {
    const PINGS: usize = 1000;
    let certificates = Certificates::new();
    let test = "redis_answers_a_writer_while_a_reader_reads";
    let Some(server) = redis(test, &certificates) else { return };
    let (socket, mut reader) = authenticated(&server, &certificates);
    let expected: String = (0..PINGS).map(|n| format!("$8\r\n{n:08}\r\n")).collect();
    let length = expected.len();
    thread::scope(|scope| {
        let answers = scope.spawn(move || {
            let mut answers = vec![0; length];
            reader.read_exact(&mut answers).unwrap();
            assert_eq!(reader.buffer(), b"");
            answers
        });
        let mut writer = socket.writer();
        scope.spawn(move || {
            for n in 0..PINGS {
                writer.write_all(format!("PING {n:08}\r\n").as_bytes()).unwrap();
            }
            writer.flush().unwrap();
        });
        assert!(answers.join().unwrap() == expected.as_bytes());
    });
    socket.close().unwrap();
}

#[test]
fn redis_of_an_unknown_authority_gets_no_credential() {
    let certificates = Certificates::new();
    let test = "redis_of_an_unknown_authority_gets_no_credential";
    let Some(server) = redis(test, &certificates) else { return };
    check_refused(&dial(server.address(), On, suspicious()), &server);
}

#[test]
fn redis_answers_the_redis_pipeline_example_plain_and_over_tls() {
    let certificates = Certificates::new();
    let test = "redis_answers_the_redis_pipeline_example_plain_and_over_tls";
    let Some(server) = redis(test, &certificates) else { return };
    let secured = format!("rediss://{}", server.at(SECURED));
    let plain = format!("redis://{}", server.at(PLAIN));
    let ca = server.file("ca.pem");
    for (url, password, code) in
        [(&secured, "secret", 0), (&plain, "secret", 0), (&secured, "guess", 1)]
    {
        let secret = ("REDIS_PASSWORD", password);
        let args = [url, "--ca", &ca];
        let Some(output) = example_of(test, "redis_pipeline", &args, secret, "") else { return };
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{message}");
        let shown = text(&output.stdout);
        assert_eq!(shown.starts_with("100000 replies in "), code == 0, "{shown}");
        assert_eq!(message.contains("-WRONGPASS "), code == 1, "{message}");
    }
}

// -------------------------------------------------------------------- the protocol

fn authenticated(server: &Server, certificates: &Certificates) -> (Socket, BufReader<Reader>) {
    let socket = dial(server.address(), On, trust_only(certificates));
    check_secured(&socket);
    let mut reader = BufReader::new(socket.reader());
    check_answer(&socket, &mut reader, "PING", "-NOAUTH Authentication required.");
    check_answer(&socket, &mut reader, "AUTH secret", "+OK");
    (socket, reader)
}

/// Sends a command; the next line has to be `answer`.
#[track_caller]
fn check_answer(socket: &Socket, reader: &mut BufReader<Reader>, command: &str, expected: &str) {
    socket.writer().write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, format!("{expected}\r\n"));
}

// -------------------------------------------------------------------- the server

/// The ports.
const SECURED: usize = 0;
const PLAIN: usize = 1;

fn redis(test: &str, certificates: &Certificates) -> Option<Server> {
    let redis = installed(test, "redis-server")?;
    // A build without TLS lacks its settings.
    if !knows_setting(test, &redis, "tls-auth-clients") {
        return None;
    }
    let files = Scratch::new();
    certificates.write(&files, None);
    Some(start(files, "Ready to accept connections", |files, [secured, plain]| {
        let mut command = bounded(&redis);
        command
            .current_dir(files)
            .args([
                "--port",
                &plain.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--requirepass",
                "secret",
            ])
            .args(["--tls-port", &secured.to_string(), "--tls-auth-clients", "no"])
            .args(["--tls-ca-cert-file", "ca.pem", "--tls-cert-file", "chain.pem"])
            .args(["--tls-key-file", "key.pem"]);
        command
    }))
}
