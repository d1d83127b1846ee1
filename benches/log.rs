//! What a record of 450 bytes costs in the embedded log, appended and read, beside plain writes
//! and reads of the same number of bytes with a CRC. `cargo bench --bench log`; the times are for
//! 100,000 records.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use visitflow::log::{Producer, Reader, Topic, Writer, WriterOptions};

const RECORDS: u64 = 100_000;
/// With the key, 450 bytes a record.
const KEY: [u8; 16] = *b"0123456789abcdef";
const VALUE: [u8; 434] = [7; 434];
const PIECE: usize = 64 << 10;

fn new_topic(dir: &Path, partitions: u32) -> Topic {
    let _ = std::fs::remove_dir_all(dir.join("t"));
    Topic::create(dir, "t", partitions).unwrap()
}

fn open_one(topic: &Topic) -> Writer {
    Writer::open(topic, 0, WriterOptions::default()).unwrap()
}

fn append_one(mut writer: Writer) -> Writer {
    for i in 0..RECORDS {
        writer.push(i as i64, &KEY, &[], &VALUE).unwrap();
        // As of a tick of a busy sink.
        if i % 4096 == 4095 {
            writer.commit(i).unwrap();
        }
    }
    writer.commit(RECORDS).unwrap();
    writer
}

fn open_all(topic: &Topic) -> Producer {
    Producer::open(topic, WriterOptions::default()).unwrap()
}

fn append_by_key(mut producer: Producer) -> Producer {
    let mut key = KEY;
    for i in 0..RECORDS {
        key[..8].copy_from_slice(&i.to_le_bytes());
        producer.send(i as i64, &key, &[], &VALUE).unwrap();
    }
    producer.flush().unwrap();
    producer
}

/// What [`append_by_key`] cannot do without: records gathered in 16 buffers, and written.
fn gather(dir: &Path) -> u32 {
    let create = |i| File::create(dir.join(format!("plain{i}"))).unwrap();
    let mut files: Vec<_> = (0..16).map(create).collect();
    let mut pieces = vec![Vec::new(); 16];
    let mut crc = 0;
    for i in 0..RECORDS {
        let j = (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60) as usize;
        pieces[j].extend_from_slice(&KEY);
        pieces[j].extend_from_slice(&VALUE);
        if pieces[j].len() >= 4 * PIECE {
            crc ^= crc32fast::hash(&pieces[j]);
            files[j].write_all(&pieces[j]).unwrap();
            pieces[j].clear();
        }
    }
    crc
}

/// Reads partitions a record of each in turn, as a merge does.
fn read(topic: &Topic) -> u64 {
    let open = |partition| Reader::open(topic, partition, 0).unwrap();
    let mut readers: Vec<_> = (0..topic.partitions()).map(open).collect();
    let (mut records, mut open) = (0, readers.len());
    while open > 0 {
        open = 0;
        for reader in &mut readers {
            if let Some(record) = reader.peek().unwrap() {
                black_box((record.key, record.value));
                records += 1;
                open += 1;
                reader.advance();
            }
        }
    }
    records
}

fn log(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut group = c.benchmark_group("log");
    group
        .throughput(Throughput::Elements(RECORDS))
        .sample_size(20);

    let plain = dir.join("plain");
    let bytes = RECORDS as usize * (KEY.len() + VALUE.len());
    group.bench_function("append/baseline", |b| {
        let piece = vec![7; PIECE];
        b.iter_batched(
            || std::fs::remove_file(&plain),
            |_| {
                let mut file = File::create(&plain).unwrap();
                let mut crc = 0;
                for _ in 0..bytes / PIECE {
                    crc ^= crc32fast::hash(&piece);
                    file.write_all(&piece).unwrap();
                }
                crc
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("append/1 partition", |b| {
        b.iter_batched(
            || open_one(&new_topic(dir, 1)),
            append_one,
            BatchSize::PerIteration,
        );
    });
    group.bench_function("append/baseline of 16", |b| {
        b.iter_batched(
            || (0..16).for_each(|i| drop(std::fs::remove_file(dir.join(format!("plain{i}"))))),
            |()| gather(dir),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("append/16 partitions by key", |b| {
        b.iter_batched(
            || open_all(&new_topic(dir, 16)),
            append_by_key,
            BatchSize::PerIteration,
        );
    });

    group.bench_function("read/baseline", |b| {
        let mut piece = vec![0; PIECE];
        b.iter(|| {
            let mut file = File::open(&plain).unwrap();
            let mut crc = 0;
            for _ in 0..bytes / PIECE {
                file.read_exact(&mut piece).unwrap();
                crc ^= crc32fast::hash(&piece);
            }
            crc
        });
    });
    let topic = new_topic(dir, 1);
    append_one(open_one(&topic));
    group.bench_function("read/1 partition", |b| {
        b.iter(|| assert_eq!(read(&topic), RECORDS));
    });
    let topic = new_topic(dir, 16);
    append_by_key(open_all(&topic));
    group.bench_function("read/16 partitions", |b| {
        b.iter(|| assert_eq!(read(&topic), RECORDS));
    });
    group.finish();
}

criterion_group!(benches, log);
criterion_main!(benches);
