//! OpenSMTPD and aiosmtpd: the upgrade in SMTP, and SMTP over TLS from the start.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;

use rustix::process::geteuid;
use sockeye::SecureTransport::{On, StartTls};
use sockeye::Socket;

use super::certificates::Certificates;
use super::harness::{
    NO_SECRET, Scratch, Server, bounded, example_of, installed, skip, start, text,
};
use super::tls::{
    check_clean_end, check_refused, check_secured, dial, suspicious, trust_only, upgrade,
};

#[test]
fn opensmtpd_restarts_the_dialogue_after_the_upgrade() {
    let certificates = Certificates::new();
    let Some(server) =
        opensmtpd("opensmtpd_restarts_the_dialogue_after_the_upgrade", &certificates)
    else {
        return;
    };
    // OpenSMTPD ends without a close_notify after its reply to QUIT.
    let tls = trust_only(&certificates).require_close_notify(false);
    let plain = dial(server.at(SMTP), StartTls, tls);
    check_farewell(&check_upgrade(&plain));
}

#[test]
fn opensmtpd_talks_over_tls_from_the_start() {
    let certificates = Certificates::new();
    let Some(server) = opensmtpd("opensmtpd_talks_over_tls_from_the_start", &certificates) else {
        return;
    };
    let tls = trust_only(&certificates).require_close_notify(false);
    let socket = dial(server.at(SMTPS), On, tls);
    check_start(&socket);
    check_farewell(&socket);
}

#[test]
fn opensmtpd_of_an_unknown_authority_gets_no_credential() {
    let certificates = Certificates::new();
    let test = "opensmtpd_of_an_unknown_authority_gets_no_credential";
    let Some(server) = opensmtpd(test, &certificates) else { return };
    check_refused(&dial(server.at(SMTPS), On, suspicious()), &server);
    let plain = dial(server.at(SMTP), StartTls, suspicious());
    check_refused(&ready_to_upgrade(&plain).start_tls().unwrap(), &server);
}

#[test]
fn aiosmtpd_takes_a_mail_after_the_upgrade() {
    let certificates = Certificates::new();
    let Some(server) = aiosmtpd("aiosmtpd_takes_a_mail_after_the_upgrade", "tls", &certificates)
    else {
        return;
    };
    let secured = check_upgrade(&dial(server.address(), StartTls, trust_only(&certificates)));
    check_mail(&secured);
    check_farewell(&secured);
}

#[test]
fn aiosmtpd_takes_a_mail_over_tls_from_the_start() {
    let certificates = Certificates::new();
    let test = "aiosmtpd_takes_a_mail_over_tls_from_the_start";
    let Some(server) = aiosmtpd(test, "smtps", &certificates) else { return };
    let socket = dial(server.address(), On, trust_only(&certificates));
    check_start(&socket);
    check_mail(&socket);
    check_farewell(&socket);
}

#[test]
fn aiosmtpd_of_an_unknown_authority_gets_no_credential() {
    let certificates = Certificates::new();
    let test = "aiosmtpd_of_an_unknown_authority_gets_no_credential";
    let Some(server) = aiosmtpd(test, "smtps", &certificates) else { return };
    check_refused(&dial(server.address(), On, suspicious()), &server);
    let Some(server) = aiosmtpd(test, "tls", &certificates) else { return };
    let plain = dial(server.address(), StartTls, suspicious());
    check_refused(&ready_to_upgrade(&plain).start_tls().unwrap(), &server);
}

#[test]
fn aiosmtpd_takes_a_mail_of_the_smtp_send_example_over_tls() {
    let certificates = Certificates::new();
    let test = "aiosmtpd_takes_a_mail_of_the_smtp_send_example_over_tls";
    let Some(server) = aiosmtpd(test, "tls", &certificates) else { return };
    let address = server.address().to_string();
    let args = [&address, "salmon@localhost", "fisher@localhost", "--ca", &server.file("ca.pem")];
    let mail = "Subject: upstream\n\nGone.\n.\n..and back\n";
    let Some(output) = example_of(test, "smtp_send", &args, NO_SECRET, mail) else { return };
    assert_eq!(text(&output.stderr), "");
    let shown = text(&output.stdout);
    assert!(shown.starts_with("secured by TLS 1.3, "), "{shown}");
    assert!(shown.contains("\nsent: 250 OK"), "{shown}");
    assert_eq!(output.status.code(), Some(0));
    // The server prints the mail in this form.
    for line in ["Subject: upstream", "Gone.", ".", "..and back"] {
        server.await_log_line(line);
    }
}

#[test]
fn aiosmtpd_without_tls_gets_no_mail_of_the_smtp_send_example() {
    let certificates = Certificates::new();
    let test = "aiosmtpd_without_tls_gets_no_mail_of_the_smtp_send_example";
    let Some(server) = aiosmtpd(test, "no", &certificates) else { return };
    let args = [&server.address().to_string(), "salmon@localhost", "fisher@localhost"];
    let Some(output) = example_of(test, "smtp_send", &args, NO_SECRET, "Subject: upstream\n")
    else {
        return;
    };
    let message = text(&output.stderr);
    assert!(message.contains("the server offers no TLS, so it gets no mail"), "{message}");
    assert_eq!(text(&output.stdout), "");
    assert_eq!(output.status.code(), Some(1));
}

