//! Alerts and invalid records.

use super::*;

// -------------------------------------------------------------------- alerts

/// Checks that the error names the alert that [`Accepted::alert`] sends, and that its source is a rustls error.
#[track_caller]
fn names_the_alert(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert_message_contains(error, &["bad record mac"]);
    let source = rustls_error(error);
    assert!(matches!(source, rustls::Error::AlertReceived(_)), "{source:?}");
}

#[track_caller]
fn names_the_alert_in<T: std::fmt::Debug>(result: std::io::Result<T>) {
    let error = result.expect_err("the peer sent an alert");
    assert_eq!(crate_kind(&error), ErrorKind::Tls, "{error}");
    names_the_alert(Error::from_io(&error).expect("kind_of found it"));
}

#[test]
fn every_call_reports_an_alert() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.send(b"so far, so good");
            peer.wait_signal();
            peer.alert();
        });
        assert_eq!(read_exactly(&socket, 2).expect("the peer sends"), b"so");
        let waiting = socket.clone();
        let closed = spawn_blocked(move || waiting.closed());
        let mut got = Vec::new();
        peer.signal();
        names_the_alert_in(socket.reader().read_to_end(&mut got));
        assert_eq!(got, b" far, so good", "the data before the alert");
        names_the_alert(&closed.join_within(PROMPT).expect_err("the peer sent an alert"));
        assert_ended_with(&socket, ErrorKind::Tls);
        names_the_alert_in((&socket).write(b"x"));
    });
}

#[test]
fn an_alert_is_noticed_without_a_reader() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.wait_signal();
            peer.alert();
        });
        peer.signal();
        names_the_alert(&socket.closed_timeout(PROMPT).expect_err("the peer sent an alert"));
        assert_ended_with(&socket, ErrorKind::Tls);
    });
}

/// On other systems a reset discards earlier data.
#[cfg(target_os = "linux")]
#[test]
fn an_alert_is_reported_instead_of_the_broken_pipe() {
    for end in [Accepted::reset, Accepted::close, Accepted::fin] {
        for_each_tls_setup(move |setting| {
            let (peer, socket) = pair(setting, move |peer| {
                peer.receive(200_000);
                peer.alert();
                end(peer);
            });
            let writer = socket.writer();
            let writing = spawn_call(move || write_until_error(writer, b'w', usize::MAX));
            let (_, failure) = writing.join();
            names_the_alert_in::<()>(Err(failure.expect("the peer sent an alert")));
            names_the_alert(&socket.closed_timeout(PROMPT).expect_err("the peer sent an alert"));
            assert_ended_with(&socket, ErrorKind::Tls);
            peer.finish();
        });
    }
}

#[test]
fn every_call_reports_a_corrupted_record_after_the_data_before_it() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.wait_signal();
            let good = peer.sealed(b"before");
            let mut bad = peer.sealed(b"corrupted");
            let last = bad.len() - 1;
            bad[last] ^= 1;
            let behind = peer.sealed(b"behind");
            peer.raw(&[good, bad, behind].concat());
        });
        peer.signal();
        assert_eq!(read_exactly(&socket, 6).expect("the data arrived before"), b"before");
        let error = read(&socket, 10).expect_err("the record is corrupted");
        assert_eq!(crate_kind(&error), ErrorKind::Tls);
        let inner = Error::from_io(&error).expect("kind_of found it");
        assert_eq!(rustls_error(inner), &rustls::Error::DecryptError);
        assert_ended_with(&socket, ErrorKind::Tls);
        assert_eq!(socket.phase(), Phase::Closed);
        assert_eq!(socket.stats().bytes_read, 6);
        // The peer receives an alert with the reason.
        let ending = peer.finish();
        let message = matches!(ending.failure, Some(rustls::Error::AlertReceived(_)));
        assert!(message, "{:?}", ending.failure);
    });
}

#[test]
fn a_corrupted_record_is_noticed_without_a_reader() {
    for_each_tls_setup(|setting| {
        let (peer, socket) = pair(setting, |peer| {
            peer.wait_signal();
            let mut bad = peer.sealed(b"corrupted");
            bad[7] ^= 1;
            peer.raw(&bad);
        });
        let writer = socket.writer();
        peer.signal();
        assert_fails(socket.closed_timeout(PROMPT), ErrorKind::Tls);
        assert_fails((&writer).write(b"x"), ErrorKind::Tls);
        assert_ended_with(&socket, ErrorKind::Tls);
    });
}

#[test]
fn plaintext_in_a_secured_connection_is_never_data() {
    for_each_tls_setup(|setting| {
        for injected in [
            &b"plain text, as if nothing had been agreed on"[..],
            &[23, 3, 3, 0, 5, b'p', b'l', b'a', b'i', b'n'],
            &[21, 3, 3, 0, 2, 1, 0],
            &[21, 3, 3, 0, 2, 2, 40],
        ] {
            let (peer, socket) = pair(setting, move |peer| {
                peer.wait_signal();
                peer.raw(injected);
            });
            peer.signal();
            let error = read(&socket, 100).expect_err("the data is not authentic");
            assert_eq!(crate_kind(&error), ErrorKind::Tls, "{injected:?}");
            assert_eq!(socket.stats().bytes_read, 0);
            assert_ended_with(&socket, ErrorKind::Tls);
            peer.finish();
        }
    });
}
