//! Faulty handshakes of TLS 1.2.

use std::io;

use sockeye::ErrorKind::{Reset, TimedOut, Tls};

use crate::behaviour::Behaviour;
use crate::forge::records::{
    self, ALERT, CHANGE_CIPHER_SPEC, CLOSE_NOTIFY, DATA, HANDSHAKE, WARNING, message,
};
use crate::forge::tls12::{Exchange, certificate12};
use crate::forge::{SECP256R1, Server, ServerHello, identity};

pub fn all() -> Vec<Behaviour> {
    [ends(), hellos(), exchanges(), messages(), finishes()].into_iter().flatten().collect()
}

/// Runs the script after a ServerHello of TLS 1.2.
fn greets(
    name: &str,
    play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
) -> Behaviour {
    Behaviour::never_opens(&format!("{name}, TLS 1.2"), Tls, move |server| {
        server.greet12()?;
        play(server)
    })
}

/// Runs the script in place of the server's ChangeCipherSpec and Finished.
fn exchanges_keys(
    name: &str,
    play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
) -> Behaviour {
    greets(name, move |server| {
        server.exchange_keys()?;
        play(server)
    })
}

fn ends() -> Vec<Behaviour> {
    vec![
        Behaviour::never_opens("silence after the ServerHello, TLS 1.2", TimedOut, |server| {
            server.greet12()
        }),
        greets("a FIN after the ServerHello", Server::fin),
        Behaviour::never_opens("a reset after the ServerHello, TLS 1.2", Reset, |server| {
            server.greet12()?;
            server.reset()
        }),
        Behaviour::never_opens("silence before the Finished, TLS 1.2", TimedOut, |server| {
            server.greet12()?;
            server.exchange_keys()
        }),
        exchanges_keys("a FIN before the Finished", Server::fin),
        Behaviour::never_opens("a reset before the Finished, TLS 1.2", Reset, |server| {
            server.greet12()?;
            server.exchange_keys()?;
            server.reset()
        }),
        Behaviour::never_opens("close_notify before the Finished, TLS 1.2", TimedOut, |server| {
            server.greet12()?;
            server.exchange_keys()?;
            server.plain(ALERT, &[WARNING, CLOSE_NOTIFY])
        }),
        exchanges_keys("close_notify before the Finished and a FIN", |server| {
            server.plain(ALERT, &[WARNING, CLOSE_NOTIFY])?;
            server.fin()
        }),
        exchanges_keys("a fatal alert before the Finished", |server| server.plain(ALERT, &[2, 40])),
    ]
}

