//! Floods after the handshake.

use std::time::Duration;

use sockeye::ErrorKind::{TimedOut, Tls};

use super::BOTH;
use crate::behaviour::{Behaviour, Outcome};
use crate::forge::Version::{Tls12, Tls13};
use crate::forge::records::{
    self, ALERT, CHANGE_CIPHER_SPEC, DATA, HANDSHAKE, MAX_RECORD, message,
};
use crate::forge::tls13::{key_update, ticket};

pub fn all() -> Vec<Behaviour> {
    [of_nothing(), of_messages(), of_data()].into_iter().flatten().map(Behaviour::flood).collect()
}

fn of_nothing() -> Vec<Behaviour> {
    let mut all = Vec::new();
    for version in BOTH {
        all.extend([
            Behaviour::fails("a flood of empty records", version, Tls, |server| {
                server.flood_with(|sealer| sealer.seal(DATA, &[]))
            }),
            Behaviour::fails("a flood of empty messages", version, Tls, |server| {
                server.flood_with(|sealer| sealer.seal(HANDSHAKE, &[]))
            }),
            Behaviour::fails("a flood of empty alerts", version, Tls, |server| {
                server.flood_with(|sealer| sealer.seal(ALERT, &[]))
            }),
            Behaviour::fails("a flood of noise", version, Tls, |server| {
                server.flood(&crate::pattern::bytes(0, 10_000))
            }),
            Behaviour::fails("a flood of zeros", version, Tls, |server| server.flood(&[0; 1000])),
            Behaviour::fails("a flood of ChangeCipherSpecs", version, Tls, |server| {
                server.flood(&records::plain(CHANGE_CIPHER_SPEC, &[1]))
            }),
        ]);
    }
    all.push(Behaviour::fails("a flood of empty records, all padding", Tls13, Tls, |server| {
        server.flood_with(|sealer| {
            let mut inner = vec![DATA];
            inner.resize(MAX_RECORD, 0);
            sealer.seal_inner(inner)
        })
    }));
    all
}

fn of_messages() -> Vec<Behaviour> {
    vec![
        Behaviour::fails("a flood of tickets", Tls13, Tls, |server| {
            server.flood_with(|sealer| sealer.seal(HANDSHAKE, &ticket(200)))
        }),
        Behaviour::fails("a flood of tickets of 60,000 bytes", Tls13, Tls, |server| {
            let message = ticket(60_000);
            server.flood_with(move |sealer| {
                let records = message.chunks(MAX_RECORD).map(|part| sealer.seal(HANDSHAKE, part));
                records.collect::<Vec<_>>().concat()
            })
        }),
        Behaviour::fails("a flood of tickets, many in a record", Tls13, Tls, |server| {
            let content = ticket(16).repeat(MAX_RECORD / 60);
            server.flood_with(move |sealer| sealer.seal(HANDSHAKE, &content))
        }),
        Behaviour::fails("a flood of tickets, one byte at a time", Tls13, Tls, |server| {
            let message = ticket(50);
            server.flood_with(move |sealer| {
                let records = message.iter().map(|byte| sealer.seal(HANDSHAKE, &[*byte]));
                records.collect::<Vec<_>>().concat()
            })
        }),
        Behaviour::fails("a flood of empty records and tickets", Tls13, Tls, |server| {
            let mut turn = 0;
            server.flood_with(move |sealer| {
                turn += 1;
                if turn % 32 == 0 {
                    sealer.seal(HANDSHAKE, &ticket(50))
                } else {
                    sealer.seal(DATA, &[])
                }
            })
        }),
        Behaviour::fails("a flood of KeyUpdates", Tls13, Tls, |server| {
            server.flood_with(|sealer| {
                let record = sealer.seal(HANDSHAKE, &key_update(0));
                sealer.update_keys();
                record
            })
        }),
        Behaviour::fails("a flood of KeyUpdates that request another", Tls13, Tls, |server| {
            server.flood_with(|sealer| {
                let record = sealer.seal(HANDSHAKE, &key_update(1));
                sealer.update_keys();
                record
            })
        }),
        Behaviour::fails("a flood of HelloRequests", Tls12, Tls, |server| {
            server.flood_with(|sealer| sealer.seal(HANDSHAKE, &[message::HELLO_REQUEST, 0, 0, 0]))
        }),
        Behaviour::fails("an endless message", Tls13, Tls, |server| {
            let begin = records::handshake_header(message::NEW_SESSION_TICKET, 0xffff);
            server.sealed(HANDSHAKE, &begin)?;
            server.flood_with(|sealer| sealer.seal(HANDSHAKE, &[0; MAX_RECORD]))
        }),
        Behaviour::fails("KeyUpdates and tickets in turn", Tls13, Tls, |server| {
            server.flood_with(|sealer| {
                let mut records = sealer.seal(HANDSHAKE, &ticket(50));
                records.extend(sealer.seal(HANDSHAKE, &key_update(1)));
                sealer.update_keys();
                records
            })
        }),
    ]
}

fn of_data() -> Vec<Behaviour> {
    let mut all = Vec::new();
    for version in BOTH {
        for (name, len, least) in [
            ("a flood of data", MAX_RECORD, 100_000),
            ("a flood of data, one byte at a time", 1, 1000),
        ] {
            let reading = Outcome::Fails(TimedOut);
            all.push(Behaviour::after_data(name, version, least, reading, move |server| {
                let begun = std::time::Instant::now();
                while begun.elapsed() < Duration::from_secs(10) {
                    let count = MAX_RECORD.div_ceil(len).min(200);
                    let records: Vec<_> = (0..count).map(|_| server.data_record(len)).collect();
                    server.raw(&records.concat())?;
                }
                Ok(())
            }));
        }
    }
    all.push(Behaviour::after_data(
        "a flood of data and tickets in turn",
        Tls13,
        1000,
        Outcome::Fails(TimedOut),
        |server| {
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_secs(10) {
                let records: Vec<_> = (0..50)
                    .flat_map(|_| [server.seal(HANDSHAKE, &ticket(100)), server.data_record(10)])
                    .collect();
                server.raw(&records.concat())?;
            }
            Ok(())
        },
    ));
    all
}
