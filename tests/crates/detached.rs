//! Crates that want a stream of `std`, or its descriptor: a socket that was detached from this crate.

use std::io::{Cursor, Read};
use std::net::{SocketAddr, TcpStream};

use ldap3::{LdapConn, LdapConnSettings, Scope, SearchEntry, StdStream};
use suppaftp::{FtpError, FtpStream};

use crate::servers;
use crate::support::{LIMIT, connect, within};

/// Dials under the rules of the global connector.
fn detached(address: SocketAddr) -> TcpStream {
    let socket = connect(address);
    socket.opened().unwrap();
    let stream = socket.detach().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// The data connections too are sockets at first.
#[test]
fn suppaftp_transfers_files_over_detached_sockets() {
    within(|| {
        let test = "suppaftp_transfers_files_over_detached_sockets";
        let Some(server) = servers::ftp(test) else { return };
        let stream = FtpStream::connect_with_stream(detached(server.address())).unwrap();
        let dial = |address| {
            let socket = connect(address);
            let opened = socket.opened().and_then(|_| socket.detach());
            opened.map_err(|error| FtpError::ConnectionError(error.into()))
        };
        let mut ftp = stream.passive_stream_builder(dial);
        ftp.login("anonymous", "salmon@example.com").unwrap();
        ftp.transfer_type(suppaftp::types::FileType::Binary).unwrap();
        let fish = "salmon ".repeat(100_000);
        ftp.put_file("fish", &mut Cursor::new(&fish)).unwrap();
        assert_eq!(ftp.nlst(None).unwrap(), ["fish"]);
        let back = ftp.retr_as_buffer("fish").unwrap().into_inner();
        assert!(back == fish.as_bytes(), "{} bytes", back.len());
        ftp.quit().unwrap();
    });
}

#[test]
fn ldap3_searches_over_a_detached_socket() {
    within(|| {
        let Some(server) = servers::slapd("ldap3_searches_over_a_detached_socket") else { return };
        let stream = StdStream::Tcp(detached(server.address()));
        let settings = LdapConnSettings::new().set_std_stream(stream);
        // Nothing is dialled, so the port does not matter.
        let mut ldap = LdapConn::with_settings(settings, "ldap://localhost:1").unwrap();
        ldap.simple_bind("cn=admin,dc=test", "salmon").unwrap().success().unwrap();
        let organisation = vec![
            ("objectClass", ["organization", "dcObject"].into()),
            ("o", ["upstream"].into()),
            ("dc", ["test"].into()),
        ];
        ldap.add("dc=test", organisation).unwrap().success().unwrap();
        let (entries, _) =
            ldap.search("dc=test", Scope::Base, "(o=*)", vec!["o"]).unwrap().success().unwrap();
        let entries: Vec<_> = entries.into_iter().map(SearchEntry::construct).collect();
        assert_eq!(entries[0].attrs["o"], ["upstream"]);
        ldap.unbind().unwrap();
    });
}

#[test]
fn ssh2_runs_a_command_over_a_detached_socket() {
    within(|| {
        let Some(server) = servers::sshd("ssh2_runs_a_command_over_a_detached_socket") else {
            return;
        };
        let mut session = ssh2::Session::new().unwrap();
        session.set_timeout(u32::try_from(LIMIT.as_millis()).unwrap());
        session.set_tcp_stream(detached(server.address()));
        session.handshake().unwrap();
        let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
        let key = server.file("user");
        session.userauth_pubkey_file(&user, None, key.as_ref(), None).unwrap();
        let mut channel = session.channel_session().unwrap();
        channel.exec("echo salmon; exit 3").unwrap();
        let mut output = String::new();
        channel.read_to_string(&mut output).unwrap();
        assert_eq!(output, "salmon\n");
        channel.wait_close().unwrap();
        assert_eq!(channel.exit_status().unwrap(), 3);
    });
}
