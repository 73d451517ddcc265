//! Servers in plaintext: Gophernicus, nginx and socat.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;

use rustix::process::geteuid;

use super::harness::{
    LIMIT, NO_SECRET, Running, Scratch, Server, bounded, example, example_of, installed, start,
    text,
};
use super::nginx::{check_page, page, start_nginx};

const SALMON: &str = "A salmon goes up a stream,\r\ndoes what it came for, and closes.\r\n";

#[test]
fn gophernicus_answers_a_request_that_ends_with_a_half_close() {
    let Some(server) = gophernicus("gophernicus_answers_a_request_that_ends_with_a_half_close")
    else {
        return;
    };
    assert_eq!(ask(server.address(), b"/salmon.txt\r\n"), SALMON.as_bytes());

    let menu = String::from_utf8(ask(server.address(), b"/\r\n")).unwrap();
    assert!(menu.contains("0A page about salmon\t/salmon.txt\tlocalhost\t"), "{menu:?}");
}

#[test]
fn gophernicus_answers_the_connect_example() {
    let Some(server) = gophernicus("gophernicus_answers_the_connect_example") else { return };
    let Some(output) = example(
        "gophernicus_answers_the_connect_example",
        &[&server.address().to_string()],
        "/salmon.txt\r\n",
    ) else {
        return;
    };
    assert_eq!(text(&output.stdout), SALMON);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn nginx_answers_an_http_request_that_ends_with_a_half_close() {
    let Some(server) = nginx("nginx_answers_an_http_request_that_ends_with_a_half_close") else {
        return;
    };
    let answer = ask(server.address(), b"GET /page HTTP/1.0\r\n\r\n");
    check_page(&answer);
}

#[test]
fn nginx_answers_the_connect_example() {
    let Some(server) = nginx("nginx_answers_the_connect_example") else { return };
    let request = "GET /page HTTP/1.0\r\n\r\n";
    let Some(output) = example(
        "nginx_answers_the_connect_example",
        &[&server.address().to_string(), "-v"],
        request,
    ) else {
        return;
    };
    check_page(&output.stdout);
    let message = text(&output.stderr);
    assert!(
        message.contains(&format!("connected to {} from 127.0.0.1:", server.address())),
        "{message}"
    );
    assert!(message.contains(&format!("{} bytes sent", request.len())), "{message}");
    assert!(message.contains(&format!("{} bytes received", output.stdout.len())), "{message}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn nginx_answers_the_http_get_example() {
    let test = "nginx_answers_the_http_get_example";
    let Some(server) = nginx(test) else { return };
    let url = format!("http://{}/page", server.address());
    let Some(output) = example_of(test, "http_get", &[&url], NO_SECRET, "") else { return };
    assert_eq!(text(&output.stderr), format!("200 OK, Length({})\n", page().len()));
    assert!(text(&output.stdout) == page(), "{} bytes", output.stdout.len());
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn socat_echoes_the_chat_example() {
    let test = "socat_echoes_the_chat_example";
    let Some(server) = socat(test) else { return };
    let args = [&server.address().to_string(), "20"];
    let said = "salmon\nupstream\n";
    let Some(output) = example_of(test, "chat", &args, NO_SECRET, said) else { return };
    assert_eq!(text(&output.stdout), said);
    let message = text(&output.stderr);
    assert!(message.ends_with("(the peer has left)\n"), "{message}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_chat_example_leaves_while_it_waits_for_socat() {
    let test = "the_chat_example_leaves_while_it_waits_for_socat";
    let Some(server) = socat(test) else { return };
    // The example ends on a command, and on silence.
    for (idle, said, ending) in
        [("20", "/quit\n", "(left)\n"), ("0.2", "", "(silence for 200ms)\n")]
    {
        let args = [&server.address().to_string(), idle];
        let Some(mut running) = Running::of(test, "chat", &args, NO_SECRET) else { return };
        // The example's input stays open.
        let mut input = running.child.stdin.take().unwrap();
        input.write_all(said.as_bytes()).unwrap();
        let output = running.output();
        let message = text(&output.stderr);
        assert!(message.ends_with(ending), "{message}");
        assert_eq!(output.status.code(), Some(0));
    }
}

/// Sends a request, ends its direction, and reads the whole answer.
fn ask(server: SocketAddr, request: &[u8]) -> Vec<u8> {
    let socket = sockeye::connect(server).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(socket.opened().unwrap().remote_address(), Some(server));
    let mut writer = socket.writer();
    writer.write_all(request).unwrap();
    writer.close().unwrap();
    let mut answer = Vec::new();
    socket.reader().read_to_end(&mut answer).unwrap();
    socket.closed_timeout(LIMIT).unwrap();
    answer
}

fn gophernicus(test: &str) -> Option<Server> {
    let (socat, gophernicus) = (installed(test, "socat")?, installed(test, "gophernicus")?);
    let files = Scratch::new();
    fs::write(files.0.join("salmon.txt"), SALMON.replace("\r\n", "\n")).unwrap();
    fs::write(files.0.join("gophermap"), "0A page about salmon\tsalmon.txt\n").unwrap();
    // Gophernicus refuses to serve as root.
    let user = if geteuid().is_root() { ",su=nobody" } else { "" }; // prose: quoted
    Some(start(files, "listening on", |root, [port]| {
        let mut command = bounded(&socat);
        let (gophernicus, root) = (gophernicus.display(), root.display());
        command
            // With these options socat logs when it listens, and waits for the answer after the client's end.
            .args(["-d", "-d", "-t", "10", "-T", "20"])
            .arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"))
            .arg(format!("EXEC:{gophernicus} -h localhost -p {port} -r {root} -nf{user}"));
        command
    }))
}

/// Starts a server that echoes.
fn socat(test: &str) -> Option<Server> {
    let socat = installed(test, "socat")?;
    Some(start(Scratch::new(), "listening on", |_, [port]| {
        let mut command = bounded(&socat);
        command
            .args(["-d", "-d", "-t", "10"])
            .arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"))
            .arg("EXEC:cat");
        command
    }))
}

fn nginx(test: &str) -> Option<Server> {
    let nginx = installed(test, "nginx")?;
    let files = Scratch::new();
    fs::write(files.0.join("page"), page()).unwrap();
    Some(start_nginx(&nginx, files, |[port]| format!("server {{ listen 127.0.0.1:{port}; }}")))
}
