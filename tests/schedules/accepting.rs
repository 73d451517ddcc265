//! Listeners: accepts against each other, against the end, and against deadlines and slots.

use std::net::SocketAddr;
use std::time::Duration;

use sockeye::model::{self, Peer, PeerSaw};
use sockeye::{
    AcceptWhen, Connector, ErrorKind, IngressRules, ListenOptions, Listener, Phase, Result,
    SecureTransport, Socket, TlsOptions, listen_with,
};

use crate::explore::explore;
use crate::support::{options, read, spawn, write};

/// Longer than any limit of a listener.
const LONG: Duration = Duration::from_secs(60);

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 80))
}

fn listening(options: ListenOptions) -> Listener {
    listen_with(address(), options).unwrap()
}

fn accepting() -> ListenOptions {
    ListenOptions::new()
}

/// Dials the listener. Returns `None` if it has ended.
fn client(number: u16) -> Option<Peer> {
    Peer::connect(address(), SocketAddr::from(([192, 0, 2, 1], number)))
}

fn kind_of<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Ends a connection from both sides.
fn end(socket: Socket, peer: &Peer) {
    socket.close().unwrap();
    assert_eq!(peer.wait_eof().1, PeerSaw::Fin);
    peer.end();
}

#[test]
fn two_threads_accept_one_client_each() {
    explore("two threads accept one client each", || {
        let listener = listening(accepting());
        let threads = [(); 2].map(|()| {
            let listener = listener.clone();
            spawn(move || listener.accept().unwrap().close().unwrap())
        });
        let peers = [client(1).unwrap(), client(2).unwrap()];
        for thread in threads {
            thread.join().unwrap();
        }
        for peer in peers {
            assert_eq!(peer.wait_eof().1, PeerSaw::Fin);
            peer.end();
        }
        assert_eq!(listener.open_sockets(), 0);
    });
}

/// Every client is accepted, reset, or refused. Those that were complete before the close are accepted.
#[test]
fn a_close_loses_no_client_that_was_complete() {
    explore("a close loses no client that was complete", || {
        let listener = listening(accepting());
        let server = listener.clone();
        let serving = spawn(move || {
            let mut served = 0;
            for socket in &server {
                socket.close().unwrap();
                served += 1;
            }
            served
        });
        let dialling = spawn(|| client(2));
        let first = client(1).unwrap();
        listener.close();
        assert_eq!(first.wait_eof().1, PeerSaw::Fin, "it was complete");
        first.end();
        let second = dialling.join().unwrap();
        let seen = second.map(|peer| {
            let seen = peer.wait_eof().1;
            peer.end();
            seen
        });
        let served = serving.join().unwrap();
        assert_eq!(served, 1 + usize::from(seen == Some(PeerSaw::Fin)));
        listener.closed().unwrap();
        assert_eq!(kind_of(listener.accept()), Some(ErrorKind::Closed));
    });
}

/// The client completes before the close, while an accept that began earlier finds nothing.
#[test]
fn an_accept_that_found_nothing_does_not_end_a_close() {
    explore("an accept that found nothing does not end a close", || {
        let listener = listening(accepting());
        let acceptor = listener.clone();
        let accept = spawn(move || acceptor.accept());
        let closer = listener.clone();
        let closing = spawn(move || {
            let peer = client(1).unwrap();
            closer.close();
            peer
        });
        let socket = accept.join().unwrap().expect("the client was complete");
        end(socket, &closing.join().unwrap());
    });
}

/// A proxy completes both headers of one client while the sockets open.
#[test]
fn a_client_in_headers_has_only_as_many_sockets_as_it_may() {
    explore("a client in headers has only as many sockets as it may", || {
        let rules = IngressRules::allow_all().max_per_client(1);
        let options = accepting().proxy_protocol_from("192.0.2.1").unwrap().ingress(rules);
        let listener = listening(options);
        let threads = [1, 2].map(|number| {
            let peer = client(number).unwrap();
            peer.send(b"PROXY TCP4 192.0.2.7 ");
            let socket = listener.accept().unwrap();
            let opener = socket.clone();
            let opening = spawn(move || kind_of(opener.opened()));
            (peer, socket, opening)
        });
        for (peer, ..) in &threads {
            peer.send(b"192.0.2.8 1 2\r\n");
        }
        let results =
            threads.map(|(peer, socket, opening)| (peer, socket, opening.join().unwrap()));
        let denied = results.iter().filter(|(.., kind)| *kind == Some(ErrorKind::Denied)).count();
        assert_eq!(denied, 1, "the other one is open");
        for (peer, socket, kind) in results {
            match kind {
                None => end(socket, &peer),
                Some(_) => assert_eq!(peer.wait_eof().1, PeerSaw::Reset),
            }
        }
        assert_eq!(listener.open_sockets(), 0);
    });
}

