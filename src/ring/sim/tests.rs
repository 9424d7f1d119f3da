//! The simulator itself: what it may do to a process, and what never.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::base::ids::ShardId;
use crate::ring::Ring;
use crate::ring::buf::Buf;
use crate::ring::driver::OpenOptions;

const SECOND: Duration = Duration::from_secs(1);

fn rw() -> OpenOptions {
    OpenOptions {
        write: true,
        create: true,
        ..OpenOptions::default()
    }
}

fn direct() -> OpenOptions {
    OpenOptions {
        direct: true,
        ..rw()
    }
}

/// Runs a future on a machine, as a process of its own, to its end.
fn run<T: 'static, F>(world: &SimWorld, machine: MachineId, f: impl FnOnce(Ring) -> F) -> T
where
    F: Future<Output = T> + 'static,
{
    let process = world.process(machine);
    let ring = world.shard(process, ShardId(0));
    let result = Rc::new(RefCell::new(None));
    let (future, theirs) = (f(ring.clone()), result.clone());
    world.spawn(process, &ring, async move {
        *theirs.borrow_mut() = Some(future.await);
    });
    assert!(world.run_until(SECOND * 1000, || world.finished(process)));
    world.kill(process);
    result.take().expect("it has finished")
}

fn page(ring: &Ring, fill: u8) -> Buf {
    let mut buf = ring.arena().try_alloc(4096).expect("room");
    buf.fill(fill);
    buf.freeze(0..4096)
}

/// Writes pages 0.. of `path`, flushing after the first `flushed` of them.
async fn write_pages(ring: Ring, path: &'static str, pages: u8, flushed: u8) {
    let file = ring.open(Path::new(path), direct()).unwrap();
    for n in 0..pages {
        let chain = [page(&ring, n + 1)].into_iter().collect();
        file.write_at(chain, u64::from(n) * 4096).await.unwrap();
        if n + 1 == flushed {
            file.sync_data().await.unwrap();
            ring.sync_dir(Path::new("/")).await.unwrap();
        }
    }
}

fn contents(world: &SimWorld, machine: MachineId, path: &'static str) -> Option<Vec<u8>> {
    run(world, machine, |ring| async move {
        ring.read(Path::new(path)).ok()
    })
}

#[test]
fn flushed_pages_outlive_a_power_cut_and_unflushed_ones_may_not() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..100 {
        let world = SimWorld::new(seed, SimOptions::default());
        let machine = world.machine(&[]);
        run(&world, machine, |ring| write_pages(ring, "/f", 4, 2));
        world.power_cut(machine, Luck::draw(&mut Rng::new(seed)));
        let bytes = contents(&world, machine, "/f").expect("its name was flushed");
        assert!(bytes.len() >= 8192);
        assert!(bytes[..4096].iter().all(|b| *b == 1));
        assert!(bytes[4096..8192].iter().all(|b| *b == 2));
        let rest = &bytes[8192..];
        let sectors = rest.chunks(512).filter(|s| s[0] != 0).count();
        match (sectors, rest.len()) {
            (0, _) => lost += 1,
            (16, _) => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 5 && kept > 5 && torn > 5, "{lost} {kept} {torn}");
}

#[test]
fn a_killed_process_loses_no_write_that_ended() {
    for seed in 0..20 {
        let world = SimWorld::new(seed, SimOptions::swarm(seed));
        let machine = world.machine(&[]);
        run(&world, machine, |ring| write_pages(ring, "/f", 4, 0));
        let bytes = contents(&world, machine, "/f").expect("the page cache stays");
        assert_eq!(bytes.len(), 4 * 4096);
        assert!((0..4).all(|n| bytes[n * 4096] == n as u8 + 1));
    }
}

#[test]
fn a_name_may_vanish_until_its_directory_is_flushed() {
    let mut seen = [0; 2];
    for seed in 0..60 {
        let world = SimWorld::new(seed, SimOptions::default());
        let machine = world.machine(&[]);
        run(&world, machine, |ring| async move {
            let file = ring.open(Path::new("/new"), rw()).unwrap();
            file.write_now(b"hello", 0).unwrap();
            file.sync_all().await.unwrap();
        });
        world.power_cut(machine, Luck::draw(&mut Rng::new(seed)));
        match contents(&world, machine, "/new") {
            Some(bytes) => {
                assert_eq!(bytes, b"hello");
                seen[1] += 1;
            }
            None => seen[0] += 1,
        }
    }
    assert!(seen[0] > 5 && seen[1] > 5, "{seen:?}");
}

