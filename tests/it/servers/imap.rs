//! Dovecot: the upgrade in IMAP, and IMAP over TLS from the start.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::geteuid;
use sockeye::SecureTransport::{On, StartTls};
use sockeye::{Reader, Socket};

use super::certificates::Certificates;
use super::harness::{
    Scratch, Server, bounded, example_of, has_parts, installed, skip, start, text,
    unprivileged_user,
};
use super::tls::{
    check_clean_end, check_refused, check_secured, dial, suspicious, trust_only, upgrade,
};

#[test]
fn dovecot_logs_in_after_the_upgrade() {
    let certificates = Certificates::new();
    let Some(server) = dovecot("dovecot_logs_in_after_the_upgrade", &certificates) else { return };
    let plain = dial(server.at(IMAP), StartTls, trust_only(&certificates));
    check_mailbox(&upgrade(ready_to_upgrade(&plain)));
}

#[test]
fn dovecot_logs_in_over_tls_from_the_start() {
    let certificates = Certificates::new();
    let test = "dovecot_logs_in_over_tls_from_the_start";
    let Some(server) = dovecot(test, &certificates) else { return };
    let socket = dial(server.at(IMAPS), On, trust_only(&certificates));
    check_secured(&socket);
    let mut reader = BufReader::new(socket.reader());
    let greeting = greeting(&mut reader);
    assert!(greeting.starts_with("* OK ") && !greeting.contains("STARTTLS"), "{greeting}");
    assert_eq!(reader.buffer(), b"");
    check_mailbox(&socket);
}

#[test]
fn dovecot_of_an_unknown_authority_gets_no_credential() {
    let certificates = Certificates::new();
    let test = "dovecot_of_an_unknown_authority_gets_no_credential";
    let Some(server) = dovecot(test, &certificates) else { return };
    check_refused(&dial(server.at(IMAPS), On, suspicious()), &server);
    let plain = dial(server.at(IMAP), StartTls, suspicious());
    check_refused(&ready_to_upgrade(&plain).start_tls().unwrap(), &server);
}

#[test]
fn dovecot_shows_a_mailbox_to_the_imap_fetch_example_over_tls() {
    let certificates = Certificates::new();
    let test = "dovecot_shows_a_mailbox_to_the_imap_fetch_example_over_tls";
    let Some(server) = dovecot(test, &certificates) else { return };
    // This leaves one mail in the mailbox.
    let socket = dial(server.at(IMAPS), On, trust_only(&certificates));
    greeting(&mut BufReader::new(socket.reader()));
    check_mailbox(&socket);

    let (address, ca) = (server.at(IMAP).to_string(), server.file("ca.pem"));
    let fetch = |args: &[&str], password| {
        example_of(test, "imap_fetch", args, ("IMAP_PASSWORD", password), "")
    };
    let Some(output) = fetch(&[&address, "salmon", "--ca", &ca], "secret") else { return };
    assert_eq!(text(&output.stderr), "");
    let shown = text(&output.stdout);
    assert!(shown.starts_with("secured by TLS 1.3, "), "{shown}");
    assert!(shown.ends_with("\nINBOX: 1 mails\n    1  Subject: upstream\n"), "{shown}");
    assert_eq!(output.status.code(), Some(0));

    // No option names this authority as trusted.
    let Some(output) = fetch(&[&address, "salmon"], "secret") else { return };
    let message = text(&output.stderr);
    assert!(message.starts_with("Error: \"Tls: cannot secure the connection"), "{message}");
    assert_eq!(output.status.code(), Some(1));
}

// -------------------------------------------------------------------- the protocol

/// Negotiates an upgrade with the server. It checks that the reader's buffer is empty before it drops the reader: a
/// byte in it could have been injected.
fn ready_to_upgrade(plain: &Socket) -> &Socket {
    let mut reader = BufReader::new(plain.reader());
    let greeting = greeting(&mut reader);
    assert!(greeting.starts_with("* OK ") && greeting.contains(" STARTTLS "), "{greeting}");
    command(plain, &mut reader, "begin", "STARTTLS");
    assert_eq!(reader.buffer(), b"");
    plain
}

