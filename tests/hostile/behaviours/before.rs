//! Answers in place of a ServerHello: silence, other protocols, and unexpected records.

use std::thread;
use std::time::Duration;

use sockeye::ErrorKind::{Closed, Connect, Reset, TimedOut, Tls, UnreadPlaintext};

use crate::behaviour::Behaviour;
use crate::forge::ServerHello;
use crate::forge::records::{
    self, ALERT, CHANGE_CIPHER_SPEC, CLOSE_NOTIFY, DATA, FATAL, HANDSHAKE, HEARTBEAT, WARNING,
    message,
};

pub fn all() -> Vec<Behaviour> {
    [silence_and_ends(), other_protocols(), records(), fragments(), floods()]
        .into_iter()
        .flatten()
        .collect()
}

/// Reads the ClientHello, sends these bytes, and stays silent.
fn says(name: &str, bytes: impl Into<Vec<u8>>) -> Behaviour {
    let bytes = bytes.into();
    Behaviour::never_opens(name, Tls, move |server| {
        server.hear()?;
        server.raw(&bytes)
    })
}

fn silence_and_ends() -> Vec<Behaviour> {
    vec![
        Behaviour::never_opens("silence", TimedOut, |_| Ok(())),
        Behaviour::never_opens("silence after the ClientHello", TimedOut, |server| server.hear()),
        Behaviour::never_opens("an immediate FIN", Tls, |server| server.fin()).or_upgrading(Closed),
        Behaviour::never_opens("a FIN after the ClientHello", Tls, |server| {
            server.hear()?;
            server.fin()
        }),
        // The reset may arrive before connect has finished.
        Behaviour::never_opens("an immediate reset", Reset, |server| server.reset()).or(Connect),
        Behaviour::never_opens("a reset after the ClientHello", Reset, |server| {
            server.hear()?;
            server.reset()
        }),
        Behaviour::never_opens("a few bytes and a FIN", Tls, |server| {
            server.hear()?;
            server.raw(&[HANDSHAKE, 3])?;
            server.fin()
        }),
    ]
}

