//! Crates that dial by themselves: each dials a port forward, which leads to its server.

use std::net::{SocketAddr, TcpListener};
use std::thread;

use sockeye::ListenOptions;

use crate::certificates::Certificates;
use crate::harness::Server;
use crate::peers;
use crate::servers::{self, PAGE};
use crate::support::{Forward, LIMIT, secured, within};

/// Longer than any buffer.
fn fish() -> String {
    "salmon ".repeat(50_000)
}

// -------------------------------------------------------------------- HTTP, over TLS behind the forward

/// Runs a client in plaintext with the URL of a forward that adds TLS.
fn over_tls(test: &'static str, get: fn(&str) -> String) {
    within(move || {
        let certificates = Certificates::new();
        let Some(server) = servers::nginx(test, &certificates) else { return };
        let dial = secured(&certificates.authority);
        let forward = Forward::with(server.at(1), dial, ListenOptions::new());
        assert_eq!(get(&format!("http://{}/", forward.address())), PAGE);
        assert_eq!(forward.count(), 1);
    });
}

#[test]
fn minreq_gets_a_page_through_a_forward() {
    over_tls("minreq_gets_a_page_through_a_forward", |url| {
        minreq::get(url).with_timeout(60).send().unwrap().as_str().unwrap().to_owned()
    });
}

#[test]
fn attohttpc_gets_a_page_through_a_forward() {
    over_tls("attohttpc_gets_a_page_through_a_forward", |url| {
        let direct = attohttpc::ProxySettings::builder().build();
        attohttpc::get(url).proxy_settings(direct).timeout(LIMIT).send().unwrap().text().unwrap()
    });
}

#[test]
fn reqwest_gets_a_page_through_a_forward() {
    over_tls("reqwest_gets_a_page_through_a_forward", |url| {
        let client = reqwest::blocking::Client::builder().no_proxy().timeout(LIMIT).build();
        client.unwrap().get(url).send().unwrap().text().unwrap()
    });
}

#[test]
fn redis_counts_through_a_forward() {
    within(|| {
        let certificates = Certificates::new();
        let test = "redis_counts_through_a_forward";
        let Some(server) = servers::redis(test, &certificates) else { return };
        let dial = secured(&certificates.authority);
        let forward = Forward::with(server.at(1), dial, ListenOptions::new());
        let client = redis::Client::open(format!("redis://{}/", forward.address())).unwrap();
        let mut connection = client.get_connection_with_timeout(LIMIT).unwrap();
        let counts: (i64, i64) =
            redis::pipe().incr("fish", 41).incr("fish", 1).query(&mut connection).unwrap();
        assert_eq!(counts, (41, 42));
    });
}

// -------------------------------------------------------------------- real servers in plaintext

/// Runs a client with the address of a forward to a server.
fn forwarded(
    test: &'static str,
    server: fn(&str) -> Option<Server>,
    client: impl FnOnce(SocketAddr, &Server) + Send + 'static,
) {
    within(move || {
        let Some(server) = server(test) else { return };
        let forward = Forward::to(server.address());
        client(forward.address(), &server);
        assert!(forward.count() > 0, "it was not used");
    });
}

#[test]
fn mysql_queries_through_a_forward() {
    forwarded("mysql_queries_through_a_forward", servers::mariadb, |address, _| {
        use mysql::prelude::Queryable;

        let options = mysql::OptsBuilder::new()
            .ip_or_hostname(Some(address.ip().to_string()))
            .tcp_port(address.port())
            // Otherwise it would move to the server's Unix-domain socket.
            .prefer_socket(false)
            .user(Some("salmon"));
        let mut connection = mysql::Conn::new(options).unwrap();
        let back: Option<(u32, String)> =
            connection.exec_first("SELECT 42, CONCAT(?, '!')", (fish(),)).unwrap();
        assert!(back == Some((42, fish() + "!")));
    });
}

#[test]
fn postgres_queries_through_a_forward() {
    forwarded("postgres_queries_through_a_forward", servers::postgres, |address, _| {
        let mut client = postgres::Config::new()
            .host(&address.ip().to_string())
            .port(address.port())
            .user("salmon")
            .dbname("postgres")
            .connect(postgres::NoTls)
            .unwrap();
        let row = client.query_one("SELECT 42, $1 || '!'", &[&fish()]).unwrap();
        assert!(row.get::<_, i32>(0) == 42 && row.get::<_, String>(1) == fish() + "!");
        client.close().unwrap();
    });
}

#[test]
fn memcache_stores_through_a_forward() {
    forwarded("memcache_stores_through_a_forward", servers::memcached, |address, _| {
        let client = memcache::connect(format!("memcache://{address}?timeout=60")).unwrap();
        client.set("fish", fish(), 0).unwrap();
        assert!(client.get::<String>("fish").unwrap() == Some(fish()));
        client.set("count", 41, 0).unwrap();
        assert_eq!(client.increment("count", 1).unwrap(), 42);
    });
}

