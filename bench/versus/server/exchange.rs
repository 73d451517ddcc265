//! What the servers do with a stream, whether it is plaintext or over TLS.

use std::io::{self, Read, Write};

pub fn echo(stream: &mut (impl Read + Write), before_answer: impl Fn()) -> io::Result<()> {
    let mut buf = vec![0; 4 * 1024];
    loop {
        match stream.read(&mut buf)? {
            0 => return Ok(()),
            more => {
                before_answer();
                stream.write_all(&buf[..more])?;
            }
        }
    }
}

pub fn sink(mut stream: impl Read) -> io::Result<()> {
    let mut buf = vec![0; 256 * 1024];
    while stream.read(&mut buf)? > 0 {}
    Ok(())
}

pub fn source(mut stream: impl Write) -> io::Result<()> {
    let buf = vec![0x5a; 64 * 1024];
    loop {
        stream.write_all(&buf)?;
    }
}
