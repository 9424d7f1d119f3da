//! Waking a shard from other threads: an eventfd that its ring watches.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::ring::driver::Doorbell;

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const RUNG: u32 = 2;

/// The eventfd is written only if the shard sleeps: a shard that is awake looks at its mailboxes every turn.
pub(super) struct Bell {
    eventfd: OwnedFd,
    state: AtomicU32,
}

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        // SAFETY: plain system call.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Bell {
            // SAFETY: a fresh descriptor that nobody else owns.
            eventfd: unsafe { OwnedFd::from_raw_fd(fd) },
            state: AtomicU32::new(AWAKE),
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// The shard is about to sleep; false if somebody rang since it last looked.
    pub(super) fn fall_asleep(&self) -> bool {
        self.state
            .compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// The shard is awake, and looks at its mailboxes after this.
    pub(super) fn wake_up(&self) {
        if self.state.load(Ordering::Relaxed) != AWAKE {
            self.state.swap(AWAKE, Ordering::SeqCst);
            fence(Ordering::SeqCst);
        }
    }
}

impl Doorbell for Bell {
    fn ring(&self) {
        // What the caller left for the shard is visible before the state is read: else a shard that
        // falls asleep right now could miss both.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) == RUNG {
            return;
        }
        if self.state.swap(RUNG, Ordering::SeqCst) == ASLEEP {
            let one = 1u64.to_ne_bytes();
            // SAFETY: eight bytes that live through the call. A counter this low never blocks.
            let written = unsafe { libc::write(self.fd(), one.as_ptr().cast(), one.len()) };
            debug_assert_eq!(written, 8);
        }
    }
}
