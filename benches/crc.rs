//! CRC-32C of the crates that could do it, 1 KiB to 1 MiB: `cargo bench --bench crc`.
//!
//! `base::checksum` uses the fastest; the other one stays here as the yardstick.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn checksums(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc32c");
    for kib in [1, 4, 16, 64, 256, 1024] {
        let bytes: Vec<u8> = (0..kib * 1024).map(|i| (i * 7 % 251) as u8).collect();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::new("crc32c", kib), &bytes, |b, bytes| {
            b.iter(|| crc32c::crc32c(bytes));
        });
        group.bench_with_input(BenchmarkId::new("crc-fast", kib), &bytes, |b, bytes| {
            b.iter(|| crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32);
        });
    }
    group.finish();

    let mut group = c.benchmark_group("combine");
    group.bench_function("crc32c", |b| {
        b.iter(|| crc32c::crc32c_combine(0x1234_5678, 0x9abc_def0, 65_536));
    });
    group.bench_function("corelane", |b| {
        b.iter(|| corelane::base::checksum::crc32c_combine(0x1234_5678, 0x9abc_def0, 65_536));
    });
    group.bench_function("crc-fast", |b| {
        b.iter(|| {
            crc_fast::checksum_combine(
                crc_fast::CrcAlgorithm::Crc32Iscsi,
                0x1234_5678,
                0x9abc_def0,
                65_536,
            )
        });
    });
    group.finish();
}

criterion_group!(benches, checksums);
criterion_main!(benches);