#[test]
fn an_atomic_write_leaves_the_old_or_the_new_content() {
    let mut seen = [0; 2];
    for seed in 0..120 {
        let world = SimWorld::new(seed, SimOptions::swarm(seed));
        let machine = world.machine(&[]);
        let path = Path::new("/dir/config");
        run(&world, machine, |ring| async move {
            ring.create_dir_all(Path::new("/dir")).unwrap();
            ring.sync_dir(Path::new("/")).await.unwrap();
            ring.write_atomic(path, b"old").await.unwrap();
        });
        let process = world.process(machine);
        let ring = world.shard(process, ShardId(0));
        world.die_at_call(process, seed % 8, true);
        let its = ring.clone();
        world.spawn(process, &ring, async move {
            let _ = its.write_atomic(path, b"new, longer").await;
        });
        let ended = world.run_until(SECOND * 10, || {
            !world.alive(process) || world.finished(process)
        });
        assert!(ended);
        world.power_cut(machine, Luck::draw(&mut Rng::new(seed)));
        match contents(&world, machine, "/dir/config").as_deref() {
            Some(b"old") => seen[0] += 1,
            Some(b"new, longer") => seen[1] += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(seen[0] > 10 && seen[1] > 10, "{seen:?}");
}

#[test]
fn a_write_of_a_killed_process_may_land_late_and_keeps_its_lock_until_then() {
    let mut late = 0;
    for seed in 0..40 {
        let world = SimWorld::new(seed, SimOptions::default());
        let machine = world.machine(&[]);
        let process = world.process(machine);
        let ring = world.shard(process, ShardId(0));
        let its = ring.clone();
        world.spawn(process, &ring, async move {
            let file = its.open(Path::new("/f"), direct()).unwrap();
            file.try_lock().unwrap();
            let mut buf = its.arena().try_alloc(1 << 20).unwrap();
            buf.fill(7);
            let _ = file
                .write_at([buf.freeze(0..1 << 20)].into_iter().collect(), 0)
                .await;
        });
        world.run_for(Duration::from_micros(60));
        world.kill(process);
        let (at_once, then) = run(&world, machine, |ring| async move {
            let file = ring.open(Path::new("/f"), rw()).unwrap();
            let at_once = file.try_lock().is_ok();
            file.lock().await.unwrap();
            let then = file.len().unwrap();
            ring.sleep(SECOND * 5).await;
            assert_eq!(
                file.len().unwrap(),
                then,
                "locked, so nothing lands any more"
            );
            (at_once, then)
        });
        late += u32::from(!at_once && then > 0);
    }
    assert!(late > 5, "{late}");
}

#[test]
fn a_failed_flush_is_reported_once_and_its_data_is_gone() {
    let world = SimWorld::new(1, SimOptions::default());
    let machine = world.machine(&[Path::new("/data")]);
    let path = Path::new("/data/f");
    world.fail_flushes(machine, Path::new("/data"), 1);
    run(&world, machine, |ring| async move {
        let file = ring.open(path, rw()).unwrap();
        file.write_now(&[1; 4096], 0).unwrap();
        ring.open(Path::new("/f"), rw())
            .unwrap()
            .sync_all()
            .await
            .unwrap();
        assert!(file.sync_data().await.is_err());
        assert!(file.sync_data().await.is_ok());
        ring.sync_dir(Path::new("/data")).await.unwrap();
    });
    world.power_cut(machine, Luck::Lost);
    let bytes = contents(&world, machine, "/data/f").unwrap();
    assert!(bytes.iter().all(|b| *b == 0), "nothing of it was written");
}

#[test]
fn a_flush_of_all_tells_what_could_not_be_written_since_it_was_opened() {
    let data = Path::new("/data");
    let mut lost = [0; 2];
    for seed in 0..20 {
        let world = SimWorld::new(seed, SimOptions::default());
        let machine = world.machine(&[data]);
        world.fail_flushes(machine, data, 1);
        run(&world, machine, |ring| async move {
            let before = ring.open_dir(data).unwrap();
            let file = ring.open(&data.join("f"), rw()).unwrap();
            file.write_now(&[1; 4096], 0).unwrap();
            file.sync_data().await.unwrap_err();
            ring.sync_fs(data).expect("opened afterwards");
            assert!(before.sync_fs().is_err());
            before.sync_fs().expect("told once");
        });
        world.fail_flushes(machine, data, 1);
        run(&world, machine, |ring| async move {
            let before = ring.open_dir(data).unwrap();
            let file = ring.open(&data.join("g"), rw()).unwrap();
            file.write_now(&[2; 4096], 0).unwrap();
            assert!(before.sync_fs().is_err());
            before.sync_fs().expect("nothing is left to write");
        });
        world.power_cut(machine, Luck::Lost);
        for (name, lost) in ["/data/f", "/data/g"].into_iter().zip(&mut lost) {
            let bytes = contents(&world, machine, name).expect("its name was flushed");
            *lost += u32::from(bytes.iter().all(|b| *b == 0));
        }
    }
    assert!(lost.iter().all(|n| *n > 12), "{lost:?}");
}

#[test]
fn space_ends_and_a_pulled_disk_answers_nothing() {
    let world = SimWorld::new(1, SimOptions::default());
    let machine = world.machine(&[Path::new("/data")]);
    world.set_disk_bytes(machine, Path::new("/data"), 16 * 4096);
    run(&world, machine, |ring| async move {
        let file = ring.open(Path::new("/data/f"), rw()).unwrap();
        file.allocate(0, 12 * 4096, true).await.unwrap();
        assert_eq!(file.len().unwrap(), 0);
        let other = ring.open(Path::new("/data/g"), rw()).unwrap();
        other.write_now(&[1; 4 * 4096], 0).unwrap();
        let full = other.write_now(&[1], 4 * 4096).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
        file.write_now(&[1; 12 * 4096], 0).unwrap();
        assert_eq!(ring.space(Path::new("/data/f")).unwrap().available_bytes, 0);
        drop(other);
        ring.remove_file(Path::new("/data/g")).unwrap();
    });
    world.vanish_disk(machine, Path::new("/data"), true);
    assert_eq!(contents(&world, machine, "/data/f"), None);
    world.vanish_disk(machine, Path::new("/data"), false);
    assert!(contents(&world, machine, "/data/f").is_some());
}

#[test]
fn boots_have_different_ids_and_killed_processes_share_one() {
    let world = SimWorld::new(1, SimOptions::default());
    let machine = world.machine(&[]);
    let boot = || run(&world, machine, |ring| async move { ring.boot_id() });
    let first = boot();
    assert_eq!(boot(), first);
    world.power_cut(machine, Luck::Kept);
    assert_ne!(boot(), first);
}

/// A server that echoes, and a client that sends `bytes` numbered bytes and reads them back;
/// answers how many came back right before the connection ended.
fn echo(world: &SimWorld, bytes: usize) -> (usize, bool) {
    let (a, b) = (world.machine(&[]), world.machine(&[]));
    let server = world.process(a);
    let ring = world.shard(server, ShardId(0));
    let addr = SocketAddr::new(world.ip(a), 9092);
    let its = ring.clone();
    world.spawn(server, &ring, async move {
        let listener = its.listen(addr, 10).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let mut buf = its.arena().try_alloc(4096).unwrap();
        loop {
            let (n, back) = socket.recv(buf, 0, 4096).await;
            match n {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    let echo = Buf::from(back[..n].to_vec());
                    if socket.send([echo].into_iter().collect()).await.is_err() {
                        break;
                    }
                }
            }
            buf = back;
        }
    });
    let client = world.process(b);
    let ring = world.shard(client, ShardId(0));
    let result = Rc::new(Cell::new((0, false)));
    let (its, theirs) = (ring.clone(), result.clone());
    world.spawn(client, &ring, async move {
        its.sleep(Duration::from_millis(10)).await;
        let Ok(socket) = its.connect(addr).await else {
            return;
        };
        let sender = socket.clone();
        let task = its.spawn(async move {
            let all: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
            let _ = sender.send([Buf::from(all)].into_iter().collect()).await;
            let _ = sender.shutdown(false);
        });
        let mut buf = its.arena().try_alloc(4096).unwrap();
        let mut seen = 0;
        loop {
            let (n, back) = socket.recv(buf, 0, 4096).await;
            buf = back;
            match n {
                Ok(0) => break theirs.set((seen, true)),
                Err(_) => break theirs.set((seen, false)),
                Ok(n) => {
                    for byte in &buf[..n] {
                        assert_eq!(*byte, seen as u8, "bytes stay in their order");
                        seen += 1;
                    }
                }
            }
        }
        task.await;
    });
    world.run_until(SECOND * 600, || world.finished(client));
    result.get()
}

#[test]
fn bytes_arrive_whole_and_in_order_however_they_are_cut() {
    for seed in 0..30 {
        let mut options = SimOptions::swarm(seed);
        options.net.reset_chance = 0.0;
        let world = SimWorld::new(seed, options);
        assert_eq!(echo(&world, 20_000), (20_000, true), "seed {seed}");
    }
}

#[test]
fn a_reset_comes_at_any_byte() {
    let mut places = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let mut options = SimOptions::default();
        options.net.reset_chance = 1.0;
        options.net.reset_below_bytes = 20_000;
        let world = SimWorld::new(seed, options);
        let (seen, clean) = echo(&world, 20_000);
        assert!(!clean && seen < 20_000, "seed {seed}: {seen}");
        places.insert(seen);
    }
    assert!(
        places.iter().filter(|p| *p % 4096 != 0).count() > 12,
        "{places:?}"
    );
}

