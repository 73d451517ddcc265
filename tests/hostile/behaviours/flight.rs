//! The encrypted part of a TLS 1.3 handshake: wrong, missing, and too many records and messages.

use std::io;
use std::time::Duration;

use sockeye::ErrorKind::{Reset, TimedOut, Tls};

use crate::behaviour::Behaviour;
use crate::forge::Server;
use crate::forge::records::{
    self, ALERT, CHANGE_CIPHER_SPEC, CLOSE_NOTIFY, DATA, FATAL, HANDSHAKE, HEARTBEAT, MAX_RECORD,
    WARNING, message,
};
use crate::forge::tls13::{
    certificate_request, certificate_verify, encrypted_extensions, key_update, ticket,
};

pub fn all() -> Vec<Behaviour> {
    [ends(), sealed_records(), extensions(), messages(), floods(), late()]
        .into_iter()
        .flatten()
        .collect()
}

/// Runs the script after a correct ServerHello.
fn greets(
    name: &str,
    play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
) -> Behaviour {
    Behaviour::never_opens(name, Tls, move |server| {
        server.greet()?;
        play(server)
    })
}

/// Runs the script after the server's CertificateVerify.
fn proves(
    name: &str,
    play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
) -> Behaviour {
    greets(name, move |server| {
        server.say(&encrypted_extensions(&[]))?;
        server.say_certificate()?;
        play(server)
    })
}

fn ends() -> Vec<Behaviour> {
    vec![
        Behaviour::never_opens("silence after the ServerHello", TimedOut, |server| server.greet()),
        greets("a FIN after the ServerHello", Server::fin),
        Behaviour::never_opens("a reset after the ServerHello", Reset, |server| {
            server.greet()?;
            server.reset()
        }),
        Behaviour::never_opens("silence before the Finished", TimedOut, |server| {
            server.greet()?;
            server.say(&encrypted_extensions(&[]))?;
            server.say_certificate()
        }),
        proves("a FIN before the Finished", Server::fin),
        Behaviour::never_opens("a reset before the Finished", Reset, |server| {
            server.greet()?;
            server.say(&encrypted_extensions(&[]))?;
            server.say_certificate()?;
            server.reset()
        }),
        greets("close_notify in the handshake", Server::close_notify),
        greets("close_notify in the handshake and a FIN", |server| {
            server.close_notify()?;
            server.fin()
        }),
        greets("close_notify in the handshake, in the clear", |server| {
            server.plain(ALERT, &[WARNING, CLOSE_NOTIFY])
        }),
        greets("a fatal alert in the handshake", |server| server.fatal(40)),
        greets("a fatal alert in the handshake, in the clear", |server| {
            server.plain(ALERT, &[FATAL, 40])
        }),
        proves("a fatal alert before the Finished", |server| server.fatal(80)),
    ]
}

fn sealed_records() -> Vec<Behaviour> {
    vec![
        greets("a record with a wrong tag in the handshake", |server| {
            let mut record = server.seal(HANDSHAKE, &encrypted_extensions(&[]));
            *record.last_mut().expect("it is not empty") ^= 1;
            server.raw(&record)
        }),
        greets("a missing record in the handshake", |server| {
            server.sealer().sequence += 1;
            server.say(&encrypted_extensions(&[]))
        }),
        greets("a repeated record in the handshake", |server| {
            let record = server.seal(HANDSHAKE, &encrypted_extensions(&[]));
            server.raw(&record)?;
            server.raw(&record)
        }),
        greets("a record without a type in the handshake", |server| {
            let record = server.sealer().seal_inner(vec![0; 100]);
            server.raw(&record)
        }),
        greets("an empty record in the handshake", |server| server.raw(&records::plain(DATA, &[]))),
        greets("a record shorter than its tag in the handshake", |server| {
            server.raw(&records::plain(DATA, &[1; 10]))
        }),
        greets("a record that is too long in the handshake", |server| {
            server.raw(&[DATA, 3, 3, 0x48, 0x01])?;
            server.raw(&[0; 0x4801])
        }),
        greets("a record with too much content in the handshake", |server| {
            let record = server.seal(HANDSHAKE, &[0; MAX_RECORD + 1]);
            server.raw(&record)
        }),
        greets("a record of unknown type in the handshake", |server| server.sealed(77, b"what?")),
        greets("a heartbeat in the handshake", |server| server.sealed(HEARTBEAT, &[1, 0, 1, 2])),
        greets("data in the handshake", |server| server.sealed(DATA, b"data")),
        proves("data before the Finished", |server| server.sealed(DATA, b"data")),
        proves("data with application keys before the Finished", |server| {
            server.use_data_keys();
            server.data(100)
        }),
        greets("messages in the clear after the ServerHello", |server| {
            server.plain(HANDSHAKE, &encrypted_extensions(&[]))
        }),
    ]
}

