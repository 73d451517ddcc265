//! Servers on paths: PostgreSQL, Redis, MariaDB, nginx and ssh-agent.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;

use rustix::process::geteuid;
use sockeye::{Connector, EgressRules, ErrorKind, Phase, Socket, SocketOptions, UnixAddress};

use super::certificates::Certificates;
use super::harness::{
    LIMIT, NO_SECRET, Scratch, Server, bounded, example, example_of, installed, skip, start, text,
    unprivileged_user,
};
use super::nginx::{check_page, page, start_nginx};
use super::postgres::{postgres, query, send_query, start_up, until_ready};
use super::tls::check_clean_end;

/// Connects under rules that allow only this path. The process that listens belongs to this user, or to the user of
/// the path.
#[track_caller]
fn dial(path: &str) -> Socket {
    let rules = EgressRules::deny_all().allow_unix(path).unwrap();
    let connector = Connector::builder().egress(rules).build().unwrap();
    let address = UnixAddress::from_pathname(path).unwrap();
    let options =
        SocketOptions::new().connect_timeout(LIMIT).read_timeout(LIMIT).write_timeout(LIMIT);
    let socket = connector.connect_unix(address.clone(), options).unwrap();
    let info = socket.opened().unwrap();
    assert_eq!(info.unix_address(), Some(address));
    let owner = fs::metadata(path).unwrap().uid();
    assert_eq!(info.peer_credentials().map(|server| server.uid), Some(owner));
    let other = UnixAddress::from_pathname(format!("{path}.other")).unwrap();
    let denied = connector.connect_unix(other, SocketOptions::new()).unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied);
    socket
}

#[test]
fn postgres_answers_queries_on_a_path() {
    let certificates = Certificates::new();
    let test = "unix::postgres_answers_queries_on_a_path";
    let Some(server) = postgres(test, &certificates, "off") else { return };
    let path = server.file(&format!("data/.s.PGSQL.{}", server.address().port()));
    let socket = dial(&path);
    start_up(&socket, "salmon");
    until_ready(&socket);
    assert_eq!(query(&socket, "SELECT 6 * 7"), b"42");
    // A statement and a result that take many reads.
    let fish = "salmon ".repeat(100_000);
    assert!(query(&socket, &format!("SELECT '{fish}'")) == fish.as_bytes());
    send_query(&socket, "CREATE ROLE fisher LOGIN PASSWORD 'secret'");
    until_ready(&socket);
    socket.writer().write_all(&[b'X', 0, 0, 0, 4]).unwrap();
    check_clean_end(&socket);

    let ask = |user: &str, password: &str| {
        let args = [path.as_str(), user, "postgres", "SELECT 1 AS one, NULL AS nothing"];
        example_of(test, "postgres_query", &args, ("PGPASSWORD", password), "")
    };
    for (user, password, fault) in [
        ("salmon", "", None),
        ("fisher", "secret", None),
        ("fisher", "guess", Some("password authentication failed for user")),
    ] {
        let Some(output) = ask(user, password) else { return };
        let (shown, message) = (text(&output.stdout), text(&output.stderr));
        match fault {
            None => assert!(shown.ends_with("one\tnothing\n1\tNULL\n(SELECT 1)\n"), "{shown}"),
            Some(fault) => assert!(message.contains(fault), "{message}"),
        }
        assert_eq!(output.status.code(), Some(i32::from(fault.is_some())), "{message}");
    }
}

