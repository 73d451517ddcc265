//! PostgreSQL: the upgrade after its SSLRequest.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;

use rustix::process::{Signal, geteuid};
use sockeye::SecureTransport::StartTls;
use sockeye::{Connector, Phase, Socket, SocketOptions, TlsOptions};

use super::certificates::Certificates;
use super::harness::{
    LIMIT, Scratch, Server, bounded, example_of, installed, run, skip, start, text,
    unprivileged_user,
};
use super::tls::{bound, check_clean_end, check_refused, dial, suspicious, trust_only, upgrade};

#[test]
fn postgres_asks_for_a_password_after_the_upgrade() {
    let certificates = Certificates::new();
    let Some(server) =
        postgres("postgres_asks_for_a_password_after_the_upgrade", &certificates, "on")
    else {
        return;
    };
    // The connection uses a name that only the certificate and the resolver have.
    let connector = Connector::builder()
        .resolver(|_: &str| Ok(vec!["127.0.0.1".parse().unwrap()]))
        .build()
        .unwrap();
    let options = SocketOptions::new()
        .secure_transport(StartTls)
        .tls(trust_only(&certificates))
        .connect_timeout(LIMIT);
    let plain = connector.connect_with(("db.test", server.address().port()), options).unwrap();
    bound(&plain);
    assert_eq!(request_tls(&plain), b'S');
    let secured = upgrade(&plain);
    assert_eq!(secured.opened().unwrap().requested().hostname(), "db.test");

    let mechanisms = authentication(&secured, "stranger");
    // PostgreSQL offers channel binding only over TLS.
    assert_eq!(mechanisms, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
    secured.close().unwrap();
}

#[test]
fn postgres_authenticates_a_client_by_its_certificate_and_answers_queries() {
    let certificates = Certificates::new();
    let Some(server) = postgres(
        "postgres_authenticates_a_client_by_its_certificate_and_answers_queries",
        &certificates,
        "on",
    ) else {
        return;
    };
    let tls = trust_only(&certificates)
        .client_auth_pem(&certificates.client_chain, &certificates.client_key)
        .unwrap();
    let secured = upgrade_at(&server, tls);
    start_up(&secured, "salmon");
    assert_eq!(message(&secured), (b'R', vec![0, 0, 0, 0]));
    until_ready(&secured);

    let answer = query(&secured, "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    assert_eq!(answer, b"TLSv1.3");
    // A statement and a result of many records each.
    let fish = "salmon ".repeat(100_000);
    assert!(query(&secured, &format!("SELECT '{fish}'")) == fish.as_bytes());

    secured.writer().write_all(&[b'X', 0, 0, 0, 4]).unwrap();
    check_clean_end(&secured);
}

#[test]
fn postgres_without_tls_says_so_and_continues_in_plaintext() {
    let certificates = Certificates::new();
    let test = "postgres_without_tls_says_so_and_continues_in_plaintext";
    let Some(server) = postgres(test, &certificates, "off") else { return };
    let socket = dial(server.address(), StartTls, trust_only(&certificates));
    assert_eq!(request_tls(&socket), b'N');
    assert_eq!(authentication(&socket, "stranger"), ["SCRAM-SHA-256"]);
    assert!(!socket.upgraded());
    assert_eq!(socket.secure_transport(), StartTls);
    assert_eq!(socket.phase(), Phase::Open);
    assert!(socket.opened().unwrap().tls().is_none());
    socket.close().unwrap();
}

#[test]
fn postgres_answers_the_postgres_query_example_over_tls() {
    let certificates = Certificates::new();
    let test = "postgres_answers_the_postgres_query_example_over_tls";
    let Some(server) = postgres(test, &certificates, "on") else { return };
    let tls = trust_only(&certificates)
        .client_auth_pem(&certificates.client_chain, &certificates.client_key)
        .unwrap();
    let secured = upgrade_at(&server, tls);
    start_up(&secured, "salmon");
    until_ready(&secured);
    send_query(&secured, "CREATE ROLE fisher LOGIN PASSWORD 'secret'");
    until_ready(&secured);

    let (address, ca) = (server.address().to_string(), server.file("ca.pem"));
    let ask = |statement, password| {
        let args = [&address, "fisher", "postgres", statement, "--ca", &ca];
        example_of(test, "postgres_query", &args, ("PGPASSWORD", password), "")
    };
    let statement = "SELECT version, NULL AS nothing FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let Some(output) = ask(statement, "secret") else { return };
    assert_eq!(text(&output.stderr), "");
    let shown = text(&output.stdout);
    assert!(shown.ends_with("\nversion\tnothing\nTLSv1.3\tNULL\n(SELECT 1)\n"), "{shown}");
    assert_eq!(output.status.code(), Some(0));

    for (statement, password, fault) in [
        ("SELECT 1", "guess", "password authentication failed for user"),
        ("SELECT salmon", "secret", "column \\\"salmon\\\" does not exist"),
    ] {
        let Some(output) = ask(statement, password) else { return };
        let message = text(&output.stderr);
        assert!(message.contains(fault), "{message}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn postgres_without_tls_gets_no_password_from_the_postgres_query_example() {
    let certificates = Certificates::new();
    let test = "postgres_without_tls_gets_no_password_from_the_postgres_query_example";
    let Some(server) = postgres(test, &certificates, "off") else { return };
    let args = [&server.address().to_string(), "fisher", "postgres", "SELECT 1"];
    let secret = ("PGPASSWORD", "secret");
    let Some(output) = example_of(test, "postgres_query", &args, secret, "") else { return };
    let message = text(&output.stderr);
    assert!(message.contains("the server has no TLS, so it gets no password"), "{message}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn postgres_of_an_unknown_authority_gets_no_credential() {
    let certificates = Certificates::new();
    let test = "postgres_of_an_unknown_authority_gets_no_credential";
    let Some(server) = postgres(test, &certificates, "on") else { return };
    let plain = dial(server.address(), StartTls, suspicious());
    assert_eq!(request_tls(&plain), b'S');
    check_refused(&plain.start_tls().unwrap(), &server);
}

// -------------------------------------------------------------------- the protocol

fn upgrade_at(server: &Server, tls: TlsOptions) -> Socket {
    let plain = dial(server.address(), StartTls, tls);
    assert_eq!(request_tls(&plain), b'S');
    upgrade(&plain)
}

/// Sends an SSLRequest and reads the answer, which is one byte.
pub(super) fn request_tls(socket: &Socket) -> u8 {
    socket.writer().write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).unwrap();
    let mut answer = [0];
    socket.reader().read_exact(&mut answer).unwrap();
    answer[0]
}

/// Starts a session as this user and returns the offered SASL mechanisms.
fn authentication(socket: &Socket, user: &str) -> Vec<String> {
    start_up(socket, user);
    let (kind, body) = message(socket);
    assert_eq!(kind, b'R', "{}", String::from_utf8_lossy(&body));
    let names = body.strip_prefix(&10_u32.to_be_bytes()).expect("the server requests SASL");
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
}

pub(super) fn start_up(socket: &Socket, user: &str) {
    let parameters = format!("user\0{user}\0database\0postgres\0\0");
    let length = u32::try_from(8 + parameters.len()).unwrap().to_be_bytes();
    let version = 196_608_u32.to_be_bytes();
    let message = [&length, &version, parameters.as_bytes()].concat();
    socket.writer().write_all(&message).unwrap();
}

/// Returns the only value of this statement's result.
pub(super) fn query(socket: &Socket, statement: &str) -> Vec<u8> {
    send_query(socket, statement);
    let answers = until_ready(socket);
    let mut rows = answers.into_iter().filter(|(kind, _)| *kind == b'D');
    // One column, and the length of its value.
    let (_, row) = rows.next().expect("the answer has a row");
    assert_eq!(rows.count(), 0);
    row[6..].to_vec()
}

pub(super) fn send_query(socket: &Socket, statement: &str) {
    let length = u32::try_from(5 + statement.len()).unwrap().to_be_bytes();
    let message = [b"Q", &length[..], statement.as_bytes(), b"\0"].concat();
    socket.writer().write_all(&message).unwrap();
}

/// Reads messages until the server is ready for a query; none may be an error.
pub(super) fn until_ready(socket: &Socket) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    loop {
        let (kind, body) = message(socket);
        assert_ne!(kind, b'E', "{}", String::from_utf8_lossy(&body));
        messages.push((kind, body));
        if kind == b'Z' {
            return messages;
        }
    }
}

fn message(socket: &Socket) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    socket.reader().read_exact(&mut head).unwrap();
    let [kind, length @ ..] = head;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    socket.reader().read_exact(&mut body).unwrap();
    (kind, body)
}

// -------------------------------------------------------------------- the server

/// Starts a server for TCP, and for the path `data/.s.PGSQL.PORT`.
pub(super) fn postgres(test: &str, certificates: &Certificates, ssl: &str) -> Option<Server> {
    let (initdb, postgres) = (installed(test, "initdb")?, installed(test, "postgres")?);
    // PostgreSQL refuses to run as root.
    let user = if geteuid().is_root() {
        let user = unprivileged_user();
        if user.is_none() {
            skip(test, "PostgreSQL needs an unprivileged user");
        }
        Some(user?)
    } else {
        None
    };
    let unprivileged = |program: &Path| {
        let mut command = bounded(program);
        if let Some((user, group)) = user {
            command.uid(user).gid(group);
        }
        command.env("LC_ALL", "C");
        command
    };
    let files = Scratch::new();
    certificates.write(&files, user);
    let data = files.create_dir("data", user);
    run(unprivileged(&initdb)
        .args(["-A", "trust", "-U", "salmon", "-E", "UTF8", "--no-sync", "-D"])
        .arg(&data)
        .current_dir(&data));
    fs::write(
        data.join("pg_hba.conf"),
        "hostssl all salmon 127.0.0.1/32 cert\nhost all all 127.0.0.1/32 scram-sha-256\n\
         local all salmon trust\nlocal all all scram-sha-256\n",
    )
    .unwrap();
    let server = start(files, "ready to accept connections", |files, [port]| {
        let settings = [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".into(),
            format!("unix_socket_directories={}", data.display()),
            "fsync=off".into(),
            format!("ssl={ssl}"),
            format!("ssl_ca_file={}", files.join("ca.pem").display()),
            format!("ssl_cert_file={}", files.join("chain.pem").display()),
            format!("ssl_key_file={}", files.join("key.pem").display()),
        ];
        let mut command = unprivileged(&postgres);
        command.arg("-D").arg(&data).current_dir(&data);
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        command
    });
    // SIGKILL would leak shared memory, and SIGTERM would wait for clients.
    Some(server.stopped_by(Signal::INT))
}
