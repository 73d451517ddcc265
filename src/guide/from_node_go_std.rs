//! Coming from Node, Go or `std::net`: what this crate adds, and how each case behaves.
//!
//! # What this crate adds to `std`
//!
//! | With `std::net::TcpStream` | Here |
//! |---|---|
//! | a blocked read cannot be ended on every system; `shutdown` from another thread works on some | `close()` and `abort()` from any thread end every read, write and wait, everywhere |
//! | a timeout restarts with every byte | absolute deadlines as well as timeouts; both can be changed while a read is blocked |
//! | the connect timeout covers one address; neither the name lookup nor TLS has one | one `connect_timeout` over lookup, all attempts and the handshake |
//! | addresses are tried one after another, and only the last error is kept | addresses race ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)), and the error keeps every attempt with its own error |
//! | connecting blocks and cannot be cancelled | `connect` returns at once, and closing the socket cancels the attempt |
//! | one thread cannot read a blocking TLS stream while another writes to it | both work, and neither waits for the other |
//! | after STARTTLS, injected plaintext is taken for a TLS reply | `start_tls` checks the wire first; such bytes end the connection with `UnreadPlaintext` |
//! | over TLS a clean end can look like a truncation, because callers must remember to send `close_notify` | `close_notify` is always sent, and an end without it is `Truncated` |
//! | after a reset the next read may return `Ok(0)`, as at an end | `Ok(0)` is the peer's clean end and nothing else; every waiter gets the same error |
//! | dropping a stream with unread data resets the connection, and the peer may lose data | `close()` sends FIN and drains within bounds; the peer sees an end |
//! | the peer's end is not noticed until the next read | `closed()` returns although no thread reads |
//! | a program that dials addresses from strangers can be sent to its own network (SSRF); checks of the name do not help | egress rules check every numeric address before it is dialled |
//! | nothing limits the number of sockets, and some outlive their work | limits that fail or wait in order, scopes, and a shutdown that hands over accepted data |
//! | a pool finds out whether an idle connection works by using it; over TLS a session ticket looks like data | `health()` checks without waiting and takes no data |
//! | the async alternative brings a runtime | one thread, which starts on demand, and a handful of dependencies |
//!
//! [`sockeye::net`](crate::net) has the names and methods of `std::net`, and lists what differs.
//!
//! # How to read the comparison
//!
//! The last column links to the function or chapter of this crate, and names a test that shows it. Run the test with
//! `cargo test --test it NAME`. `close::dropping_the_last_handle_closes_gracefully` is in `tests/it/close.rs`.
//!
//! - "Workers" is the observed behaviour of workerd in November 2026. "The draft" is WinterTC's Sockets API.
//! - "Node" is the observed behaviour of version 20.
//! - "Go" and `std` are as in their documentation and sources. Over TLS, `std` means rustls' `StreamOwned` over a
//!   `TcpStream`.
//! - A cell is empty if the feature does not exist or the behaviour is unknown.
//!
//! # Connecting
//!
//! | | Workers | Node | Go | `std` | Here |
//! |---|---|---|---|---|---|
//! | connect returns | at once | at once | when connected or failed | when connected or failed | at once: [`connect`]<br>`conformance::opened::write_before_opened` |
//! | reads and writes before the connection is open | wait | are queued | | | [wait][`Socket`]<br>`conformance::opened::read_before_opened` |
//! | a name with several addresses | | one after another; each but the last is given up after 250 ms | two races, the other family's 300 ms later; within each, one after another | one after another | all race: the next starts after 250 ms, at most 8 under way: [`connecting`]<br>`connecting::racing::an_older_attempt_continues_next_to_newer_ones` |
//! | the error if all addresses fail | one text for every cause | one with all errors | the first error | the last error | [one with all errors][attempts]<br>`connecting::racing::all_refused_fail_at_once` |
//! | the timeout | none | none | none; `Dialer.Timeout` covers lookup and attempts, `tls.Dialer` the handshake too | none; `connect_timeout` covers one address | [30 s][connect_timeout] for lookup, attempts and handshake<br>`tls::handshake::one_connect_timeout_covers_everything` |
//! | cancelling | `close` waits for the connection | `destroy` | the context | | [`close`], at once<br>`connecting::racing::a_close_during_a_race_ends_every_attempt` |
//! | port 0 | fails later | is dialled | is dialled | is dialled | [`InvalidAddress`]<br>`errors::port_0_is_invalid` |
//! | a connection of a socket to itself | | | is dialled again twice, then accepted | is accepted | is dialled again twice, then [fails][`Connect`]<br>`network_faults::a_connection_to_itself_is_refused_and_the_next_address_is_tried` |
//! | the peer's address | the requested text | numeric | numeric | numeric | [numeric][remote_address], and [as requested][requested]<br>`conformance::opened::socketinfo_ip` |
//! | small segments | | wait (Nagle) | are sent at once | wait (Nagle) | [are sent at once][nodelay]<br>`options::in_the_system::nodelay_is_on_by_default` |
//! | keepalive probes | | optional | every 15 s | | [optional][keepalive]<br>`options::in_the_system::keepalive_is_off_by_default` |
//!
//! # Ends and resets
//!
//! | | Workers | Node | Go | `std` | Here |
//! |---|---|---|---|---|---|
//! | writing after the peer's end | fails, unless half-open is allowed | fails, unless half-open is allowed | works | works | fails, [unless half-open is allowed][allow_half_open]<br>`conformance::half_open::absent_reading` |
//! | the peer ends, nothing is unread, no thread reads | is not noticed (the draft leaves it open) | is noticed | is not noticed | is not noticed | [`closed`] returns<br>`conformance::half_open::f_not_reading` |
//! | the same with unread data | is not noticed | is noticed once the data is read | is not noticed | is not noticed | is noticed [once the data is read][half_open]<br>`conformance::half_open::f_not_reading_data` |
//! | both directions have ended | `closed` keeps waiting | `'close'` | | | [`closed`] returns `Ok`<br>`conformance::half_open::t_closewriter_then_fin` |
//! | the peer resets while no call is pending | is not noticed | `'error'` | the next call fails | the next call fails | [`closed`] returns [`Reset`]<br>`conformance::reset::idle` |
//! | a second read after a reset | fails again | is not possible | EOF, on Linux | `Ok(0)`, on Linux | fails again, with [`Reset`]<br>`conformance::reset::idle_only_read` |
//! | a read after the connection failed | a clean end | is not possible | | | fails with [the cause][closing]<br>`conformance::opened::refused_later_ops` |
//! | the half-close | `writer.close()` | `end()` | `CloseWrite` | `shutdown(Write)` | [`Writer::close`]<br>`conformance::half_open::f_writer_closed_first` |
//! | a second half-close | fails | succeeds | | succeeds on Linux, `NotConnected` on macOS | [succeeds][`Writer::close`]<br>`conformance::writer_reader::closewriter_twice` |
//! | end reading only | `reader.cancel()`: incoming data piles up | | `CloseRead` | `shutdown(Read)` | [`Reader::cancel`]: incoming data is dropped<br>`reader_writer::a_cancelled_reader_does_not_block_the_peer` |
//!
//! # Closing
//!
//! | | Workers | Node | Go | `std` | Here |
//! |---|---|---|---|---|---|
//! | with unread data | a reset | `destroy`: a reset, if Node has not buffered all of it | a reset | drop: a reset | FIN, and incoming data is [dropped][closing]<br>`conformance::close::read_after_close_buffered` |
//! | if the peer does not read | waits forever | `end` waits forever, `destroy` drops queued data | the kernel continues after `Close` has returned | drop: as Go | waits, at most for the [close timeout][close_timeout]<br>`conformance::close::queued_large_stuck` |
//! | during a blocked write | waits for the write | | the write fails and returns how much it accepted | | the write returns [how much it accepted][closing], and that arrives<br>`close::a_write_that_close_ends_reports_exactly_the_delivered_bytes` |
//! | twice, or in two threads at once | succeeds | succeeds | the second fails | | succeeds, with the [same result][`close`]<br>`concurrency::concurrent_closes_give_the_same_result` |
//! | a deliberate reset | `writer.abort()` sends nothing | `resetAndDestroy` | `SetLinger(0)`, `Close` | | [`abort`]<br>`close::abort_drops_unsent_bytes` |
//! | the last handle is dropped | the connection stays until the request ends | it stays, and keeps the process alive | it closes at garbage collection | it closes | it [closes gracefully][closing]<br>`close::dropping_the_last_handle_closes_gracefully` |
//!
//! # Waiting
//!
//! | | Workers | Node | Go | `std` | Here |
//! |---|---|---|---|---|---|
//! | ending a blocked read from another thread | `close`, `reader.cancel()` | `destroy` | `Close`, `SetReadDeadline` | `shutdown` through a clone, on some systems | [`close`], [`abort`], [`Reader::cancel`], [a deadline][deadlines]<br>`conformance::close::pending_read` |
//! | limits on reads and writes | none | `setTimeout` reports idleness | deadlines | a timeout for each call | [both][deadlines]<br>`deadlines::the_earlier_of_timeout_and_deadline_applies` |
//! | a limit set during a blocked call | | | applies at once | applies to the next call | applies [at once][deadlines]<br>`deadlines::an_earlier_deadline_ends_a_blocked_call_earlier` |
//! | two reads at once | the second fails | | each byte is read once | each byte is read once | each byte is read once: [`Reader`]<br>`conformance::writer_reader::two_reads` |
//! | a write returns | | at once; data that the kernel does not take is queued without a bound | when the kernel has all data | when the kernel has some data | when the kernel has some data, or over TLS [a bounded queue][writing]<br>`conformance::volume::peer_not_reading` |
//!
//! # TLS
//!
//! | | Workers | Node | Go | `std` | Here |
//! |---|---|---|---|---|---|
//! | FIN without close_notify | an error; after an upgrade a clean end | a clean end | a clean end between two records | `UnexpectedEof` | [`Truncated`], unless [it is not required][require_close_notify]<br>`tls::ends::a_fin_without_close_notify_is_truncation` |
//! | close_notify of this side | sent by `writer.close()`, not by `close` | sent by `end`, not by `destroy` | sent by `Close` unless a `Write` is pending | sent by the program | [always sent][closing]<br>`tls::ends::close_sends_close_notify_and_then_fin` |
//! | the half-close | `writer.close()` | `end()` | `CloseWrite`: close_notify without FIN | by the program | [`Writer::close`]: both<br>`tls::ends::closing_the_writer_sends_close_notify_and_fin_and_reading_continues` |
//! | one thread reads while another writes | | | works | does not work | [works][`Socket`]<br>`tls::duplex::a_writer_works_while_a_reader_is_blocked` |
//! | after a write that timed out | | | every write fails | | it can be [repeated][deadlines]<br>`tls::duplex::a_write_that_timed_out_accepted_nothing` |
//! | unread plaintext at an upgrade | is passed to the handshake | is passed to the handshake | is passed to the handshake | is passed to the handshake | ends the connection: [`UnreadPlaintext`]<br>`conformance::starttls::refused::injection_in_kernel` |
//! | an upgrade during a blocked read | never completes | | | | works; the read fails with [`Upgraded`]<br>`conformance::starttls::pending_read` |
//! | server name, ALPN | are ignored (the draft has `sni`, `alpn`) | `servername`, `ALPNProtocols` | `ServerName`, `NextProtos` | as in rustls | [`server_name`], [`alpn`]<br>`tls::handshake::a_server_name_replaces_the_host` |
//! | session resumption | | by the program | with a `ClientSessionCache` | within one configuration | for [equal options](crate::TlsOptions)<br>`tls::handshake::equal_options_resume_each_others_sessions` |
//!
//! # Egress rules and limits
//!
//! | | Workers | Node | Go | `std` | Here |
//! |---|---|---|---|---|---|
//! | rules about addresses, against SSRF | those of the platform | a `BlockList` of addresses | by the program, in `Dialer.Control` | none | [`EgressRules`](crate::EgressRules), for each address that is dialled<br>`connector::egress::a_name_with_a_denied_address_fails_and_no_call_hangs` |
//! | a name that resolves to another address the second time | | | `Control` gets the dialled address | | is looked up once, and [the checked address is dialled][egress]<br>`connector::egress::dns_rebinding_does_not_bypass_the_rules` |
//! | a limit on open sockets | the platform's | none for sockets | none for connections of a `Dialer` | none | [`max_open_sockets`](crate::ConnectorBuilder::max_open_sockets): fails, or waits in order<br>`connector::limits::waiting_sockets_are_served_in_order` |
//! | sockets that end with a piece of work | always, with the request | | by the program | when they are dropped | in a [scope](crate::Connector::scope)<br>`connector::scopes::a_panic_of_its_closure_closes_them_and_continues` |
//! | process exit | | open sockets keep the process alive | drops them | drops them | [`shutdown`](crate::Connector::shutdown) hands over accepted data, within a limit<br>`connector::shutdown::it_waits_for_sockets_that_close_in_the_background` |
//!
//! # Errors
//!
//! | | Workers | Node | Go | `std` | Here |
//! |---|---|---|---|---|---|
//! | are distinguished by | the text of a `TypeError` | `code` | `errors.Is`, `errors.As` | `io::ErrorKind` | [`ErrorKind`](crate::ErrorKind), and a matching `io::ErrorKind`<br>`errors::each_kind_has_its_io_kind` |
//! | calls that wait for one connection | get different errors | | | on Linux only the first gets the reset | get the [same error][closing]<br>`errors::every_waiter_gets_the_same_cause` |
//!
//! ---
//! Previous: [differences from Workers](super::workers_differences). This is the last chapter; [the front page](super) lists all.
//!
//! [`connect`]: crate::connect
//! [`Socket`]: crate::Socket
//! [`Reader`]: crate::Reader
//! [half_open]: super::half_open
//! [`connecting`]: super::connecting
//! [attempts]: crate::Error::attempts
//! [connect_timeout]: crate::SocketOptions::connect_timeout
//! [close_timeout]: crate::SocketOptions::close_timeout
//! [allow_half_open]: crate::SocketOptions::allow_half_open
//! [`close`]: crate::Socket::close
//! [`closed`]: crate::Socket::closed
//! [`abort`]: crate::Socket::abort
//! [`Writer::close`]: crate::Writer::close
//! [`Reader::cancel`]: crate::Reader::cancel
//! [`InvalidAddress`]: crate::ErrorKind::InvalidAddress
//! [`Connect`]: crate::ErrorKind::Connect
//! [`Reset`]: crate::ErrorKind::Reset
//! [`Truncated`]: crate::ErrorKind::Truncated
//! [`UnreadPlaintext`]: crate::ErrorKind::UnreadPlaintext
//! [`Upgraded`]: crate::ErrorKind::Upgraded
//! [remote_address]: crate::SocketInfo::remote_address
//! [requested]: crate::SocketInfo::requested
//! [nodelay]: crate::TcpOptions::nodelay
//! [keepalive]: crate::TcpOptions::keepalive
//! [require_close_notify]: crate::TlsOptions::require_close_notify
//! [`server_name`]: crate::TlsOptions::server_name
//! [`alpn`]: crate::TlsOptions::alpn
//! [closing]: super::closing_and_errors
//! [egress]: super::egress_and_ssrf
//! [deadlines]: super::deadlines
//! [writing]: super::writing
