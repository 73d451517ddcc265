//! Handshake messages after the handshake: tickets, key updates, renegotiation, and unexpected ones.

use std::thread;
use std::time::Duration;

use sockeye::ErrorKind::{TimedOut, Tls};

use crate::behaviour::{Behaviour, Outcome};
use crate::forge::Version::{Tls12, Tls13};
use crate::forge::records::{self, DATA, HANDSHAKE, message};
use crate::forge::tls13::{certificate_request, encrypted_extensions, key_update, ticket};

pub fn all() -> Vec<Behaviour> {
    [tickets(), new_keys(), renegotiation(), out_of_turn()].into_iter().flatten().collect()
}

fn tickets() -> Vec<Behaviour> {
    vec![
        Behaviour::stays_open("a ticket", Tls13, |server| server.sealed(HANDSHAKE, &ticket(200))),
        Behaviour::stays_open("a ticket of 60,000 bytes", Tls13, |server| {
            server.say(&ticket(60_000))
        }),
        Behaviour::stays_open("an occasional ticket", Tls13, |server| {
            for _ in 0..20 {
                server.sealed(HANDSHAKE, &ticket(200))?;
                thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        }),
        Behaviour::stays_open("200 tickets", Tls13, |server| {
            (0..200).try_for_each(|_| server.sealed(HANDSHAKE, &ticket(200)))
        }),
        Behaviour::stays_open("a ticket every 5 ms", Tls13, |server| {
            for _ in 0..400 {
                server.sealed(HANDSHAKE, &ticket(200))?;
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        }),
        Behaviour::fails("a ticket without an identity", Tls13, Tls, |server| {
            server.sealed(HANDSHAKE, &ticket(0))
        }),
        Behaviour::fails("a ticket of noise", Tls13, Tls, |server| {
            server.sealed(HANDSHAKE, &records::handshake(message::NEW_SESSION_TICKET, &[9; 50]))
        }),
        Behaviour::fails("a ticket that is too long", Tls13, Tls, |server| {
            let mut message = records::handshake_header(message::NEW_SESSION_TICKET, 0x01_0000);
            message.resize(1000, 0);
            server.sealed(HANDSHAKE, &message)
        }),
        Behaviour::fails("a ticket after the handshake", Tls12, Tls, |server| {
            let body = [&[0, 0, 1, 0, 0, 100][..], &[5; 100]].concat();
            server.sealed(HANDSHAKE, &records::handshake(message::NEW_SESSION_TICKET, &body))
        }),
    ]
}

fn new_keys() -> Vec<Behaviour> {
    vec![
        Behaviour::stays_open("a KeyUpdate", Tls13, |server| server.update_keys(false)),
        Behaviour::stays_open("a KeyUpdate that requests another", Tls13, |server| {
            server.update_keys(true)
        }),
        Behaviour::stays_open("an occasional KeyUpdate", Tls13, |server| {
            for _ in 0..20 {
                server.update_keys(true)?;
                thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        }),
        around_every_byte("KeyUpdates around every byte"),
        around_every_byte("KeyUpdates around every byte, from a server that reads nothing")
            .reads_nothing(Tls13, |server| {
                for _ in 0..2000 {
                    server.update_keys(true)?;
                    server.data(1)?;
                }
                Ok(())
            }),
        Behaviour::fails("a KeyUpdate without a change of keys", Tls13, Tls, |server| {
            server.sealed(HANDSHAKE, &key_update(1))?;
            server.data(10)
        }),
        Behaviour::fails("a KeyUpdate with an unknown request", Tls13, Tls, |server| {
            server.sealed(HANDSHAKE, &key_update(2))
        }),
        Behaviour::fails("an empty KeyUpdate", Tls13, Tls, |server| {
            server.sealed(HANDSHAKE, &records::handshake(message::KEY_UPDATE, &[]))
        }),
        Behaviour::fails("a KeyUpdate with more in its record", Tls13, Tls, |server| {
            let content = [key_update(0), ticket(10)].concat();
            server.sealed(HANDSHAKE, &content)
        }),
        Behaviour::fails("a KeyUpdate", Tls12, Tls, |server| {
            server.sealed(HANDSHAKE, &key_update(1))
        }),
    ]
}

fn around_every_byte(name: &str) -> Behaviour {
    let reading = Outcome::Fails(TimedOut);
    Behaviour::after_data(name, Tls13, 300, reading, |server| {
        for _ in 0..300 {
            server.update_keys(true)?;
            server.data(1)?;
        }
        Ok(())
    })
    .busy()
}

fn renegotiation() -> Vec<Behaviour> {
    vec![
        Behaviour::stays_open("a HelloRequest", Tls12, |server| {
            server.sealed(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0])
        }),
        Behaviour::after_data(
            "a HelloRequest and data at once",
            Tls12,
            1,
            Outcome::Fails(TimedOut),
            |server| {
                server.cork();
                server.sealed(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0])?;
                server.data(1)?;
                server.uncork()
            },
        ),
        Behaviour::after_data(
            "a HelloRequest after every byte",
            Tls12,
            1,
            Outcome::Fails(Tls),
            |server| {
                for _ in 0..50 {
                    server.data(1)?;
                    server.sealed(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0])?;
                }
                Ok(())
            },
        )
        .or_writing(Tls),
        Behaviour::fails("two HelloRequests", Tls12, Tls, |server| {
            server.sealed(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0])?;
            server.sealed(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0])
        }),
        Behaviour::stays_open("a HelloRequest that is not empty", Tls12, |server| {
            server.sealed(HANDSHAKE, &records::handshake(message::HELLO_REQUEST, &[1]))
        }),
        Behaviour::fails("a HelloRequest", Tls13, Tls, |server| {
            server.sealed(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0])
        }),
        Behaviour::fails("a CertificateRequest", Tls13, Tls, |server| {
            server.sealed(HANDSHAKE, &certificate_request(b"later"))
        }),
    ]
}

