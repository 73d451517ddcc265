//! The examples with their built-in servers, run without arguments, as a new user would run them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use sockeye::{SecureTransport, Socket, SocketOptions, TlsOptions, connect_with};

use super::certificates::Certificates;
use super::harness::{LIMIT, NO_SECRET, Running, Scratch, example_of, listening, text};

#[test]
fn the_http_get_example_shows_itself_over_tls() {
    // Two bodies, which mark their ends in different ways, and a deadline.
    let parts = [", within 10s\nsalmon\n--", ", within 10s\nsockeye\n--", "\nTimedOut: "];
    check("the_http_get_example_shows_itself_over_tls", "http_get", &parts);
}

#[test]
fn the_websocket_example_shows_itself_over_tls() {
    let parts = ["200 of 200 messages came back, and pings were answered\n"];
    check("the_websocket_example_shows_itself_over_tls", "websocket", &parts);
}

#[test]
fn the_smtp_send_example_shows_itself_over_tls() {
    let parts = ["\nsent: 250 taken\n", "\nthe server offers no TLS, so it gets no mail\n"];
    check("the_smtp_send_example_shows_itself_over_tls", "smtp_send", &parts);
}

#[test]
fn the_imap_fetch_example_shows_itself_over_tls() {
    let parts = ["\nINBOX: 2 mails\n    1  Subject: upstream\n    2  Subject: upstream\n"];
    check("the_imap_fetch_example_shows_itself_over_tls", "imap_fetch", &parts);
}

#[test]
fn the_postgres_query_example_shows_itself_over_tls() {
    let parts = ["\nname\thome\nsockeye\tPacific\nNemo\tNULL\n(SELECT 2)\n"];
    check("the_postgres_query_example_shows_itself_over_tls", "postgres_query", &parts);
}

#[test]
fn the_mqtt_watch_example_shows_itself_over_tls() {
    let parts = ["salmon/upstream: message 1\n", "salmon/upstream: message 3\n"];
    check("the_mqtt_watch_example_shows_itself_over_tls", "mqtt_watch", &parts);
}

#[test]
fn the_redis_pipeline_example_shows_itself_over_tls() {
    let parts = ["100000 replies in ", " 788899 read\n"];
    check("the_redis_pipeline_example_shows_itself_over_tls", "redis_pipeline", &parts);
}

#[test]
fn the_chat_example_shows_itself() {
    let spoken = "peer: welcome\nme:   hello\npeer: you said hello\nme:   /quit\npeer: welcome\n";
    let parts = [spoken, "\n(left)\n", "\n(silence for 300ms)\n"];
    check("the_chat_example_shows_itself", "chat", &parts);
}

#[test]
fn the_examples_print_the_kind_of_connection_errors_plain_and_over_tls() {
    let test = "the_examples_print_the_kind_of_connection_errors_plain_and_over_tls";
    // The port is bound, so that no other process takes it, and not listening.
    let unused = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    unused.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = unused.local_addr().unwrap().as_socket().unwrap().to_string();
    let url = |scheme| format!("{scheme}://{address}");
    let fault = format!("Error: \"Connect: cannot connect to {address}: ");
    for (example, arguments, secret) in [
        ("http_get", vec![url("http")], NO_SECRET),
        ("http_get", vec![url("https")], NO_SECRET),
        ("websocket", vec![url("ws")], NO_SECRET),
        ("websocket", vec![url("wss")], NO_SECRET),
        ("redis_pipeline", vec![url("redis")], NO_SECRET),
        ("redis_pipeline", vec![url("rediss")], NO_SECRET),
        ("smtp_send", vec![address.clone(), "me".into(), "you".into()], NO_SECRET),
        ("imap_fetch", vec![address.clone(), "me".into()], ("IMAP_PASSWORD", "secret")),
        (
            "postgres_query",
            vec![address.clone(), "me".into(), "mine".into(), "SELECT 1".into()],
            ("PGPASSWORD", "secret"),
        ),
        ("mqtt_watch", vec![address.clone(), "topic".into(), "1".into()], NO_SECRET),
        ("chat", vec![address.clone()], NO_SECRET),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let Some(output) = example_of(test, example, &arguments, secret, "") else { return };
        let message = text(&output.stderr);
        assert!(message.starts_with(&fault), "{example} {arguments:?}: {message}");
        assert_eq!(output.status.code(), Some(1), "{example} {arguments:?}");
    }
}

/// Runs an example, which has to print these parts and to succeed.
#[track_caller]
fn check(test: &str, example: &str, parts: &[&str]) {
    let Some(output) = example_of(test, example, &[], NO_SECRET, "") else { return };
    let (shown, message) = (text(&output.stdout), text(&output.stderr));
    for part in parts {
        assert!(
            shown.contains(part) || message.contains(part),
            "{part:?} is missing in:\n{shown}\n{message}"
        );
    }
    assert_eq!(output.status.code(), Some(0), "{message}");
}

#[test]
fn the_echo_server_example_serves_itself() {
    let parts = [" answers: hello, echo\n", " answers over TLS 1.3: hello, echo\n"];
    check("the_echo_server_example_serves_itself", "echo_server", &parts);
}

#[test]
fn the_smtp_receive_example_serves_itself() {
    let mail = "received from \"me@localhost\" to [\"you@localhost\"]:\nSubject: upstream\r\n";
    let parts = [mail, "\r\n.\r\nA line", "\nan injected command was refused without a word\n"];
    check("the_smtp_receive_example_serves_itself", "smtp_receive", &parts);
}

