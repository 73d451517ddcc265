//! Certificates that must be refused, and Certificate messages that are too long or malformed.

use sockeye::ErrorKind::Tls;

use crate::behaviour::Behaviour;
use crate::forge::identity::{self, Identity};
use crate::forge::records::{self, HANDSHAKE, MAX_RECORD, message};
use crate::forge::tls13::{certificate, certificate_with, encrypted_extensions};

pub fn all() -> Vec<Behaviour> {
    [refused(), large(), malformed()].into_iter().flatten().collect()
}

/// Makes a handshake that fails only because of this identity.
fn is(name: &str, who: Identity) -> Behaviour {
    Behaviour::never_opens(name, Tls, move |server| {
        server.identity = who.clone();
        server.greet()?;
        server.say_flight()?;
        server.finish()
    })
}

/// Makes a handshake that succeeds with this identity.
fn opens(name: &str, who: Identity) -> Behaviour {
    Behaviour::opens_late(name, move |server| {
        server.identity = who.clone();
        server.greet()?;
        server.say_flight()?;
        server.finish()?;
        server.discard();
        Ok(())
    })
}

/// Makes a handshake with this message in place of the Certificate.
fn says(name: &str, message: Vec<u8>) -> Behaviour {
    Behaviour::never_opens(name, Tls, move |server| {
        server.greet()?;
        server.say(&encrypted_extensions(&[]))?;
        server.say(&message)?;
        server.say(&server.certificate_verify())?;
        server.say(&server.finished())?;
        server.finish()
    })
}

fn refused() -> Vec<Behaviour> {
    let unknown = identity::of_unknown_authority();
    let with =
        |who: &Identity, others: Vec<Vec<u8>>| who.with_chain([who.chain.clone(), others].concat());
    let maze = identity::maze(40);
    vec![
        is("a certificate for another name", identity::of_another_name()),
        is("a certificate that has expired", identity::expired()),
        is("a certificate that is not valid yet", identity::not_yet_valid()),
        is("a certificate of an unknown authority", unknown.clone()),
        is("the certificate of an authority", identity::of_an_authority()),
        is("a certificate for 1,000 other names", identity::of_many_names(1000, false)),
        is("a certificate below a maze of authorities", maze.clone()),
        is(
            "a certificate below a maze of authorities among strangers",
            with(&maze, identity::strangers(30_000)),
        ),
        is("a certificate below 60 impostors of a root", identity::impostors(60)),
        is(
            "a certificate of another key",
            identity::of_another_name().with_chain(identity::good().chain),
        ),
        is("a certificate twice, of an unknown authority", with(&unknown, unknown.chain.clone())),
        is(
            "64 KiB of certificates, the first unknown",
            with(&unknown, identity::strangers(60_000)),
        ),
    ]
}

fn large() -> Vec<Behaviour> {
    let with_strangers = |bytes| {
        let good = identity::good();
        good.with_chain([good.chain.clone(), identity::strangers(bytes)].concat())
    };
    vec![
        opens("a certificate for 1,000 names", identity::of_many_names(1000, true)),
        opens("60,000 bytes of certificates", with_strangers(60_000)),
        is("70,000 bytes of certificates", with_strangers(70_000)),
        is("a megabyte of certificates", with_strangers(1 << 20)),
        says("a certificate of 64 KiB of zeros", certificate(&[vec![0; 65_000]])),
        says("10,000 certificates of a byte", certificate(&vec![vec![0x30]; 10_000])),
        Behaviour::never_opens("an endless certificate", Tls, |server| {
            server.greet()?;
            server.say(&encrypted_extensions(&[]))?;
            let header = records::handshake_header(message::CERTIFICATE, 0xffff);
            server.sealed(HANDSHAKE, &header)?;
            server.flood_with(|sealer| sealer.seal(HANDSHAKE, &[0; MAX_RECORD]))
        })
        .flood(),
        Behaviour::never_opens("a certificate of 16 MiB", Tls, |server| {
            server.greet()?;
            server.say(&encrypted_extensions(&[]))?;
            let header = records::handshake_header(message::CERTIFICATE, 0xff_ffff);
            server.sealed(HANDSHAKE, &header)?;
            server.flood_with(|sealer| sealer.seal(HANDSHAKE, &[0; 1000]))
        })
        .flood(),
    ]
}

fn malformed() -> Vec<Behaviour> {
    const SCT: u16 = 18;
    vec![
        says("no certificate", certificate(&[])),
        says("an empty certificate", certificate(&[Vec::new()])),
        says("a certificate of noise", certificate(&[crate::pattern::bytes(0, 700)])),
        says("a certificate cut short", {
            let mut one = identity::good().chain.remove(0);
            one.truncate(one.len() / 2);
            certificate(&[one])
        }),
        says("a certificate with a byte changed", {
            let mut one = identity::good().chain.remove(0);
            let middle = one.len() / 2;
            one[middle] ^= 1;
            certificate(&[one])
        }),
        says("a certificate with a byte after it", {
            let mut one = identity::good().chain.remove(0);
            one.push(0);
            certificate(&[one])
        }),
        says("certificates with an unrequested context", {
            certificate_with(b"context", &identity::good().chain, &[])
        }),
        says("a certificate with an unrequested extension", {
            let extension = records::extension(SCT, &[0, 3, 0, 1, 9]);
            certificate_with(&[], &identity::good().chain, &extension)
        }),
        says("a certificate with half an extension", {
            certificate_with(&[], &identity::good().chain, &[0, 5, 0])
        }),
        says("an unrequested compressed certificate", {
            records::handshake(message::COMPRESSED_CERTIFICATE, &[0, 1, 0, 0x40, 0, 0, 0, 1, 0])
        }),
        says("a list of certificates longer than its message", {
            records::handshake(message::CERTIFICATE, &[0, 0xff, 0xff, 0xff, 0, 0, 1, 0x30])
        }),
    ]
}