#[test]
fn abort_and_close_end_blocked_accepts() {
    explore("abort and close end blocked accepts", || {
        for ends in [Listener::close, Listener::abort] {
            let listener = listening(accepting());
            let threads = [(); 2].map(|()| {
                let listener = listener.clone();
                spawn(move || kind_of(listener.accept()))
            });
            ends(&listener);
            for thread in threads {
                assert_eq!(thread.join().unwrap(), Some(ErrorKind::Closed));
            }
            listener.closed().unwrap();
        }
    });
}

/// A client that dials before the abort gets through or is reset, and never both. One that dials after it is never
/// returned, although a thread may still have the descriptor.
#[test]
fn an_abort_resets_what_no_thread_has_accepted() {
    explore("an abort resets what no thread has accepted", || {
        for is_late in [false, true] {
            let listener = listening(accepting());
            let acceptor = listener.clone();
            let accept = spawn(move || acceptor.accept());
            let early = if is_late { None } else { client(1) };
            listener.abort();
            let peer = if is_late { client(1) } else { early };
            match accept.join().unwrap() {
                Ok(socket) if !is_late => end(socket, &peer.unwrap()),
                result => {
                    assert_eq!(kind_of(result), Some(ErrorKind::Closed));
                    assert!(peer.is_some() || is_late, "it listened");
                    if let Some(peer) = peer {
                        assert_eq!(peer.wait_eof().1, PeerSaw::Reset);
                        peer.end();
                    }
                }
            }
            assert_eq!(listener.open_sockets(), 0);
        }
    });
}

#[test]
fn a_deadline_in_the_past_ends_blocked_accepts() {
    explore("a deadline in the past ends blocked accepts", || {
        let listener = listening(accepting());
        let threads = [(); 2].map(|()| {
            let listener = listener.clone();
            spawn(move || kind_of(listener.accept()))
        });
        listener.set_accept_deadline(Some(model::now()));
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Some(ErrorKind::TimedOut));
        }
    });
}

/// Of two threads one gives up, and the other one gets the client.
#[test]
fn a_client_is_not_lost_when_an_accept_times_out() {
    explore("a client is not lost when an accept times out", || {
        let listener = listening(accepting());
        let hurried = listener.clone();
        let hurried = spawn(move || hurried.accept_timeout(Duration::from_millis(10)));
        let patient = listener.clone();
        let patient = spawn(move || patient.accept());
        model::pass_time(Duration::from_millis(10));
        let first = client(1).unwrap();
        let second = client(2).unwrap();
        let hurried = hurried.join().unwrap();
        let rest = match hurried {
            Ok(socket) => {
                drop(socket);
                None
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                Some(listener.accept().unwrap())
            }
        };
        drop((patient.join().unwrap().unwrap(), rest));
        drop(listener);
        for peer in [first, second] {
            assert_eq!(peer.wait_eof().1, PeerSaw::Fin);
            peer.end();
        }
    });
}

#[test]
fn a_freed_slot_lets_the_next_client_in() {
    explore("a freed slot lets the next client in", || {
        let listener = listening(accepting().max_open_sockets(1));
        let peers = [client(1).unwrap(), client(2).unwrap()];
        let first = listener.accept().unwrap();
        let acceptor = listener.clone();
        let accept = spawn(move || acceptor.accept());
        let ending = spawn(move || first.close().unwrap());
        let second = accept.join().unwrap().expect("a slot is free");
        assert_eq!(listener.open_sockets(), 1);
        ending.join().unwrap();
        second.close().unwrap();
        for peer in peers {
            assert_eq!(peer.wait_eof().1, PeerSaw::Fin);
            peer.end();
        }
        assert_eq!(listener.open_sockets(), 0);
    });
}

