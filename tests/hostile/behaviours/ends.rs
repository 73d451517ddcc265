//! Ends after the handshake: clean ones, FIN, resets, and silence.

use std::thread;
use std::time::Duration;

use sockeye::ErrorKind::{Reset, Truncated};

use super::BOTH;
use crate::behaviour::{Behaviour, Outcome};
use crate::forge::records::{DATA, MAX_RECORD};

pub fn all() -> Vec<Behaviour> {
    let mut all = Vec::new();
    for version in BOTH {
        all.extend([
            // ------------------------------------------------------------ no end
            Behaviour::stays_open("silence", version, |_| Ok(())),
            Behaviour::stays_open("silence from a server that reads nothing", version, |_| Ok(()))
                .reads_nothing(version, |_| Ok(())),
            // ------------------------------------------------------------ clean ends
            Behaviour::ends("close_notify", version, |server| server.close_notify()),
            Behaviour::ends("close_notify and a FIN", version, |server| {
                server.close_notify()?;
                server.fin()
            }),
            Behaviour::ends("close_notify, then a pause and a reset", version, |server| {
                server.close_notify()?;
                thread::sleep(Duration::from_millis(300));
                server.reset()
            }),
            Behaviour::ends("close_notify, then data", version, |server| {
                server.close_notify()?;
                server.sealed(DATA, b"never to be read")
            }),
            Behaviour::ends("close_notify, then plaintext", version, |server| {
                server.close_notify()?;
                server.raw(b"never to be read")
            }),
            Behaviour::ends("close_notify, then a flood of data", version, |server| {
                server.close_notify()?;
                server.flood_with(|sealer| sealer.seal(DATA, &[0; MAX_RECORD]))
            })
            .flood(),
            Behaviour::ends("close_notify, one byte at a time", version, |server| {
                let record = server.seal(crate::forge::records::ALERT, &[1, 0]);
                server.drip(&record, Duration::from_millis(5))
            }),
            Behaviour::after_data(
                "data, then close_notify",
                version,
                5000,
                Outcome::Clean,
                |server| {
                    server.data(5000)?;
                    server.close_notify()?;
                    server.fin()
                },
            ),
            // ------------------------------------------------------------ ends without close_notify
            Behaviour::fails("a FIN", version, Truncated, |server| server.fin()),
            Behaviour::fails("a FIN in a record's header", version, Truncated, |server| {
                server.raw(&[DATA, 3, 3])?;
                server.fin()
            }),
            Behaviour::fails("a FIN in a record", version, Truncated, |server| {
                let record = server.data_record(10_000);
                server.raw(&record[..5000])?;
                server.fin()
            }),
            Behaviour::fails("a FIN before a record's last byte", version, Truncated, |server| {
                let record = server.data_record(100);
                server.raw(&record[..record.len() - 1])?;
                server.fin()
            }),
            Behaviour::after_data(
                "data, then a FIN",
                version,
                100,
                Outcome::Fails(Truncated),
                |server| {
                    server.data(100)?;
                    server.fin()
                },
            ),
            Behaviour::after_data(
                "data, then a FIN in a record",
                version,
                100,
                Outcome::Fails(Truncated),
                |server| {
                    server.data(100)?;
                    let record = server.data_record(100);
                    server.raw(&record[..50])?;
                    server.fin()
                },
            ),
            // ------------------------------------------------------------ without a required close_notify
            Behaviour::ends("a FIN without a required close_notify", version, |server| {
                server.fin()
            })
            .lenient(),
            Behaviour::fails(
                "a FIN in a header without a required close_notify",
                version,
                Truncated,
                |server| {
                    server.raw(&[DATA, 3, 3])?;
                    server.fin()
                },
            )
            .lenient(),
            Behaviour::fails(
                "a FIN in a record without a required close_notify",
                version,
                Truncated,
                |server| {
                    let record = server.data_record(10_000);
                    server.raw(&record[..5000])?;
                    server.fin()
                },
            )
            .lenient(),
            Behaviour::after_data(
                "data and a FIN in a record without a required close_notify",
                version,
                100,
                Outcome::Fails(Truncated),
                |server| {
                    server.data(100)?;
                    let record = server.data_record(100);
                    server.raw(&record[..50])?;
                    server.fin()
                },
            )
            .lenient(),
            // ------------------------------------------------------------ resets
            Behaviour::fails("a reset", version, Reset, |server| server.reset()),
            Behaviour::fails("data, then a reset", version, Reset, |server| {
                server.data(100)?;
                server.reset()
            }),
            Behaviour::fails("data, then a pause and a reset", version, Reset, |server| {
                server.data(100)?;
                thread::sleep(Duration::from_millis(400));
                server.reset()
            }),
            Behaviour::fails("a reset in a record", version, Reset, |server| {
                let record = server.data_record(10_000);
                server.raw(&record[..5000])?;
                server.reset()
            }),
            Behaviour::fails("a reset after half an alert", version, Reset, |server| {
                let record = server.seal(crate::forge::records::ALERT, &[1, 0]);
                server.raw(&record[..10])?;
                server.reset()
            }),
        ]);
    }
    all
}
