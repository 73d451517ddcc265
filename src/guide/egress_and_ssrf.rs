//! Letting a program dial addresses that strangers name: egress rules, limits, scopes, shutdown.
//!
//! A program that connects to where its users tell it to, for webhooks, previews of links, imports from
//! elsewhere or a proxy, lends them its place in the network. From there they can reach what they can't
//! reach themselves: the neighbours behind the firewall, the program's own admin port, the service at
//! `169.254.169.254` that gives a cloud's credentials to whoever asks. That is server-side request forgery.
//!
//! A check of the name doesn't keep them out. A name resolves to whatever its owner says, and to something
//! else a second later (rebinding). A server that is allowed redirects to one that isn't. `127.0.0.1` is
//! also written `127.1`, `2130706433`, `0x7f.1` and `::ffff:7f00:1`, and behind a translator
//! `64:ff9b::7f00:1`. What counts is the number that is dialled, so that is what a [`Connector`] judges:
//!
//! ```
//! use std::time::Duration;
//! use sockeye::{Connector, EgressRules, ErrorKind, SocketOptions};
//!
//! let connector = Connector::builder()
//!     .egress(EgressRules::public_only().deny_port(25))
//!     .max_open_sockets(100)
//!     .wait_at_limit(true)
//!     .build()?;
//!
//! let fetch = |url_host_and_port: &str| {
//!     connector.scope(|scope| {
//!         let options = SocketOptions::new().connect_timeout(Duration::from_secs(5));
//!         let socket = scope.connect_with(url_host_and_port, options)?;
//!         socket.opened()
//!         // ... and the rest of the work; at its end the socket is closed.
//!     })
//! };
//! for inside in ["localhost:80", "169.254.169.254:80", "2130706433:80", "[::ffff:10.0.0.1]:443"] {
//!     assert_eq!(fetch(inside).unwrap_err().kind(), ErrorKind::Denied);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `cargo run --example egress` is such a program, with an attacker who tries all of this.
//!
//! # What is judged, and when
//!
//! [`EgressRules`] are asked twice, and the second time is the one that protects.
//!
//! 1. At `connect`: the host as it is written, and the port. A host that is an IP literal is judged as an
//!    address too. What is refused here is [`Denied`](ErrorKind::Denied) from
//!    [`connect`](Connector::connect) itself; no name server hears of it.
//! 2. Before every attempt: each numeric address of each part of the resolver's answer. There is one look-up
//!    for a socket, and what was judged is what is dialled, so there is nothing to rebind. Of a mixed answer
//!    the allowed addresses are dialled and the others are not; they stand among the
//!    [attempts](crate::Error::attempts) of the error where the allowed ones fail. Where none is allowed
//!    [`opened`](crate::Socket::opened) says [`Denied`](ErrorKind::Denied).
//!
//! The rules are part of the [state machine](crate::machine), which asks for no attempt that they refuse: the
//! simulator and the fuzzers hold it to that. Every connection of the connector goes that way, so a client
//! that follows redirects through it is judged anew with every hop. What dials by itself, beside the
//! connector, is not.
//!
//! | | refuses |
//! |---|---|
//! | [`allow_all`](EgressRules::allow_all) | nothing; the default |
//! | [`public_only`](EgressRules::public_only) | whatever is no host on the Internet: this machine, private and shared networks, neighbours on the link, documentation, multicast, reserved addresses; IPv4 addresses of these inside IPv6 ones |
//! | [`workers`](EgressRules::workers) | that, the networks of Cloudflare, and port 25: what the platform of Workers refuses |
//! | [`deny_all`](EgressRules::deny_all) | everything: a connection needs a rule for its host, one for its port and one for its address |
//!
//! Then rules are added, of which the last that matches decides: `allow_net("10.1.2.0/24")` opens a door in
//! `public_only`, and a `deny_net` after it closes a part of that door. Host, port and address each need
//! leave. For addresses prefer nets to names: a rule about a name says nothing about where else the same
//! addresses can be had.
//!
//! # What it says
//!
//! The texts are those of the platform, so that whoever searches for them finds what is known of them.
//!
//! | the message has | kind | |
//! |---|---|---|
//! | `proxy request failed, cannot connect to the specified address` | [`Denied`](ErrorKind::Denied) | behind the reason: the address, its range and the RFC, or the rule |
//! | `Connections to port 25 are prohibited` | [`Denied`](ErrorKind::Denied) | mail between servers: [`workers`](EgressRules::workers) refuses it, and so does `deny_port(25)` |
//! | `TCP Loop detected` | [`Loop`](ErrorKind::Loop) | from `opened`: the address is an [own listener](EgressRules::own_listener), or the socket is bound to the address that it dials |
//!
//! A program that shows its errors to strangers tells them with the message which of its neighbours exist.
//! Show them the kind.
//!
//! An [`own_listener`](EgressRules::own_listener) is a listener of the program itself: a proxy that can be
//! made to dial itself can be made to do so for ever. A listener on an unspecified address stands for every
//! address of the machine; whether an address is one of them is asked of the system, without sending
//! anything, when it would be dialled. If the system does not tell, as when no descriptor is left, the
//! connection fails with [`Io`](ErrorKind::Io): what is not known to lead elsewhere is not dialled.
//!
//! # HTTP
//!
//! With the feature `ureq-3` the module `ureq` makes agents of [ureq](https://docs.rs/ureq) whose every connection
//! a connector dials, also where a redirect leads. A name is looked up once for a connection, by the
//! connector, and what was judged is what is dialled. `cargo run --example ureq_egress --features ureq-3` shows
//! it.
//!
//! # What it can't do
//!
//! - It doesn't know what a host on the Internet does with a connection. A public address that forwards to
//!   the inside, such as a port mapped on the own router, is a public address.
//! - It knows no private use of public addresses but that of Azure, `168.63.129.16`. Where a network uses such a
//!   range for itself, deny it.
//! - A translator of one's own prefix (NAT64 other than `64:ff9b::/96` and `64:ff9b:1::/48`) hides IPv4
//!   addresses in addresses that look public. Deny its prefix.
//! - A [resolver](crate::Resolver) of the program's own asks whom it likes, and so does the system's: the
//!   look-up itself is not judged, unless the host is denied.
//!
//! # Limits
//!
//! [`max_open_sockets`](crate::ConnectorBuilder::max_open_sockets) bounds how many sockets of a connector are
//! connecting, open or closing. The next connect fails with [`Limit`](ErrorKind::Limit), or, with
//! [`wait_at_limit`](crate::ConnectorBuilder::wait_at_limit), waits for a place in order of arrival: `connect`
//! still returns at once, the socket is `Connecting`, and the wait counts towards its
//! [`connect_timeout`](crate::SocketOptions::connect_timeout). A socket gives its place back once, in the
//! moment in which its [`closed`](crate::Socket::closed) settles, however it ended, and an upgrade keeps it.
//! Where the limit is there to bound time too, set the timeouts: a stranger's server may answer one byte a
//! minute for ever, and [a deadline](super::deadlines) ends that.
//!
//! Names have a limit of their own, because a lookup cannot be stopped: a stranger may name hosts whose servers never
//! answer. [`max_lookups`](crate::ConnectorBuilder::max_lookups) bounds the lookups of a connector that run at once,
//! 16 by default, and further ones wait within their connect timeout. So use a connector of its own for what strangers
//! name. What hangs there delays nothing else:
//!
//! | what | is bounded by | and waits |
//! |---|---|---|
//! | lookups of one connector | `max_lookups` | for each other only |
//! | one that was given up | nothing can end it; it stops counting once it has run for 5 s | |
//! | lookups of the whole process | 256 threads, of which the system's lookups have 112 | in turn by connector; the last quarter is kept for connectors that have none |
//! | `localhost`, and names of the hosts file | 16 threads, 4 for each connector | not for names that need a server |
//! | a resolver of the program's own | `max_lookups`, and 64 threads | not for the system's lookups |
//!
//! # Scopes
//!
//! [`Connector::scope`] ties sockets to a piece of work: when it returns, or panics, all that it opened is
//! closed as by [`close`](crate::Socket::close), whoever holds handles. It is what a request's end is on the
//! platform. The scope waits for the hand-over of what was written, all sockets at once, for the longest
//! close timeout at most.
//!
//! # The end of the program
//!
//! A process that exits does not wait for sockets that close in the background. [`Connector::shutdown`]
//! closes every socket of the connector, waits within its limit, resets what is left, and says of how many
//! sockets something was lost; of those of the free functions by
//! [`Connector::global`]`().shutdown(limit)`.
//!
//! ```
//! use std::io::Write;
//! use std::time::Duration;
//! use sockeye::Connector;
//!
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let address = listener.local_addr()?;
//! # let peer = std::thread::spawn(move || -> std::io::Result<String> {
//! #     std::io::read_to_string(listener.accept()?.0)
//! # });
//! let connector = Connector::builder().build()?;
//! connector.connect(address)?.writer().write_all(b"last words")?;
//! // Nobody holds the socket any more. What was written is with the kernel when this returns.
//! assert_eq!(connector.shutdown(Duration::from_secs(5)), 0);
//! # assert_eq!(peer.join().unwrap()?, "last words");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(doc)]
use crate::{Connector, EgressRules, ErrorKind};
