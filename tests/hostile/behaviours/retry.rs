//! HelloRetryRequests that are wrong or never end. The session id is right unless a name says otherwise.

use sockeye::ErrorKind::{Reset, TimedOut, Tls};

use crate::behaviour::Behaviour;
use crate::forge::records::{self, HANDSHAKE};
use crate::forge::{SECP256R1, Server, ServerHello};

const X25519: u16 = 29;
const SECP384R1: u16 = 24;
const UNKNOWN_GROUP: u16 = 0x1234;

pub fn all() -> Vec<Behaviour> {
    let cookie = |server: &Server| ServerHello::retry_with_cookie(server.client(), 100);
    let p256 = |server: &Server| ServerHello::retry(server.client(), SECP256R1);
    vec![
        Behaviour::never_opens("two retries for different groups", Tls, move |server| {
            server.hear()?;
            server.retry(p256)?;
            server.retry(|server| ServerHello::retry(server.client(), SECP384R1))
        }),
        Behaviour::never_opens("two retries for the same group", Tls, move |server| {
            server.hear()?;
            server.retry(p256)?;
            server.retry(p256)
        }),
        Behaviour::never_opens("retries with cookies in a loop", Tls, move |server| {
            server.hear()?;
            loop {
                server.retry(cookie)?;
            }
        }),
        Behaviour::never_opens("a flood of retries", Tls, move |server| {
            server.hear()?;
            let hello = cookie(server);
            server.flood(&records::plain(HANDSHAKE, &hello.encode()))
        })
        .flood(),
        Behaviour::never_opens("a retry for nothing", Tls, |server| {
            server.hear()?;
            server.retry(|server| ServerHello::retry_for_nothing(server.client()))
        }),
        Behaviour::never_opens("a retry for a group whose share was sent", Tls, |server| {
            server.hear()?;
            server.retry(|server| ServerHello::retry(server.client(), X25519))
        }),
        Behaviour::never_opens("a retry for a group that was not offered", Tls, |server| {
            server.hear()?;
            server.retry(|server| ServerHello::retry(server.client(), UNKNOWN_GROUP))
        }),
        Behaviour::never_opens("a retry with another session id", Tls, move |server| {
            server.hear()?;
            server.retry(|server| {
                let mut hello = p256(server);
                hello.session_id[31] ^= 1;
                hello
            })
        }),
        Behaviour::never_opens("a retry with an empty cookie", Tls, |server| {
            server.hear()?;
            server.retry(|server| ServerHello::retry_with_cookie(server.client(), 0))
        }),
        Behaviour::never_opens("a retry with an unrequested extension", Tls, move |server| {
            server.hear()?;
            server.retry(|server| {
                let mut hello = p256(server);
                hello.set(0xfefe, vec![0; 5]);
                hello
            })
        }),
        Behaviour::never_opens("a retry of a suite that was not offered", Tls, move |server| {
            server.hear()?;
            server.retry(|server| {
                let mut hello = p256(server);
                hello.suite = 0x1305;
                hello
            })
        }),
        Behaviour::never_opens("a retry, then a share for another group", Tls, move |server| {
            server.hear()?;
            server.retry(p256)?;
            let mut hello = p256(server);
            hello.random = [7; 32];
            hello.set_share(X25519, &[9; 32]);
            server.answer(&hello)
        }),
        Behaviour::never_opens("a retry, then another suite", Tls, move |server| {
            server.hear()?;
            server.retry(cookie)?;
            let mut hello = server.right_hello()?;
            hello.suite = 0x1302;
            server.answer(&hello)
        }),
        Behaviour::never_opens("a retry, then TLS 1.2", Tls, move |server| {
            server.hear()?;
            server.retry(cookie)?;
            server.plain(HANDSHAKE, &ServerHello::tls12().encode())
        }),
        Behaviour::never_opens("a retry, then silence", TimedOut, move |server| {
            server.hear()?;
            server.retry(cookie)
        }),
        Behaviour::never_opens("a retry, then a FIN", Tls, move |server| {
            server.hear()?;
            server.retry(cookie)?;
            server.fin()
        }),
        Behaviour::never_opens("a retry, then a reset", Reset, move |server| {
            server.hear()?;
            server.retry(cookie)?;
            server.reset()
        }),
        Behaviour::never_opens("a retry with a cookie of 60,000 bytes", TimedOut, |server| {
            server.hear()?;
            let hello = ServerHello::retry_with_cookie(server.client(), 60_000).encode();
            for part in hello.chunks(records::MAX_RECORD) {
                server.plain(HANDSHAKE, part)?;
            }
            Ok(())
        }),
        Behaviour::opens_late("a correct retry", move |server| {
            server.hear()?;
            server.retry(cookie)?;
            let hello = server.right_hello()?;
            server.answer(&hello)?;
            server.say_flight()?;
            server.finish()?;
            server.discard();
            Ok(())
        }),
    ]
}
