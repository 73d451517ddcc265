//! The example `connect`: its exit codes, and its end.

use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::certificates::Certificates;
use super::harness::{LIMIT, Running, Scratch, example, listening, text};

#[test]
fn the_connect_example_shows_itself_and_exits_with_0() {
    let Some(output) = example("the_connect_example_shows_itself_and_exits_with_0", &[], "") else {
        return;
    };
    let shown = text(&output.stdout);
    for part in ["opened()", "| The sockeye", "closed()\n    Ok", "Err(Connect)", "Err(Closed)"] {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_connect_example_exits_with_1_when_the_connection_is_refused() {
    // The port is bound, so that no other process takes it, and not listening.
    let unused = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    unused.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = unused.local_addr().unwrap().as_socket().unwrap().to_string();
    let name = "the_connect_example_exits_with_1_when_the_connection_is_refused";
    let Some(output) = example(name, &[&address], "never sent") else { return };
    let message = text(&output.stderr);
    assert!(message.starts_with("connect: ") && message.contains(&address), "{message}");
    assert_eq!(text(&output.stdout), "");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_connect_example_exits_with_2_when_its_arguments_are_wrong() {
    let name = "the_connect_example_exits_with_2_when_its_arguments_are_wrong";
    for (args, fault) in [
        (&["-v"][..], "HOST:PORT is missing"),
        (&["--unknown"], "unknown option \"--unknown\""),
        (&["localhost"], "the port is missing"),
        (&["localhost:0"], "port 0"),
        (&["localhost", "70"], "write localhost:70"),
        (&["localhost:70", "--timeout"], "--timeout needs a number"),
        (&["localhost:70", "--timeout", "soon"], "is not a number of seconds"),
        (&["localhost:70", "--timeout=-1"], "is not a number of seconds"),
        (&["localhost:70", "--timeout=0"], "--timeout is zero"),
    ] {
        let Some(output) = example(name, args, "") else { return };
        let message = text(&output.stderr);
        assert!(message.contains(fault), "{args:?}: {message}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn the_connect_example_exits_with_3_when_the_peer_resets() {
    let (listener, address) = listen();
    let peer = thread::spawn(move || {
        let mut stream = accept(listener);
        // Unread data makes the kernel reset the connection on close.
        stream.read_exact(&mut [0]).unwrap();
    });
    let name = "the_connect_example_exits_with_3_when_the_peer_resets";
    let Some(output) = example(name, &[&address], "more than one byte") else { return };
    assert!(text(&output.stderr).starts_with("connect: "), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(3));
    peer.join().unwrap();
}

#[test]
fn the_connect_example_exits_with_4_when_it_times_out() {
    // The kernel accepts the connection, but no server ever answers.
    let (_listener, address) = listen();
    let name = "the_connect_example_exits_with_4_when_it_times_out";
    let Some(output) = example(name, &[&address, "--timeout", "0.2"], "hello") else { return };
    assert!(text(&output.stderr).starts_with("connect: "), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn the_connect_example_continues_to_send_half_open_after_the_peers_end() {
    let (listener, address) = listen();
    let name = "the_connect_example_continues_to_send_half_open_after_the_peers_end";
    let Some(mut running) = Running::new(name, &[&address, "--half-open", "-v"]) else { return };
    let mut stream = accept(listener);
    stream.write_all(b"first").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let message = BufReader::new(running.child.stderr.as_mut().unwrap());
    let mut lines = message.lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "connect: the other side has ended"));
    running.child.stdin.take().unwrap().write_all(b"later").unwrap();
    let mut sent = String::new();
    stream.read_to_string(&mut sent).unwrap();
    assert_eq!(sent, "later");
    let output = running.output();
    assert_eq!(text(&output.stdout), "first");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_connect_example_ends_with_the_peer_although_its_input_continues() {
    let (listener, address) = listen();
    let name = "the_connect_example_ends_with_the_peer_although_its_input_continues";
    let Some(mut running) = Running::new(name, &[&address]) else { return };
    let input = running.child.stdin.take();
    let mut stream = accept(listener);
    stream.write_all(b"all").unwrap();
    drop(stream);
    let output = running.output();
    assert_eq!(text(&output.stdout), "all");
    assert_eq!(output.status.code(), Some(0));
    drop(input);
}

#[test]
fn the_connect_example_ends_quietly_when_its_output_is_closed() {
    let (listener, address) = listen();
    let name = "the_connect_example_ends_quietly_when_its_output_is_closed";
    let Some(mut running) = Running::new(name, &[&address]) else { return };
    let input = running.child.stdin.take();
    drop(running.child.stdout.take());
    let mut stream = accept(listener);
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // Repeated, because another test's process that is just being started may briefly hold the pipe's other end, too;
    // the output then goes there.
    loop {
        stream.write_all(b"unwanted").unwrap();
        match stream.read(&mut [0]) {
            Ok(0) => break,
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {}
            other => panic!("not a clean end: {other:?}"),
        }
    }
    let output = running.output();
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    drop(input);
}

/// Returns a listener on loopback and its address.
fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Accepts the only expected connection.
fn accept(listener: TcpListener) -> TcpStream {
    let (tell, accepted) = mpsc::channel();
    thread::spawn(move || tell.send(listener.accept()));
    let (stream, _) = accepted.recv_timeout(LIMIT).expect("a client connects").unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Both ends of a netcat.
#[test]
fn the_connect_example_talks_to_itself() {
    let name = "the_connect_example_talks_to_itself";
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let listening = address.clone();
    let server = thread::spawn(move || {
        example(name, &["--listen", &listening, "--half-open", "-v"], "from the server")
    });
    let deadline = Instant::now() + LIMIT;
    // It exits with 1 until the other one listens. Half-open, because the server may end before the client has sent.
    let client = loop {
        let Some(output) = example(name, &[&address, "--half-open"], "from the client") else {
            return;
        };
        if output.status.code() != Some(1) || Instant::now() > deadline {
            break output;
        }
    };
    let server = server.join().unwrap().expect("the example is built");
    assert_eq!(text(&client.stdout), "from the server", "{}", text(&client.stderr));
    assert_eq!(text(&server.stdout), "from the client", "{}", text(&server.stderr));
    assert!(text(&server.stderr).contains(&format!("listening on {address}")));
    assert_eq!((client.status.code(), server.status.code()), (Some(0), Some(0)));
    let wrong = example(name, &["--listen", "x"], "").expect("the example is built");
    assert_eq!(wrong.status.code(), Some(2));
    let wrong = example(name, &["--listen", &address, &address], "").unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn the_connect_example_gives_a_silent_client_no_more_than_its_timeout() {
    let name = "the_connect_example_gives_a_silent_client_no_more_than_its_timeout";
    let (certificates, files) = (Certificates::new(), Scratch::new());
    certificates.write(&files, None);
    let [chain, key] =
        ["chain.pem", "key.pem"].map(|file| files.0.join(file).display().to_string());
    let args = ["--listen", "127.0.0.1:0", "--tls-cert", &chain, "--tls-key", &key];
    let args = [&args[..], &["--timeout", "2", "-v"]].concat();
    let Some(mut running) = Running::new(name, &args) else { return };
    let address = listening(&mut running);
    let begun = Instant::now();
    let _silent = TcpStream::connect(address).expect("it listens");
    let output = running.output();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(begun.elapsed() < Duration::from_secs(5), "without it the limit is 30 s");
}

#[test]
fn the_connect_example_listens_on_every_address_without_a_host() {
    let name = "the_connect_example_listens_on_every_address_without_a_host";
    let Some(mut running) = Running::new(name, &["--listen", "0", "--half-open", "-v"]) else {
        return;
    };
    let port = listening(&mut running).port();
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    client.write_all(b"hello").unwrap();
    drop(client);
    let output = running.output();
    assert_eq!(text(&output.stdout), "hello");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}
