//! Records that arrive in one piece with the server's Finished.

use std::io;

use sockeye::ErrorKind::{Reset, TimedOut, Tls, Truncated};

use super::BOTH;
use crate::behaviour::{Behaviour, Outcome};
use crate::forge::records::{DATA, FATAL, HANDSHAKE, WARNING};
use crate::forge::tls13::ticket;
use crate::forge::{Server, Version};

const INTERNAL_ERROR: u8 = 80;

pub fn all() -> Vec<Behaviour> {
    let mut all = Vec::new();
    for version in BOTH {
        let stays_open = |what: &str| Behaviour::stays_open(&name(what), version, silent);
        let ends = |what: &str| Behaviour::ends(&name(what), version, silent);
        let fails = |what: &str, kind| Behaviour::fails(&name(what), version, kind, silent);
        let read =
            |what: &str, reading| Behaviour::after_data(&name(what), version, 100, reading, silent);
        all.extend([
            together(version, stays_open("an empty record"), |server| server.sealed(DATA, &[])),
            together(version, read("data", Outcome::Fails(TimedOut)), |server| server.data(100)),
            together(version, ends("close_notify"), Server::close_notify),
            together(version, ends("close_notify and a FIN"), |server| {
                server.close_notify()?;
                server.uncork()?;
                server.fin()
            }),
            together(version, read("data, close_notify and a FIN", Outcome::Clean), |server| {
                server.data(100)?;
                server.close_notify()?;
                server.uncork()?;
                server.fin()
            }),
            together(version, ends("close_notify and plaintext"), |server| {
                server.close_notify()?;
                server.raw(b"never to be read")
            }),
            together(version, fails("a FIN", Truncated), |server| {
                server.uncork()?;
                server.fin()
            }),
            together(version, fails("half a record and a FIN", Truncated), |server| {
                let record = server.data_record(100);
                server.raw(&record[..50])?;
                server.uncork()?;
                server.fin()
            }),
            together(version, fails("a reset", Reset).or_opening(Reset), |server| {
                server.uncork()?;
                server.reset()
            }),
            together(version, fails("a fatal alert", Tls).or_opening(Tls), |server| {
                server.alert(FATAL, INTERNAL_ERROR)
            }),
            together(version, fails("plaintext", Tls).or_opening(Tls), |server| {
                server.raw(b"421 too busy\r\n")
            }),
            together(version, fails("a record with a wrong tag", Tls).or_opening(Tls), |server| {
                let mut record = server.data_record(100);
                record[20] ^= 1;
                server.raw(&record)
            }),
            together(version, fails("too many warnings", Tls).or_opening(Tls), |server| {
                (0..10).try_for_each(|_| server.alert(WARNING, 90))
            }),
        ]);
    }
    let tickets = Behaviour::stays_open(&name("tickets"), Version::Tls13, silent);
    all.push(together(Version::Tls13, tickets, |server| {
        (0..4).try_for_each(|_| server.sealed(HANDSHAKE, &ticket(200)))
    }));
    all
}

fn name(what: &str) -> String {
    format!("the Finished together with {what}")
}

fn silent(_: &mut Server) -> io::Result<()> {
    Ok(())
}

/// Holds the server's Finished back until the script ends or uncorks it.
fn together(
    version: Version,
    expected: Behaviour,
    play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
) -> Behaviour {
    expected.played_from_the_start(move |server| {
        match version {
            Version::Tls12 => {
                server.greet12()?;
                server.exchange_keys()?;
                server.cork();
                server.finish12()?;
            }
            Version::Tls13 => {
                server.greet()?;
                server.cork();
                server.say_flight()?;
                server.use_data_keys();
            }
        }
        play(server)?;
        server.uncork()?;
        server.discard();
        Ok(())
    })
}
