//! What Workers, Node, Go and `std` do in a case, and what happens here.
//!
//! The last column links to what does it here, and names a test that shows it, as
//! `cargo test --test it NAME` takes it: `close::dropping_the_last_handle_closes_gracefully` is in
//! `tests/it/close.rs`.
//!
//! Workers is what workerd was seen to do in November 2026; where the Sockets API draft of WinterTC says
//! something else it is named. Node is what version 20 was seen to do, Go and `std` are as their
//! documentation and sources say; `std` over TLS is rustls' `StreamOwned` over a `TcpStream`. A cell is empty
//! where there is no such thing, or where we are not sure.
//!
//! # What this crate adds to `std`
//!
//! | With `std::net::TcpStream` | Here |
//! |---|---|
//! | a blocked read cannot be ended on every system; `shutdown` from another thread works on some | `close()` and `abort()` from any thread end every read, write and wait, everywhere |
//! | a timeout starts again with every byte | absolute deadlines as well as timeouts; both can be changed while a read is blocked |
//! | the connect timeout covers one address; neither the name lookup nor TLS has one | one `connect_timeout` over lookup, all attempts and the handshake |
//! | addresses are tried one after another, and only the last error is kept | addresses race ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)), and the error keeps every attempt with its own error |
//! | connecting blocks and cannot be cancelled | `connect` returns at once, and closing the socket cancels the attempt |
//! | one thread cannot read a blocking TLS stream while another writes to it | both work, and neither waits for the other |
//! | after STARTTLS, plaintext that was injected after the go-ahead is taken for a TLS answer | `start_tls` checks the wire first; such bytes end the connection with `UnreadPlaintext` |
//! | over TLS a clean end can look like a truncation, because callers must remember to send `close_notify` | `close_notify` is always sent, and an end without it is `Truncated` |
//! | after a reset the next read may return `Ok(0)`, as at an end | `Ok(0)` is the peer's clean end and nothing else; every waiter gets the same error |
//! | dropping a stream with unread data resets the connection, and the peer may lose data | `close()` sends FIN and drains within bounds; the peer sees an end |
//! | the peer's end is not noticed until the next read | `closed()` settles although no thread reads |
//! | a program that dials addresses strangers name can be sent to its own network (SSRF); checks of the name do not help | egress rules check every numeric address before it is dialled |
//! | nothing limits the number of sockets, and some outlive their work | limits that fail or wait in order, scopes, and a shutdown that hands over accepted data |
//! | a pool finds out whether an idle connection works by using it; over TLS a session ticket looks like data | `health()` checks without waiting and takes no data |
//! | the async alternative brings a runtime | one thread, started by the first work for it, and a handful of dependencies |
//!
//! # Connecting
//!
//! | | Workers | Node | Go | `std` | here |
//! |---|---|---|---|---|---|
//! | connect returns | at once | at once | when connected, or failed | when connected, or failed | at once: [`connect`]<br>`conformance::opened::write_before_opened` |
//! | reads and writes before the connection is there | wait | are queued | | | [wait][`Socket`]<br>`conformance::opened::read_before_opened` |
//! | a name with several addresses | | one after another; each but the last has 250 ms and is then given up | two races, of which the other family's begins after 300 ms; within one, one after another | one after another | all race: the next begins after 250 ms, with at most 8 under way: [`connecting`]<br>`connecting::racing::an_older_attempt_goes_on_beside_newer_ones` |
//! | the error where all fail | one text for everything | one with all of them | the first one's | the last one's | [one with all of them][attempts]<br>`connecting::racing::all_refused_fail_at_once` |
//! | the time limit | none | none | none; `Dialer.Timeout` is over look-up and attempts, with `tls.Dialer` the handshake too | none; `connect_timeout` is for one address | [30 s][connect_timeout] over look-up, attempts and handshake<br>`tls::handshake::the_connect_timeout_is_one_for_everything` |
//! | giving up | `close` waits for it | `destroy` | the context | | [`close`], at once<br>`connecting::racing::a_close_in_the_middle_of_a_race_ends_every_attempt` |
//! | port 0 | fails later | is dialled | is dialled | is dialled | [`InvalidAddress`]<br>`errors::port_0_is_no_address` |
//! | a connection that meets itself | | | is dialled again, twice, then taken | is taken | is dialled again, twice, then [fails][`Connect`]<br>`network::a_connection_to_itself_is_refused_and_the_next_address_is_tried` |
//! | the peer's address | the text that was asked for | numeric | numeric | numeric | [numeric][remote_address], and [what was asked for][requested]<br>`conformance::opened::socketinfo_ip` |
//! | small segments | | wait (Nagle) | go at once | wait (Nagle) | [go at once][nodelay]<br>`options::in_the_system::nodelay_is_on_by_default` |
//! | keepalive probes | | on demand | every 15 s | | [on demand][keepalive]<br>`options::in_the_system::keepalive_is_off_by_default` |
//!
//! # Ends and resets
//!
//! | | Workers | Node | Go | `std` | here |
//! |---|---|---|---|---|---|
//! | after the peer's end, writing | is over, unless half-open is allowed | is over, unless half-open is allowed | goes on | goes on | is over, [unless half-open is allowed][allow_half_open]<br>`conformance::half_open::absent_reading` |
//! | the peer ends, nothing is unread, nobody reads | isn't noticed (the draft leaves it open) | is noticed | isn't noticed | isn't noticed | [`closed`] settles<br>`conformance::half_open::f_not_reading` |
//! | the same with something unread | isn't noticed | is noticed once that is read | isn't noticed | isn't noticed | is noticed [once that is read][half_open]<br>`conformance::half_open::f_not_reading_data` |
//! | both directions have ended | `closed` goes on waiting | `'close'` | | | [`closed`] is `Ok`<br>`conformance::half_open::t_closewriter_then_fin` |
//! | the peer resets, nobody reads or writes | isn't noticed | `'error'` | the next call tells | the next call tells | [`closed`] is [`Reset`]<br>`conformance::reset::idle` |
//! | a second read after a reset | fails again | there is none | EOF, on Linux | `Ok(0)`, on Linux | fails again, with [`Reset`]<br>`conformance::reset::idle_only_read` |
//! | a read after the connection failed | a clean end | there is none | | | fails with [the cause][closing]<br>`conformance::opened::refused_later_ops` |
//! | the half-close | `writer.close()` | `end()` | `CloseWrite` | `shutdown(Write)` | [`Writer::close`]<br>`conformance::half_open::f_writer_closed_first` |
//! | the same once more | fails | is fine | | is fine on Linux, `NotConnected` on macOS | is [fine][`Writer::close`]<br>`conformance::writer_reader::closewriter_twice` |
//! | no more reading | `reader.cancel()`: what comes piles up | | `CloseRead` | `shutdown(Read)` | [`Reader::cancel`]: what comes is dropped<br>`reader_writer::a_cancelled_reader_does_not_hold_the_peer_up` |
//!
//! # Closing
//!
//! | | Workers | Node | Go | `std` | here |
//! |---|---|---|---|---|---|
//! | with something unread | a reset | `destroy`: a reset, where that is more than Node has buffered | a reset | by drop: a reset | FIN, and what comes is [dropped][closing]<br>`conformance::close::read_after_close_buffered` |
//! | with a peer that doesn't read | waits for ever | `end` waits for ever, `destroy` drops what is queued | the kernel goes on, behind the program's back | by drop: as Go | waits, for the [close timeout][close_timeout] at most<br>`conformance::close::queued_large_stuck` |
//! | with a write that waits | waits for it | | it fails, and tells how much was taken | | it tells [how much was taken][closing], and that arrives<br>`close::a_write_that_close_ends_tells_exactly_what_is_delivered` |
//! | twice, or in two threads at once | is fine | is fine | the second fails | | is fine, with the [same result][`close`]<br>`races::concurrent_closes_give_the_same_result` |
//! | a reset on purpose | `writer.abort()` sends nothing | `resetAndDestroy` | `SetLinger(0)`, `Close` | | [`abort`]<br>`close::abort_drops_what_is_not_sent` |
//! | the last handle goes | the connection stays until the request ends | it stays, and keeps the process alive | it is closed when that is collected | it is closed | it is [closed gracefully][closing]<br>`close::dropping_the_last_handle_closes_gracefully` |
//!
//! # Waiting
//!
//! | | Workers | Node | Go | `std` | here |
//! |---|---|---|---|---|---|
//! | ending a read that waits, from elsewhere | `close`, `reader.cancel()` | `destroy` | `Close`, `SetReadDeadline` | `shutdown` through a clone, on some systems | [`close`], [`abort`], [`Reader::cancel`], [a deadline][deadlines]<br>`conformance::close::pending_read` |
//! | limits of reads and writes | none | `setTimeout` tells of idleness | deadlines | a timeout for each call | [both][deadlines]<br>`deadlines::the_earlier_of_timeout_and_deadline_counts` |
//! | a limit set while a call waits | | | counts at once | counts for the next call | counts [at once][deadlines]<br>`deadlines::an_earlier_deadline_ends_a_blocked_call_earlier` |
//! | two reads at once | the second is refused | | each byte is read once | each byte is read once | each byte is read once: [`Reader`]<br>`conformance::writer_reader::two_reads` |
//! | a write returns | | at once; what the kernel doesn't take is queued, without a bound | when the kernel has all | when the kernel has some | when the kernel has some, or over TLS [a bounded queue][writing]<br>`conformance::volume::peer_not_reading` |
//!
//! # TLS
//!
//! | | Workers | Node | Go | `std` | here |
//! |---|---|---|---|---|---|
//! | FIN without close_notify | an error; after an upgrade a clean end | a clean end | a clean end between two records | `UnexpectedEof` | [`Truncated`], unless [it is enough][require_close_notify]<br>`tls::ends::an_end_of_the_stream_alone_is_truncation` |
//! | close_notify of this side | is sent by `writer.close()`, not by `close` | is sent by `end`, not by `destroy` | is sent by `Close` where no `Write` is under way | is sent by hand | is [always sent][closing]<br>`tls::ends::close_ends_tls_and_then_the_stream` |
//! | the half-close | `writer.close()` | `end()` | `CloseWrite`: close_notify without FIN | by hand | [`Writer::close`]: both<br>`tls::ends::closing_the_writer_ends_tls_and_then_the_stream_and_reading_goes_on` |
//! | one thread reads, another writes | | | works | doesn't | [works][`Socket`]<br>`tls::duplex::a_writer_works_beside_a_reader_that_is_blocked` |
//! | after a write that timed out | | | every write fails | | it can be [repeated][deadlines]<br>`tls::duplex::a_write_that_timed_out_accepted_nothing` |
//! | plaintext that is unread at an upgrade | goes into the handshake | goes into the handshake | goes into the handshake | goes into the handshake | ends the connection: [`UnreadPlaintext`]<br>`conformance::starttls::refused::injection_in_kernel` |
//! | an upgrade while a read waits | never settles | | | | works, the read fails with [`Upgraded`]<br>`conformance::starttls::pending_read` |
//! | server name, ALPN | are ignored (the draft has `sni`, `alpn`) | `servername`, `ALPNProtocols` | `ServerName`, `NextProtos` | as rustls has them | [`server_name`], [`alpn`]<br>`tls::handshake::a_server_name_stands_in_for_the_host` |
//! | sessions are resumed | | by hand | with a `ClientSessionCache` | within one configuration | within [equal options](crate::TlsOptions)<br>`tls::handshake::equal_options_resume_each_others_sessions` |
//!
//! # Who may be dialled, and how many
//!
//! | | Workers | Node | Go | `std` | here |
//! |---|---|---|---|---|---|
//! | rules about addresses | those of the platform | a `BlockList` of addresses | by hand, in `Dialer.Control` | none | [`EgressRules`](crate::EgressRules) on each address that is dialled<br>`connector::egress::a_name_that_leads_to_a_denied_address_fails_and_no_call_hangs` |
//! | a name that resolves to something else the second time | | | `Control` sees what is dialled | | is looked up once, and [what was judged is dialled][strangers]<br>`connector::egress::a_name_that_is_rebound_between_the_look_up_and_the_connection_gains_nothing` |
//! | a limit on open sockets | the platform's | none for sockets | none for connections of a `Dialer` | none | [`max_open_sockets`](crate::ConnectorBuilder::max_open_sockets), failing or waiting in order<br>`connector::limits::those_that_wait_are_served_in_the_order_of_their_arrival` |
//! | sockets that end with a piece of work | always, with the request | | by hand | when they are dropped | in a [scope](crate::Connector::scope)<br>`connector::scopes::a_panic_of_the_work_closes_them_too_and_goes_on` |
//! | the end of the program | | open sockets keep the process alive | drops them | drops them | [`shutdown`](crate::Connector::shutdown) hands over within a limit<br>`connector::shutdown::it_waits_for_those_that_close_in_the_background` |
//!
//! # Errors
//!
//! | | Workers | Node | Go | `std` | here |
//! |---|---|---|---|---|---|
//! | are told apart by | a text, within a `TypeError` | `code` | `errors.Is`, `errors.As` | `io::ErrorKind` | [`ErrorKind`](crate::ErrorKind), and the fitting `io::ErrorKind`<br>`errors::each_kind_has_its_io_kind` |
//! | all who wait for one connection | are told different things | | | on Linux only the first hears of a reset | are told the [same][closing]<br>`errors::every_waiter_gets_the_same_cause` |
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
//! [strangers]: super::egress_and_ssrf
//! [deadlines]: super::deadlines
//! [writing]: super::writing