#[test]
fn redis_answers_on_a_path() {
    let test = "unix::redis_answers_on_a_path";
    let Some(redis) = installed(test, "redis-server") else { return };
    let server = start(Scratch::new(), "eady to accept connections", |files, []: [u16; 0]| {
        let mut command = bounded(&redis);
        command.current_dir(files);
        command.args(["--port", "0", "--save", "", "--unixsocketperm", "700"]);
        command.arg("--unixsocket").arg(files.join("redis.sock"));
        command
    });
    let path = server.file("redis.sock");
    let socket = dial(&path);
    let mut reader = BufReader::new(socket.reader());
    let mut check_answer = |command: &str, expected: &str| {
        socket.writer().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{expected}\r\n"));
    };
    check_answer("PING", "+PONG");
    let fish = "salmon ".repeat(100_000);
    check_answer(&format!("*3\r\n$3\r\nSET\r\n$4\r\nfish\r\n${}\r\n{fish}", fish.len()), "+OK");
    check_answer("STRLEN fish", &format!(":{}", fish.len()));
    check_answer("QUIT", "+OK");
    check_clean_end(&socket);

    let url = format!("unix://{path}");
    let Some(output) = example_of(test, "redis_pipeline", &[&url], NO_SECRET, "") else { return };
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("100000 replies in "));

    let Some(output) = example(test, &["--unix", &path, "-v"], "PING\r\nQUIT\r\n") else { return };
    assert_eq!(text(&output.stdout), "+PONG\r\n+OK\r\n");
    assert!(text(&output.stderr).contains(&path), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn nginx_serves_a_page_on_a_path() {
    let test = "unix::nginx_serves_a_page_on_a_path";
    let Some(nginx) = installed(test, "nginx") else { return };
    let files = Scratch::new();
    fs::write(files.0.join("page"), page()).unwrap();
    let path = files.0.join("nginx.sock").display().to_string();
    let server =
        start_nginx(&nginx, files, |[]: [u16; 0]| format!("server {{ listen unix:{path}; }}\n"));
    let request = "GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let socket = dial(&path);
    socket.writer().write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    socket.reader().read_to_end(&mut answer).unwrap();
    check_page(&answer);
    socket.closed_timeout(LIMIT).unwrap();
    assert_eq!(socket.phase(), Phase::Closed);

    // Half-closes after the request, as the end of the input does.
    let Some(output) = example(test, &["--unix", &path], request) else { return };
    check_page(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    drop(server);
    let Some(output) = example(test, &["--unix", &path], request) else { return };
    let message = text(&output.stderr);
    assert!(message.contains(&format!("unix:{path}")), "{message}");
    assert_eq!(output.status.code(), Some(1), "{message}");
}

#[test]
fn ssh_agent_lists_no_keys() {
    let test = "unix::ssh_agent_lists_no_keys";
    let Some(agent) = installed(test, "ssh-agent") else { return };
    let server = start(Scratch::new(), "SSH_AUTH_SOCK", |files, []: [u16; 0]| {
        let mut command = bounded(&agent);
        command.arg("-D").arg("-a").arg(files.join("agent.sock"));
        command
    });
    let path = server.file("agent.sock");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "the agent is for one user");
    let socket = dial(&path);
    for _ in 0..3 {
        // SSH_AGENTC_REQUEST_IDENTITIES, and SSH_AGENT_IDENTITIES_ANSWER with a count of 0.
        socket.writer().write_all(&[0, 0, 0, 1, 11]).unwrap();
        let mut answer = [0; 9];
        socket.reader().read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0, 0, 0, 5, 12, 0, 0, 0, 0]);
    }
    socket.close().unwrap();
}

// -------------------------------------------------------------------- MariaDB

#[test]
fn mariadb_answers_a_query_on_a_path() {
    let test = "unix::mariadb_answers_a_query_on_a_path";
    let Some(server) = mariadb(test) else { return };
    let socket = dial(&server.file("data/mariadb.sock"));
    let (_, greeting) = packet(&socket);
    assert_eq!(greeting[0], 10, "the version of the protocol");
    assert!(String::from_utf8_lossy(&greeting).contains("MariaDB"));

    // CLIENT_PROTOCOL_41, CLIENT_SECURE_CONNECTION and CLIENT_PLUGIN_AUTH, as root without a password.
    let capabilities = (0x200_u32 | 0x8000 | 0x8_0000).to_le_bytes();
    let rest = b"root\0\0mysql_native_password\0";
    let login = [&capabilities[..], &(1_u32 << 24).to_le_bytes(), &[33], &[0; 23], rest].concat();
    send(&socket, 1, &login);
    let (number, answer) = packet(&socket);
    assert_eq!((number, answer[0]), (2, 0), "{}", String::from_utf8_lossy(&answer));

    // The column count, the column, EOF, the row, EOF.
    send(&socket, 0, b"\x03SELECT 6 * 7");
    let packets = [(); 5].map(|()| packet(&socket).1);
    assert_eq!(packets[0], [1]);
    assert_eq!(packets[3], b"\x0242");
    send(&socket, 0, b"\x03SELECT salmon");
    let (_, answer) = packet(&socket);
    assert_eq!(answer[0], 0xff, "{}", String::from_utf8_lossy(&answer));
    send(&socket, 0, b"\x01");
    check_clean_end(&socket);
}

fn send(socket: &Socket, number: u8, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    socket.writer().write_all(&[&length[..3], &[number], body].concat()).unwrap();
}

/// Returns the number and the body of the next packet.
fn packet(socket: &Socket) -> (u8, Vec<u8>) {
    let mut head = [0; 4];
    socket.reader().read_exact(&mut head).unwrap();
    let mut body = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    socket.reader().read_exact(&mut body).unwrap();
    (head[3], body)
}

fn mariadb(test: &str) -> Option<Server> {
    let mariadbd = installed(test, "mariadbd")?;
    let user = if geteuid().is_root() { unprivileged_user() } else { None };
    if geteuid().is_root() && user.is_none() {
        skip(test, "MariaDB needs an unprivileged user");
        return None;
    }
    let unprivileged = |program: &Path| {
        let mut command = bounded(program);
        if let Some((user, group)) = user {
            command.uid(user).gid(group);
        }
        command.env("LC_ALL", "C");
        command
    };
    let files = Scratch::new();
    let data = files.create_dir("data", user);
    Some(start(files, "ready for connections", |_, []: [u16; 0]| {
        let mut command = unprivileged(&mariadbd);
        command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
        command.arg(format!("--socket={}", data.join("mariadb.sock").display()));
        command.arg(format!("--tmpdir={}", data.display()));
        command.arg(format!("--pid-file={}", data.join("pid").display()));
        // Without grants it needs no tables of its own.
        command.args(["--skip-networking", "--skip-grant-tables", "--innodb-buffer-pool-size=8M"]);
        command.current_dir(&data);
        command
    }))
}