#[test]
fn lettre_sends_a_mail_through_a_forward() {
    forwarded("lettre_sends_a_mail_through_a_forward", servers::aiosmtpd, |address, server| {
        use lettre::Transport;

        let mail = lettre::Message::builder()
            .from("sockeye@example.com".parse().unwrap())
            .to("salmon@example.com".parse().unwrap())
            .subject("upstream")
            .body(String::from("Swim!"))
            .unwrap();
        let sender = lettre::SmtpTransport::builder_dangerous(address.ip().to_string())
            .port(address.port())
            .timeout(Some(LIMIT))
            .build();
        assert!(sender.send(&mail).unwrap().is_positive());
        server.await_log("Subject: upstream");
    });
}

/// The crate has an asynchronous successor.
#[test]
#[expect(deprecated)]
fn nats_delivers_through_a_forward() {
    forwarded("nats_delivers_through_a_forward", servers::nats, |address, _| {
        let connection = nats::connect(address.to_string()).unwrap();
        let subscription = connection.subscribe("fish.*").unwrap();
        connection.publish("fish.salmon", fish()).unwrap();
        let message = subscription.next_timeout(LIMIT).unwrap();
        assert_eq!(message.subject, "fish.salmon");
        assert!(message.data == fish().as_bytes());
        connection.close();
    });
}

#[test]
fn rumqttc_delivers_through_a_forward() {
    forwarded("rumqttc_delivers_through_a_forward", servers::mosquitto, |address, _| {
        use rumqttc::{Event, Packet, QoS};

        let host = address.ip().to_string();
        let mut options = rumqttc::MqttOptions::new("fish", host, address.port());
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = rumqttc::Client::new(options, 10);
        client.subscribe("fish/+", QoS::AtLeastOnce).unwrap();
        client.publish("fish/salmon", QoS::AtLeastOnce, false, fish()).unwrap();
        let message = connection.iter().find_map(|event| match event.unwrap() {
            Event::Incoming(Packet::Publish(message)) => Some(message),
            _ => None,
        });
        let message = message.expect("it is delivered");
        assert_eq!(message.topic, "fish/salmon");
        assert!(message.payload == fish().as_bytes());
        client.disconnect().unwrap();
        // Ends with the connection.
        assert!(connection.iter().any(|event| event.is_err()), "the server ends it");
    });
}

// -------------------------------------------------------------------- peers of their own

fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// A broker tells its clients which addresses to dial. These have to be the forward's.
#[test]
fn kafka_asks_for_offsets_through_a_forward() {
    within(|| {
        use kafka::client::{FetchOffset, KafkaClient};

        let (listener, address) = bound();
        let forward = Forward::to(address);
        let advertised = forward.address();
        thread::spawn(move || peers::kafka(&listener, advertised));
        let mut client = KafkaClient::new(vec![advertised.to_string()]);
        client.load_metadata_all().unwrap();
        assert!(client.topics().contains("fish"));
        let offsets = client.fetch_topic_offsets("fish", FetchOffset::Latest).unwrap();
        assert_eq!((offsets.len(), offsets[0].offset), (1, 42));
    });
}

#[test]
fn mongodb_runs_commands_through_a_forward() {
    within(|| {
        use mongodb::bson::doc;

        let (listener, address) = bound();
        thread::spawn(move || peers::mongodb(&listener));
        let forward = Forward::to(address);
        // Otherwise it dials the addresses that the server advertises.
        let uri = format!("mongodb://{}/?directConnection=true", forward.address());
        let client = mongodb::sync::Client::with_uri_str(uri).unwrap();
        let answer = client.database("fish").run_command(doc! { "echo": fish() }).run().unwrap();
        assert!(answer.get_str("echo").unwrap() == fish());
        client.shutdown().run();
    });
}

#[test]
fn amiquip_publishes_through_a_forward() {
    within(|| {
        let (listener, address) = bound();
        let peer = thread::spawn(move || peers::amqp(&listener));
        let forward = Forward::to(address);
        let url = format!("amqp://guest:guest@{}", forward.address());
        let mut connection = amiquip::Connection::insecure_open(&url).unwrap();
        let channel = connection.open_channel(None).unwrap();
        let exchange = amiquip::Exchange::direct(&channel);
        exchange.publish(amiquip::Publish::new(fish().as_bytes(), "fish")).unwrap();
        channel.close().unwrap();
        connection.close().unwrap();
        assert!(peer.join().unwrap() == fish().as_bytes());
    });
}

/// Both ends are this crate's.
#[test]
fn zmq_asks_through_a_forward() {
    within(|| {
        let context = zmq::Context::new();
        let server = context.socket(zmq::REP).unwrap();
        server.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = server.get_last_endpoint().unwrap().unwrap();
        let forward = Forward::to(endpoint.strip_prefix("tcp://").unwrap().parse().unwrap());
        let client = context.socket(zmq::REQ).unwrap();
        for socket in [&client, &server] {
            socket.set_linger(0).unwrap();
            socket.set_rcvtimeo(i32::try_from(LIMIT.as_millis()).unwrap()).unwrap();
        }
        client.connect(&format!("tcp://{}", forward.address())).unwrap();
        client.send(&fish(), 0).unwrap();
        assert!(server.recv_bytes(0).unwrap() == fish().as_bytes());
        server.send("upstream", 0).unwrap();
        assert_eq!(client.recv_bytes(0).unwrap(), b"upstream");
    });
}