/// An accept waits for the only slot, and gives up while that is freed. A later connect gets it.
#[test]
fn an_accept_that_gives_up_its_wait_for_a_slot_loses_none() {
    explore("an accept that gives up its wait for a slot loses none", || {
        let connector =
            Connector::builder().max_open_sockets(1).wait_at_limit(true).build().unwrap();
        let listener = listening(accepting().connector(&connector));
        let holder = connector.connect_with(("127.0.0.1", 1), options()).unwrap();
        let peer = client(1).unwrap();
        let acceptor = listener.clone();
        let limit = Duration::from_millis(10);
        let accept = spawn(move || acceptor.accept_timeout(limit).ok());
        let ending = spawn(move || holder.close().unwrap());
        model::pass_time(limit);
        let accepted = accept.join().unwrap();
        ending.join().unwrap();
        drop(accepted);
        let dialled = connector.connect_with(("127.0.0.1", 2), options()).unwrap();
        dialled.opened().unwrap();
        assert_eq!((connector.open_sockets(), listener.open_sockets()), (1, 0));
        dialled.close().unwrap();
        listener.abort();
        let _ = peer.wait_eof();
        peer.end();
        for _ in 0..2 {
            Peer::accept().end();
        }
    });
}

#[test]
fn shutdown_of_a_shared_connector_ends_a_concurrent_accept() {
    explore("shutdown of a shared connector ends a concurrent accept", || {
        let connector = Connector::builder().build().unwrap();
        let listener = listening(accepting().connector(&connector));
        let peer = client(1).unwrap();
        let acceptor = listener.clone();
        let accept = spawn(move || acceptor.accept());
        assert_eq!(connector.shutdown(Duration::from_secs(1)), 0);
        if let Ok(socket) = accept.join().unwrap() {
            assert_eq!(socket.phase(), Phase::Closed);
        }
        let _ = peer.wait_eof();
        peer.end();
        assert_eq!((connector.open_sockets(), listener.open_sockets()), (0, 0));
    });
}

/// The event loop accepts.
#[test]
fn opened_connections_are_returned_until_the_end() {
    explore("opened connections are returned until the end", || {
        let listener = listening(accepting().accept_when(AcceptWhen::Opened).max_pending(1));
        let server = listener.clone();
        let serving = spawn(move || {
            for socket in &server {
                socket.close().unwrap();
            }
        });
        let peers = [client(1).unwrap(), client(2).unwrap()];
        listener.close();
        for peer in peers {
            assert_eq!(peer.wait_eof().1, PeerSaw::Fin, "it was complete");
            peer.end();
        }
        serving.join().unwrap();
        listener.closed().unwrap();
        assert_eq!(listener.open_sockets(), 0);
    });
}

#[test]
fn the_end_of_a_client_leaves_the_other_direction_open() {
    explore("the end of a client leaves the other direction open", || {
        let listener = listening(accepting());
        let acceptor = listener.clone();
        let serving = spawn(move || {
            let socket = acceptor.accept().unwrap();
            assert_eq!(read(&socket), Ok(b"q".to_vec()));
            assert_eq!(read(&socket), Ok(Vec::new()));
            assert_eq!(write(&socket, b"a"), Ok(1));
            socket.close().unwrap();
        });
        let peer = client(1).unwrap();
        peer.send(b"q");
        peer.end();
        assert_eq!(peer.wait_eof(), (b"a".to_vec(), PeerSaw::Fin));
        serving.join().unwrap();
    });
}

/// A thread that has waited for the end can listen there.
#[test]
fn when_closed_returns_the_address_is_free() {
    explore("when closed returns the address is free", || {
        for ends in [Listener::close, Listener::abort] {
            let listener = listening(accepting());
            let acceptor = listener.clone();
            let accept = spawn(move || kind_of(acceptor.accept()));
            let waiter = listener.clone();
            let waiting = spawn(move || {
                waiter.closed().unwrap();
                drop(listening(accepting()));
            });
            ends(&listener);
            waiting.join().unwrap();
            assert_eq!(accept.join().unwrap(), Some(ErrorKind::Closed));
        }
    });
}

/// The event loop accepts while the program ends the listener, and another thread waits for the end.
#[test]
fn the_end_of_a_listener_does_not_miss_what_the_event_loop_accepts() {
    explore("the end of a listener does not miss what the event loop accepts", || {
        let ends: [fn(&Listener); 3] =
            [Listener::close, Listener::abort, |listener| assert_eq!(listener.shutdown(LONG), 0)];
        for ends in ends {
            let listener = listening(accepting().accept_when(AcceptWhen::Opened));
            let server = listener.clone();
            let serving = spawn(move || {
                let mut served = 0;
                for socket in &server {
                    let _ = socket.close();
                    served += 1;
                }
                served
            });
            let waiter = listener.clone();
            let waiting = spawn(move || waiter.closed());
            let dialling = spawn(|| client(1));
            ends(&listener);
            let peer = dialling.join().unwrap();
            let seen = peer.map(|peer| {
                let seen = peer.wait_eof().1;
                peer.end();
                seen
            });
            let served = serving.join().unwrap();
            assert!(served == 1 || seen != Some(PeerSaw::Fin), "no thread has served it");
            waiting.join().unwrap().unwrap();
            assert_eq!(listener.open_sockets(), 0);
        }
    });
}

