//! Every answer in every cut, with bytes of the target behind it.

use super::{Answer, Destination, Dialogue, MAX_QUOTED};
use crate::error::ProxyReply;
use crate::proxy::Proxy;

const NAME: Destination<'_> = Destination::Name("db.example.com", 5432);

#[test]
fn requests_follow_the_protocols() {
    let v4 = Destination::Address(([10, 1, 2, 3], 80).into());
    let v6 = Destination::Address("[2001:db8::1]:443".parse().unwrap());
    let head = |target: &str| format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    let plain = |target: &str| format!("{}\r\n", head(target)).into_bytes();
    let [http, socks5, socks4] = proxies();
    assert_eq!(first_bytes(&http, NAME), plain("db.example.com:5432"));
    assert_eq!(first_bytes(&http, v4), plain("10.1.2.3:80"));
    assert_eq!(first_bytes(&http, v6), plain("[2001:db8::1]:443"));

    let named = http.clone().credentials("Aladdin", "open sesame").unwrap();
    let named = named.header("X-Key", "value").unwrap();
    let basic = "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
    let expected = format!("{}{basic}X-Key: value\r\n\r\n", head("db.example.com:5432"));
    assert_eq!(first_bytes(&named, NAME), expected.as_bytes());
    let own = named.header("proxy-authorization", "Bearer t").unwrap();
    let expected =
        head("db.example.com:5432") + "X-Key: value\r\nproxy-authorization: Bearer t\r\n\r\n";
    assert_eq!(first_bytes(&own, NAME), expected.as_bytes());

    assert_eq!(first_bytes(&socks5, NAME), [5, 1, 0]);
    assert_eq!(
        requests(&socks5, NAME, &[b"\x05\x00"]),
        [b"\x05\x01\x00\x03\x0edb.example.com\x15\x38"]
    );
    assert_eq!(
        requests(&socks5, v4, &[b"\x05\x00"]),
        [b"\x05\x01\x00\x01\x0a\x01\x02\x03\x00\x50"]
    );
    let v6_request = b"\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb";
    assert_eq!(requests(&socks5, v6, &[b"\x05\x00"]), [v6_request]);
    let named = socks5.credentials("alice", "pw").unwrap();
    assert_eq!(first_bytes(&named, NAME), [5, 2, 0, 2]);
    assert_eq!(
        requests(&named, v4, &[b"\x05\x02", b"\x01\x00"]),
        [&b"\x01\x05alice\x02pw"[..], b"\x05\x01\x00\x01\x0a\x01\x02\x03\x00\x50"]
    );
    // A proxy may want no authentication although it is offered.
    assert_eq!(requests(&named, v4, &[b"\x05\x00"]), [b"\x05\x01\x00\x01\x0a\x01\x02\x03\x00\x50"]);

    assert_eq!(first_bytes(&socks4, NAME), b"\x04\x01\x15\x38\0\0\0\x01\0db.example.com\0");
    assert_eq!(first_bytes(&socks4, v4), b"\x04\x01\x00\x50\x0a\x01\x02\x03\0");
    let named = socks4.credentials("alice", "").unwrap();
    assert_eq!(first_bytes(&named, v4), b"\x04\x01\x00\x50\x0a\x01\x02\x03alice\0");
}