fn out_of_turn() -> Vec<Behaviour> {
    let mut all = Vec::new();
    for version in super::BOTH {
        for (name, kind) in [
            ("ClientHello", message::CLIENT_HELLO),
            ("ServerHello", message::SERVER_HELLO),
            ("certificate", message::CERTIFICATE),
            ("Finished", message::FINISHED),
            ("message of unknown type", 200),
        ] {
            let name = format!("a {name} after the handshake");
            all.push(Behaviour::fails(&name, version, Tls, move |server| {
                server.sealed(HANDSHAKE, &records::handshake(kind, &[0; 40]))
            }));
        }
        all.extend([
            Behaviour::stays_open("half a message", version, |server| {
                server
                    .sealed(HANDSHAKE, &records::handshake_header(message::NEW_SESSION_TICKET, 99))
            }),
            Behaviour::fails("half a message and data", version, Tls, |server| {
                let half = records::handshake_header(message::NEW_SESSION_TICKET, 99);
                server.sealed(HANDSHAKE, &half)?;
                server.sealed(DATA, b"data")
            }),
            Behaviour::fails(
                "half a message and a FIN",
                version,
                sockeye::ErrorKind::Truncated,
                |server| {
                    let half = records::handshake_header(message::NEW_SESSION_TICKET, 99);
                    server.sealed(HANDSHAKE, &half)?;
                    server.fin()
                },
            ),
            Behaviour::fails("a message of 16 MiB", version, Tls, |server| {
                let half = records::handshake_header(message::NEW_SESSION_TICKET, 0xff_ffff);
                server.sealed(HANDSHAKE, &half)
            }),
        ]);
    }
    all.push(Behaviour::fails("EncryptedExtensions after the handshake", Tls13, Tls, |server| {
        server.sealed(HANDSHAKE, &encrypted_extensions(&[]))
    }));
    all
}
