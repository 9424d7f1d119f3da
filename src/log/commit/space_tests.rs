use super::space::{First, Pin, Pins, Placement, RingSpace};
use crate::base::ids::Offset;
use crate::log::segment::Place;

const PAGE: u64 = 4096;

fn ring(pages: u64) -> RingSpace {
    RingSpace::new(2 * PAGE, (2 + pages) * PAGE, 2 * PAGE, 1, 0)
}

fn place(position: u64) -> Place {
    Place::new(Offset(0), position)
}

#[test]
fn an_entry_never_wraps_and_a_wrap_always_has_a_skip() {
    let mut space = ring(8);
    for crc in 1..=3 {
        assert_eq!(space.placement(2 * PAGE).skip, None);
        space.push(2 * PAGE, crc, false);
    }
    space.free_before(3);
    for pages in [2, 3] {
        assert_eq!(
            space.placement(pages * PAGE),
            Placement {
                skip: Some((8 * PAGE, 2 * PAGE)),
                position: 2 * PAGE,
            },
            "two pages would fit, but not the skip behind them"
        );
    }
    assert_eq!(space.placement(PAGE).skip, None);
    assert_eq!(space.push(2 * PAGE, 9, false), 4);
    assert_eq!(space.placement(PAGE).position, 2 * PAGE);
}

#[test]
fn the_skipped_end_counts_as_used() {
    let mut space = ring(8);
    space.push(6 * PAGE, 1, false);
    assert!(space.fits(PAGE, 0));
    assert!(!space.fits(2 * PAGE, 0));
    space.free_before(2);
    assert!(space.fits(6 * PAGE, 0));
    assert!(!space.fits(7 * PAGE, 0));
    assert!(!space.fits(6 * PAGE, PAGE), "the reserve stays");
}

#[test]
fn space_returns_in_order_and_only_unpinned() {
    let mut space = ring(16);
    let (mut a, mut b) = (Pins::default(), Pins::default());
    for sequence in 1..=3 {
        space.push(PAGE, sequence as u32 * 10, false);
        let end = place(sequence * 100);
        if sequence != 2 {
            a.add(&mut space, 0, Pin { sequence, end });
        }
        if sequence == 2 {
            b.add(&mut space, 1, Pin { sequence, end });
        }
    }
    assert_eq!(space.first_needed(3, 3).sequence, 1);
    b.release(&mut space, place(200));
    assert_eq!(space.first_needed(3, 3).sequence, 1, "the oldest is pinned");
    a.release(&mut space, place(299));
    assert_eq!(
        space.first_needed(3, 3),
        First {
            position: 4 * PAGE,
            sequence: 3,
            previous_crc: 20,
            crc: Some(30),
        }
    );
    assert_eq!(space.first_needed(3, 2).crc, None, "not durable yet");
    space.free_before(3);
    assert_eq!(space.used(), PAGE);
    a.release(&mut space, place(300));
    let end = space.first_needed(3, 3);
    assert_eq!((end.sequence, end.previous_crc, end.crc), (4, 30, None));
}

#[test]
fn an_entry_stays_until_a_table_holds_its_state() {
    let mut space = ring(16);
    space.push(PAGE, 1, true);
    space.push(PAGE, 2, false);
    assert_eq!(space.first_needed(0, 2).sequence, 1);
    assert_eq!(space.first_needed(1, 2).sequence, 2);
    assert_eq!(space.first_needed(2, 2).sequence, 3);
}

#[test]
fn carried_bytes_hold_only_the_entry_that_carries_them() {
    let mut space = ring(16);
    let mut pins = Pins::default();
    for sequence in 1..=3 {
        space.push(PAGE, 0, false);
        let end = place(sequence * 100);
        pins.add(&mut space, 7, Pin { sequence, end });
    }
    pins.carried(&mut space, 3);
    assert_eq!(pins.oldest(), Some(3));
    assert_eq!(space.first_needed(3, 3).sequence, 3);
    assert_eq!(space.oldest(u64::MAX).collect::<Vec<_>>(), [7]);
}

#[test]
fn a_ring_grows_only_while_its_entries_lie_in_one_piece() {
    let mut space = ring(4);
    for _ in 0..3 {
        space.push(PAGE, 0, false);
    }
    assert!(space.can_grow());
    space.free_before(3);
    let skip = space.placement(PAGE).skip.unwrap();
    space.push(skip.1, 0, false);
    space.push(PAGE, 0, false);
    assert!(
        !space.can_grow(),
        "the newest entry stands before the oldest"
    );
    space.free_before(5);
    assert!(space.can_grow());
    space.grow(10 * PAGE);
    assert_eq!(space.capacity(), 8 * PAGE);
    assert!(space.fits(6 * PAGE, 0));
}
