//! Files on the file system of this checkout.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{NEW, chain, evict, on_ring, pattern, scratch};
use crate::ring::Ring;
use crate::ring::buf::AppendBuf;
use crate::ring::driver::{Chain, OpenOptions, Residency};

fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = scratch();
    let path = directory.path().join("file");
    (directory, path)
}

async fn pages(ring: &Ring, bytes: &[u8]) -> crate::ring::buf::Buf {
    let mut buf = AppendBuf::new(ring.arena().alloc(bytes.len()).await);
    assert_eq!(buf.append(bytes), bytes.len());
    buf.slice(0..bytes.len())
}

#[test]
fn a_chain_of_more_parts_than_the_kernel_takes_at_once_is_written_whole() {
    on_ring(|ring| async move {
        let (_directory, path) = directory();
        let file = ring.open(&path, NEW).unwrap();
        let parts: Vec<Vec<u8>> = (0..3000).map(|n| pattern(1 + n % 7)).collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        file.write_at(chain(&parts), 10).await.unwrap();
        let mut back = vec![0; parts.concat().len()];
        assert_eq!(file.read_now(&mut back, 10).unwrap(), back.len());
        assert!(back == parts.concat());
    });
}

#[test]
fn direct_pages_come_back_and_buffered_reads_see_them() {
    on_ring(|ring| async move {
        let (_directory, path) = directory();
        let options = OpenOptions {
            direct: true,
            ..NEW
        };
        let file = ring.open(&path, options).unwrap();
        file.lock().await.unwrap();
        let bytes = pattern(5 * 4096);
        let parts: Chain = [
            pages(&ring, &bytes[..4096]).await,
            pages(&ring, &bytes[4096..3 * 4096]).await,
            pages(&ring, &bytes[3 * 4096..]).await,
        ]
        .into_iter()
        .collect();
        file.allocate(0, 1 << 20, true).await.unwrap();
        file.write_at(parts, 8192).await.unwrap();
        file.sync_data().await.unwrap();
        assert_eq!(file.len().unwrap(), 8192 + bytes.len() as u64);
        let buf = ring.arena().alloc(64 << 10).await;
        let (n, buf) = file.read_at(buf, 4096, 32 << 10, 8192).await;
        assert_eq!(n.unwrap(), bytes.len());
        assert!(buf[4096..4096 + bytes.len()] == bytes);
        let mut small = [0; 100];
        assert_eq!(file.read_now(&mut small, 8192 + 50).unwrap(), 100);
        assert_eq!(small, bytes[50..150]);
        // it is in the page cache now
        let cached = file.read_cached(&mut small, 8192 + 50).unwrap();
        assert!(cached.is_none_or(|n| n == 100));
        assert_eq!(small, bytes[50..150]);
        assert_eq!(file.read_cached(&mut small, 1 << 30).unwrap(), None);
        // A partial page at its exact length, then the same page directly again.
        file.write_now(&bytes[..10], 7 * 4096).unwrap();
        assert_eq!(file.len().unwrap(), 7 * 4096 + 10);
        let (n, _) = file
            .read_at(ring.arena().alloc(8192).await, 0, 8192, 7 * 4096)
            .await;
        assert_eq!(n.unwrap(), 10);
    });
}

#[test]
fn a_file_system_without_direct_io_is_served_through_the_page_cache() {
    on_ring(|ring| async move {
        // No file of sysfs can be opened for direct IO, but it can be read.
        let options = OpenOptions {
            direct: true,
            ..OpenOptions::default()
        };
        let file = ring
            .open("/proc/self/status".as_ref(), options)
            .expect("it falls back");
        assert!(!file.is_direct());
        let buf = ring.arena().alloc(4096).await;
        let (n, _) = file.read_at(buf, 0, 10, 0).await;
        assert_eq!(n.unwrap(), 10);
    });
}