fn hellos() -> Vec<Behaviour> {
    let changes = |name: &str, change: fn(&mut ServerHello)| {
        Behaviour::never_opens(&format!("a ServerHello {name}, TLS 1.2"), Tls, move |server| {
            server.hear()?;
            let mut hello = ServerHello::tls12();
            change(&mut hello);
            server.say_plain(&hello.encode())?;
            server.exchange_keys()
        })
    };
    let takes = |name: &str, change: fn(&mut ServerHello)| {
        Behaviour::opens_late(&format!("a ServerHello {name}, TLS 1.2"), move |server| {
            server.hear()?;
            let mut hello = ServerHello::tls12();
            change(&mut hello);
            server.say_plain(&hello.encode())?;
            server.exchange_keys()?;
            server.finish12()?;
            server.discard();
            Ok(())
        })
    };
    vec![
        changes("of a suite without forward secrecy", |hello| hello.suite = 0x009c),
        changes("of RC4", |hello| hello.suite = 0x0005),
        changes("of no encryption", |hello| hello.suite = 0x0000),
        changes("of a suite of TLS 1.3", |hello| hello.suite = 0x1301),
        changes("with compression", |hello| hello.compression = 1),
        changes("with an unrequested extension", |hello| hello.set(0xfefe, vec![1])),
        // rustls ignores these extensions in TLS 1.2.
        takes("with a share", |hello| hello.set_share(29, &[9; 32])),
        takes("with a renegotiation_info for no renegotiation", |hello| {
            hello.set(0xff01, vec![12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        }),
    ]
}

fn exchanges() -> Vec<Behaviour> {
    let changes = |name: &str, change: fn(&mut Exchange)| {
        greets(name, move |server| {
            server.say_certificate12()?;
            let (mut exchange, own) = server.begin_exchange()?;
            change(&mut exchange);
            server.say_exchange(&exchange)?;
            server.say_done()?;
            server.hear_keys(own)
        })
    };
    vec![
        changes("a ServerKeyExchange with a signature of other data", |exchange| {
            exchange.forged = true
        }),
        changes("a ServerKeyExchange with a SHA-1 signature", |exchange| exchange.scheme = 0x0203),
        changes("a ServerKeyExchange with an RSA signature", |exchange| exchange.scheme = 0x0804),
        changes("a ServerKeyExchange with an explicit curve", |exchange| exchange.curve_type = 1),
        changes("a ServerKeyExchange with a group that was not offered", |exchange| {
            exchange.group = 30
        }),
        changes("a ServerKeyExchange with a point off the curve", |exchange| {
            exchange.group = SECP256R1;
            exchange.share = vec![4; 65];
        }),
        changes("a ServerKeyExchange with a share of zeros", |exchange| {
            exchange.share = vec![0; 32]
        }),
        changes("a ServerKeyExchange with an empty share", |exchange| exchange.share.clear()),
    ]
}

fn messages() -> Vec<Behaviour> {
    vec![
        greets("no certificate", |server| {
            let (exchange, _own) = server.begin_exchange()?;
            server.say_exchange(&exchange)
        }),
        greets("an empty list of certificates", |server| {
            server.say_plain(&certificate12(&[]))?;
            let (exchange, _own) = server.begin_exchange()?;
            server.say_exchange(&exchange)?;
            server.say_done()
        }),
        greets("a certificate of an unknown authority", |server| {
            server.identity = identity::of_unknown_authority();
            server.exchange_keys()
        }),
        greets("70,000 bytes of certificates", |server| {
            let chain = [identity::good().chain, identity::strangers(70_000)].concat();
            server.identity = identity::good().with_chain(chain);
            server.exchange_keys()
        }),
        greets("an endless certificate", |server| {
            let header = records::handshake_header(message::CERTIFICATE, 0xffff);
            server.plain(HANDSHAKE, &header)?;
            server.flood(&records::plain(HANDSHAKE, &[0; 16_000]))
        })
        .flood(),
        greets("a ServerHelloDone without a ServerKeyExchange", |server| {
            server.say_certificate12()?;
            server.say_done()
        }),
        greets("an unrequested CertificateStatus of 64 KiB", |server| {
            server.say_certificate12()?;
            let mut status = vec![1];
            records::vec24(&mut status, &vec![0; 65_000]);
            server.say_plain(&records::handshake(message::CERTIFICATE_STATUS, &status))?;
            server.say_done()
        }),
        greets("data in the clear after the ServerHello", |server| server.plain(DATA, b"data")),
        greets("an early ChangeCipherSpec", |server| server.plain(CHANGE_CIPHER_SPEC, &[1])),
        greets("a ClientKeyExchange from the server", |server| {
            server.say_plain(&records::handshake(message::CLIENT_KEY_EXCHANGE, &[32; 33]))
        }),
        greets("a Finished in the clear", |server| {
            server.say_plain(&records::handshake(message::FINISHED, &[0; 12]))
        }),
        greets("a flood of HelloRequests in the handshake", |server| {
            server.flood(&records::plain(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0]))
        })
        .flood(),
        greets("a flood of empty messages in the handshake", |server| {
            server.flood(&records::plain(HANDSHAKE, &[]))
        })
        .flood(),
        greets("a flood of warnings in the handshake", |server| {
            server.flood(&records::plain(ALERT, &[WARNING, 90]))
        })
        .flood(),
    ]
}

fn finishes() -> Vec<Behaviour> {
    vec![
        exchanges_keys("a wrong Finished", |server| {
            server.change_ciphers()?;
            let mut finished = server.finished12();
            finished[5] ^= 1;
            server.sealed(HANDSHAKE, &finished)
        }),
        exchanges_keys("a Finished without a ChangeCipherSpec", |server| {
            let finished = server.finished12();
            server.plain(HANDSHAKE, &finished)
        }),
        exchanges_keys("a Finished in the clear after a ChangeCipherSpec", |server| {
            server.change_ciphers()?;
            let finished = server.finished12();
            server.plain(HANDSHAKE, &finished)
        }),
        exchanges_keys("a Finished with a wrong tag", |server| {
            server.change_ciphers()?;
            let finished = server.finished12();
            let mut record = server.seal(HANDSHAKE, &finished);
            *record.last_mut().expect("it is not empty") ^= 1;
            server.raw(&record)
        }),
        exchanges_keys("data in place of the Finished", |server| {
            server.change_ciphers()?;
            server.sealed(DATA, b"data")
        }),
        exchanges_keys("a HelloRequest in place of the Finished", |server| {
            server.change_ciphers()?;
            server.sealed(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0])
        }),
        exchanges_keys("an unrequested ticket and two ChangeCipherSpecs", |server| {
            server.plain(CHANGE_CIPHER_SPEC, &[1])?;
            server.plain(CHANGE_CIPHER_SPEC, &[1])
        }),
    ]
}
