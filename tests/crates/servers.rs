//! Real servers, in plaintext unless they say otherwise. Each returns `None` if it is not installed.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, geteuid};

use crate::certificates::Certificates;
use crate::harness::{
    LIMIT, Scratch, Server, bounded, installed, run, skip, start, unprivileged_user,
};

/// The answer of [`nginx`] to every request.
pub const PAGE: &str = "salmon swim upstream";

/// Starts nginx on two ports. The second one uses TLS.
pub fn nginx(test: &str, certificates: &Certificates) -> Option<Server> {
    let nginx = installed(test, "nginx")?;
    let files = Scratch::new();
    certificates.write(&files, None);
    // nginx logs this after it has bound its ports.
    Some(start(files, "event method", |root, [plain, secured]| {
        let config = root.join("nginx.conf");
        let root = root.display();
        let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
            .concat();
        let text = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr info;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; {folders}\
             ssl_certificate {root}/chain.pem; ssl_certificate_key {root}/key.pem;\n\
             server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{secured} ssl;\n\
             location / {{ return 200 \"{PAGE}\"; }} }} }}\n"
        );
        fs::write(&config, text).expect("the folder is writable");
        let mut command = bounded(&nginx);
        command.arg("-c").arg(&config).args(["-e", "stderr"]);
        command
    }))
}

/// Starts Redis on two ports. The second one uses TLS.
pub fn redis(test: &str, certificates: &Certificates) -> Option<Server> {
    let redis = installed(test, "redis-server")?;
    let files = Scratch::new();
    certificates.write(&files, None);
    Some(start(files, "Ready to accept connections", |files, [plain, secured]| {
        let mut command = bounded(&redis);
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &plain.to_string(), "--tls-port", &secured.to_string()])
            .args(["--tls-auth-clients", "no", "--dir"])
            .arg(files)
            .arg("--tls-ca-cert-file")
            .arg(files.join("ca.pem"))
            .arg("--tls-cert-file")
            .arg(files.join("chain.pem"))
            .arg("--tls-key-file")
            .arg(files.join("key.pem"));
        command
    }))
}

pub fn memcached(test: &str) -> Option<Server> {
    let memcached = installed(test, "memcached")?;
    Some(start(Scratch::new(), "server listening", |_, [port]| {
        let mut command = bounded(&memcached);
        // At this level it says that it listens.
        command.args(["-u", "nobody", "-U", "0", "-vv", "-l", "127.0.0.1"]); // prose: quoted
        command.args(["-p", &port.to_string()]);
        command
    }))
}

pub fn nats(test: &str) -> Option<Server> {
    let nats = installed(test, "nats-server")?;
    Some(start(Scratch::new(), "Server is ready", |_, [port]| {
        let mut command = bounded(&nats);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
        command
    }))
}

pub fn mosquitto(test: &str) -> Option<Server> {
    let mosquitto = installed(test, "mosquitto")?;
    Some(start(Scratch::new(), " running", |files, [port]| {
        let config = files.join("mosquitto.conf");
        let text = format!(
            "user root\nallow_anonymous true\npersistence false\nlog_dest stderr\n\
             listener {port} 127.0.0.1\n"
        );
        fs::write(&config, text).expect("the folder is writable");
        let mut command = bounded(&mosquitto);
        command.arg("-c").arg(&config);
        command
    }))
}

/// Starts aiosmtpd, which prints the mails that it receives.
pub fn aiosmtpd(test: &str) -> Option<Server> {
    let aiosmtpd = installed(test, "aiosmtpd")?;
    Some(start(Scratch::new(), "Starting asyncio loop", |_, [port]| {
        let mut command = bounded(&aiosmtpd);
        command.args(["--nosetuid", "-dd", "--class", "aiosmtpd.handlers.Debugging"]).args([
            "--listen",
            &format!("127.0.0.1:{port}"),
            "stderr",
        ]);
        command
    }))
}

/// Starts PostgreSQL. The user `salmon` needs no password.
pub fn postgres(test: &str) -> Option<Server> {
    let (initdb, postgres) = (installed(test, "initdb")?, installed(test, "postgres")?);
    let user = other_user(test)?;
    let files = Scratch::new();
    let data = files.create_dir("data", user.0);
    run(user
        .runs(&initdb)
        .args(["-A", "trust", "-U", "salmon", "-E", "UTF8", "--no-sync", "-D"])
        .arg(&data)
        .current_dir(&data));
    let server = start(files, "ready to accept connections", |_, [port]| {
        let mut command = user.runs(&postgres);
        command.arg("-D").arg(&data).current_dir(&data);
        for setting in [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".into(),
            "unix_socket_directories=".into(),
            "fsync=off".into(),
        ] {
            command.arg("-c").arg(setting);
        }
        command
    });
    // SIGKILL would leak shared memory, and SIGTERM would wait for clients.
    Some(server.stopped_by(Signal::INT))
}