/// The client never answers the ClientHello. Nothing waits for the limit of its handshake.
#[test]
fn an_abort_resets_a_handshake_that_just_begins() {
    explore("an abort resets a handshake that just begins", || {
        end_resets_a_handshake(Listener::abort);
    });
}

/// The shutdown closes sockets gracefully, but not those that no thread has accepted.
#[test]
fn a_shutdown_resets_a_handshake_that_just_begins() {
    explore("a shutdown resets a handshake that just begins", || {
        end_resets_a_handshake(|listener| assert_eq!(listener.shutdown(LONG), 0));
    });
}

fn end_resets_a_handshake(end: fn(&Listener)) {
    let begun = model::now();
    let tls = TlsOptions::new().danger_accept_invalid_certs(true).server_name("localhost");
    let socket = options().secure_transport(SecureTransport::On).tls(tls);
    let listener = listening(accepting().accept_when(AcceptWhen::Opened).socket(socket));
    let waiter = listener.clone();
    let waiting = spawn(move || waiter.closed());
    let dialling = spawn(|| client(1));
    end(&listener);
    if let Some(peer) = dialling.join().unwrap() {
        assert_eq!(peer.wait_eof().1, PeerSaw::Reset);
        peer.end();
    }
    waiting.join().unwrap().unwrap();
    assert!(model::now() - begun < Duration::from_secs(1));
}

/// The thread that closes takes the client from the queue, and no thread accepts it.
#[test]
fn a_shutdown_resets_what_a_close_takes() {
    explore("a shutdown resets what a close takes", || {
        let listener = listening(accepting());
        let peer = client(1).unwrap();
        let closer = listener.clone();
        let closing = spawn(move || closer.close());
        assert_eq!(listener.shutdown(LONG), 0);
        assert_eq!(peer.wait_eof().1, PeerSaw::Reset);
        peer.end();
        closing.join().unwrap();
    });
}

/// With the last handle, no thread waits for the end, and no thread can accept.
#[test]
fn the_last_handle_resets_what_the_event_loop_accepts() {
    explore("the last handle resets what the event loop accepts", || {
        let listener = listening(accepting().accept_when(AcceptWhen::Opened));
        let dialling = spawn(|| client(1));
        drop(listener);
        if let Some(peer) = dialling.join().unwrap() {
            assert_eq!(peer.wait_eof().1, PeerSaw::Reset);
            peer.end();
        }
    });
}

/// The queue holds one connection more than a close returns. The threads that accept are not forgotten at its end.
#[test]
fn a_close_that_returns_all_it_may_ends_blocked_accepts() {
    explore("a close that returns all it may ends blocked accepts", || {
        let listener = listening(accepting().backlog(1));
        let peers = [client(1).unwrap(), client(2).unwrap()];
        let threads = [(); 2].map(|()| {
            let server = listener.clone();
            spawn(move || server.incoming().inspect(|socket| socket.close().unwrap()).count())
        });
        listener.close();
        let served: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        listener.closed().unwrap();
        let seen = peers.map(|peer| {
            let seen = peer.wait_eof().1;
            peer.end();
            seen
        });
        assert_eq!(seen[0], PeerSaw::Fin, "it was the first");
        assert_eq!(served, 1 + usize::from(seen[1] == PeerSaw::Fin));
    });
}

/// Each thread in turn takes the only slot.
#[test]
fn two_threads_share_the_only_slot() {
    explore("two threads share the only slot", || {
        let listener = listening(accepting().max_open_sockets(1));
        let peers = [client(1).unwrap(), client(2).unwrap()];
        let threads = [(); 2].map(|()| {
            let listener = listener.clone();
            spawn(move || {
                let socket = listener.accept().unwrap();
                assert_eq!(listener.open_sockets(), 1);
                socket.close().unwrap();
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        for peer in peers {
            assert_eq!(peer.wait_eof().1, PeerSaw::Fin);
            peer.end();
        }
        assert_eq!(listener.open_sockets(), 0);
    });
}
