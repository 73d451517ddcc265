//! Records after the handshake that are forged, cut, too long, out of order or meaningless.

use std::thread;
use std::time::Duration;

use sockeye::ErrorKind::{TimedOut, Tls};

use super::BOTH;
use crate::behaviour::{Behaviour, Outcome};
use crate::forge::Version::{Tls12, Tls13};
use crate::forge::records::{
    self, ALERT, CHANGE_CIPHER_SPEC, CLOSE_NOTIFY, DATA, FATAL, HANDSHAKE, HEARTBEAT, MAX_RECORD,
    WARNING,
};

pub fn all() -> Vec<Behaviour> {
    let mut all = Vec::new();
    for version in BOTH {
        all.extend([
            Behaviour::fails("a record with a wrong tag", version, Tls, |server| {
                let mut record = server.data_record(100);
                *record.last_mut().expect("it is not empty") ^= 1;
                server.raw(&record)
            }),
            Behaviour::fails("a record of noise", version, Tls, |server| {
                server.plain(DATA, &crate::pattern::bytes(0, 500))
            }),
            Behaviour::fails("a missing record", version, Tls, |server| {
                server.sealer().sequence += 1;
                server.data(100)
            }),
            Behaviour::fails("data in the clear", version, Tls, |server| {
                server.plain(DATA, b"data")
            }),
            Behaviour::fails("a fatal alert in the clear", version, Tls, |server| {
                server.plain(ALERT, &[FATAL, 40])
            }),
            Behaviour::fails("close_notify in the clear", version, Tls, |server| {
                server.plain(ALERT, &[WARNING, CLOSE_NOTIFY])
            }),
            Behaviour::fails("close_notify in the clear and a FIN", version, Tls, |server| {
                server.plain(ALERT, &[WARNING, CLOSE_NOTIFY])?;
                server.fin()
            }),
            Behaviour::fails("plaintext after the handshake", version, Tls, |server| {
                server.raw(b"421 too busy\r\n")
            }),
            Behaviour::fails("a record of unknown type", version, Tls, |server| {
                server.raw(&records::plain(99, &[0; 100]))
            }),
            Behaviour::fails("a sealed record of unknown type", version, Tls, |server| {
                server.sealed(99, b"what?")
            }),
            Behaviour::fails("a sealed heartbeat", version, Tls, |server| {
                server.sealed(HEARTBEAT, &[1, 0x40, 0, 1])
            }),
            Behaviour::fails("a record of the maximum length", version, Tls, |server| {
                server.raw(&[DATA, 3, 3, 0xff, 0xff])
            }),
            Behaviour::fails("a record that is too long", version, Tls, |server| {
                server.raw(&[DATA, 3, 3, 0x48, 0x01])?;
                server.raw(&[0; 0x4801])
            }),
            Behaviour::fails("a record with too much content", version, Tls, |server| {
                let record = server.seal(DATA, &[0; MAX_RECORD + 2]);
                server.raw(&record)
            }),
            Behaviour::fails("an empty record in the clear", version, Tls, |server| {
                server.plain(DATA, &[])
            }),
            Behaviour::fails("a record shorter than its tag", version, Tls, |server| {
                server.plain(DATA, &[1; 10])
            }),
            Behaviour::stays_open("half a record's header", version, |server| {
                server.raw(&[DATA, 3])
            }),
            Behaviour::stays_open("a header without a record", version, |server| {
                server.raw(&[DATA, 3, 3, 0x40, 0])
            }),
            Behaviour::stays_open("half a record", version, |server| {
                let record = server.data_record(10_000);
                server.raw(&record[..5000])
            }),
            Behaviour::stays_open("a record that drips", version, |server| {
                let record = server.data_record(1000);
                server.drip(&record, Duration::from_millis(10))
            }),
            Behaviour::stays_open("one empty record", version, |server| server.sealed(DATA, &[])),
            Behaviour::stays_open("an occasional empty record", version, |server| {
                for _ in 0..20 {
                    server.sealed(DATA, &[])?;
                    thread::sleep(Duration::from_millis(100));
                }
                Ok(())
            }),
            Behaviour::after_data(
                "data, then a record with a wrong tag",
                version,
                100,
                Outcome::Fails(Tls),
                |server| {
                    server.data(100)?;
                    let mut record = server.data_record(100);
                    *record.last_mut().expect("it is not empty") ^= 1;
                    server.raw(&record)
                },
            )
            .or_writing(Tls),
            Behaviour::after_data(
                "data, then the same record again",
                version,
                100,
                Outcome::Fails(Tls),
                |server| {
                    let record = server.data_record(100);
                    server.raw(&record)?;
                    server.raw(&record)
                },
            )
            .or_writing(Tls),
            Behaviour::after_data(
                "data, then a record cut by silence",
                version,
                100,
                Outcome::Fails(TimedOut),
                |server| {
                    server.data(100)?;
                    let record = server.data_record(100);
                    server.raw(&record[..50])
                },
            ),
            Behaviour::after_data(
                "data that drips",
                version,
                10,
                Outcome::Fails(TimedOut),
                |server| {
                    for _ in 0..200 {
                        server.data(1)?;
                        thread::sleep(Duration::from_millis(20));
                    }
                    Ok(())
                },
            ),
        ]);
    }
    all.extend([
        Behaviour::fails("two records in the wrong order", Tls13, Tls, |server| {
            let (first, second) = (server.data_record(100), server.data_record(100));
            server.raw(&second)?;
            server.raw(&first)
        }),
        Behaviour::fails("a record without a type", Tls13, Tls, |server| {
            let record = server.sealer().seal_inner(vec![0; 1000]);
            server.raw(&record)
        }),
        Behaviour::fails("a ChangeCipherSpec", Tls13, Tls, |server| {
            server.plain(CHANGE_CIPHER_SPEC, &[1])
        }),
        Behaviour::fails("a ChangeCipherSpec", Tls12, Tls, |server| {
            server.sealed(CHANGE_CIPHER_SPEC, &[1])
        }),
        Behaviour::fails("a ChangeCipherSpec in the clear", Tls12, Tls, |server| {
            server.plain(CHANGE_CIPHER_SPEC, &[1])
        }),
        Behaviour::fails("a sealed ChangeCipherSpec", Tls13, Tls, |server| {
            server.sealed(CHANGE_CIPHER_SPEC, &[1])
        }),
        Behaviour::fails("a message in the clear", Tls13, Tls, |server| {
            server.plain(HANDSHAKE, &crate::forge::tls13::ticket(100))
        }),
        Behaviour::stays_open("one empty message", Tls13, |server| server.sealed(HANDSHAKE, &[])),
        Behaviour::after_data(
            "data with much padding",
            Tls13,
            100,
            Outcome::Fails(TimedOut),
            |server| {
                let mut inner = crate::pattern::bytes(0, 100);
                server.count(100);
                inner.push(DATA);
                inner.resize(MAX_RECORD, 0);
                let record = server.sealer().seal_inner(inner);
                server.raw(&record)
            },
        ),
    ]);
    all
}