/// Starts MariaDB. Without grants it needs no tables of its own, and lets everyone in.
pub fn mariadb(test: &str) -> Option<Server> {
    let mariadbd = installed(test, "mariadbd")?;
    let user = other_user(test)?;
    let files = Scratch::new();
    let data = files.create_dir("data", user.0);
    Some(start(files, "ready for connections", |_, [port]| {
        let mut command = user.runs(&mariadbd);
        command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
        command.arg(format!("--socket={}", data.join("mariadb.sock").display()));
        command.arg(format!("--tmpdir={}", data.display()));
        command.arg(format!("--pid-file={}", data.join("pid").display()));
        command.args(["--skip-grant-tables", "--innodb-buffer-pool-size=8M"]);
        command.args(["--bind-address=127.0.0.1", &format!("--port={port}")]);
        command.current_dir(&data);
        command
    }))
}

/// Starts an LDAP server with the directory `dc=test`, which `cn=admin,dc=test` may change with the password `salmon`.
pub fn slapd(test: &str) -> Option<Server> {
    let slapd = installed(test, "slapd")?;
    let files = Scratch::new();
    files.create_dir("directory", None);
    let server = start(files, "slapd starting", |files, [port]| {
        let config = files.join("slapd.conf");
        let root = files.display();
        let text = format!(
            "include /etc/ldap/schema/core.schema\npidfile {root}/pid\n\
             modulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             database mdb\nsuffix \"dc=test\"\nrootdn \"cn=admin,dc=test\"\nrootpw salmon\n\
             directory {root}/directory\n"
        );
        fs::write(&config, text).expect("the folder is writable");
        let mut command = bounded(&slapd);
        command.args(["-d", "stats", "-h", &format!("ldap://127.0.0.1:{port}"), "-f"]);
        command.arg(&config);
        command
    });
    // It logs that line before it listens.
    let until = Instant::now() + LIMIT;
    while TcpStream::connect(server.address()).is_err() {
        assert!(Instant::now() < until, "slapd does not listen");
        thread::sleep(Duration::from_millis(10));
    }
    Some(server)
}

/// Starts an FTP server, which lets everyone read and write in a folder of its own.
pub fn ftp(test: &str) -> Option<Server> {
    let python = Path::new("/usr/bin/python3");
    let has_it = Command::new(python)
        .args(["-c", "import pyftpdlib"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_it {
        skip(test, "pyftpdlib is not installed");
        return None;
    }
    Some(start(Scratch::new(), "starting FTP server", |files, [port]| {
        let mut command = bounded(python);
        command.args(["-W", "ignore", "-m", "pyftpdlib", "-w", "-i", "127.0.0.1"]);
        command.args(["-p", &port.to_string(), "-d"]).arg(files);
        command
    }))
}

/// Starts an SSH server. The file `user` has the key of this user.
pub fn sshd(test: &str) -> Option<Server> {
    let (sshd, keygen) = (installed(test, "sshd")?, installed(test, "ssh-keygen")?);
    if geteuid().is_root() {
        // OpenSSH separates its privileges there.
        let _ = fs::create_dir("/run/sshd");
    }
    let files = Scratch::new();
    for name in ["host", "user"] {
        run(Command::new(&keygen)
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(files.0.join(name)));
    }
    Some(start(files, "Server listening", |files, [port]| {
        let config = files.join("sshd_config");
        let root = files.display();
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {root}/host\n\
             AuthorizedKeysFile {root}/user.pub\nPidFile none\nStrictModes no\n\
             PasswordAuthentication no\nUsePAM no\nPermitRootLogin prohibit-password\n"
        );
        fs::write(&config, text).expect("the folder is writable");
        let mut command = bounded(&sshd);
        command.args(["-D", "-e", "-f"]).arg(&config);
        command
    }))
}

/// The user for servers that refuse to run as root.
struct OtherUser(Option<(u32, u32)>);

impl OtherUser {
    fn runs(&self, program: &Path) -> Command {
        let mut command = bounded(program);
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group);
        }
        command.env("LC_ALL", "C");
        command
    }
}

fn other_user(test: &str) -> Option<OtherUser> {
    if !geteuid().is_root() {
        return Some(OtherUser(None));
    }
    let user = unprivileged_user();
    if user.is_none() {
        skip(test, "the server needs an unprivileged user");
    }
    user.map(|user| OtherUser(Some(user)))
}