#[test]
fn the_certificates_example_serves_itself() {
    let parts = [
        "b.test: the server says \"this is b.test\"\n",
        "c.test: refused, because there is no certificate for it\n",
        "a.test: after a change there is a new certificate\n",
        "a.test: the older connection was open all the time\n",
    ];
    check("the_certificates_example_serves_itself", "certificates", &parts);
}

/// Starts an example that serves until its standard input ends.
fn serving(test: &str, example: &str, args: &[&str]) -> Option<(Running, SocketAddr)> {
    let mut running = Running::of(test, example, args, NO_SECRET)?;
    let address = listening(&mut running);
    Some((running, address))
}

/// Connects over TLS and trusts this authority.
fn secured(address: SocketAddr, name: &str, authority: &str) -> Socket {
    let tls = TlsOptions::new().add_root_pem(authority).unwrap().only_added_roots();
    let options = SocketOptions::new()
        .secure_transport(SecureTransport::On)
        .tls(tls.server_name(name))
        .connect_timeout(LIMIT)
        .read_timeout(LIMIT);
    connect_with(address, options).unwrap()
}

#[test]
fn the_echo_server_example_serves_over_tls_until_its_input_ends() {
    let test = "the_echo_server_example_serves_over_tls_until_its_input_ends";
    let (certificates, files) = (Certificates::new(), Scratch::new());
    certificates.write(&files, None);
    let [chain, key] =
        ["chain.pem", "key.pem"].map(|file| files.0.join(file).display().to_string());
    let arguments = ["127.0.0.1:0", &chain, &key];
    let Some((mut server, address)) = serving(test, "echo_server", &arguments) else { return };
    let client = secured(address, "localhost", &certificates.authority);
    client.writer().write_all(b"hello").expect("the server reads");
    client.reader().read_exact(&mut [0; 5]).expect("the server answers");
    // The client that is there is served to its end.
    drop(server.child.stdin.take());
    client.writer().write_all(b"still there?").expect("the server reads");
    client.reader().read_exact(&mut [0; 12]).expect("the server answers");
    client.close().expect("the server is there");
    let output = server.output();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_smtp_receive_example_takes_a_mail_of_the_smtp_send_example() {
    let test = "the_smtp_receive_example_takes_a_mail_of_the_smtp_send_example";
    let (certificates, files) = (Certificates::new(), Scratch::new());
    certificates.write(&files, None);
    let [chain, key, authority] =
        ["chain.pem", "key.pem", "ca.pem"].map(|file| files.0.join(file).display().to_string());
    let arguments = ["127.0.0.1:0", &chain, &key];
    let Some((server, address)) = serving(test, "smtp_receive", &arguments) else { return };
    let server_name = format!("localhost:{}", address.port());
    let arguments = [&server_name, "me@a.test", "you@b.test", "--ca", &authority];
    let mail = "Subject: upstream\n\n.hidden\n";
    let Some(sent) = example_of(test, "smtp_send", &arguments, NO_SECRET, mail) else { return };
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    assert!(text(&sent.stdout).ends_with("sent: 250 Taken\n"), "{}", text(&sent.stdout));
    let output = server.output();
    let shown = text(&output.stdout);
    let mail = "from \"me@a.test\" to [\"you@b.test\"]:\nSubject: upstream\r\n\r\n.hidden\r\n\n";
    assert_eq!(shown, mail, "{}", text(&output.stderr));
    assert!(output.status.success());
}

#[test]
fn the_certificates_example_reads_changed_files() {
    let test = "the_certificates_example_reads_changed_files";
    let files = Scratch::new();
    let issue = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let chain = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(files.0.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        fs::write(files.0.join(format!("{name}.pem")), chain.pem()).unwrap();
        chain.pem()
    };
    let first = issue("a.test");
    let folder = files.0.display().to_string();
    let arguments = ["127.0.0.1:0", &folder];
    let Some((mut server, address)) = serving(test, "certificates", &arguments) else { return };
    // Keeps the connection until the end of the test.
    let visit = |name: &str, authority: &str| {
        let socket = secured(address, name, authority);
        let mut line = String::new();
        BufReader::new(socket.reader()).read_line(&mut line).map(|_| (line, socket))
    };
    let (line, older) = visit("a.test", &first).expect("its certificate is there");
    assert_eq!(line, "this is a.test\n");
    visit("b.test", &first).expect_err("there is none for this name");
    let (second, other) = (issue("a.test"), issue("b.test"));
    server.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let until = std::time::Instant::now() + LIMIT;
    while visit("b.test", &other).is_err() {
        assert!(std::time::Instant::now() < until, "the files are not read");
        std::thread::sleep(Duration::from_millis(20));
    }
    visit("a.test", &first).expect_err("the old certificate is gone");
    visit("a.test", &second).expect("the new one is there");
    older.close().expect("the older connection is still open");
    // What cannot be read changes nothing.
    fs::write(files.0.join("b.test.key"), "no key").unwrap();
    server.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    visit("b.test", &other).expect("the identity is still there");
    let output = server.output();
    assert!(text(&output.stderr).contains("nothing has changed: "), "{}", text(&output.stderr));
    assert!(output.status.success());
}
