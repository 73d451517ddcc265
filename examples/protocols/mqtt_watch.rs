//! Prints the messages of a topic, with MQTT 3.1.1 over TLS and `mqtt-protocol`. One thread waits for messages while
//! another sends pings, so that a silent broker is noticed.
//!
//! ```text
//! cargo run --example mqtt_watch                                      with a broker of its own
//! cargo run --example mqtt_watch -- test.mosquitto.org:8886 'salmon/#' 10     ten messages
//! cargo run --example mqtt_watch -- localhost:8883 'salmon/#' 1 --ca ca.pem
//! ```

mod embedded;

use std::error::Error;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use embedded::{Embedded, arguments, explain};
use mqtt::control::FixedHeader;
use mqtt::control::fixed_header::FixedHeaderError;
use mqtt::control::variable_header::ConnectReturnCode;
use mqtt::packet::suback::SubscribeReturnCode;
use mqtt::packet::{
    ConnackPacket, ConnectPacket, DisconnectPacket, PingreqPacket, PingrespPacket, PublishPacket,
    QoSWithPacketIdentifier, SubackPacket, SubscribePacket, VariablePacket,
};
use mqtt::{Decodable, Encodable, QualityOfService, TopicFilter, TopicName};
use rustls::{ServerConnection, StreamOwned};
use sockeye::{SecureTransport, SocketOptions, TlsOptions, connect_with};

/// The limit for connecting and for each write.
const LIMIT: Duration = Duration::from_secs(10);
/// The interval between pings.
const PING: Duration = Duration::from_secs(20);
/// The maximum length of a message in bytes.
const MAX_MESSAGE: u32 = 1024 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let (arguments, tls) = arguments()?;
    let message = match arguments.as_slice() {
        [] => demonstrate(),
        [broker, topic, count] => watch(broker, tls, topic, count.parse()?, PING),
        _ => Err("usage: mqtt_watch [HOST:PORT TOPIC COUNT] [--ca FILE]".into()),
    };
    message.map_err(explain)
}

fn watch(
    broker: &str,
    tls: TlsOptions,
    topic: &str,
    count: usize,
    ping: Duration,
) -> Result<(), Box<dyn Error>> {
    let options = SocketOptions::new()
        .secure_transport(SecureTransport::On)
        .tls(tls)
        .connect_timeout(LIMIT)
        .write_timeout(LIMIT)
        // The broker answers each ping, so a longer silence means that it has gone.
        .read_timeout(ping + LIMIT);
    let socket = connect_with(broker, options)?;
    let mut reader = BufReader::new(socket.reader());
    let writer = socket.writer();

    let mut connect = ConnectPacket::new(format!("sockeye-{}", std::process::id()));
    connect.set_clean_session(true);
    connect.set_keep_alive(u16::try_from((ping + LIMIT).as_secs())?);
    say(&writer, &connect)?;
    match hear(&mut reader)? {
        VariablePacket::ConnackPacket(answer)
            if answer.connect_return_code() == ConnectReturnCode::ConnectionAccepted => {}
        other => return Err(format!("the broker refuses: {other:?}").into()),
    }
    let filter = (TopicFilter::new(topic)?, QualityOfService::Level0);
    say(&writer, &SubscribePacket::new(1, vec![filter]))?;

    let (stop, stopped) = mpsc::channel::<()>();
    let pinging = thread::spawn({
        let writer = writer.clone();
        move || {
            // If this fails, no answers come either, and the reader notices.
            while stopped.recv_timeout(ping) == Err(RecvTimeoutError::Timeout)
                && say(&writer, &PingreqPacket::new()).is_ok()
            {}
        }
    });
    let mut left = count;
    while left > 0 {
        match hear(&mut reader)? {
            VariablePacket::PublishPacket(message) => {
                let text = String::from_utf8_lossy(message.payload());
                println!("{}: {}", message.topic_name(), text.escape_debug());
                left -= 1;
            }
            VariablePacket::SubackPacket(answer) => match answer.subscribes() {
                [SubscribeReturnCode::Failure] => return Err("this topic is not for us".into()),
                _ => eprintln!("subscribed to {topic}"),
            },
            VariablePacket::PingrespPacket(_) => {}
            other => return Err(format!("unexpected: {other:?}").into()),
        }
    }
    drop(stop);
    pinging.join().map_err(|_| "the pinging thread has panicked")?;
    say(&writer, &DisconnectPacket::new())?;
    Ok(socket.close()?)
}

/// Sends a packet in one write, so that packets of two threads do not mix. Over TLS it is one record.
fn say(mut writer: impl Write, packet: &impl Encodable) -> io::Result<()> {
    let mut bytes = Vec::new();
    packet.encode(&mut bytes)?;
    writer.write_all(&bytes)
}

fn hear(reader: &mut impl Read) -> Result<VariablePacket, Box<dyn Error>> {
    let header = FixedHeader::decode(reader).map_err(|error| match error {
        FixedHeaderError::IoError(error) => Box::from(error),
        other => Box::<dyn Error>::from(other),
    })?;
    if header.remaining_length > MAX_MESSAGE {
        return Err(format!("a message of {} bytes", header.remaining_length).into());
    }
    let mut body = vec![0; header.remaining_length as usize];
    reader.read_exact(&mut body)?;
    Ok(VariablePacket::decode_with(&mut body.as_slice(), Some(header))?)
}

// ------------------------------------------------------------------------------- with a broker of its own

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let broker = Embedded::start(|stream, tls| serve(stream, tls).map_err(io::Error::other))?;
    watch(&broker.address, broker.trusted()?, "salmon/#", 3, Duration::from_millis(100))?;
    broker.join()
}

/// Publishes a message for every ping.
fn serve(stream: TcpStream, tls: ServerConnection) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut stream = StreamOwned::new(tls, stream);
    let mut pings = 0;
    loop {
        match hear(&mut stream).map_err(|error| error.to_string())? {
            VariablePacket::ConnectPacket(_) => {
                let accepted = ConnectReturnCode::ConnectionAccepted;
                say(&mut stream, &ConnackPacket::new(false, accepted))?;
            }
            VariablePacket::SubscribePacket(asked) => {
                let granted = vec![SubscribeReturnCode::MaximumQoSLevel0];
                say(&mut stream, &SubackPacket::new(asked.packet_identifier(), granted))?;
            }
            VariablePacket::PingreqPacket(_) => {
                pings += 1;
                say(&mut stream, &PingrespPacket::new())?;
                let topic = TopicName::new("salmon/upstream")?;
                let text = format!("message {pings}");
                say(
                    &mut stream,
                    &PublishPacket::new(topic, QoSWithPacketIdentifier::Level0, text),
                )?;
            }
            VariablePacket::DisconnectPacket(_) => break,
            other => return Err(format!("unexpected: {other:?}").into()),
        }
    }
    stream.conn.send_close_notify();
    Ok(stream.flush()?)
}
