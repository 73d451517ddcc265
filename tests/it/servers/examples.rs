//! The examples with their built-in servers, run without arguments, as a new user would run them.

use std::net::{Ipv4Addr, SocketAddr};

use super::harness::{NO_SECRET, example_of, text};

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
    let name = "the_echo_server_example_serves_itself";
    let Some(output) = crate::support::example::run(name, "echo_server", &[], "") else { return };
    let shown = text(&output.stdout);
    assert!(shown.contains("answers: hello, echo"), "{shown}{}", text(&output.stderr));
    assert!(output.status.success());
}