fn extensions() -> Vec<Behaviour> {
    const ALPN: u16 = 16;
    const KEY_SHARE: u16 = 51;
    const EARLY_DATA: u16 = 42;
    let says = |name: &str, extensions: Vec<(u16, Vec<u8>)>| {
        greets(name, move |server| {
            server.say(&encrypted_extensions(&extensions))?;
            server.say_certificate()?;
            server.say(&server.finished())?;
            server.finish()
        })
    };
    vec![
        says("an ALPN protocol that was not offered", vec![(ALPN, vec![0, 3, 2, b'h', b'2'])]),
        says("an unrequested extension", vec![(0xfefe, vec![1, 2, 3])]),
        says("an unrequested extension of 60,000 bytes", vec![(0xfefe, vec![1; 60_000])]),
        says("a thousand extensions", (0..1000).map(|kind| (0x4000 + kind, vec![0; 20])).collect()),
        says("a misplaced extension", vec![(KEY_SHARE, vec![0, 29, 0, 0])]),
        says("early data that was not offered", vec![(EARLY_DATA, Vec::new())]),
        says("a repeated extension", vec![(10, vec![0, 2, 0, 29]), (10, vec![0, 2, 0, 29])]),
        greets("truncated EncryptedExtensions", |server| {
            server.say(&records::handshake(message::ENCRYPTED_EXTENSIONS, &[0, 50, 0, 16, 0]))
        }),
        greets("repeated EncryptedExtensions", |server| {
            server.say(&encrypted_extensions(&[]))?;
            server.say(&encrypted_extensions(&[]))
        }),
    ]
}

fn messages() -> Vec<Behaviour> {
    let extended = |name: &str, play: fn(&mut Server) -> io::Result<()>| {
        greets(name, move |server| {
            server.say(&encrypted_extensions(&[]))?;
            play(server)
        })
    };
    vec![
        extended("a Finished in place of a certificate", |server| server.say(&server.finished())),
        greets("an immediate Finished", |server| server.say(&server.finished())),
        greets("a certificate before the EncryptedExtensions", Server::say_certificate),
        extended("a certificate without a CertificateVerify", |server| {
            server.say_only_certificate()?;
            server.say(&server.finished())
        }),
        extended("a certificate with a wrong signature", |server| {
            server.say_only_certificate()?;
            let verify = certificate_verify(0x0403, &server.identity.sign(b"something else"));
            server.say(&verify)?;
            server.say(&server.finished())
        }),
        extended("a certificate with noise as its signature", |server| {
            server.say_only_certificate()?;
            server.say(&certificate_verify(0x0403, &[0x30; 70]))
        }),
        extended("a certificate with an empty signature", |server| {
            server.say_only_certificate()?;
            server.say(&certificate_verify(0x0403, &[]))
        }),
        extended("a certificate with a SHA-1 signature", |server| {
            server.say_only_certificate()?;
            server.say(&certificate_verify(0x0203, &server.identity.sign(b"x")))
        }),
        extended("a certificate with a signature of 60,000 bytes", |server| {
            server.say_only_certificate()?;
            server.say(&certificate_verify(0x0403, &[0x30; 60_000]))
        }),
        proves("a repeated certificate", |server| server.say_only_certificate()),
        proves("a wrong Finished", |server| {
            let mut finished = server.finished();
            finished[10] ^= 1;
            server.say(&finished)
        }),
        proves("a Finished that is too short", |server| {
            server.say(&records::handshake(message::FINISHED, &[0; 12]))
        }),
        proves("a Finished with more in its record", |server| {
            let content = [server.finished(), key_update(0)].concat();
            server.sealed(HANDSHAKE, &content)
        }),
        greets("a KeyUpdate in the handshake", |server| server.say(&key_update(1))),
        proves("a ticket before the Finished", |server| server.say(&ticket(100))),
        proves("a late CertificateRequest", |server| server.say(&certificate_request(&[]))),
        extended("an empty CertificateRequest", |server| {
            server.say(&records::handshake(message::CERTIFICATE_REQUEST, &[0, 0, 0]))
        }),
        extended("two CertificateRequests", |server| {
            server.say(&certificate_request(&[]))?;
            server.say(&certificate_request(&[]))
        }),
        greets("an EndOfEarlyData", |server| {
            server.say(&records::handshake(message::END_OF_EARLY_DATA, &[]))
        }),
        greets("a HelloRequest in TLS 1.3", |server| {
            server.say(&records::handshake(message::HELLO_REQUEST, &[]))
        }),
        greets("a message of unknown type", |server| {
            server.say(&records::handshake(200, &[1; 50]))
        }),
        greets("half a message and an alert", |server| {
            server
                .sealed(HANDSHAKE, &records::handshake_header(message::ENCRYPTED_EXTENSIONS, 99))?;
            server.fatal(40)
        }),
        greets("half a message and data", |server| {
            server
                .sealed(HANDSHAKE, &records::handshake_header(message::ENCRYPTED_EXTENSIONS, 99))?;
            server.sealed(DATA, b"data")
        }),
        Behaviour::never_opens("half a message and silence", TimedOut, |server| {
            server.greet()?;
            server.sealed(HANDSHAKE, &records::handshake_header(message::ENCRYPTED_EXTENSIONS, 99))
        }),
    ]
}

