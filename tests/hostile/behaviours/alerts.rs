//! Alerts after the handshake: every level, several descriptions, many warnings, and malformed ones.

use sockeye::ErrorKind::{Reset, Tls};

use super::BOTH;
use crate::behaviour::{Behaviour, Outcome};
use crate::forge::Version::{Tls12, Tls13};
use crate::forge::records::{ALERT, CLOSE_NOTIFY, FATAL, WARNING};

const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const HANDSHAKE_FAILURE: u8 = 40;
const NO_CERTIFICATE: u8 = 41;
const INTERNAL_ERROR: u8 = 80;
const USER_CANCELED: u8 = 90;
const NO_RENEGOTIATION: u8 = 100;
const CERTIFICATE_REQUIRED: u8 = 116;
const UNKNOWN: u8 = 255;

pub fn all() -> Vec<Behaviour> {
    let mut all = Vec::new();
    for version in BOTH {
        for (name, description) in [
            ("an unexpected message", UNEXPECTED_MESSAGE),
            ("a bad record", BAD_RECORD_MAC),
            ("a failed handshake", HANDSHAKE_FAILURE),
            ("no certificate", NO_CERTIFICATE),
            ("an internal error", INTERNAL_ERROR),
            ("user_canceled", USER_CANCELED),
            ("a certificate required", CERTIFICATE_REQUIRED),
            ("unknown kind", UNKNOWN),
        ] {
            let name = format!("a fatal alert of {name}");
            all.push(Behaviour::fails(&name, version, Tls, move |server| {
                server.fatal(description)
            }));
        }
        all.extend([
            Behaviour::fails("a fatal alert and a FIN", version, Tls, |server| {
                server.fatal(INTERNAL_ERROR)?;
                server.fin()
            }),
            Behaviour::fails("a fatal alert and a reset", version, Tls, |server| {
                server.fatal(INTERNAL_ERROR)?;
                server.reset()
            })
            .or(Reset),
            Behaviour::fails("an alert of unknown level", version, Tls, |server| {
                server.alert(9, INTERNAL_ERROR)
            }),
            Behaviour::fails("an alert of one byte", version, Tls, |server| {
                server.sealed(ALERT, &[FATAL])
            }),
            Behaviour::fails("an empty alert", version, Tls, |server| server.sealed(ALERT, &[])),
            Behaviour::fails("two alerts in a record", version, Tls, |server| {
                server.sealed(ALERT, &[WARNING, USER_CANCELED, FATAL, INTERNAL_ERROR])
            }),
            Behaviour::fails("a flood of warnings", version, Tls, |server| {
                server.flood_with(|sealer| sealer.seal(ALERT, &[WARNING, USER_CANCELED]))
            })
            .flood(),
            Behaviour::after_data(
                "data, then a fatal alert",
                version,
                100,
                Outcome::Fails(Tls),
                |server| {
                    server.data(100)?;
                    server.fatal(INTERNAL_ERROR)
                },
            )
            .or_writing(Tls),
            Behaviour::ends("user_canceled, then close_notify", version, |server| {
                server.alert(WARNING, USER_CANCELED)?;
                server.close_notify()
            }),
            Behaviour::ends("close_notify as a fatal alert", version, |server| {
                server.alert(FATAL, CLOSE_NOTIFY)
            }),
        ]);
    }
    all.extend([
        Behaviour::after_data(
            "a warning after every byte",
            Tls12,
            1,
            Outcome::Fails(Tls),
            |server| {
                for _ in 0..50 {
                    server.data(1)?;
                    server.alert(WARNING, NO_RENEGOTIATION)?;
                }
                Ok(())
            },
        )
        .or_writing(Tls),
        Behaviour::stays_open("a warning", Tls12, |server| server.alert(WARNING, NO_RENEGOTIATION)),
        Behaviour::stays_open("a warning of unknown kind", Tls12, |server| {
            server.alert(WARNING, UNKNOWN)
        }),
        Behaviour::stays_open("user_canceled as a warning", Tls13, |server| {
            server.alert(WARNING, USER_CANCELED)
        }),
        // TLS 1.3 ignores the level (RFC 8446, section 6).
        Behaviour::fails("a warning", Tls13, Tls, |server| server.alert(WARNING, NO_RENEGOTIATION)),
        Behaviour::fails("a warning of unknown kind", Tls13, Tls, |server| {
            server.alert(WARNING, UNKNOWN)
        }),
    ]);
    all
}
