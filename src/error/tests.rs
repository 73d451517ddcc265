//! Checks that no error repeats itself, in any form in which it is printed.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::egress::EgressRules;
use crate::tls::every_failure;

/// Codes of different kinds, and one that no system defines.
#[cfg(target_os = "linux")]
const CODES: [i32; 14] = [1, 13, 22, 24, 12, 32, 98, 99, 100, 101, 104, 110, 111, 113];
#[cfg(not(target_os = "linux"))]
const CODES: [i32; 1] = [i32::MAX];

const TIMERS: [TimerKind; 14] = [
    TimerKind::Slot,
    TimerKind::Lookup,
    TimerKind::LookupQueue,
    TimerKind::Connect,
    TimerKind::Handshake,
    TimerKind::FirstAnswer,
    TimerKind::Upgrade,
    TimerKind::NextAttempt,
    TimerKind::OtherFamilyDelay,
    TimerKind::Close,
    TimerKind::Read,
    TimerKind::Write,
    TimerKind::Opened,
    TimerKind::Closed,
];

fn faults() -> Vec<Fault> {
    let mut faults = vec![
        Fault::Closed,
        Fault::Aborted,
        Fault::PeerEnded,
        Fault::Resolve,
        Fault::NoAddress,
        Fault::NoAddressOfFamily,
        Fault::Denied,
        Fault::OwnListener,
        Fault::Loop,
        Fault::SelfConnected,
        Fault::Superseded,
        Fault::Busy,
        Fault::Tls,
        Fault::Truncated,
        Fault::UnreadPlaintext,
        Fault::Upgraded,
        Fault::Detached,
        Fault::Reset(None),
    ];
    faults.extend(TIMERS.map(Fault::TimedOut));
    for code in CODES {
        let coded = [Fault::Connect, Fault::ResetAfterEnd, Fault::Lost, Fault::Io];
        faults.extend(coded.map(|fault| fault(code)));
        faults.extend([Fault::Reset(Some(code)), Fault::LocalityUnknown(code)]);
        faults.extend([Fault::Option(TcpOption::Mark, code), Fault::Option(TcpOption::Dscp, code)]);
    }
    faults
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 443))
}

fn failed(faults: &[Fault]) -> Vec<FailedAttempt> {
    let attempts = (1..).zip(faults);
    let elapsed = Duration::from_millis(5);
    attempts.map(|(n, &fault)| FailedAttempt { address: address(n), fault, elapsed }).collect()
}

/// Returns what `anyhow` prints with `{:#}`: the error and its sources.
fn chain(error: &Error) -> Vec<String> {
    let mut levels = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        levels.push(error.to_string());
        source = error.source();
    }
    levels
}

fn denied(address: SocketAddr) -> Option<DenialText> {
    Some(EgressRules::public_only().denied_by(address)?.text())
}

#[track_caller]
fn check_no_repetition(error: &Error) {
    let levels = chain(error);
    let printed = levels.join(": ");
    let mut seen = BTreeSet::new();
    // The system's text in a message, and the source with its number, are different parts. `Io` and the errors of
    // attempts promise both.
    for part in printed.split([':', ';']).map(str::trim) {
        // Port numbers and address groups are not parts.
        if part.contains(' ') {
            assert!(seen.insert(part.to_lowercase()), "{part:?} twice: {printed}");
        }
    }
    for (place, source) in levels.iter().enumerate().skip(1) {
        assert!(!levels[place - 1].contains(source.as_str()), "{source:?} twice: {printed}");
    }
    let mut addresses = BTreeSet::new();
    for word in printed.split([' ', ',', ';', '(', ')']) {
        if let Ok(address) = word.trim_end_matches(':').parse::<SocketAddr>() {
            assert!(addresses.insert(address), "{address} twice: {printed}");
        }
    }
    assert!(!printed.contains('\n') && !printed.ends_with('.'), "{printed}");
}

#[test]
fn no_error_of_a_connection_repeats_itself() {
    for fault in faults() {
        check_no_repetition(&Error::from_fault(fault));
    }
    for limit in TIMERS {
        check_no_repetition(&Error::timed_out_call(limit));
    }
    for failure in every_failure() {
        let (target, proxy): (&dyn fmt::Display, &dyn fmt::Display) =
            (&"example.com:443", &"proxy.test:3128");
        for requested in [None, Some(target)] {
            for proxy in [None, Some(proxy)] {
                let (kind, source) = (failure.kind(), failure.source());
                let error = Error::from_tls(kind, failure.message(), source, requested, proxy);
                check_no_repetition(&error);
                assert_eq!(error.tls_failure(), Some(failure.kind()));
                assert_eq!(error.to_string().contains("proxy.test:3128"), proxy.is_some());
            }
        }
    }
    assert_eq!(Error::from_fault(Fault::Closed).tls_failure(), None);
}

#[test]
fn no_error_of_a_connect_repeats_itself() {
    for fault in faults() {
        for requested in ["example.com:443", "192.0.2.1:443"] {
            let mixed = [fault, Fault::Connect(111), fault, Fault::Denied];
            for failures in [&[][..], &[fault], &[fault; 9], &mixed] {
                let failed = failed(failures);
                let error = Error::from_connect(fault, &requested, None, &failed, None, denied);
                check_no_repetition(&error);
                assert_eq!(error.attempts().len(), failures.len());
                for attempt in error.attempts() {
                    let once = attempt.to_string();
                    assert_eq!(once.matches(&attempt.address().to_string()).count(), 1, "{once}");
                }
            }
        }
    }
}

#[test]
fn a_resolvers_error_is_printed_once() {
    let said = [
        io::Error::other("the oracle is asleep"),
        io::Error::from(io::ErrorKind::NotFound),
        io::Error::from_raw_os_error(CODES[0]),
        Error::from_fault(Fault::Connect(CODES[0])).into(),
    ];
    for error in said {
        let said = Some(LookupError::new(error));
        let error =
            Error::from_connect(Fault::Resolve, &"example.com:443", None, &[], said, |_| None);
        check_no_repetition(&error);
        assert_eq!(chain(&error)[0], "cannot connect to example.com:443: the name did not resolve");
    }
}

#[test]
fn a_failed_connect_names_what_failed_then_why_then_where() {
    let check = |fault, requested: &str, failures: &[Fault], expected: &str| {
        let failed = failed(failures);
        let error = Error::from_connect(fault, &requested, None, &failed, None, denied);
        assert_eq!(error.to_string(), expected);
    };
    let late = Fault::TimedOut(TimerKind::Connect);
    check(
        late,
        "192.0.2.1:443",
        &[late],
        "cannot connect to 192.0.2.1:443: the connect timeout passed before an address answered",
    );
    check(
        late,
        "a.test:443",
        &[Fault::SelfConnected, late, late],
        "cannot connect to a.test:443: the connect timeout passed before an address answered \
         (192.0.2.2:443, 192.0.2.3:443); nothing listens on that port: the socket connected to \
         itself (192.0.2.1:443)",
    );
    check(
        Fault::Denied,
        "a.test:443",
        &[Fault::Denied],
        "192.0.2.1 is in 192.0.2.0/24 (Documentation (TEST-NET-1), RFC 5737): proxy request failed, \
         cannot connect to the specified address (a.test:443)",
    );
    #[cfg(target_os = "linux")]
    check(
        Fault::Connect(111),
        "a.test:443",
        &[Fault::Connect(111); 6],
        "cannot connect to a.test:443: the connection was refused (192.0.2.1:443, 192.0.2.2:443, \
         192.0.2.3:443, 192.0.2.4:443 and 2 more)",
    );
}