fn floods() -> Vec<Behaviour> {
    vec![
        greets("a flood of empty messages in the handshake", |server| {
            server.flood_with(|sealer| sealer.seal(HANDSHAKE, &[]))
        })
        .flood(),
        greets("a flood of padding in the handshake", |server| {
            server.flood_with(|sealer| {
                let mut inner = vec![HANDSHAKE];
                inner.resize(MAX_RECORD, 0);
                sealer.seal_inner(inner)
            })
        })
        .flood(),
        greets("a flood of warnings in the handshake", |server| {
            server.flood_with(|sealer| sealer.seal(ALERT, &[WARNING, 90]))
        })
        .flood(),
        greets("a flood of ChangeCipherSpecs in the handshake", |server| {
            server.flood(&records::plain(CHANGE_CIPHER_SPEC, &[1]))
        })
        .flood(),
        greets("endless EncryptedExtensions", |server| {
            let header = records::handshake_header(message::ENCRYPTED_EXTENSIONS, 0xffff);
            server.sealed(HANDSHAKE, &header)?;
            server.flood_with(|sealer| sealer.seal(HANDSHAKE, &[0; MAX_RECORD]))
        })
        .flood(),
        greets("endless EncryptedExtensions in crumbs", |server| {
            let header = records::handshake_header(message::ENCRYPTED_EXTENSIONS, 0xffff);
            server.sealed(HANDSHAKE, &header)?;
            server.flood_with(|sealer| sealer.seal(HANDSHAKE, &[0]))
        })
        .flood(),
        greets("a flood of EncryptedExtensions", |server| {
            let message = encrypted_extensions(&[]);
            server.flood_with(move |sealer| sealer.seal(HANDSHAKE, &message))
        })
        .flood(),
    ]
}

fn late() -> Vec<Behaviour> {
    /// Sends everything after the ServerHello in records of one byte.
    fn crumbles(server: &mut Server, pause: Duration) -> io::Result<()> {
        let say = |server: &mut Server, message: &[u8]| {
            server.transcript.extend(message);
            for byte in message {
                server.sealed(HANDSHAKE, &[*byte])?;
                std::thread::sleep(pause);
            }
            Ok::<_, io::Error>(())
        };
        server.greet()?;
        say(server, &encrypted_extensions(&[]))?;
        let certificate = crate::forge::tls13::certificate(&server.identity.chain);
        say(server, &certificate)?;
        say(server, &server.certificate_verify())?;
        say(server, &server.finished())?;
        server.finish()?;
        server.discard();
        Ok(())
    }
    vec![
        Behaviour::opens_late("a handshake in crumbs", |server| crumbles(server, Duration::ZERO))
            .busy(),
        Behaviour::never_opens("a handshake in crumbs that drip", TimedOut, |server| {
            crumbles(server, Duration::from_millis(20))
        }),
        Behaviour::opens_late("a CertificateRequest", |server| {
            server.greet()?;
            server.say(&encrypted_extensions(&[]))?;
            server.say(&certificate_request(&[]))?;
            server.say_certificate()?;
            server.say(&server.finished())?;
            server.finish()?;
            server.discard();
            Ok(())
        }),
    ]
}
