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
        Behaviour::stays_open("a ticket now and then", Tls13, |server| {
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
        Behaviour::fails("a ticket longer than may be", Tls13, Tls, |server| {
            let mut message = records::handshake_header(message::NEW_SESSION_TICKET, 0x01_0000);
            message.resize(1000, 0);
            server.sealed(HANDSHAKE, &message)
        }),
        Behaviour::fails("a ticket, too late", Tls12, Tls, |server| {
            let body = [&[0, 0, 1, 0, 0, 100][..], &[5; 100]].concat();
            server.sealed(HANDSHAKE, &records::handshake(message::NEW_SESSION_TICKET, &body))
        }),
    ]
}

fn new_keys() -> Vec<Behaviour> {
    vec![
        Behaviour::stays_open("new keys", Tls13, |server| server.update_keys(false)),
        Behaviour::stays_open("new keys asked for", Tls13, |server| server.update_keys(true)),
        Behaviour::stays_open("new keys now and then", Tls13, |server| {
            for _ in 0..20 {
                server.update_keys(true)?;
                thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        }),
        around_every_byte("new keys around every byte"),
        around_every_byte("new keys around every byte, of a server that reads nothing")
            .reads_nothing(Tls13, |server| {
                for _ in 0..2000 {
                    server.update_keys(true)?;
                    server.data(1)?;
                }
                Ok(())
            }),
        Behaviour::fails("new keys that are not used", Tls13, Tls, |server| {
            server.sealed(HANDSHAKE, &key_update(1))?;
            server.data(10)
        }),
        Behaviour::fails("new keys asked for in no known way", Tls13, Tls, |server| {
            server.sealed(HANDSHAKE, &key_update(2))
        }),
        Behaviour::fails("new keys without a word", Tls13, Tls, |server| {
            server.sealed(HANDSHAKE, &records::handshake(message::KEY_UPDATE, &[]))
        }),
        Behaviour::fails("new keys with more in their record", Tls13, Tls, |server| {
            let content = [key_update(0), ticket(10)].concat();
            server.sealed(HANDSHAKE, &content)
        }),
        Behaviour::fails("new keys", Tls12, Tls, |server| server.sealed(HANDSHAKE, &key_update(1))),
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
        Behaviour::stays_open("a hello request", Tls12, |server| {
            server.sealed(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0])
        }),
        Behaviour::after_data(
            "a hello request after every byte",
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
        Behaviour::fails("two hello requests", Tls12, Tls, |server| {
            server.sealed(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0])?;
            server.sealed(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0])
        }),
        Behaviour::stays_open("a hello request with something in it", Tls12, |server| {
            server.sealed(HANDSHAKE, &records::handshake(message::HELLO_REQUEST, &[1]))
        }),
        Behaviour::fails("a hello request", Tls13, Tls, |server| {
            server.sealed(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0])
        }),
        Behaviour::fails("a request for a certificate", Tls13, Tls, |server| {
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
            ("message of no known type", 200),
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
                "half a message and an end",
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
    all.push(Behaviour::fails("extensions after the handshake", Tls13, Tls, |server| {
        server.sealed(HANDSHAKE, &encrypted_extensions(&[]))
    }));
    all
}
