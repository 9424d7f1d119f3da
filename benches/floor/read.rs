//! Bytes of a file, or of memory, to a socket: a blocking thread for each connection, all on one core.

use std::fs::File;
use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;

use crate::common::{Options, check, listen, ready};

pub fn serve(options: &Options) -> io::Result<()> {
    let file = Arc::new(File::open(&options.file)?);
    // Reading it once also brings it into the page cache.
    let content = Arc::new(std::fs::read(&options.file)?);
    let memory = options.memory;
    let listener = listen(options)?;
    ready(listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept()?;
        let (file, content) = (file.clone(), content.clone());
        thread::spawn(move || {
            let memory = memory.then_some(content.as_slice());
            if let Err(error) = answer(stream, &file, memory)
                && error.kind() != io::ErrorKind::UnexpectedEof
            {
                eprintln!("floor: read: {error}");
            }
        });
    }
}

fn answer(mut stream: TcpStream, file: &File, memory: Option<&[u8]>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; 16];
    loop {
        stream.read_exact(&mut request)?;
        let [_, _, _, _, a, b, c, d, e, f, g, h, i, j, k, l] = request;
        let offset = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let len = u32::from_be_bytes([i, j, k, l]) as usize;
        send(&stream, &(len as i32).to_be_bytes(), libc::MSG_MORE)?;
        if let Some(memory) = memory {
            send(&stream, &memory[offset as usize..][..len], 0)?;
            continue;
        }
        let (mut at, end) = (offset as i64, offset as i64 + len as i64);
        while at < end {
            // SAFETY: the offset lives through the call.
            let n = unsafe {
                libc::sendfile(
                    stream.as_raw_fd(),
                    file.as_raw_fd(),
                    &raw mut at,
                    (end - at) as usize,
                )
            };
            if check(n)? == 0 {
                return Err(io::Error::other("the file is shorter than that"));
            }
        }
    }
}

fn send(stream: &TcpStream, mut bytes: &[u8], flags: i32) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the slice is valid for its length.
        let n = unsafe {
            libc::send(
                stream.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                flags | libc::MSG_NOSIGNAL,
            )
        };
        bytes = &bytes[check(n)?..];
    }
    Ok(())
}
