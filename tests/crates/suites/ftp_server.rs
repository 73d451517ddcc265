//! The servers of suppaftp's tests, in place of their containers.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct SyncPureFtpRunner {
    server: Child,
    home: PathBuf,
    port: u16,
}

impl SyncPureFtpRunner {
    pub fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let home = std::env::temp_dir().join(format!("suppaftp-{}-{number}", std::process::id()));
        std::fs::create_dir(&home).expect("the folder is new");
        let mut server = Command::new("/usr/bin/python3")
            .args(["-W", "ignore", "-c", include_str!("ftp_server.py")])
            .arg(&home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut port = String::new();
        let printed = server.stdout.take().expect("it is piped");
        BufReader::new(printed).read_line(&mut port).expect("it prints its port");
        SyncPureFtpRunner { server, home, port: port.trim().parse().expect("it is a port") }
    }

    pub fn get_ftp_port(&self) -> u16 {
        self.port
    }

    pub fn get_mapped_port(&self, port: u16) -> u16 {
        port
    }
}

impl Drop for SyncPureFtpRunner {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
