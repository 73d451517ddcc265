//! The Python package `websockets`, tested with the example `websocket`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Command;

use super::certificates::Certificates;
use super::harness::{NO_SECRET, Running, Scratch, Server, bounded, skip, start, text};

#[test]
fn websockets_echoes_the_websocket_example_over_tls() {
    let certificates = Certificates::new();
    let test = "websockets_echoes_the_websocket_example_over_tls";
    let Some(server) = websockets(test, &certificates) else { return };
    let url = format!("wss://{}/", server.address());
    let args = [&url, "--ca", &server.file("ca.pem")];
    let Some(mut running) = Running::of(test, "websocket", &args, NO_SECRET) else { return };
    let mut input = running.child.stdin.take().unwrap();
    let mut output = BufReader::new(running.child.stdout.take().unwrap());
    // The server's next message shows whether it received the answer to each ping.
    for said in ["salmon", "upstream", &"long ".repeat(10_000)] {
        writeln!(input, "{said}").unwrap();
        let mut heard = String::new();
        output.read_line(&mut heard).unwrap();
        assert!(heard == format!("{said}, and a pong\n"), "{heard:.200}");
    }
    // The example closes, and waits for the server.
    drop(input);
    let output = running.output();
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    server.await_log("closed with 1000");
}

#[test]
fn the_websocket_example_ends_when_websockets_closes_over_tls() {
    let certificates = Certificates::new();
    let test = "the_websocket_example_ends_when_websockets_closes_over_tls";
    let Some(server) = websockets(test, &certificates) else { return };
    let url = format!("wss://{}/", server.address());
    let args = [&url, "--ca", &server.file("ca.pem")];
    let Some(mut running) = Running::of(test, "websocket", &args, NO_SECRET) else { return };
    // The example's input stays open.
    let mut input = running.child.stdin.take().unwrap();
    writeln!(input, "bye").unwrap();
    let output = running.output();
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    // The server received the answer to its close.
    server.await_log("closed with 1000");
}

// -------------------------------------------------------------------- the server

fn websockets(test: &str, certificates: &Certificates) -> Option<Server> {
    // The system's packages are installed for this interpreter.
    let python = Path::new("/usr/bin/python3");
    let there = Command::new(python).args(["-c", "import websockets"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        skip(test, "the Python package websockets is not installed");
        return None;
    }
    let files = Scratch::new();
    certificates.write(&files, None);
    Some(start(files, "listening", |files, [port]| {
        let mut command = bounded(python);
        command.current_dir(files).args(["-u", "-c", ECHO, &port.to_string()]);
        command
    }))
}

/// A server that echoes each message after an answered ping, and prints how the connection was closed.
const ECHO: &str = r#"
import asyncio, ssl, sys, websockets

async def echo(socket, _path=None):
    async for message in socket:
        if message == "bye":
            await socket.close()
            break
        await (await socket.ping())
        await socket.send(message + ", and a pong")
    print("closed with", socket.close_code)

async def main():
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain("chain.pem", "key.pem")
    async with websockets.serve(echo, "127.0.0.1", int(sys.argv[1]), ssl=tls):
        print("listening")
        await asyncio.Future()

asyncio.run(main())
"#;
