//! TCP urgent data below TLS. The last urgent byte is not part of the stream. The kernel may deliver earlier ones in
//! the stream, and they are a fault of TLS.

use std::io;
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use sockeye::ErrorKind::{TimedOut, Tls, Truncated};

use super::BOTH;
use crate::behaviour::{Behaviour, Outcome};
use crate::forge::Server;

pub fn all() -> Vec<Behaviour> {
    let mut all = vec![
        Behaviour::never_opens("urgent data before the handshake", TimedOut, |server| {
            urgent(server)?;
            server.hear()?;
            urgent(server)
        }),
        Behaviour::opens_late("urgent data within the handshake", |server| {
            server.greet()?;
            urgent(server)?;
            server.say_flight()?;
            server.finish()?;
            server.discard();
            Ok(())
        }),
    ];
    for version in BOTH {
        all.extend([
            Behaviour::stays_open("urgent data", version, urgent),
            Behaviour::stays_open("occasional urgent data", version, |server| {
                for _ in 0..100 {
                    urgent(server)?;
                    thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            })
            .or(Tls),
            Behaviour::stays_open("a flood of urgent data", version, |server| {
                let begun = std::time::Instant::now();
                while begun.elapsed() < Duration::from_secs(10) {
                    urgent(server)?;
                }
                Ok(())
            })
            .or(Tls)
            .flood(),
            Behaviour::after_data(
                "data, then urgent data",
                version,
                100,
                Outcome::Fails(TimedOut),
                |server| {
                    server.data(100)?;
                    urgent(server)
                },
            ),
            Behaviour::after_data(
                "urgent data within a record",
                version,
                100,
                Outcome::Fails(TimedOut),
                |server| {
                    let record = server.data_record(100);
                    server.raw(&record[..40])?;
                    urgent(server)?;
                    server.raw(&record[40..])
                },
            ),
            Behaviour::fails("urgent data and a FIN", version, Truncated, |server| {
                urgent(server)?;
                server.fin()
            }),
            Behaviour::ends("close_notify, then urgent data", version, |server| {
                server.close_notify()?;
                urgent(server)
            }),
        ]);
    }
    all
}

/// Sends a byte out of band.
fn urgent(server: &mut Server) -> io::Result<()> {
    SockRef::from(&server.stream).send_out_of_band(&[0]).map(drop)
}
