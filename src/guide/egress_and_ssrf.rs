//! Egress rules against SSRF, limits on open sockets and lookups, scopes, and shutdown.
//!
//! Some programs connect to addresses that strangers name: for webhooks, link previews, imports, or as a proxy. Such a
//! program lends the stranger its place in the network. The stranger can reach the hosts inside the firewall, the
//! program's own admin port, and `169.254.169.254`, where cloud providers hand out credentials. This is server-side
//! request forgery (SSRF).
//!
//! A check of the host name does not prevent SSRF:
//!
//! - The owner of a name decides what it resolves to, and can change that a second later (DNS rebinding).
//! - An allowed server can redirect to a denied one.
//! - `127.0.0.1` has other spellings: `127.1`, `2130706433`, `0x7f.1`, `::ffff:7f00:1`, and through NAT64
//!   `64:ff9b::7f00:1`.
//!
//! Only the numeric address that is dialled is reliable. A [`Connector`] checks exactly that address:
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
//!         // ... and the rest of the work. The scope closes the socket.
//!     })
//! };
//! for inside in ["localhost:80", "169.254.169.254:80", "2130706433:80", "[::ffff:10.0.0.1]:443"] {
//!     assert_eq!(fetch(inside).unwrap_err().kind(), ErrorKind::Denied);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `cargo run --example egress` runs such a program, with an attacker who tries all of this.
//!
//! # When rules are checked
//!
//! [`EgressRules`] are checked twice. The second check is the one that protects.
//!
//! 1. `connect` checks the host as it was written, and the port. If the host is an IP literal, it checks the address
//!    too. A denial is [`Denied`](ErrorKind::Denied) from [`connect`](Connector::connect) itself. No name is looked up.
//! 2. Before every attempt, the machine checks the numeric address. There is one lookup for each socket, and the
//!    checked address is the one that is dialled. So DNS rebinding gains nothing.
//!
//! If a name has allowed and denied addresses, only the allowed ones are dialled. If these fail, the denied ones are
//! among the error's [attempts](crate::Error::attempts). If no address is allowed, [`opened`](crate::Socket::opened)
//! returns [`Denied`](ErrorKind::Denied).
//!
//! The rules are part of the [state machine](crate::machine), which requests no attempt that they deny. The simulator
//! and the fuzzers verify this. A client that follows redirects through the connector is checked at every hop.
//! Connections that the program makes without the connector are not checked.
//!
//! # Rule sets
//!
//! | Rules | deny |
//! |---|---|
//! | [`allow_all`](EgressRules::allow_all), the default | nothing |
//! | [`public_only`](EgressRules::public_only) | every address that is not a host on the Internet: this machine, private and shared networks, link-local, documentation, multicast and reserved addresses, cloud metadata services, and IPv6 addresses that contain such an IPv4 address |
//! | [`workers`](EgressRules::workers) | the same, the networks of Cloudflare, and port 25, as the Workers platform does |
//! | [`deny_all`](EgressRules::deny_all) | everything: a connection needs one rule for its host, one for its port and one for its address |
//!
//! Add rules to a set. The last rule that matches decides. With `public_only`, `allow_net("10.1.2.0/24")` allows one
//! network, and a later `deny_net` denies a part of it. Host, port and address must each be allowed. Prefer rules about
//! networks to rules about names, because the same addresses may have other names.
//!
//! # Errors
//!
//! The texts are those of the Workers platform, so that a web search for them helps.
//!
//! | Message contains | Kind | Cause |
//! |---|---|---|
//! | `proxy request failed, cannot connect to the specified address` | [`Denied`](ErrorKind::Denied) | the reason precedes the text: the address, and its range with the RFC, or the rule |
//! | `Connections to port 25 are prohibited` | [`Denied`](ErrorKind::Denied) | [`workers`](EgressRules::workers) or `deny_port(25)` denies mail between servers |
//! | `TCP Loop detected` | [`Loop`](ErrorKind::Loop) | from `opened`: the address is an [own listener](EgressRules::own_listener), or the address that the socket is bound to |
//!
//! The message reveals which hosts exist inside the network. Show strangers the kind only.
//!
//! # Own listeners
//!
//! An [`own_listener`](EgressRules::own_listener) is a listener of the program itself. A proxy that can be made to
//! connect to itself may do so forever. A listener on an unspecified address stands for every address of the machine.
//! To check an address, the crate asks the kernel whether it is local, and sends nothing. If the kernel does not
//! answer, for example because no descriptor is left, the connection fails with [`Io`](ErrorKind::Io).
//!
//! # HTTP
//!
//! With the feature `ureq-3`, the module `ureq` makes agents of [ureq](https://docs.rs/ureq). A connector dials all
//! their connections, after redirects too. Each connection has one lookup, made by the connector.
//! `cargo run --example ureq_egress --features ureq-3` shows this.
//!
//! # What the rules cannot do
//!
//! - They do not know what a host on the Internet does with a connection. A public address that forwards to the inside,
//!   such as a mapped port on your router, is a public address.
//! - They know one private use of a public address: `168.63.129.16`, the platform service of Azure. If your network
//!   uses other public addresses privately, deny them.
//! - NAT64 with a prefix of your own hides IPv4 addresses in addresses that look public. Deny that prefix. The
//!   well-known prefixes `64:ff9b::/96` and `64:ff9b:1::/48` are understood.
//! - They do not check the traffic of the resolver, neither the system's nor [yours](crate::Resolver). If the host is
//!   denied, no lookup is made.
//!
//! # A limit on open sockets
//!
//! [`max_open_sockets`](crate::ConnectorBuilder::max_open_sockets) bounds the sockets of a connector that are
//! connecting, open or closing. The default is no limit. At the limit, `connect` fails with
//! [`Limit`](ErrorKind::Limit).
//!
//! With [`wait_at_limit`](crate::ConnectorBuilder::wait_at_limit), `connect` returns at once and the socket waits for
//! a slot, in order of arrival. The wait is part of its [`connect_timeout`](crate::SocketOptions::connect_timeout). A
//! slot is free as soon as the socket's [`closed`](crate::Socket::closed) returns. An upgraded socket keeps its slot.
//!
//! The limit does not bound time: a stranger's server may send one byte a minute. [A deadline](super::deadlines) does.
//!
//! # A limit on lookups
//!
//! A lookup cannot be stopped, and a stranger can name hosts whose name servers never answer. So
//! [`max_lookups`](crate::ConnectorBuilder::max_lookups) bounds the lookups of a connector that run at once. The
//! default is 16. Further lookups wait, within their connect timeout. Use a separate connector for names from
//! strangers. Then lookups that hang delay no other connector:
//!
//! | Lookups | limit | they wait for |
//! |---|---|---|
//! | of one connector | `max_lookups` | each other |
//! | whose socket is gone | they stop counting towards `max_lookups` once they have run for 5 s | |
//! | of the whole process | 256 threads, 112 of them for names that need a name server | connectors take turns; the last quarter is kept for connectors without a thread |
//! | `localhost` and names of the hosts file | 16 threads, 4 for each connector | not for names that need a server |
//! | by a [resolver](crate::Resolver) of the program | `max_lookups`, and 64 threads | not for the system's lookups |
//!
//! # Scopes
//!
//! [`Connector::scope`] ties sockets to a piece of work. When the work returns or panics, every socket that it opened
//! is closed as by [`close`](crate::Socket::close), even if other handles exist. On the Workers platform the end of a
//! request does this. The scope closes all sockets at once and waits for at most the longest close timeout.
//!
//! # Shutdown
//!
//! A process that exits does not wait for sockets that close in the background. [`Connector::shutdown`] closes every
//! socket of the connector and waits, within its limit. Then it resets the rest, and returns the number of sockets that
//! lost accepted data. For the sockets of the free functions call [`Connector::global`]`().shutdown(limit)`.
//!
//! ```
//! use std::io::Write;
//! use std::time::Duration;
//! use sockeye::Connector;
//!
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let address = listener.local_address().unwrap();
//! # let peer = std::thread::spawn(move || -> std::io::Result<String> {
//! #     std::io::read_to_string(listener.accept()?)
//! # });
//! let connector = Connector::builder().build()?;
//! connector.connect(address)?.writer().write_all(b"goodbye")?;
//! // No handle is left. When `shutdown` returns, the kernel has the bytes.
//! assert_eq!(connector.shutdown(Duration::from_secs(5)), 0);
//! # assert_eq!(peer.join().unwrap()?, "goodbye");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ---
//! Previous: [STARTTLS](super::starttls). Next: [proxies](super::proxies).

#[cfg(doc)]
use crate::{Connector, EgressRules, ErrorKind};