fn other_protocols() -> Vec<Behaviour> {
    // A server's hello of SSL 2: a header of two bytes, 4, version 2.
    let mut ssl2 = vec![0x80, 0x0b, 4, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0];
    ssl2.extend([0; 16]);
    vec![
        says("HTTP", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
        says("SMTP", "220 mail.example.test ESMTP\r\n"),
        says("SSH", "SSH-2.0-OpenSSH_9.6\r\n"),
        says("an empty line", "\r\n"),
        says("SSL 2", ssl2),
        says("an alert of SSL 3", [ALERT, 3, 0, 0, 2, FATAL, 40]),
        says("noise", crate::pattern::bytes(0, 3000)),
        says("zeros", [0; 3000]),
        says("ones", [0xff; 3000]),
        Behaviour::never_opens("an echo of the ClientHello", Tls, |server| {
            server.hear()?;
            let hello = server.client().bytes.clone();
            server.plain(HANDSHAKE, &hello)
        }),
        Behaviour::never_opens("data before the ClientHello is read", Tls, |server| {
            server.raw(b"* OK ready\r\n")
        })
        .or_upgrading(UnreadPlaintext),
    ]
}

fn records() -> Vec<Behaviour> {
    let record = |kind, content: &[u8]| records::plain(kind, content);
    vec![
        says("a record of the maximum length", [HANDSHAKE, 3, 3, 0xff, 0xff]),
        says("a record of unknown type", record(99, b"what?")),
        says("a heartbeat", record(HEARTBEAT, &[1, 0x40, 0, 1, 2, 3])),
        says("data in the clear", record(DATA, b"data")),
        says("an alert without content", record(ALERT, &[])),
        says("an alert of one byte", record(ALERT, &[FATAL])),
        says("an alert of unknown level", record(ALERT, &[9, 40])),
        says("a fatal alert", record(ALERT, &[FATAL, 40])),
        says("a fatal alert of unknown kind", record(ALERT, &[FATAL, 255])),
        // During a handshake rustls treats close_notify as a warning, so only FIN ends it.
        Behaviour::never_opens("close_notify and silence", TimedOut, |server| {
            server.hear()?;
            server.plain(ALERT, &[WARNING, CLOSE_NOTIFY])
        }),
        Behaviour::never_opens("close_notify and a FIN", Tls, |server| {
            server.hear()?;
            server.plain(ALERT, &[WARNING, CLOSE_NOTIFY])?;
            server.fin()
        }),
        says("an invalid ChangeCipherSpec", record(CHANGE_CIPHER_SPEC, &[2])),
        says("a ChangeCipherSpec of many bytes", record(CHANGE_CIPHER_SPEC, &[1; 100])),
        says("a record of version 4", [HANDSHAKE, 4, 0, 0, 4, 0, 0, 0, 0]),
    ]
}

fn fragments() -> Vec<Behaviour> {
    vec![
        Behaviour::never_opens("half a record's header", TimedOut, |server| {
            server.hear()?;
            server.raw(&[HANDSHAKE, 3, 3])
        }),
        Behaviour::never_opens("a header without a record", TimedOut, |server| {
            server.hear()?;
            server.raw(&[HANDSHAKE, 3, 3, 0x10, 0])
        }),
        Behaviour::never_opens("a record that drips", TimedOut, |server| {
            server.hear()?;
            let hello = server.right_hello()?.encode();
            server.drip(&records::plain(HANDSHAKE, &hello), Duration::from_millis(50))
        }),
        Behaviour::never_opens("endless messages", TimedOut, |server| {
            server.hear()?;
            server.plain(HANDSHAKE, &records::handshake_header(message::SERVER_HELLO, 5000))?;
            for _ in 0..200 {
                server.plain(HANDSHAKE, &[0])?;
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        }),
        says("a message that is too long", {
            let mut content = records::handshake_header(message::SERVER_HELLO, 0xff_ffff);
            content.resize(1000, 0);
            records::plain(HANDSHAKE, &content)
        }),
    ]
}

fn floods() -> Vec<Behaviour> {
    fn flood(name: &str, bytes: impl Into<Vec<u8>>) -> Behaviour {
        let bytes = bytes.into();
        Behaviour::never_opens(name, Tls, move |server| {
            server.hear()?;
            server.flood(&bytes)
        })
        .flood()
    }
    let record = records::plain;
    let endless = Behaviour::never_opens("an endless message", Tls, |server| {
        server.hear()?;
        server.plain(HANDSHAKE, &records::handshake_header(message::SERVER_HELLO, 0xffff))?;
        server.flood(&records::plain(HANDSHAKE, &[0; 16_000]))
    });
    let hellos = Behaviour::never_opens("a flood of ServerHellos", Tls, |server| {
        server.hear()?;
        let hello: ServerHello = server.right_hello()?;
        server.flood(&records::plain(HANDSHAKE, &hello.encode()))
    });
    let crumbs = Behaviour::never_opens("an endless message in crumbs", Tls, |server| {
        server.hear()?;
        server.plain(HANDSHAKE, &records::handshake_header(message::SERVER_HELLO, 0xffff))?;
        server.flood(&records::plain(HANDSHAKE, &[0]))
    });
    vec![
        crumbs.flood(),
        flood("a flood of zeros", [0]),
        flood("a flood of text", *b"220-welcome\r\n"),
        flood("a flood of empty messages", record(HANDSHAKE, &[])),
        flood("a flood of empty alerts", record(ALERT, &[])),
        flood("a flood of warnings", record(ALERT, &[WARNING, 90])),
        flood("a flood of ChangeCipherSpecs", record(CHANGE_CIPHER_SPEC, &[1])),
        flood("a flood of HelloRequests", record(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0])),
        endless.flood(),
        hellos.flood(),
    ]
}
