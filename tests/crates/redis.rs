//! Redis: its commands over a socket, through its trait `ConnectionLike`. Nothing is dialled by the crate, so the socket
//! may use TLS, a proxy or egress rules.

use std::io::Write;

use redis::{Cmd, Commands, ConnectionLike, Parser, RedisResult, Value};
use sockeye::{Health, Socket};

use crate::certificates::Certificates;
use crate::servers;
use crate::support::{plain, secured, within};

struct Redis {
    socket: Socket,
    parser: Parser,
}

impl ConnectionLike for Redis {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        self.socket.write_all(command)?;
        self.parser.parse_value(&mut self.socket)
    }

    fn req_packed_commands(
        &mut self,
        all: &[u8],
        skip: usize,
        n: usize,
    ) -> RedisResult<Vec<Value>> {
        self.socket.write_all(all)?;
        let answers = (0..skip + n).map(|_| self.parser.parse_value(&mut self.socket));
        Ok(answers.collect::<RedisResult<Vec<_>>>()?.split_off(skip))
    }

    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        self.req_packed_command(&Cmd::new().arg("PING").get_packed_command()).is_ok()
    }

    fn is_open(&self) -> bool {
        matches!(self.socket.health(), Health::Idle)
    }
}

fn check(socket: Socket) {
    let mut client = Redis { socket, parser: Parser::new() };
    assert!(client.check_connection());
    // Longer than any buffer.
    let fish = "salmon ".repeat(100_000);
    let () = client.set("fish", &fish).unwrap();
    let back: String = client.get("fish").unwrap();
    assert!(back == fish, "{} bytes", back.len());
    let counts: (i64, i64) = redis::pipe()
        .atomic()
        .set("count", 41)
        .ignore()
        .incr("count", 1)
        .incr("count", 1)
        .query(&mut client)
        .unwrap();
    assert_eq!(counts, (42, 43));
    let wrong: RedisResult<i64> = client.incr("fish", 1);
    assert!(wrong.unwrap_err().to_string().contains("not an integer"));
    assert!(client.is_open());
    client.socket.close().unwrap();
    assert!(!client.is_open());
}

#[test]
fn redis_speaks_over_a_socket_by_its_trait() {
    within(|| {
        let certificates = Certificates::new();
        let test = "redis_speaks_over_a_socket_by_its_trait";
        let Some(server) = servers::redis(test, &certificates) else { return };
        check(sockeye::connect_with(server.at(0), plain()).unwrap());
        check(sockeye::connect_with(server.at(1), secured(&certificates.authority)).unwrap());
    });
}