#[test]
fn exactly_the_answer_is_consumed_in_every_cut() {
    let [http, socks5, socks4] = proxies();
    let named = socks5.clone().credentials("alice", "pw").unwrap();
    for (proxy, answers) in [
        (&http, &[&b"HTTP/1.1 200 OK\r\n\r\n"[..]][..]),
        (&http, &[b"HTTP/1.0 200\r\n\r\n"]),
        (&http, &[b"HTTP/1.1 299 \n\n"]),
        (&http, &[b"HTTP/1.1 200 Connection established\nContent-Length: 10\n\r\n"]),
        (&http, &[b"HTTP/1.1 201 x\r\nTransfer-Encoding: chunked\r\nX: \r\n y\r\n\r\n"]),
        (
            &http,
            &[b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 199 x\r\nA: b\r\n\r\nHTTP/1.1 204 z\r\n\r\n"],
        ),
        (&socks5, &[b"\x05\x00", b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34"]),
        (&socks5, &[b"\x05\x00", b"\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x34"]),
        (&socks5, &[b"\x05\x00", b"\x05\x00\x00\x03\x09proxy.lan\x12\x34"]),
        (&socks5, &[b"\x05\x00", b"\x05\x00\x00\x03\x00\x12\x34"]),
        (&named, &[b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x01\0\0\0\0\0\0"]),
        (&named, &[b"\x05\x00", b"\x05\x00\x00\x01\0\0\0\0\0\0"]),
        (&socks4, &[b"\x00\x5a\x12\x34\x7f\x00\x00\x01"]),
    ] {
        let all = answers.concat();
        for follows in [
            &b""[..],
            b"2",
            b"220 mail ready\r\n",
            b"\r\n",
            b"\n",
            b"\x05\x00",
            b"HTTP/1.1 200\r\n\r\n",
        ] {
            let wire = [&all, follows].concat();
            // Each cut into two pieces, and each size of equal pieces.
            for cut in 1..=wire.len() {
                assert_accepted(proxy, &[&wire[..cut], &wire[cut..]], all.len());
            }
            for size in 1..=wire.len() {
                assert_accepted(proxy, &wire.chunks(size).collect::<Vec<_>>(), all.len());
            }
        }
    }
}

#[test]
fn refusals_name_the_reason() {
    let [http, socks5, socks4] = proxies();
    let basic = http.clone().credentials("alice", "pw").unwrap();
    let named = socks5.clone().credentials("alice", "pw").unwrap();
    use ProxyReply::{Http, Malformed, Socks4, Socks5, Socks5Auth};
    for (proxy, answer, reply, words) in [
        (&http, &b"HTTP/1.1 403 Forbidden\r\n\r\n"[..], Http(403), "refused: 403 Forbidden"),
        (&http, b"HTTP/1.1 502\r\n\r\n", Http(502), "refused: 502"),
        (&http, b"HTTP/1.1 101 Switching\r\n\r\n", Http(101), "refused: 101 Switching"),
        (
            &http,
            b"HTTP/1.1 302 a\x1b[31m\xff\r\n\r\n",
            Http(302),
            "refused: 302 a\\u{1b}[31m\u{fffd}",
        ),
        (&http, b"HTTP/1.1 407 Auth\r\n\r\n", Http(407), "requires credentials: 407"),
        (&basic, b"HTTP/1.1 407 Auth\r\n\r\n", Http(407), "requires other credentials: 407"),
        (
            &http,
            b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"a, b\", charset=\"UTF-8\"\r\n\
              proxy-authenticate:Negotiate, NTLM\r\nProxy-Authenticate: basic\r\n\r\n",
            Http(407),
            "requires credentials: 407, it offers Basic, Negotiate, NTLM",
        ),
        (
            &http,
            b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"a\\\", X, \", charset = \"U, Y\", \
              NTLM\r\n\r\n",
            Http(407),
            "requires credentials: 407, it offers Basic, NTLM",
        ),
        (&http, b"HTTP/1.1 100 a\r\n\r\nHTTP/1.1 500 b\r\n\r\n", Http(500), "refused: 500 b"),
        (
            &http,
            b"HTTP/2 200\r\n\r\n",
            Malformed,
            "does not speak HTTP: it answered \"HTTP/2 200\"",
        ),
        (
            &http,
            b"HTTP/1.1 20\r\n\r\n",
            Malformed,
            "does not speak HTTP: it answered \"HTTP/1.1 20\"",
        ),
        (
            &http,
            b"HTTP/1.1 2000\r\n\r\n",
            Malformed,
            "does not speak HTTP: it answered \"HTTP/1.1 2000\"",
        ),
        (
            &http,
            b"HTTP/1.1 099 a\r\n\r\n",
            Malformed,
            "does not speak HTTP: it answered \"HTTP/1.1 099 a\"",
        ),
        (&http, b"\r\n", Malformed, "does not speak HTTP: it answered \"\""),
        (
            &http,
            b"220 mail.test\r\n",
            Malformed,
            "does not speak HTTP: it answered \"220 mail.test\"",
        ),
        (
            &http,
            b"\x05\xff",
            Malformed,
            "does not speak HTTP: it answered \"\\u{5}\u{fffd}\" (is it a SOCKS 5 proxy?)",
        ),
        (
            &http,
            b"\x15\x03\x01\0\x02\x02\x0a",
            Malformed,
            "does not speak HTTP: it answered \"\\u{15}\\u{3}\\u{1}\\0\\u{2}\\u{2}\" (is it an https proxy?)",
        ),
        (
            &http,
            b"HTTP/1.1 200 a\0b\r\n\r\n",
            Malformed,
            "does not speak HTTP: it answered \"HTTP/1.1 200 a\\0b\"",
        ),
        (
            &http,
            b"HTTP/1.1 200 a\rb\r\n\r\n",
            Malformed,
            "does not speak HTTP: it answered \"HTTP/1.1 200 ab\"",
        ),
        (
            &http,
            b"HTTP/1.1 200 a\r\nX: \0\r\n\r\n",
            Malformed,
            "sent a head with NUL, or with CR inside a line",
        ),
        (
            &http,
            b"HTTP/1.1 200 a\r\nX: \r\r\n\r\n",
            Malformed,
            "sent a head with NUL, or with CR inside a line",
        ),
        (
            &socks5,
            b"\x05\xff",
            Socks5Auth(255),
            "accepts none of the offered ways to authenticate (SOCKS 5 method 255)",
        ),
        (&socks5, b"\x05\x02", Malformed, "chose method 2 of SOCKS 5, which was not offered"),
        (&named, b"\x05\x01", Malformed, "chose method 1 of SOCKS 5, which was not offered"),
        (
            &named,
            b"\x05\x02\x01\x07",
            Socks5Auth(7),
            "requires other credentials (SOCKS 5 authentication status 7)",
        ),
        (
            &named,
            b"\x05\x02\x05\x00",
            Malformed,
            // It might be an echo of the credentials.
            "does not speak SOCKS 5",
        ),
        (&socks5, b"\x05\x00\x05\x04", Socks5(4), "replied: host unreachable (SOCKS 5 reply 4)"),
        (
            &socks5,
            b"\x05\x00\x05\x02\0\x01",
            Socks5(2),
            "replied: not allowed by its rules (SOCKS 5 reply 2)",
        ),
        (&socks5, b"\x05\x00\x05\xfe", Socks5(254), "replied: unknown failure (SOCKS 5 reply 254)"),
        (
            &socks5,
            b"\x05\x00\x05\x00\x00\x02",
            Malformed,
            "does not speak SOCKS 5: it answered \"\\u{5}\\0\\0\\u{2}\"",
        ),
        (
            &socks5,
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            Malformed,
            "does not speak SOCKS 5: it answered \"HTTP/1.1 400 Bad\" (is it an HTTP proxy?)",
        ),
        (
            &socks5,
            b"\0\x5b\0\0\0\0\0\0",
            Malformed,
            "does not speak SOCKS 5: it answered \"\\0[\\0\\0\\0\\0\\0\\0\" (is it a SOCKS 4 proxy?)",
        ),
        (&socks4, b"\0\x5b", Socks4(91), "replied: request rejected or failed (SOCKS 4 reply 91)"),
        (&socks4, b"\0\x5e", Malformed, "does not speak SOCKS 4: it answered \"\\0^\""),
        (
            &socks4,
            b"\x05\x00",
            Malformed,
            "does not speak SOCKS 4: it answered \"\\u{5}\\0\" (is it a SOCKS 5 proxy?)",
        ),
    ] {
        let refusal = refusal(proxy, &[answer]);
        assert_eq!((refusal.0, &*refusal.1), (reply, words), "{proxy:?}");
        // In pieces, the code is the same. Less may be in sight of an answer that is malformed.
        for size in 1..answer.len() {
            let pieces: Vec<_> = answer.chunks(size).collect();
            assert_eq!(self::refusal(proxy, &pieces).0, reply, "{proxy:?}, pieces of {size}");
        }
    }
}

#[test]
fn a_head_is_limited_and_little_of_it_is_kept() {
    let [http, ..] = proxies();
    let head = |filler: usize| {
        let mut head = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        head.resize(head.len() + filler, b'a');
        head.extend_from_slice(b"\r\n\r\n");
        head
    };
    let fitting = 16 * 1024 - head(0).len();
    assert_accepted(&http, &[&head(fitting)], 16 * 1024);
    for pieces in [head(fitting + 1), head(1_000_000), b"HTTP/1.1 100 a\r\n\r\n".repeat(2000)] {
        let (reply, words) = refusal(&http, &pieces.chunks(1000).collect::<Vec<_>>());
        assert_eq!((reply, &*words), (ProxyReply::Malformed, "sent a head longer than 16 KiB"));
    }
    let reason = [b"HTTP/1.1 500 ", &b"a".repeat(10_000)[..], b"\r\n\r\n"].concat();
    let (_, words) = refusal(&http, &[&reason]);
    assert_eq!(words.len(), "refused: 500 ".len() + 120);
    let many = b"HTTP/1.1 407 a\r\nProxy-Authenticate: A,B,C,D,E,F,G,H,I,J\r\n\r\n";
    let (_, words) = refusal(&http, &[many]);
    assert_eq!(words, "requires credentials: 407, it offers A, B, C, D, E, F, G, H");
    let (_, words) = refusal(&http, &[&b"x".repeat(10_000)]);
    assert!(words.ends_with(&format!("\"{}\"", "x".repeat(MAX_QUOTED))), "{words}");
}

#[test]
fn debug_shows_no_credentials() {
    let [_, socks5, _] = proxies();
    let named = socks5.credentials("alice", "pa55").unwrap();
    let (dialogue, _) = Dialogue::new(&named, NAME);
    let text = format!("{dialogue:?}");
    assert!(
        !text.contains("alice") && !text.contains("pa55") && !text.contains("97, 108"),
        "{text}"
    );
}

/// A peer that sends back what it gets, or that complains about it.
#[test]
fn no_text_repeats_what_is_secret() {
    let [http, socks5, socks4] = proxies();
    let http = http.credentials("alice", "pa55word").unwrap();
    let http = http.header("X-Key", "v4lue of a header").unwrap();
    let bearer = http.clone().header("Proxy-Authorization", "Bearer t0kentoken").unwrap();
    let socks5 = socks5.credentials("alice", "pa55word").unwrap();
    let short = proxies()[1].clone().credentials("alice", "p").unwrap();
    let socks4 = socks4.credentials("alice", "").unwrap();
    let basic = "YWxpY2U6cGE1NXdvcmQ=";
    let secrets = ["alice", "pa55", "v4lue", "t0ken", &basic[..4], "YWxp", "d29y"];
    let request = |proxy: &Proxy| first_bytes(proxy, NAME);
    let behind = |start: &[u8], rest: &[u8]| [start, rest].concat();
    let echo = |proxy: &Proxy| behind(b"\x05\x02", &requests(proxy, NAME, &[b"\x05\x02"])[0]);
    let echo_after_choice = |proxy: &Proxy| behind(b"\x05\x02\0\x02", &echo(proxy)[2..]);
    for (proxy, answer) in [
        (&http, request(&http)),
        (&http, behind(b"HTTP/1.1 400 bad ", &request(&http))),
        (&http, behind(b"HTTP/1.1 400 bad header Proxy-Authorization: Basic ", basic.as_bytes())),
        (&http, b"HTTP/1.1 400 alice has another password than pa55word".to_vec()),
        (&http, b"HTTP/1.1 400 not pa55w".to_vec()),
        (&http, b"HTTP/1.1 400 X-Key: v4lue of".to_vec()),
        (&http, b"HTTP/1.1 100 a\r\n\r\npa55word".to_vec()),
        (&http, behind(b"HTTP/1.1 407 a\r\nProxy-Authenticate: Basic, ", &basic.as_bytes()[..19])),
        (&bearer, b"HTTP/1.1 407 a\r\nProxy-Authenticate: Bearer, t0kentoken".to_vec()),
        (&bearer, b"HTTP/1.1 403 t0kentoken".to_vec()),
        (&socks5, echo(&socks5)),
        (&socks5, echo_after_choice(&socks5)),
        (&short, echo_after_choice(&short)),
        (&socks5, b"\x05\x02\x01\0alice pa55word".to_vec()),
        (&socks5, b"\x05\0alice pa55word".to_vec()),
        (&socks4, request(&socks4)),
        (&socks4, b"alice".to_vec()),
    ] {
        let answer = [&answer[..], b"\r\n\r\n"].concat();
        for size in [1, 2, 3, 5, 8, 16, answer.len()] {
            let (_, words) = refusal(proxy, &answer.chunks(size).collect::<Vec<_>>());
            for secret in secrets {
                assert!(!words.contains(secret), "{words}");
            }
            assert!(!words.contains("p\\r") && !words.contains("\\u{1}p"), "{words}");
        }
    }
    // What helps and is not secret stays.
    let (_, words) = refusal(&http, &[b"HTTP/1.1 403 Forbidden by policy\r\n\r\n"]);
    assert_eq!(words, "refused: 403 Forbidden by policy");
    let offers = b"HTTP/1.1 407 a\r\nProxy-Authenticate: Bearer, Basic\r\n\r\n";
    let (_, words) = refusal(&bearer, &[offers]);
    assert_eq!(words, "requires other credentials: 407, it offers Bearer, Basic");
    let (_, words) = refusal(&socks5, &[b"HTTP/1.1 400 Bad Request\r\n\r\n"]);
    assert!(words.ends_with("it answered \"HTTP/1.1 400 Bad\" (is it an HTTP proxy?)"), "{words}");
}

// -------------------------------------------------------------------- playing a dialogue

fn proxies() -> [Proxy; 3] {
    let address = "proxy.test:1080";
    [Proxy::http(address), Proxy::socks5(address), Proxy::socks4a(address)].map(Result::unwrap)
}

fn first_bytes(proxy: &Proxy, destination: Destination<'_>) -> Vec<u8> {
    Dialogue::new(proxy, destination).1
}

/// Returns what is sent after each answer.
fn requests(proxy: &Proxy, destination: Destination<'_>, answers: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut dialogue, _) = Dialogue::new(proxy, destination);
    let sent = answers.iter().map(|answer| match dialogue.advance(answer) {
        (bytes, Answer::Send(request)) if bytes == answer.len() => request,
        other => panic!("{other:?}"),
    });
    sent.collect()
}

/// Plays pieces of a wire, as peeks see them, until the dialogue ends. Returns the number of consumed bytes.
fn play(proxy: &Proxy, pieces: &[&[u8]]) -> (usize, Answer) {
    let (mut dialogue, _) = Dialogue::new(proxy, NAME);
    let (mut consumed, mut in_sight) = (0, Vec::new());
    for piece in pieces {
        in_sight.extend_from_slice(piece);
        while !in_sight.is_empty() {
            let (bytes, answer) = dialogue.advance(&in_sight);
            assert!(bytes > 0, "an unfinished dialogue makes progress");
            in_sight.drain(..bytes);
            consumed += bytes;
            match answer {
                Answer::Incomplete => {
                    assert!(in_sight.is_empty(), "all of it is part of the answer")
                }
                Answer::Send(request) => assert!(!request.is_empty()),
                answer => return (consumed, answer),
            }
        }
    }
    panic!("the answer is incomplete: {pieces:?}");
}

fn assert_accepted(proxy: &Proxy, pieces: &[&[u8]], length: usize) {
    assert_eq!(play(proxy, pieces), (length, Answer::Accepted), "{pieces:?}");
}

fn refusal(proxy: &Proxy, pieces: &[&[u8]]) -> (ProxyReply, String) {
    match play(proxy, pieces) {
        (_, Answer::Refused(refusal)) => (refusal.reply, refusal.words.into()),
        other => panic!("{other:?}: {pieces:?}"),
    }
}
