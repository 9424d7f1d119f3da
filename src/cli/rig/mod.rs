//! What measurements of the built broker share: `corelane bench regress` and the programs of
//! `benches/`.
//!
//! Starts servers as processes ([`server`]), drives them by one load client that knows only frames
//! ([`load`]) with requests that were made before ([`kafka`]), and reads what the machine spent
//! ([`machine`]). A broker and a floor program are driven by the same code. The load stands on plain
//! sockets and epoll, not on the ring: what the broker runs on is not its own yardstick.

pub mod kafka;
pub mod load;
pub mod machine;
pub mod ports;
pub mod server;
