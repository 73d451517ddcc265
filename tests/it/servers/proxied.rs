//! Real services through each real proxy: PostgreSQL with its upgrade, SMTP, in which the server speaks first, and HTTPS.

use std::fs;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sockeye::SecureTransport::{On, StartTls};
use sockeye::{Connector, Proxy, Socket, SocketOptions};

use super::certificates::Certificates;
use super::harness::{LIMIT, Scratch, Server, installed};
use super::nginx::check_page;
use super::proxies::{dante, microsocks, started, stunnel, tinyproxy};
use super::tls::{bound, check_secured, trust_only};
use super::{https, postgres, smtp};

/// The user that squid becomes if it was started by root.
const UNPRIVILEGED: &str = "nobody"; // prose: quoted

/// A proxy that runs, and the name or address of this machine that it can get.
struct Running {
    name: &'static str,
    proxy: Proxy,
    host: &'static str,
    _server: Vec<Server>,
}

#[test]
fn every_proxy_carries_postgres() {
    let test = "every_proxy_carries_postgres";
    let certificates = Certificates::new();
    let Some(server) = postgres::postgres(test, &certificates, "on") else { return };
    for running in proxies(test) {
        let tls = trust_only(&certificates)
            .client_auth_pem(&certificates.client_chain, &certificates.client_key)
            .unwrap();
        let options = SocketOptions::new().secure_transport(StartTls).tls(tls);
        let plain = running.connect(server.address().port(), options);
        assert_eq!(postgres::request_tls(&plain), b'S', "{}", running.name);
        let secured = plain.start_tls().unwrap();
        bound(&secured);
        check_secured(&secured);
        postgres::start_up(&secured, "salmon");
        postgres::until_ready(&secured);
        let fish = "salmon ".repeat(50_000);
        let answer = postgres::query(&secured, &format!("SELECT '{fish}'"));
        assert!(answer == fish.as_bytes(), "{}", running.name);
        secured.writer().write_all(&[b'X', 0, 0, 0, 4]).unwrap();
        secured.close().unwrap();
    }
}

#[test]
fn every_proxy_carries_smtp_whose_server_speaks_first() {
    let test = "every_proxy_carries_smtp_whose_server_speaks_first";
    let certificates = Certificates::new();
    let Some(server) = smtp::aiosmtpd(test, "tls", &certificates) else { return };
    for running in proxies(test) {
        let options =
            SocketOptions::new().secure_transport(StartTls).tls(trust_only(&certificates));
        let plain = running.connect(server.address().port(), options);
        let secured = smtp::check_upgrade(&plain);
        bound(&secured);
        smtp::check_mail(&secured);
        smtp::command(&secured, "QUIT", "221");
        secured.close().unwrap();
    }
}

#[test]
fn every_proxy_carries_https() {
    let test = "every_proxy_carries_https";
    let certificates = Certificates::new();
    let Some(server) = https::nginx(test, &certificates) else { return };
    for running in proxies(test) {
        let options = SocketOptions::new().secure_transport(On).tls(trust_only(&certificates));
        let socket = running.connect(server.at(https::TLS13).port(), options);
        check_secured(&socket);
        let mut reader = BufReader::new(socket.reader());
        for connection in ["keep-alive", "close"] {
            check_page(https::get(&socket, &mut reader, connection).as_bytes());
        }
        socket.close().unwrap();
    }
}

/// Data in both directions in plaintext, through the proxies that have no test of their own.
#[test]
fn squid_and_ssh_forward() {
    let test = "squid_and_ssh_forward";
    for running in squid(test).into_iter().chain(ssh(test)) {
        super::proxies::check_forwards(&running.proxy, running.host);
    }
}

impl Running {
    fn connect(&self, port: u16, options: SocketOptions) -> Socket {
        let connector = Connector::builder().proxy(self.proxy.clone()).build().unwrap();
        let options = options.connect_timeout(LIMIT);
        let socket = connector.connect_with((self.host, port), options).unwrap();
        bound(&socket);
        let info = socket.opened().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert!(info.proxy_address().is_some() && info.remote_address().is_none());
        socket
    }
}