#[test]
fn a_partition_holds_bytes_back_until_it_heals() {
    let world = Rc::new(SimWorld::new(3, SimOptions::default()));
    let cut = Duration::from_millis(11);
    world.schedule(cut, |w| w.part(MachineId(0), MachineId(1), true));
    world.schedule(SECOND * 30, |w| w.part(MachineId(0), MachineId(1), false));
    assert_eq!(echo(&world, 2_000_000), (2_000_000, true));
    assert!(world.now().0 > 30_000_000_000, "{:?}", world.now());
}

#[test]
fn connecting_where_nobody_listens_fails_and_to_no_power_times_out() {
    let world = SimWorld::new(3, SimOptions::default());
    let (a, b) = (world.machine(&[]), world.machine(&[]));
    let addr = SocketAddr::new(world.ip(a), 1);
    let connect = || {
        run(&world, b, |ring| async move {
            let error = ring.connect(addr).await.map(|_| ()).unwrap_err();
            error.raw_os_error()
        })
    };
    assert_eq!(connect(), Some(libc::ECONNREFUSED));
    world.power_cut(a, Luck::Kept);
    assert_eq!(connect(), Some(libc::ETIMEDOUT));
}

#[test]
fn a_peer_that_never_reads_stops_its_sender() {
    let world = SimWorld::new(3, SimOptions::default());
    let machine = world.machine(&[]);
    let addr = SocketAddr::new(world.ip(machine), 9092);
    let sent = Rc::new(Cell::new(0));
    let theirs = sent.clone();
    let process = world.process(machine);
    let ring = world.shard(process, ShardId(0));
    let its = ring.clone();
    world.spawn(process, &ring, async move {
        let listener = its.listen(addr, 10).unwrap();
        let client = its.connect(addr).await.unwrap();
        let _server = listener.accept().await.unwrap();
        loop {
            let chain = [Buf::from(vec![0; 10_000])].into_iter().collect();
            client.send(chain).await.unwrap();
            theirs.set(theirs.get() + 10_000);
        }
    });
    world.run_for(SECOND * 100);
    let bound = 2 * SimOptions::default().net.buffer_bytes;
    assert!(
        sent.get() <= bound && sent.get() > bound - 20_000,
        "{}",
        sent.get()
    );
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let run = |seed: u64| {
        let world = SimWorld::new(seed, SimOptions::swarm(seed));
        echo(&world, 50_000);
        let machine = world.machine(&[]);
        run(&world, machine, |ring| write_pages(ring, "/f", 9, 4));
        world.power_cut(machine, Luck::Mixed(0.5));
        (
            contents(&world, machine, "/f"),
            world.trace_hash(),
            world.now(),
        )
    };
    let runs: Vec<_> = (0..6).map(run).collect();
    let again: Vec<_> = (0..6).map(run).collect();
    assert_eq!(runs, again);
    let hashes: std::collections::BTreeSet<u64> = runs.iter().map(|r| r.1).collect();
    assert_eq!(hashes.len(), 6);
}
