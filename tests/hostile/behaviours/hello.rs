//! A ServerHello that is wrong or incomplete.

use std::io;
use std::time::Duration;

use sockeye::ErrorKind::{Reset, TimedOut, Tls};

use crate::behaviour::Behaviour;
use crate::forge::records::{self, HANDSHAKE, message};
use crate::forge::{SECP256R1, Server, ServerHello};

pub fn all() -> Vec<Behaviour> {
    [wrong(), cut(), late()].into_iter().flatten().collect()
}

/// Changes a correct ServerHello and sends it, and then the rest of the handshake.
fn changes(name: &str, change: fn(&mut ServerHello)) -> Behaviour {
    Behaviour::never_opens(&format!("a ServerHello {name}"), Tls, move |server| {
        server.hear()?;
        let mut hello = server.right_hello()?;
        change(&mut hello);
        server.answer(&hello)?;
        say_rest(server)
    })
}

/// Sends everything after the ServerHello.
fn say_rest(server: &mut Server) -> io::Result<()> {
    server.say_flight()?;
    server.finish()
}

fn wrong() -> Vec<Behaviour> {
    const X448: u16 = 30;
    const PRE_SHARED_KEY: u16 = 41;
    const ALPN: u16 = 16;
    vec![
        changes("of an unknown suite", |hello| hello.suite = 0x1399),
        changes("of a suite that was not offered", |hello| hello.suite = 0x1305),
        changes("of a suite of TLS 1.2", |hello| hello.suite = 0xc02b),
        changes("without encryption", |hello| hello.suite = 0),
        changes("with compression", |hello| hello.compression = 1),
        changes("without a share", ServerHello::drop_share),
        changes("with an empty share", |hello| hello.set_share(29, &[])),
        changes("with a share that is too short", |hello| hello.set_share(29, &[1; 31])),
        changes("with a share of zeros", |hello| hello.set_share(29, &[0; 32])),
        changes("with a share for another group", |hello| hello.set_share(SECP256R1, &[4; 65])),
        changes("with a share for a group that was not offered", |hello| {
            hello.set_share(X448, &[5; 56])
        }),
        changes("with a session that was not offered", |hello| {
            hello.set(PRE_SHARED_KEY, vec![0, 9]);
        }),
        changes("with an unrequested extension", |hello| hello.set(0xfefe, vec![1, 2, 3])),
        changes("with a misplaced extension", |hello| hello.set(ALPN, vec![0, 3, 2, b'h', b'2'])),
        changes("with a repeated extension", |hello| {
            let again = hello.extensions[0].clone();
            hello.extensions.push(again);
        }),
        changes("of a future version", |hello| hello.set_version(0x0305)),
        changes("with TLS 1.2 in supported_versions", |hello| hello.set_version(0x0303)),
        changes("of TLS 1.1", |hello| {
            hello.version = 0x0302;
            hello.drop_version();
        }),
        changes("of TLS 1.0", |hello| {
            hello.version = 0x0301;
            hello.drop_version();
        }),
        changes("of SSL 3", |hello| {
            hello.version = 0x0300;
            hello.drop_version();
        }),
        changes("of TLS 1.2 with a downgrade sentinel", |hello| {
            *hello = ServerHello::tls12();
            hello.random[24..].copy_from_slice(b"DOWNGRD\x01");
        }),
        changes("of TLS 1.2 with the sentinel of TLS 1.1", |hello| {
            *hello = ServerHello::tls12();
            hello.random[24..].copy_from_slice(b"DOWNGRD\x00");
        }),
        changes("with bytes after it", |hello| hello.trailing = vec![0; 10]),
        Behaviour::never_opens("a ServerHello with unrelated keys", Tls, |server| {
            server.hear()?;
            let hello = server.right_hello()?;
            server.secret[0] ^= 1;
            server.answer(&hello)?;
            say_rest(server)
        }),
        Behaviour::never_opens("two ServerHellos", Tls, |server| {
            server.hear()?;
            let hello = server.right_hello()?;
            let record = records::plain(HANDSHAKE, &hello.encode());
            server.raw(&record)?;
            server.answer(&hello)
        }),
        Behaviour::never_opens("a ServerHello with more in its record", Tls, |server| {
            server.hear()?;
            let hello = server.right_hello()?.encode();
            let more = records::handshake(message::ENCRYPTED_EXTENSIONS, &[0, 0]);
            server.plain(HANDSHAKE, &[hello, more].concat())
        }),
        Behaviour::never_opens("a ServerHello and the rest in the clear", Tls, |server| {
            server.hear()?;
            let hello = server.right_hello()?;
            server.plain(HANDSHAKE, &hello.encode())?;
            server.plain(HANDSHAKE, &records::handshake(message::ENCRYPTED_EXTENSIONS, &[0, 0]))
        }),
    ]
}

fn cut() -> Vec<Behaviour> {
    fn half(server: &mut Server) -> io::Result<()> {
        server.hear()?;
        let hello = server.right_hello()?;
        let record = records::plain(HANDSHAKE, &hello.encode());
        server.raw(&record[..record.len() / 2])
    }
    vec![
        Behaviour::never_opens("half a ServerHello", TimedOut, half),
        Behaviour::never_opens("half a ServerHello and a FIN", Tls, |server| {
            half(server)?;
            server.fin()
        }),
        Behaviour::never_opens("half a ServerHello and a reset", Reset, |server| {
            half(server)?;
            server.reset()
        }),
        Behaviour::never_opens("half a ServerHello and an alert", Tls, |server| {
            server.hear()?;
            let hello = server.right_hello()?.encode();
            server.plain(HANDSHAKE, &hello[..hello.len() / 2])?;
            server.plain(records::ALERT, &[records::FATAL, 40])
        }),
        Behaviour::never_opens("half a ServerHello and data", Tls, |server| {
            server.hear()?;
            let hello = server.right_hello()?.encode();
            server.plain(HANDSHAKE, &hello[..hello.len() / 2])?;
            server.plain(records::DATA, b"data")
        }),
    ]
}

fn late() -> Vec<Behaviour> {
    // RFC 8446, section 4.1.3, requires the client to refuse this. rustls does not check it, and nothing depends on it.
    let takes = |name: &str, change: fn(&mut ServerHello)| {
        Behaviour::opens_late(name, move |server| {
            server.hear()?;
            let mut hello = server.right_hello()?;
            change(&mut hello);
            server.answer(&hello)?;
            say_rest(server)?;
            server.discard();
            Ok(())
        })
    };
    vec![
        takes("a ServerHello with another session id", |hello| hello.session_id[0] ^= 1),
        takes("a ServerHello without a session id", |hello| hello.session_id.clear()),
        Behaviour::opens_late("a handshake, one byte at a time", |server| {
            server.hear()?;
            let hello = server.right_hello()?;
            let record = records::plain(HANDSHAKE, &hello.encode());
            server.drip(&record, Duration::ZERO)?;
            server.transcript.extend(hello.encode());
            server.use_handshake_keys();
            say_rest(server)?;
            server.discard();
            Ok(())
        })
        .busy(),
        Behaviour::opens_late("a ServerHello in records of one byte", |server| {
            server.hear()?;
            let hello = server.right_hello()?;
            let message = hello.encode();
            let records: Vec<u8> =
                message.iter().flat_map(|byte| records::plain(HANDSHAKE, &[*byte])).collect();
            server.raw(&records)?;
            server.transcript.extend(message);
            server.use_handshake_keys();
            say_rest(server)?;
            server.discard();
            Ok(())
        }),
    ]
}