/// Starts every proxy that is installed.
fn proxies(test: &str) -> Vec<Running> {
    let mut all = Vec::new();
    if let Some(program) = installed(test, "tinyproxy") {
        let server = tinyproxy(&program, "");
        let proxy = Proxy::http(server.address()).unwrap();
        all.push(Running { name: "tinyproxy", proxy, host: "localhost", _server: vec![server] });
    }
    let programs = ["tinyproxy", "stunnel"].map(|program| installed(test, program));
    if let [Some(behind), Some(program)] = programs {
        let certificates = Certificates::new();
        let behind = tinyproxy(&behind, "");
        let server = stunnel(&program, &certificates, behind.address());
        let proxy = Proxy::https(server.address(), trust_only(&certificates)).unwrap();
        let servers = vec![server, behind];
        all.push(Running {
            name: "stunnel and tinyproxy",
            proxy,
            host: "localhost",
            _server: servers,
        });
    }
    if let Some(program) = installed(test, "microsocks") {
        let server = microsocks(&program);
        let proxy = Proxy::socks5(server.address()).unwrap();
        let proxy = proxy.credentials("alice", "secret").unwrap();
        all.push(Running { name: "microsocks", proxy, host: "localhost", _server: vec![server] });
    }
    if let Some(program) = installed(test, "danted") {
        let server = dante(&program);
        let proxy = Proxy::socks5(server.address()).unwrap();
        all.push(Running { name: "Dante", proxy, host: "localhost", _server: vec![server] });
        let server = dante(&program);
        let proxy = Proxy::socks4a(server.address()).unwrap();
        all.push(Running {
            name: "Dante, SOCKS 4",
            proxy,
            host: "127.0.0.1",
            _server: vec![server],
        });
    }
    all.extend(squid(test));
    all.extend(ssh(test));
    all
}

/// Starts squid, which serves HTTP and HTTPS.
fn squid(test: &str) -> Vec<Running> {
    let Some(program) = installed(test, "squid") else { return Vec::new() };
    let certificates = Certificates::new();
    let plain = squid_on(&program, "http_port", Scratch::new());
    let files = Scratch::new();
    certificates.write(&files, None);
    let folder = files.0.display();
    let tls = format!(" tls-cert={folder}/chain.pem tls-key={folder}/key.pem");
    let secured = squid_on(&program, &format!("https_port{tls}"), files);
    let running = |name, proxy: sockeye::Result<Proxy>, server| Running {
        name,
        proxy: proxy.unwrap(),
        host: "localhost",
        _server: vec![server],
    };
    let options = trust_only(&certificates);
    vec![
        running("squid", Proxy::http(plain.address()), plain),
        running("squid, HTTPS", Proxy::https(secured.address(), options), secured),
    ]
}

/// Starts squid with one port, and the options of that.
fn squid_on(program: &Path, port_line: &str, files: Scratch) -> Server {
    let (directive, options) = port_line.split_once(' ').unwrap_or((port_line, ""));
    started(files, |folder, port| {
        let config = folder.join("squid.conf");
        let text = format!(
            "{directive} 127.0.0.1:{port} {options}\nhttp_access allow all\ncache deny all\ncache_mem 1 MB\n\
             access_log none\ncache_log /dev/stderr\npid_filename none\nnetdb_filename none\n\
             pinger_enable off\ncoredump_dir none\n\
             shutdown_lifetime 0 seconds\ncache_effective_user {UNPRIVILEGED}\n"
        );
        fs::write(&config, text).unwrap();
        format!("{} -N -f {}", program.display(), config.display())
    })
}

/// Starts an SSH server, and a client that forwards (`ssh -D`), as SOCKS 5 and SOCKS 4a.
fn ssh(test: &str) -> Vec<Running> {
    let programs = ["sshd", "ssh", "ssh-keygen"].map(|program| installed(test, program));
    let [Some(sshd), Some(ssh), Some(keygen)] = programs else { return Vec::new() };
    if rustix::process::geteuid().is_root() && !Path::new("/run/sshd").is_dir() {
        // OpenSSH separates its privileges there.
        let _ = fs::create_dir("/run/sshd");
    }
    let keys = Scratch::new();
    for name in ["host", "user"] {
        let made = Command::new(&keygen)
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(keys.0.join(name))
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
    }
    let folder: PathBuf = keys.0.clone();
    let daemon = started(keys, |folder, port| {
        let config = folder.join("sshd_config");
        let folder = folder.display();
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\n\
             AuthorizedKeysFile {folder}/user.pub\nPidFile none\nStrictModes no\n\
             PasswordAuthentication no\nUsePAM no\nPermitRootLogin prohibit-password\n"
        );
        fs::write(&config, text).unwrap();
        format!("{} -D -e -f {}", sshd.display(), config.display())
    });
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    let server = started(Scratch::new(), |_, port| {
        let folder = folder.display();
        format!(
            "{} -N -D 127.0.0.1:{port} -p {} -i {folder}/user -F none -o BatchMode=yes \
             -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ExitOnForwardFailure=yes \
             {user}@127.0.0.1",
            ssh.display(),
            daemon.address().port()
        )
    });
    let address = server.address();
    let running =
        |name, proxy, servers| Running { name, proxy, host: "localhost", _server: servers };
    vec![
        running("ssh -D", Proxy::socks5(address).unwrap(), Vec::new()),
        // The last one keeps them running.
        running("ssh -D, SOCKS 4a", Proxy::socks4a(address).unwrap(), vec![server, daemon]),
    ]
}
