//! Real servers, Gophernicus and nginx, asked through the library and through the example `connect`; and
//! what the example's exit codes tell.
//!
//! The servers run on loopback from throwaway directories, each in a process group of its own that is
//! killed with its test and ends by itself where the test can't do that. Where a server isn't
//! installed, its tests say so and are skipped.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process, kill_process_group};

/// The most that anything here may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

const SALMON: &str = "A salmon goes up a stream,\r\ndoes what it came for, and closes.\r\n";

// ------------------------------------------------------------------------------------- the servers

#[test]
fn gophernicus_answers_a_request_that_ends_with_a_half_close() {
    let Some(server) = gophernicus("gophernicus_answers_a_request_that_ends_with_a_half_close")
    else {
        return;
    };
    assert_eq!(ask(server.address, b"/salmon.txt\r\n"), SALMON.as_bytes());

    let menu = String::from_utf8(ask(server.address, b"/\r\n")).unwrap();
    assert!(menu.contains("0A page about salmon\t/salmon.txt\tlocalhost\t"), "{menu:?}");
}

#[test]
fn gophernicus_answers_the_connect_example() {
    let Some(server) = gophernicus("gophernicus_answers_the_connect_example") else { return };
    let Some(output) =
        example("gophernicus_answers_the_connect_example", &[&server.address()], "/salmon.txt\r\n")
    else {
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
    let answer = ask(server.address, b"GET /page HTTP/1.0\r\n\r\n");
    check_page(&answer);
}

#[test]
fn nginx_answers_the_connect_example() {
    let Some(server) = nginx("nginx_answers_the_connect_example") else { return };
    let request = "GET /page HTTP/1.0\r\n\r\n";
    let Some(output) =
        example("nginx_answers_the_connect_example", &[&server.address(), "-v"], request)
    else {
        return;
    };
    check_page(&output.stdout);
    let told = text(&output.stderr);
    assert!(told.contains(&format!("connected to {} from 127.0.0.1:", server.address)), "{told}");
    assert!(told.contains(&format!("{} bytes sent", request.len())), "{told}");
    assert!(told.contains(&format!("{} bytes received", output.stdout.len())), "{told}");
    assert_eq!(output.status.code(), Some(0));
}

// ------------------------------------------------------------------------- the example's exit codes

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
    // Bound, so that nobody else takes the port, and not listening.
    let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    nobody.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = nobody.local_addr().unwrap().as_socket().unwrap().to_string();
    let name = "the_connect_example_exits_with_1_when_the_connection_is_refused";
    let Some(output) = example(name, &[&address], "never sent") else { return };
    let told = text(&output.stderr);
    assert!(told.starts_with("connect: ") && told.contains(&address), "{told}");
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
        let told = text(&output.stderr);
        assert!(told.contains(fault), "{args:?}: {told}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn the_connect_example_exits_with_3_when_the_peer_resets() {
    let (listener, address) = listen();
    let peer = thread::spawn(move || {
        let mut stream = accept(listener);
        // Closed while the rest is unread: the system resets the connection.
        stream.read_exact(&mut [0]).unwrap();
    });
    let name = "the_connect_example_exits_with_3_when_the_peer_resets";
    let Some(output) = example(name, &[&address], "more than one byte") else { return };
    assert!(text(&output.stderr).starts_with("connect: "), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(3));
    peer.join().unwrap();
}

#[test]
fn the_connect_example_exits_with_4_when_nothing_comes_in_time() {
    // The system accepts, and nobody ever answers.
    let (_listener, address) = listen();
    let name = "the_connect_example_exits_with_4_when_nothing_comes_in_time";
    let Some(output) = example(name, &[&address, "--timeout", "0.2"], "hello") else { return };
    assert!(text(&output.stderr).starts_with("connect: "), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn the_connect_example_goes_on_sending_half_open_after_the_peer_has_ended() {
    let (listener, address) = listen();
    let name = "the_connect_example_goes_on_sending_half_open_after_the_peer_has_ended";
    let Some(mut running) = Running::new(name, &[&address, "--half-open", "-v"]) else { return };
    let mut stream = accept(listener);
    stream.write_all(b"first").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let told = BufReader::new(running.child.stderr.as_mut().unwrap());
    let mut lines = told.lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "connect: the server has ended"));
    running.child.stdin.take().unwrap().write_all(b"later").unwrap();
    let mut sent = String::new();
    stream.read_to_string(&mut sent).unwrap();
    assert_eq!(sent, "later");
    let output = running.output();
    assert_eq!(text(&output.stdout), "first");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_connect_example_ends_with_the_peer_while_its_input_goes_on() {
    let (listener, address) = listen();
    let name = "the_connect_example_ends_with_the_peer_while_its_input_goes_on";
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
fn the_connect_example_ends_quietly_when_nobody_reads_its_output() {
    let (listener, address) = listen();
    let name = "the_connect_example_ends_quietly_when_nobody_reads_its_output";
    let Some(mut running) = Running::new(name, &[&address]) else { return };
    let input = running.child.stdin.take();
    drop(running.child.stdout.take());
    let mut stream = accept(listener);
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // More than once: a process that is just being started by another test may hold the other end of the
    // pipe too, for a moment, and then the output goes there.
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

// ---------------------------------------------------------------------------------- how it is done

/// Sends a request, ends, and reads the whole answer.
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

/// Long enough for many reads.
fn page() -> String {
    (0..20_000).map(|line| format!("line {line}\n")).collect()
}

fn check_page(answer: &[u8]) {
    let answer = text(answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{:.300}", answer);
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body == page(), "the body of {} bytes differs from the page", body.len());
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs the example `connect` to its end, with this input; `None` where it is not built.
fn example(test: &str, args: &[&str], input: &str) -> Option<Output> {
    let mut running = Running::new(test, args)?;
    // An example that ended early has no use for its input.
    let _ = running.child.stdin.take().unwrap().write_all(input.as_bytes());
    Some(running.output())
}

/// The example `connect` while it runs: killed when it takes too long, and with this.
struct Running {
    child: Child,
    watchdog: Option<Watchdog>,
}

/// Kills a process that is not done in time. Stopped before the process is reaped: until then its number
/// is its own.
struct Watchdog {
    done: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Running {
    fn new(test: &str, args: &[&str]) -> Option<Running> {
        // Tests are in target/PROFILE/deps.
        let mut path = std::env::current_exe().unwrap();
        path.pop();
        path.pop();
        path.extend(["examples", "connect"]);
        if !path.exists() {
            skip(
                test,
                "the example is not built: `cargo test` and `cargo build --examples` do that",
            );
            return None;
        }
        let child = Command::new(path)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let (done, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            if stopped.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        Some(Running { child, watchdog: Some(Watchdog { done, thread }) })
    }

    /// What it still prints, and how it ends.
    fn output(mut self) -> Output {
        drop(self.child.stdin.take());
        let mut errors = self.child.stderr.take().unwrap();
        let errors = thread::spawn(move || {
            let mut told = Vec::new();
            errors.read_to_end(&mut told).unwrap();
            told
        });
        let mut stdout = Vec::new();
        if let Some(mut printed) = self.child.stdout.take() {
            printed.read_to_end(&mut stdout).unwrap();
        }
        let stderr = errors.join().unwrap();
        self.stop_watchdog();
        Output { status: self.child.wait().unwrap(), stdout, stderr }
    }

    fn stop_watchdog(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            drop(watchdog.done);
            let _ = watchdog.thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop_watchdog();
        // Does nothing where it was reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A listener on loopback and its address.
fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// The one connection that is expected.
fn accept(listener: TcpListener) -> TcpStream {
    let (tell, accepted) = mpsc::channel();
    thread::spawn(move || tell.send(listener.accept()));
    let (stream, _) = accepted.recv_timeout(LIMIT).expect("nobody connects").unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

fn skip(test: &str, reason: &str) {
    // The harness shows this where it would swallow `eprintln!`.
    let _ = writeln!(io::stderr(), "skipped: servers::{test}: {reason}");
}

fn gophernicus(test: &str) -> Option<Server> {
    let (socat, gophernicus) = (installed(test, "socat")?, installed(test, "gophernicus")?);
    let root = Scratch::new();
    fs::write(root.0.join("salmon.txt"), SALMON.replace("\r\n", "\n")).unwrap();
    fs::write(root.0.join("gophermap"), "0A page about salmon\tsalmon.txt\n").unwrap();
    // It refuses to serve as root.
    let user = if geteuid().is_root() { ",su=nobody" } else { "" };
    let command = |port: u16| {
        let mut command = bounded(&socat);
        let (gophernicus, root) = (gophernicus.display(), root.0.display());
        command
            // Says when it listens; waits for the answer after the client's end.
            .args(["-d", "-d", "-t", "10", "-T", "20"])
            .arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"))
            .arg(format!("EXEC:{gophernicus} -h localhost -p {port} -r {root} -nf{user}"));
        command
    };
    let (group, address) = start(command, "listening on");
    Some(Server { address, _group: group, _files: root })
}

fn nginx(test: &str) -> Option<Server> {
    let nginx = installed(test, "nginx")?;
    let root = Scratch::new();
    fs::write(root.0.join("page"), page()).unwrap();
    let config = root.0.join("nginx.conf");
    let command = |port: u16| {
        let root = root.0.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
            .concat();
        let text = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr notice;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; {temporary}\n\
             server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = bounded(&nginx);
        command.arg("-c").arg(&config).args(["-e", "stderr"]);
        command
    };
    // It says so after it has bound its port.
    let (group, address) = start(command, "event method");
    Some(Server { address, _group: group, _files: root })
}

/// A server that runs until this is dropped.
struct Server {
    address: SocketAddr,
    // Dropped in this order: the processes, then their files.
    _group: Group,
    _files: Scratch,
}

impl Server {
    fn address(&self) -> String {
        self.address.to_string()
    }
}

/// Where a program is; `None`, and told, where it isn't installed.
fn installed(test: &str, program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers live where only root's PATH looks.
    let others = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(others)
        .map(|at| at.join(program))
        .find(|at| at.is_file());
    if found.is_none() {
        skip(test, &format!("{program} is not installed"));
    }
    found
}

/// A command that ends after a while even if nobody is left to kill it.
fn bounded(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.arg("120").arg(program);
    command
}

/// Starts a server on a free port and waits until a line of its standard error has `ready` in it.
fn start(command: impl Fn(u16) -> Command, ready: &str) -> (Group, SocketAddr) {
    let mut said = String::new();
    for _ in 0..TRIES {
        // Free now; another process may take it first, then the server ends and the next port is tried.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let child = command(free.port())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut group = Group(child);
        let errors = BufReader::new(group.0.stderr.take().unwrap());
        let (tell, lines) = mpsc::channel();
        // Reads on after nobody listens, so that the server can always write.
        thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        while let Ok(line) = lines.recv_timeout(LIMIT) {
            if line.contains(ready) {
                return (group, free);
            }
            said.push_str(&line);
            said.push('\n');
        }
    }
    panic!("the server did not start on any of {TRIES} ports: {said}");
}

/// How many ports are tried for a server.
const TRIES: usize = 5;

/// A process group, killed with this.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Not reaped yet, so the number is still its own.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// A directory that other users can read, removed with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sockeye-servers-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
