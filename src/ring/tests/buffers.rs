//! Buffers: what is shared, what comes back, what is copied.

use crate::ring::buf::{AppendBuf, Arena, Buf, BufMut, CHUNK_BYTES};

#[test]
fn sizes_are_powers_of_two_of_pages_and_large_ones_whole_mappings() {
    let arena = Arena::new(64 << 20);
    for (asked, given) in [
        (0, 4096),
        (4097, 8192),
        (5 << 10, 8 << 10),
        (2 << 20, 2 << 20),
        ((2 << 20) + 1, 4 << 20),
        (9 << 20, 10 << 20),
    ] {
        let buf = arena.try_alloc(asked).expect("room");
        assert_eq!(buf.capacity(), given);
        assert_eq!(buf.as_ptr().addr() % 4096, 0);
        assert_eq!(arena.used_bytes(), given);
    }
    assert_eq!(arena.used_bytes(), 0);
}

#[test]
fn a_steady_state_gives_the_same_memory_again() {
    let arena = Arena::new(64 << 20);
    for bytes in [4096, 64 << 10, 2 << 20, 8 << 20] {
        let first = arena.try_alloc(bytes).expect("room").as_ptr();
        for _ in 0..10 {
            assert_eq!(arena.try_alloc(bytes).expect("room").as_ptr(), first);
        }
    }
}

#[test]
fn what_was_shared_stays_unchanged_while_more_is_appended() {
    let mut buf = AppendBuf::new(BufMut::unbudgeted(4096));
    assert_eq!(buf.append(b"first"), 5);
    let first = buf.slice(0..5);
    assert_eq!(buf.append(&[7; 5000]), 4091, "no more than fits");
    assert_eq!(buf.append(b"x"), 0);
    let rest = buf.slice(5..4096);
    drop(buf);
    assert_eq!(&*first, b"first");
    assert!(rest.iter().all(|&byte| byte == 7));
}

#[test]
fn padding_is_zeros_whatever_the_memory_held_before() {
    let arena = Arena::new(8192);
    arena.try_alloc(4096).expect("room").fill(9);
    let mut buf = AppendBuf::new(arena.try_alloc(4096).expect("room"));
    buf.append(b"abc");
    buf.pad_to(4096);
    assert_eq!(&buf.filled()[..3], b"abc");
    assert!(buf.filled()[3..].iter().all(|&byte| byte == 0));
}

#[test]
#[should_panic]
fn nothing_can_be_shared_beyond_what_was_appended() {
    let mut buf = AppendBuf::new(BufMut::unbudgeted(4096));
    buf.append(b"abc");
    let _ = buf.slice(0..4);
}

#[test]
fn memory_comes_back_for_writing_only_when_nobody_reads_it() {
    let arena = Arena::new(4096);
    let mut buf = arena.try_alloc(10).expect("room");
    buf[..3].copy_from_slice(b"abc");
    let shared = buf.freeze(0..3);
    let reader = shared.slice(1..);
    let shared = shared.into_mut().expect_err("somebody reads");
    assert!(arena.try_alloc(1).is_none(), "a slice holds all of it");
    assert_eq!(&*reader, b"bc");
    drop(reader);
    let buf = shared.into_mut().expect("nobody reads");
    assert_eq!(buf.capacity(), 4096);
    drop(buf);
    assert!(arena.try_alloc(1).is_some());
    assert!(Buf::from(vec![1, 2]).into_mut().is_err());
    assert!(Buf::from_static(b"x").into_mut().is_err());
}

#[test]
fn buffers_outlive_their_arena() {
    let arena = Arena::new(1 << 20);
    let mut buf = arena.try_alloc(100).expect("room");
    drop(arena);
    buf.fill(3);
    let shared = buf.freeze(10..20);
    assert_eq!(&*shared.clone(), &[3; 10]);
}

#[test]
fn memory_that_is_not_needed_any_more_goes_back() {
    let arena = Arena::new(64 << 20);
    let fill = |bytes: usize| {
        let mut buf = arena.try_alloc(bytes).expect("room");
        buf.fill(7);
        buf
    };
    let (mut small, large) = (Vec::new(), fill(6 << 20));
    small.extend((0..8).map(|_| fill(2 << 20)));
    assert_eq!(arena.needed_bytes(), 22 << 20);
    drop((small.split_off(2), large));
    for _ in 0..2 {
        assert_eq!(arena.needed_bytes(), 22 << 20, "it was a moment ago");
    }
    assert!(!arena.shed(22 << 20), "all of it is to be kept");
    let keep = arena.needed_bytes();
    assert_eq!(keep, 4 << 20);
    let mut pieces = 0;
    while arena.shed(keep) {
        pieces += 1;
    }
    assert_eq!(pieces, 1 + 5, "the mapping, and all free chunks but one");
    assert!(!arena.is_dry());
    assert!(small.iter().all(|buf| buf.iter().all(|byte| *byte == 7)));
    // it is there again when it is asked for, first what was kept
    let again: Vec<_> = (0..6).map(|_| fill(2 << 20)).collect();
    assert_eq!(again.len(), 6);
    assert_eq!(arena.used_bytes(), 16 << 20);
}

#[test]
fn a_chunk_is_warmed_before_the_last_warm_one_is_used_up() {
    super::on_ring(|ring| async move {
        let arena = ring.arena();
        assert!(arena.is_dry(), "nothing was used yet");
        let mut chunk = arena.try_alloc(CHUNK_BYTES).expect("room");
        chunk[5] = 7;
        let (warmed, chunk) = ring.warm(chunk).await;
        warmed.expect("Linux 5.14");
        assert_eq!(chunk[5], 7, "it holds what it held");
        let at = chunk.as_ptr();
        drop(chunk);
        assert!(!arena.is_dry());
        let dry = std::pin::pin!(arena.until_dry());
        let page = arena.try_alloc(4096).expect("room");
        assert_eq!(page.as_ptr(), at, "the warm one is used first");
        dry.await;
    });
}