// -------------------------------------------------------------------- the protocol

/// Negotiates an upgrade with the server and makes it. The secured server has forgotten the earlier dialogue, and
/// offers no upgrade.
pub fn check_upgrade(plain: &Socket) -> Socket {
    let secured = upgrade(ready_to_upgrade(plain));
    let message = command(&secured, "EHLO localhost", "250");
    assert!(!message.contains("STARTTLS"), "{message}");
    secured
}

fn ready_to_upgrade(plain: &Socket) -> &Socket {
    answer(plain, "220");
    let message = command(plain, "EHLO localhost", "250");
    assert!(message.contains("STARTTLS\r\n"), "{message}");
    command(plain, "MAIL FROM:<salmon@localhost>", "530");
    command(plain, "STARTTLS", "220");
    plain
}

fn check_start(socket: &Socket) {
    check_secured(socket);
    answer(socket, "220");
    let message = command(socket, "EHLO localhost", "250");
    assert!(!message.contains("STARTTLS"), "{message}");
}

pub fn check_mail(socket: &Socket) {
    command(socket, "MAIL FROM:<salmon@localhost>", "250");
    command(socket, "RCPT TO:<fisher@localhost>", "250");
    command(socket, "DATA", "354");
    let mail = format!("Subject: upstream\r\n\r\n{}.", "salmon\r\n".repeat(50_000));
    command(socket, &mail, "250");
}

fn check_farewell(socket: &Socket) {
    command(socket, "NOOP", "250");
    command(socket, "QUIT", "221");
    check_clean_end(socket);
}

/// Sends a command and reads the whole answer, which has to have this code.
#[track_caller]
pub fn command(socket: &Socket, command: &str, code: &str) -> String {
    socket.writer().write_all(format!("{command}\r\n").as_bytes()).unwrap();
    answer(socket, code)
}

/// Reads byte by byte, so that no byte after the answer is taken.
#[track_caller]
fn answer(socket: &Socket, code: &str) -> String {
    let mut reader = socket.reader();
    let mut message = String::new();
    let mut line = String::new();
    // The last line has a space after its code.
    while !(line.ends_with("\r\n") && line.starts_with(&format!("{code} "))) {
        if line.ends_with("\r\n") {
            assert!(line.starts_with(&format!("{code}-")), "expected {code}: {line}");
            line.clear();
        }
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        line.push(char::from(byte[0]));
        message.push(char::from(byte[0]));
    }
    message
}

// -------------------------------------------------------------------- the servers

/// The ports of OpenSMTPD.
const SMTP: usize = 0;
const SMTPS: usize = 1;

fn opensmtpd(test: &str, certificates: &Certificates) -> Option<Server> {
    let smtpd = installed(test, "smtpd")?;
    if !geteuid().is_root() {
        skip(test, "OpenSMTPD has to be started by root");
        return None;
    }
    let message = Command::new(&smtpd).arg("-h").output().unwrap();
    if String::from_utf8_lossy(&[message.stdout, message.stderr].concat()).contains("OpenSMTPD 6.")
    {
        skip(test, "OpenSMTPD before 7.0 cannot use its key with OpenSSL 3");
        return None;
    }
    let files = Scratch::new();
    certificates.write(&files, None);
    Some(start(files, "smtp: will accept at most", |files, [smtp, smtps]| {
        let config = files.join("smtpd.conf");
        let root = files.display();
        let text = format!(
            "pki p cert \"{root}/chain.pem\"\npki p key \"{root}/key.pem\"\n\
             listen on 127.0.0.1 port {smtp} tls-require pki p hostname localhost\n\
             listen on 127.0.0.1 port {smtps} smtps pki p hostname localhost\n\
             match from any for any reject\n"
        );
        fs::write(&config, text).unwrap();
        // Only one OpenSMTPD can run on a machine, because one of its sockets has a fixed name.
        let mut command = bounded("flock".as_ref());
        command.arg("--no-fork").arg(std::env::temp_dir().join("sockeye-opensmtpd.lock"));
        command.arg(&smtpd).args(["-d", "-v", "-f"]).arg(&config);
        command
    }))
}

/// Starts aiosmtpd with an upgrade (`tls`), TLS from the start (`smtps`) or no TLS (`no`). It prints received mails.
pub fn aiosmtpd(test: &str, mode: &str, certificates: &Certificates) -> Option<Server> {
    let aiosmtpd = installed(test, "aiosmtpd")?;
    let files = Scratch::new();
    certificates.write(&files, None);
    Some(start(files, "Starting asyncio loop", |files, [port]| {
        let mut command = bounded(&aiosmtpd);
        command
            // At this level it logs failed handshakes.
            .args(["--nosetuid", "-ddd", "--class", "aiosmtpd.handlers.Debugging"])
            .args(["--listen", &format!("127.0.0.1:{port}")]);
        if mode != "no" {
            command
                .arg(format!("--{mode}cert={}", files.join("chain.pem").display()))
                .arg(format!("--{mode}key={}", files.join("key.pem").display()));
        }
        command.arg("stderr");
        command
    }))
}