#[test]
fn buffered_writes_and_reads_need_no_alignment_and_end_at_the_end() {
    on_ring(|ring| async move {
        let (_directory, path) = directory();
        let file = ring.open(&path, NEW).unwrap();
        file.write_at(chain(&[b"abc", b"", b"defg"]), 5)
            .await
            .unwrap();
        let buf = ring.arena().alloc(1).await;
        let (n, buf) = file.read_at(buf, 1, 100, 4).await;
        assert_eq!(n.unwrap(), 8);
        assert_eq!(&buf[1..9], b"\0abcdefg");
        file.set_len(6).unwrap();
        assert_eq!(ring.read(&path).unwrap(), b"\0\0\0\0\0a");
    });
}

#[test]
fn more_flushes_than_may_be_in_flight_all_end() {
    on_ring(|ring| async move {
        let (_directory, path) = directory();
        let file = ring.open(&path, NEW).unwrap();
        let flushes: Vec<_> = (0..50)
            .map(|i| {
                let file = file.clone();
                ring.spawn(async move {
                    if i % 2 == 0 {
                        file.sync_data().await
                    } else {
                        file.sync_all().await
                    }
                })
            })
            .collect();
        ring.yield_now().await;
        for (i, flush) in flushes.into_iter().enumerate() {
            if i % 5 == 0 {
                drop(flush);
            } else {
                flush.await.unwrap();
            }
        }
        file.sync_data().await.unwrap();
    });
}

#[test]
fn a_lock_keeps_others_out_until_the_file_is_closed() {
    on_ring(|ring| async move {
        let (_directory, path) = directory();
        let first = ring.open(&path, NEW).unwrap();
        first.try_lock().unwrap();
        let second = ring.open(&path, OpenOptions::default()).unwrap();
        let error = second.try_lock().expect_err("it is locked");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let waiting = ring.spawn(async move { second.lock().await });
        ring.yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
    });
}

#[test]
fn an_atomic_write_leaves_one_file_with_the_new_content() {
    on_ring(|ring| async move {
        let (directory, path) = directory();
        ring.write_atomic(&path, b"old").await.unwrap();
        ring.write_atomic(&path, b"newer").await.unwrap();
        assert_eq!(ring.read(&path).unwrap(), b"newer");
        let names = ring.read_dir(directory.path()).unwrap();
        assert_eq!(names.len(), 1);
        assert_eq!((names[0].name.as_str(), names[0].len), ("file", 5));
        assert!(ring.space(&path).unwrap().total_bytes > 0);
        assert!(!ring.boot_id().is_empty());
        ring.remove_file(&path).unwrap();
        assert!(!ring.exists(&path));
    });
}

#[test]
fn a_write_to_a_file_opened_for_reading_fails_with_the_kernels_error() {
    on_ring(|ring| async move {
        let (_directory, path) = directory();
        drop(ring.open(&path, NEW).unwrap());
        let options = OpenOptions {
            direct: true,
            ..OpenOptions::default()
        };
        let file = ring.open(&path, options).unwrap();
        let page = pages(&ring, &[1; 4096]).await;
        let error = file
            .write_at(Chain::from_iter([page]), 0)
            .await
            .expect_err("read-only");
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    });
}

#[test]
fn what_is_asked_for_is_read_ahead_and_nothing_else() {
    on_ring(|ring| async move {
        let (_directory, path) = directory();
        let file = ring.open(&path, NEW).unwrap();
        file.write_now(&pattern(2 << 20), 0).unwrap();
        file.sync_all().await.unwrap();
        drop(file);
        evict(&path);
        let options = OpenOptions {
            own_read_ahead: true,
            ..OpenOptions::default()
        };
        let file = ring.open(&path, options).unwrap();
        let (from, len) = (256 << 10, 600 << 10);
        assert_eq!(file.residency(from, len), Residency::Cold);
        file.read_ahead(from, len);
        let deadline = ring.now() + Duration::from_secs(30);
        while file.residency(from, len) == Residency::Cold {
            assert!(ring.now() < deadline, "nothing is read ahead");
            ring.sleep(Duration::from_millis(1)).await;
        }
        let mut page = [0; 4096];
        assert_eq!(file.read_now(&mut page, 1 << 20).unwrap(), page.len());
        for absent in [0, from - 4096, from + len, (1 << 20) + 4096] {
            assert_eq!(
                file.residency(absent, 4096),
                Residency::Cold,
                "byte {absent}"
            );
        }
    });
}