/// Logs in, stores a message in the mailbox, fetches it and logs out.
fn check_mailbox(socket: &Socket) {
    let mut reader = BufReader::new(socket.reader());
    let message = command(socket, &mut reader, "a", "CAPABILITY");
    assert!(
        message.starts_with("* CAPABILITY IMAP4rev1 ") && !message.contains(" STARTTLS"),
        "{message}"
    );
    command(socket, &mut reader, "b", "LOGIN salmon secret");

    let mail = format!("Subject: upstream\r\n\r\n{}", "salmon\r\n".repeat(50_000));
    write!(socket.writer(), "c APPEND INBOX {{{}}}\r\n", mail.len()).unwrap();
    let go_on = line(&mut reader);
    assert!(go_on.starts_with("+ "), "{go_on}");
    assert_eq!(reader.buffer(), b"");
    command(socket, &mut reader, "c", &mail);

    command(socket, &mut reader, "d", "SELECT INBOX");
    let message = command(socket, &mut reader, "e", "FETCH 1 BODY[]");
    assert!(message.contains(&mail), "{} bytes", message.len());
    let message = command(socket, &mut reader, "f", "LOGOUT");
    assert!(message.starts_with("* BYE "), "{message}");
    assert_eq!(reader.buffer(), b"");
    check_clean_end(socket);
}

/// Sends the text, a whole command or the end of the one with this tag, and reads the answer, which has to be OK.
fn command(socket: &Socket, reader: &mut BufReader<Reader>, tag: &str, body: &str) -> String {
    let begun = if body.starts_with("Subject") { String::new() } else { format!("{tag} ") };
    socket.writer().write_all(format!("{begun}{body}\r\n").as_bytes()).unwrap();
    let mut message = String::new();
    loop {
        let line = line(reader);
        message.push_str(&line);
        if line.starts_with(&format!("{tag} ")) {
            assert!(line.starts_with(&format!("{tag} OK ")), "{line}");
            return message;
        }
    }
}

/// Reads the greeting, before which a busy server sends other lines.
fn greeting(reader: &mut BufReader<Reader>) -> String {
    loop {
        let line = line(reader);
        if !line.starts_with("* OK Waiting for authentication process") {
            return line;
        }
    }
}

fn line(reader: &mut BufReader<Reader>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.ends_with("\r\n"), "the server ended after {line:?}");
    line
}

// -------------------------------------------------------------------- the server

/// The ports.
const IMAP: usize = 0;
const IMAPS: usize = 1;

/// Returns the directories of Dovecot's programs, derived from its own path.
fn program_folders(dovecot: &Path) -> Vec<PathBuf> {
    let root = dovecot.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    let near = ["lib/dovecot", "lib64/dovecot", "libexec/dovecot"].map(|folder| root.join(folder));
    let far = ["/usr/lib/dovecot", "/usr/libexec/dovecot"].map(PathBuf::from);
    near.into_iter().chain(far).collect()
}

fn dovecot(test: &str, certificates: &Certificates) -> Option<Server> {
    let dovecot = installed(test, "dovecot")?;
    if !geteuid().is_root() {
        skip(test, "Dovecot has to be started by root");
        return None;
    }
    let Some((user, group)) = unprivileged_user() else {
        skip(test, "the mail needs an unprivileged user");
        return None;
    };
    // The IMAP programs are in a package of their own.
    if !has_parts(test, &program_folders(&dovecot), &["imap", "imap-login"]) {
        return None;
    }
    let version = Command::new(&dovecot).arg("--version").output().unwrap().stdout;
    let old = ["2.2.", "2.3."].iter().any(|old| text(&version).starts_with(old));

    let files = Scratch::new();
    certificates.write(&files, None);
    let home = files.create_dir("home", Some((user, group)));
    let root = files.0.display().to_string();
    let home = home.display().to_string();
    // Dovecot 2.4 renamed its settings.
    let settings = if old {
        format!(
            "ssl_cert = <{root}/chain.pem\n\
             ssl_key = <{root}/key.pem\n\
             mail_location = maildir:{home}\n\
             passdb {{\n driver = static\n args = password=secret\n}}\n\
             userdb {{\n driver = static\n args = uid={user} gid={group} home={home}\n}}\n"
        )
    } else {
        format!(
            "ssl_server_cert_file = {root}/chain.pem\n\
             ssl_server_key_file = {root}/key.pem\n\
             mail_driver = maildir\n\
             mail_path = {home}\n\
             passdb static {{\n password = secret\n}}\n\
             userdb static {{\n fields {{\n uid = {user}\n gid = {group}\n home = {home}\n }}\n}}\n"
        )
    };
    // These settings have to come first.
    let versions =
        if old { "" } else { "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n" };
    Some(start(files, "starting up for imap", |files, [imap, imaps]| {
        let config = files.join("dovecot.conf");
        let text = format!(
            "{versions}base_dir = {root}/run\nstate_dir = {root}/state\nlog_path = /dev/stderr\n\
             protocols = imap\nlisten = 127.0.0.1\nssl = required\nauth_mechanisms = plain\n\
             {settings}\
             service imap-login {{\n chroot =\n\
             inet_listener imap {{\n port = {imap}\n }}\n\
             inet_listener imaps {{\n port = {imaps}\n ssl = yes\n }}\n}}\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = bounded(&dovecot);
        command.arg("-F").arg("-c").arg(&config);
        command
    }))
}
