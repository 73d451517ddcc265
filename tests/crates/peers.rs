//! Peers for protocols whose servers are too heavy, or not in Debian. Each speaks what its test needs.

use std::io::{self, Cursor, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use mongodb::bson::{Document, doc};

/// Serves every client in a thread of its own, until the listener fails. A client's end is no fault.
fn serve(
    listener: &TcpListener,
    serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
) {
    for stream in listener.incoming() {
        let (stream, serve) = (stream.expect("clients come"), serve.clone());
        thread::spawn(move || serve(stream));
    }
}

fn number<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

// -------------------------------------------------------------------- Kafka

const METADATA: i16 = 3;
const OFFSETS: i16 = 2;

/// A broker of the topic `fish`, whose only partition ends at offset 42. Says that it is reached at `advertised`.
pub fn kafka(listener: &TcpListener, advertised: SocketAddr) {
    serve(listener, move |mut stream| {
        loop {
            let length = u32::from_be_bytes(number(&mut stream)?);
            let mut request = vec![0; length as usize];
            stream.read_exact(&mut request)?;
            let mut request = Cursor::new(request);
            let key = i16::from_be_bytes(number(&mut request)?);
            let _version: [u8; 2] = number(&mut request)?;
            // The correlation comes first.
            let mut answer = number::<4>(&mut request)?.to_vec();
            match key {
                METADATA => {
                    // One broker, number 1.
                    answer.extend([1_i32, 1].map(i32::to_be_bytes).concat());
                    text(&mut answer, &advertised.ip().to_string());
                    answer.extend(i32::from(advertised.port()).to_be_bytes());
                    // One topic without an error.
                    answer.extend([0, 0, 0, 1, 0, 0]);
                    text(&mut answer, "fish");
                    // One partition without an error: number 0, led by broker 1, which is its only replica.
                    answer.extend([0, 0, 0, 1, 0, 0]);
                    answer.extend([0_i32, 1, 1, 1, 1, 1].map(i32::to_be_bytes).concat());
                }
                OFFSETS => {
                    answer.extend([0, 0, 0, 1]);
                    text(&mut answer, "fish");
                    // One partition, number 0, without an error, with one offset.
                    answer.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
                    answer.extend(42_i64.to_be_bytes());
                }
                other => panic!("an unknown request: {other}"),
            }
            let length = u32::try_from(answer.len()).expect("it is short");
            stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat())?;
        }
    });
}

fn text(to: &mut Vec<u8>, text: &str) {
    to.extend(u16::try_from(text.len()).expect("it is short").to_be_bytes());
    to.extend(text.as_bytes());
}

// -------------------------------------------------------------------- MongoDB

const OP_MSG: u32 = 2013;
/// The length, two numbers and the kind.
const HEAD: usize = 16;

/// A server without replicas, which returns every command.
pub fn mongodb(listener: &TcpListener) {
    serve(listener, |mut stream| {
        loop {
            let head: [u8; HEAD] = number(&mut stream)?;
            let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| head[at + byte]));
            let mut body = vec![0; word(0) as usize - HEAD];
            stream.read_exact(&mut body)?;
            assert_eq!(word(12), OP_MSG);
            // After the flags and the kind of the section.
            let command = Document::from_reader(&body[5..]).expect("it is a document");
            let answer = answer(command);
            let mut bytes = Vec::new();
            answer.to_writer(&mut bytes).expect("memory is left");
            let length = u32::try_from(HEAD + 5 + bytes.len()).expect("it is short");
            // The number of the request, as the one that this answers.
            let head = [length, 0, word(4), OP_MSG, 0].map(u32::to_le_bytes).concat();
            stream.write_all(&[&head[..], &[0], &bytes].concat())?;
        }
    });
}

fn answer(mut command: Document) -> Document {
    if command.contains_key("isMaster") || command.contains_key("hello") {
        return doc! {
            "ok": 1, "helloOk": true, "ismaster": true, "isWritablePrimary": true,
            "minWireVersion": 0, "maxWireVersion": 21, "maxBsonObjectSize": 16 << 20,
            "maxMessageSizeBytes": 48 << 20, "maxWriteBatchSize": 1000,
        };
    }
    command.insert("ok", 1);
    command
}

// -------------------------------------------------------------------- AMQP 0-9-1

const METHOD: u8 = 1;
const BODY: u8 = 3;
const END: u8 = 0xce;

/// Accepts one connection, and returns the bodies that it publishes.
pub fn amqp(listener: &TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().expect("a client comes");
    let mut published = Vec::new();
    converse(&mut stream, &mut published).expect("the client says what it wants");
    published
}

fn converse(stream: &mut TcpStream, published: &mut Vec<u8>) -> io::Result<()> {
    assert_eq!(&number::<8>(stream)?, b"AMQP\0\0\x09\x01");
    // connection.start: version 0-9, no properties, the mechanisms, the locales.
    let start = [&[0, 9, 0, 0, 0, 0, 0, 0, 0, 5], &b"PLAIN"[..], &[0, 0, 0, 5], b"en_US"].concat();
    send(stream, 0, (10, 10), &start)?;
    loop {
        let [kind, high, low]: [u8; 3] = number(stream)?;
        let channel = u16::from_be_bytes([high, low]);
        let length = u32::from_be_bytes(number(stream)?);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload)?;
        assert_eq!(number(stream)?, [END]);
        match (kind, payload.get(..4)) {
            (BODY, _) => published.extend(payload),
            // connection.start-ok: at most 100 channels, frames of 4096 bytes, no heartbeat.
            (METHOD, Some([0, 10, 0, 11])) => {
                send(stream, 0, (10, 30), &[0, 100, 0, 0, 16, 0, 0, 0])?;
            }
            // connection.open, channel.open, channel.close
            (METHOD, Some([0, 10, 0, 40])) => send(stream, 0, (10, 41), &[0])?,
            (METHOD, Some([0, 20, 0, 10])) => send(stream, channel, (20, 11), &[0; 4])?,
            (METHOD, Some([0, 20, 0, 40])) => send(stream, channel, (20, 41), &[])?,
            // connection.close: the client ends first.
            (METHOD, Some([0, 10, 0, 50])) => {
                send(stream, 0, (10, 51), &[])?;
                return io::copy(stream, &mut io::sink()).map(|_| ());
            }
            // connection.tune-ok, basic.publish, a header, a heartbeat
            _ => {}
        }
    }
}

fn send(
    stream: &mut TcpStream,
    channel: u16,
    method: (u16, u16),
    arguments: &[u8],
) -> io::Result<()> {
    let payload = [&method.0.to_be_bytes()[..], &method.1.to_be_bytes(), arguments].concat();
    let length = u32::try_from(payload.len()).expect("it is short");
    let head = [&[METHOD][..], &channel.to_be_bytes(), &length.to_be_bytes()].concat();
    stream.write_all(&[&head[..], &payload, &[END]].concat())
}
