//! A small answer to each frame, on Corelane's runtime: what its executor and driver cost alone.

use std::io;
use std::rc::Rc;

use corelane::base::ids::ShardId;
use corelane::ring::buf::Buf;
use corelane::ring::driver::Chain;
use corelane::ring::uring::UringDriver;
use corelane::ring::{Executor, Ring, Socket};

use crate::common::{Options, ready};

const BUF_BYTES: usize = 256 << 10;
/// A length of 46 and as many bytes.
const ANSWER: [u8; 50] = {
    let mut answer = [0; 50];
    answer[3] = 46;
    answer
};

pub fn serve(options: &Options) -> io::Result<()> {
    let driver = Rc::new(UringDriver::new().map_err(io::Error::other)?);
    let mut executor = Executor::new(driver, ShardId(0));
    let ring = executor.ring();
    let addr = options.listen;
    executor.block_on(async move {
        let listener = ring.listen(addr, 1024)?;
        ready(listener.local_addr()?)?;
        loop {
            let (socket, _) = listener.accept().await?;
            let connection = answer(ring.clone(), socket);
            ring.spawn(async move {
                if let Err(error) = connection.await {
                    eprintln!("floor: echo: {error}");
                }
            })
            .detach();
        }
    })
}

async fn answer(ring: Ring, socket: Socket) -> io::Result<()> {
    let mut buf = ring.arena().alloc(BUF_BYTES).await;
    let answer = Buf::from(ANSWER.to_vec());
    let mut filled = 0;
    loop {
        let free = buf.capacity() - filled;
        let (n, back) = socket.recv(buf, filled, free).await;
        buf = back;
        match n? {
            0 => return Ok(()),
            n => filled += n,
        }
        let mut begin = 0;
        let mut answers = 0;
        while filled - begin >= 4 {
            let head = &buf[begin..begin + 4];
            let len = i32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            if len + 4 > BUF_BYTES {
                return Err(io::Error::other("a frame is too large"));
            }
            if filled - begin < 4 + len {
                break;
            }
            begin += 4 + len;
            answers += 1;
        }
        if begin > 0 {
            buf.copy_within(begin..filled, 0);
            filled -= begin;
        }
        for _ in 0..answers {
            socket.send(Chain::from_iter([answer.clone()])).await?;
        }
    }
}
