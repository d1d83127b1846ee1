//! The embedded log from outside: what a writer commits is what readers see, whole commits only,
//! through rolls, restarts, torn tails and damage.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use proptest::prelude::*;
use tempfile::TempDir;
use visitflow::log::{
    LogError, Producer, Reader, Topic, Writer, WriterOptions, end_offset, start_offset,
};
use visitflow_schemas::shard::Shard;

/// Sizes that make many frames, segments and early writes of few records.
const SMALL: WriterOptions = WriterOptions {
    segment_bytes: 2000,
    frame_bytes: 250,
    buffer_bytes: 600,
};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    log_time: i64,
    key: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    value: Vec<u8>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    let headers = prop::collection::vec(("[a-zé]{0,5}", bytes(6)), 0..3);
    let log_time = prop_oneof![any::<i64>(), 1_700_000_000_000i64..1_700_000_100_000];
    (log_time, bytes(20), headers, bytes(90)).prop_map(|(log_time, key, headers, value)| Sent {
        log_time,
        key,
        headers,
        value,
    })
}

fn commits() -> impl Strategy<Value = Vec<Vec<Sent>>> {
    prop::collection::vec(prop::collection::vec(sent(), 1..20), 1..10)
}

fn plain(value: &str) -> Sent {
    Sent {
        log_time: 1_700_000_000_000,
        key: b"key".to_vec(),
        headers: Vec::new(),
        value: value.as_bytes().to_vec(),
    }
}

fn new_topic() -> (TempDir, Topic) {
    let dir = tempfile::tempdir().unwrap();
    let topic = Topic::create(dir.path(), "t", 1).unwrap();
    (dir, topic)
}

fn push(writer: &mut Writer, sent: &Sent) -> u64 {
    let headers: Vec<_> = sent
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_slice()))
        .collect();
    writer
        .push(sent.log_time, &sent.key, &headers, &sent.value)
        .unwrap()
}

/// Writes commits with the ticks 100, 200 and so on.
fn write(topic: &Topic, commits: &[Vec<Sent>]) -> Writer {
    let mut writer = Writer::open(topic, 0, SMALL).unwrap();
    for (i, commit) in commits.iter().enumerate() {
        for sent in commit {
            push(&mut writer, sent);
        }
        writer.commit(100 * (i as u64 + 1)).unwrap();
    }
    writer
}

/// A record as read: offset, tick, the rest.
type Read = (u64, u64, Sent);

fn as_read(commits: &[Vec<Sent>]) -> Vec<Read> {
    let with_tick = |(i, commit): (usize, &Vec<Sent>)| {
        let tick = 100 * (i as u64 + 1);
        commit
            .iter()
            .cloned()
            .map(|s| (tick, s))
            .collect::<Vec<_>>()
    };
    let all = commits.iter().enumerate().flat_map(with_tick);
    (0..)
        .zip(all)
        .map(|(offset, (tick, s))| (offset, tick, s))
        .collect()
}

/// Reads to the present end, or to an error.
fn read_on(reader: &mut Reader) -> (Vec<Read>, Option<LogError>) {
    let mut all = Vec::new();
    loop {
        match reader.peek() {
            Ok(None) => return (all, None),
            Err(e) => return (all, Some(e)),
            Ok(Some(record)) => {
                let headers = record.headers().map(|(n, v)| (n.to_owned(), v.to_vec()));
                let sent = Sent {
                    log_time: record.log_time,
                    key: record.key.to_vec(),
                    headers: headers.collect(),
                    value: record.value.to_vec(),
                };
                all.push((record.offset, record.tick, sent));
                reader.advance();
            }
        }
    }
}

fn read_from(topic: &Topic, offset: u64) -> (Vec<Read>, Option<LogError>) {
    read_on(&mut Reader::open(topic, 0, offset).unwrap())
}

fn read_all(topic: &Topic) -> Vec<Read> {
    let (all, error) = read_from(topic, start_offset(topic, 0).unwrap());
    assert!(error.is_none(), "{error:?}");
    all
}

fn segments(topic: &Topic) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(topic.path().join("00000"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .collect();
    all.sort();
    all
}

fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    (0..width).fold(0, |n, i| n | u64::from(bytes[at + i]) << (8 * i))
}

/// Where the frames of a sound segment begin, whether their commit goes on, and where they end.
fn frames(path: &Path) -> Vec<(usize, bool, usize)> {
    let bytes = fs::read(path).unwrap();
    let mut all = Vec::new();
    let mut at = 40;
    while at < bytes.len() {
        let end = at + number(&bytes, at + 4, 4) as usize;
        all.push((at, number(&bytes, at + 44, 4) == 1, end));
        at = end;
    }
    all
}

/// A frame made by the documentation alone.
fn frame(offset: u64, tick: u64, more: bool, count: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xF5, b'V', b'F', 0xC1];
    bytes.extend((56 + body.len() as u32).to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend(tick.to_le_bytes());
    bytes.extend(1000i64.to_le_bytes());
    bytes.extend(1000i64.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(u32::from(more).to_le_bytes());
    bytes.extend(crc32fast::hash(body).to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(body);
    bytes
}

fn segment_header(offset: u64, tick: u64, max_time: i64) -> Vec<u8> {
    let mut bytes = b"visitlog".to_vec();
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend(tick.to_le_bytes());
    bytes.extend(max_time.to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

#[test]
fn the_bytes_are_as_documented() {
    let (_dir, topic) = new_topic();
    let mut writer = Writer::open(&topic, 0, WriterOptions::default()).unwrap();
    writer.push(1000, b"k", &[("h", b"x")], b"value").unwrap();
    writer.push(998, b"", &[], b"").unwrap();
    writer.commit(300).unwrap();
    let mut expected = segment_header(0, 0, i64::MIN);
    let body = b"\x00\x01k\x01\x01h\x01x\x05value\x03\x00\x00\x00";
    expected.extend(frame(0, 300, false, 2, body));
    assert_eq!(fs::read(&segments(&topic)[0]).unwrap(), expected);
    let description = fs::read_to_string(topic.path().join("topic.json")).unwrap();
    assert_eq!(description, "{\"format\":1,\"partitions\":1}\n");
}

proptest! {
    // Rolls sync, which takes its time; and a failing case would be too long to keep.
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_committed_is_read_from_any_offset(commits in commits(), at: prop::sample::Index) {
        let (_dir, topic) = new_topic();
        let writer = write(&topic, &commits);
        let expected = as_read(&commits);
        prop_assert_eq!(read_all(&topic), expected.clone());
        prop_assert_eq!(end_offset(&topic, 0).unwrap(), expected.len() as u64);
        prop_assert_eq!(writer.next_offset(), expected.len() as u64);
        let from = at.index(expected.len() + 1);
        let mut reader = Reader::open(&topic, 0, from as u64).unwrap();
        prop_assert_eq!(read_on(&mut reader).0, &expected[from..]);
        prop_assert_eq!(reader.remaining_hint().unwrap(), 0);
    }

    #[test]
    fn a_restart_goes_on_where_it_was(commits in commits(), again in commits()) {
        let (_dir, topic) = new_topic();
        write(&topic, &commits).close().unwrap();
        let mut reader = Reader::open(&topic, 0, 0).unwrap();
        prop_assert_eq!(read_on(&mut reader).0.len(), as_read(&commits).len());
        let mut writer = Writer::open(&topic, 0, SMALL).unwrap();
        prop_assert_eq!(writer.torn_bytes(), 0);
        prop_assert_eq!(writer.last_tick(), 100 * commits.len() as u64);
        prop_assert_eq!(writer.next_offset(), as_read(&commits).len() as u64);
        for (i, commit) in again.iter().enumerate() {
            for sent in commit {
                push(&mut writer, sent);
            }
            writer.commit(100 * (commits.len() + i + 1) as u64).unwrap();
        }
        let expected = as_read(&[commits.clone(), again].concat());
        prop_assert_eq!(read_all(&topic), expected.clone());
        prop_assert_eq!(read_on(&mut reader).0, &expected[as_read(&commits).len()..]);
    }

    #[test]
    fn of_a_segment_cut_anywhere_the_whole_commits_stay(
        commits in commits(), cut: prop::sample::Index, junk: Vec<u8>, next in sent()
    ) {
        let (_dir, topic) = new_topic();
        drop(write(&topic, &commits));
        let last = segments(&topic).pop().unwrap();
        let bytes = fs::read(&last).unwrap();
        let mut torn = bytes[..cut.index(bytes.len())].to_vec();
        if torn.len() >= 40 {
            torn.extend(&junk);
        }
        let kept = bytes.iter().zip(&torn).take_while(|(a, b)| a == b).count();
        let mut whole = frames(&last)
            .into_iter()
            .filter(|(_, more, end)| !more && *end <= kept);
        let base: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let start = if kept < 40 { 0 } else { 40 };
        let (end, offset) = whole.next_back().map_or((start, base), |f| {
            let count = number(&bytes, f.0 + 40, 4);
            (f.2, number(&bytes, f.0 + 8, 8) + count)
        });
        fs::write(&last, &torn).unwrap();

        let mut expected = as_read(&commits);
        expected.truncate(offset as usize);
        let mut reader = Reader::open(&topic, 0, 0).unwrap();
        let (read, error) = read_on(&mut reader);
        prop_assert!(error.is_none(), "{:?}", error);
        prop_assert_eq!(read, expected.clone());
        prop_assert_eq!(end_offset(&topic, 0).unwrap(), offset);

        let mut writer = Writer::open(&topic, 0, SMALL).unwrap();
        prop_assert_eq!(writer.torn_bytes(), (torn.len() - end) as u64);
        prop_assert_eq!(writer.next_offset(), offset);
        prop_assert_eq!(writer.last_tick(), expected.last().map_or(0, |r| r.1));
        push(&mut writer, &next);
        writer.commit(100_000).unwrap();
        expected.push((offset, 100_000, next));
        prop_assert_eq!(read_all(&topic), expected.clone());
        // The reader that had met the torn tail goes on too.
        prop_assert_eq!(read_on(&mut reader).0, &expected[offset as usize..]);
    }

    #[test]
    fn a_flipped_bit_is_an_error_with_its_place(
        commits in commits(), segment: prop::sample::Index, byte: prop::sample::Index, bit in 0u8..8
    ) {
        let (_dir, topic) = new_topic();
        drop(write(&topic, &commits));
        let all = segments(&topic);
        let path = &all[segment.index(all.len())];
        let frames = frames(path);
        let mut bytes = fs::read(path).unwrap();
        let at = byte.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        fs::write(path, &bytes).unwrap();

        let expected = as_read(&commits);
        let (read, error) = read_from(&topic, 0);
        prop_assert_eq!(&read[..], &expected[..read.len()]);
        let place = frames.iter().find(|f| (f.0..f.2).contains(&at)).map_or(0, |f| f.0);
        let is_tail = path == all.last().unwrap() && frames.last().is_some_and(|f| f.0 == place);
        if is_tail {
            // The last frame may be torn as well as damaged: its commit is nothing yet.
            prop_assert!(error.is_none(), "{:?}", error);
            let whole = read.len() == expected.len() || expected[read.len()].1 != read.last().map_or(0, |r| r.1);
            prop_assert!(whole);
            let writer = Writer::open(&topic, 0, SMALL).unwrap();
            prop_assert_eq!(writer.next_offset(), read.len() as u64);
        } else {
            match error {
                Some(LogError::Damaged { file, at, .. }) => {
                    prop_assert_eq!((&file, at), (path, place as u64));
                }
                other => prop_assert!(false, "{:?}", other),
            }
            if path == all.last().unwrap() {
                let refused = Writer::open(&topic, 0, SMALL);
                let damaged = matches!(refused, Err(LogError::Damaged { .. }));
                prop_assert!(damaged, "{:?}", refused.err());
                prop_assert_eq!(fs::read(path).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn hostile_bytes_end_in_an_error_or_in_nothing(
        pieces in prop::collection::vec(
            prop_oneof![
                any::<Vec<u8>>(),
                Just(segment_header(0, 0, 0)),
                (0u64..3, any::<bool>(), 0u32..4, any::<Vec<u8>>())
                    .prop_map(|(offset, more, count, body)| frame(offset, 7, more, count, &body)),
                (0u64..3, any::<u32>()).prop_map(|(offset, length)| {
                    let mut bytes = frame(offset, 7, false, 1, b"\0\0\0\0");
                    bytes[4..8].copy_from_slice(&length.to_le_bytes());
                    let crc = crc32fast::hash(&bytes[..52]);
                    bytes[52..56].copy_from_slice(&crc.to_le_bytes());
                    bytes
                }),
            ],
            0..6,
        ),
        headed: bool,
        base in prop_oneof![Just(0u64), Just(1), Just(i64::MAX as u64)],
    ) {
        let (_dir, topic) = new_topic();
        let partition = topic.path().join("00000");
        fs::create_dir_all(&partition).unwrap();
        let mut bytes = if headed { segment_header(base, 0, 0) } else { Vec::new() };
        bytes.extend(pieces.concat());
        fs::write(partition.join(format!("{base:020}.seg")), &bytes).unwrap();
        for offset in [base, base + 1] {
            if let Ok(mut reader) = Reader::open(&topic, 0, offset) {
                let (read, _) = read_on(&mut reader);
                prop_assert!(read.len() <= bytes.len());
                let _ = reader.peek();
                let _ = reader.remaining_hint();
            }
        }
        let _ = end_offset(&topic, 0);
        if let Ok(mut writer) = Writer::open(&topic, 0, SMALL) {
            let offset = push(&mut writer, &plain("next"));
            writer.commit(u64::MAX).unwrap();
            prop_assert_eq!(end_offset(&topic, 0).unwrap(), offset + 1);
        }
    }
}

#[test]
fn nothing_of_a_commit_is_seen_before_the_whole() {
    let (_dir, topic) = new_topic();
    let mut writer = Writer::open(&topic, 0, SMALL).unwrap();
    let mut reader = Reader::open(&topic, 0, 0).unwrap();
    for i in 0..100 {
        push(&mut writer, &plain(&format!("{i:050}")));
        assert!(reader.peek().unwrap().is_none());
    }
    // Most of it is in the file already.
    assert!(fs::metadata(&segments(&topic)[0]).unwrap().len() > 4000);
    assert_eq!(end_offset(&topic, 0).unwrap(), 0);
    assert!(matches!(
        Reader::open(&topic, 0, 1),
        Err(LogError::OffsetBeyond { end: 0, .. })
    ));
    writer.commit(500).unwrap();
    let (read, _) = read_on(&mut reader);
    assert_eq!(read.len(), 100);
    assert!(read.iter().all(|r| r.1 == 500));

    for i in 0..100 {
        push(&mut writer, &plain(&format!("{i:050}")));
    }
    drop(writer);
    let writer = Writer::open(&topic, 0, SMALL).unwrap();
    assert!(writer.torn_bytes() > 4000);
    assert_eq!((writer.next_offset(), writer.last_tick()), (100, 500));
}

#[test]
fn readers_in_threads_follow_a_writer_through_rolls_and_crashes() {
    const RECORDS: u64 = 20_000;
    let (_dir, topic) = new_topic();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reader = Reader::open(&topic, 0, 0).unwrap();
                let (mut next, mut commit) = (0, (0, 0));
                while next < RECORDS {
                    match reader.peek().unwrap() {
                        None => {
                            // Between commits only: each tick is the offset it ends before.
                            assert_eq!(commit.1, next);
                            thread::yield_now();
                        }
                        Some(record) => {
                            assert_eq!(record.offset, next);
                            assert_eq!(record.value, format!("value {next}").as_bytes());
                            commit = (commit.1, record.tick);
                            next += 1;
                            reader.advance();
                        }
                    }
                }
            });
        }
        let mut writer = Writer::open(&topic, 0, SMALL).unwrap();
        let mut size = 1;
        while writer.next_offset() < RECORDS {
            for _ in 0..size.min(RECORDS - writer.next_offset()) {
                let value = format!("value {}", writer.next_offset());
                push(&mut writer, &plain(&value));
            }
            writer.commit(writer.next_offset()).unwrap();
            size = size * 7 % 61;
            if size % 5 == 0 {
                // A crash inside a commit, and bytes of a frame that was cut off.
                for i in 0..size {
                    push(&mut writer, &plain(&format!("never seen {i}")));
                }
                let end = writer.next_offset() - size;
                drop(writer);
                let path = segments(&topic).pop().unwrap();
                let torn = frame(end, 0, false, 1, &[0; 30]);
                append(&path, &torn[..40]);
                writer = Writer::open(&topic, 0, SMALL).unwrap();
                assert!(writer.torn_bytes() >= 40);
                assert_eq!(writer.next_offset(), end);
            }
        }
    });
    assert!(segments(&topic).len() > 100);
}

fn append(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    let mut file = fs::File::options().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn a_partition_has_one_writer() {
    let (_dir, topic) = new_topic();
    let writer = Writer::open(&topic, 0, SMALL).unwrap();
    let error = Writer::open(&topic, 0, SMALL).err().unwrap();
    assert!(matches!(error, LogError::Locked { .. }));
    assert!(
        error
            .to_string()
            .contains("00000: another writer has this partition")
    );
    drop(writer);
    Writer::open(&topic, 0, SMALL).unwrap();
}

#[test]
fn ticks_never_go_back_and_are_known_after_a_roll_and_a_restart() {
    let (_dir, topic) = new_topic();
    let mut writer = Writer::open(&topic, 0, SMALL).unwrap();
    assert_eq!(writer.last_tick(), 0);
    push(&mut writer, &plain("a"));
    assert_eq!(writer.last_tick(), 0);
    writer.commit(300).unwrap();
    assert_eq!(writer.last_tick(), 300);
    push(&mut writer, &plain("b"));
    let error = writer.commit(200).unwrap_err().to_string();
    assert!(
        error.ends_with("cannot commit tick 200: expected 300 or later"),
        "{error}"
    );
    writer.commit(300).unwrap();
    // Without records a tick leaves no trace.
    writer.commit(900).unwrap();
    assert_eq!(writer.last_tick(), 300);
    for _ in 0..100 {
        push(&mut writer, &plain("without a tick"));
        writer.commit(0).unwrap();
    }
    assert!(segments(&topic).len() > 2);
    writer.close().unwrap();
    assert_eq!(Writer::open(&topic, 0, SMALL).unwrap().last_tick(), 300);

    // A crash between the creation of a segment and its header.
    let next = topic.path().join("00000").join(format!("{:020}.seg", 102));
    fs::write(&next, "").unwrap();
    let mut reader = Reader::open(&topic, 0, 102).unwrap();
    assert!(reader.peek().unwrap().is_none());
    let mut writer = Writer::open(&topic, 0, SMALL).unwrap();
    assert_eq!((writer.last_tick(), writer.next_offset()), (300, 102));
    push(&mut writer, &plain("on"));
    writer.commit(400).unwrap();
    assert_eq!(reader.peek().unwrap().unwrap().tick, 400);
}

#[test]
fn the_logs_own_time_never_goes_back() {
    let (_dir, topic) = new_topic();
    let far = 99_000_000_000_000;
    let mut writer = Writer::open(&topic, 0, SMALL).unwrap();
    let now = writer.append_time();
    assert!(now > 1_700_000_000_000 && now < far);
    writer.push(far, b"", &[], b"").unwrap();
    assert_eq!(writer.append_time(), far);
    writer.push(5, b"", &[], b"").unwrap();
    assert_eq!(writer.append_time(), far);
    writer.commit(0).unwrap();
    for _ in 0..100 {
        writer.push(now, b"", &[], &[0; 100]).unwrap();
        writer.commit(0).unwrap();
    }
    drop(writer);
    let writer = Writer::open(&topic, 0, SMALL).unwrap();
    assert_eq!(writer.append_time(), far);
}

#[test]
fn a_value_in_parts_is_the_same_record() {
    let (_dir, topic) = new_topic();
    let mut writer = Writer::open(&topic, 0, SMALL).unwrap();
    writer.push(1, b"k", &[], b"abcdef").unwrap();
    writer
        .push_parts(1, b"k", &[], &[b"ab", b"", b"cdef"])
        .unwrap();
    writer.commit(0).unwrap();
    let read = read_all(&topic);
    assert_eq!(read[0].2, read[1].2);
}

#[test]
fn a_record_larger_than_a_frame_and_every_buffer_passes() {
    let (_dir, topic) = new_topic();
    let mut writer = Writer::open(&topic, 0, SMALL).unwrap();
    let large = vec![7; 3 << 20];
    for value in [&b"before"[..], &large, b"after"] {
        writer.push(1, b"", &[], value).unwrap();
    }
    writer.commit(0).unwrap();
    // Enough for the disk to be set to work before the end.
    for _ in 0..7 {
        writer.push(1, b"", &[], &large).unwrap();
        writer.commit(0).unwrap();
    }
    writer.close().unwrap();
    let read = read_all(&topic);
    assert_eq!(read[1].2.value, large);
    assert_eq!(read[2].2.value, b"after");
    assert_eq!(read.len(), 10);
}

#[test]
fn an_offset_or_a_partition_that_is_not_there_is_an_error() {
    let (_dir, topic) = new_topic();
    assert!(matches!(
        Reader::open(&topic, 1, 0),
        Err(LogError::NoPartition {
            partition: 1,
            partitions: 1,
            ..
        })
    ));
    // Without any writer so far: nothing yet.
    let mut early = Reader::open(&topic, 0, 0).unwrap();
    assert!(early.peek().unwrap().is_none());
    assert_eq!(end_offset(&topic, 0).unwrap(), 0);
    drop(write(&topic, &vec![vec![plain("x"); 10]; 20]));
    assert_eq!(read_on(&mut early).0.len(), 200);

    let error = Reader::open(&topic, 0, 201).err().unwrap().to_string();
    assert!(
        error.ends_with("offset 201 lies beyond the end, 200: was the topic created anew?"),
        "{error}"
    );
    // Old segments may go.
    let all = segments(&topic);
    fs::remove_file(&all[0]).unwrap();
    let first = start_offset(&topic, 0).unwrap();
    assert!(first > 0);
    let error = Reader::open(&topic, 0, 0).err().unwrap().to_string();
    let gone = format!("offset 0 is gone: the earliest is {first}, so {first} records are lost");
    assert!(error.ends_with(&gone), "{error}");
    assert_eq!(read_all(&topic).len() as u64, 200 - first);
}

#[test]
fn a_gap_between_segments_is_an_error() {
    let (_dir, topic) = new_topic();
    drop(write(&topic, &vec![vec![plain("x"); 10]; 50]));
    let all = segments(&topic);
    fs::remove_file(&all[1]).unwrap();
    let (read, error) = read_from(&topic, 0);
    let error = error.unwrap().to_string();
    assert!(error.contains(&*all[0].to_string_lossy()), "{error}");
    assert!(
        error.ends_with(&format!(
            "expected a frame or a segment of offset {}",
            read.len()
        )),
        "{error}"
    );
    // Nor may a segment that is not the last be cut.
    let length = fs::metadata(&all[2]).unwrap().len();
    let file = fs::File::options().write(true).open(&all[2]).unwrap();
    file.set_len(length - 1).unwrap();
    let base = all[2]
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let (_, error) = read_from(&topic, base);
    match error.unwrap() {
        LogError::Damaged { file, found, .. } => {
            assert_eq!(file, all[2]);
            assert!(found.contains("follows"), "{found}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn foreign_files_are_named_and_left_alone() {
    let (_dir, topic) = new_topic();
    let partition = topic.path().join("00000");
    fs::create_dir_all(&partition).unwrap();
    fs::write(partition.join("notes.txt"), "mine").unwrap();
    assert_eq!(read_all(&topic), []);

    let path = partition.join(format!("{:020}.seg", 0));
    let mut newer = segment_header(0, 0, 0);
    newer[8] = 2;
    let crc = crc32fast::hash(&newer[..36]);
    newer[36..].copy_from_slice(&crc.to_le_bytes());
    for (bytes, found) in [
        (newer, "a segment of format 2"),
        (segment_header(9, 0, 0), "the segment of offset 9"),
        ([&b"PAR1"[..], &[1; 60]].concat(), "no segment of a log"),
    ] {
        fs::write(&path, &bytes).unwrap();
        let error = Writer::open(&topic, 0, SMALL).err().unwrap().to_string();
        assert!(error.contains(found), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let (_, error) = read_from(&topic, 0);
        assert!(error.unwrap().to_string().contains(found));
    }
    fs::write(partition.join("copy.seg"), "").unwrap();
    let error = Reader::open(&topic, 0, 0).err().unwrap().to_string();
    assert!(error.contains("copy.seg"), "{error}");
}

#[test]
fn a_length_beyond_the_file_is_a_torn_tail() {
    let (_dir, topic) = new_topic();
    write(&topic, &[vec![plain("x")]]).close().unwrap();
    let path = segments(&topic).pop().unwrap();
    let mut bytes = frame(1, 0, false, 1, b"\0\0\0\0");
    bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..52]);
    bytes[52..56].copy_from_slice(&crc.to_le_bytes());
    append(&path, &bytes);
    assert_eq!(read_all(&topic).len(), 1);
    assert_eq!(Writer::open(&topic, 0, SMALL).unwrap().torn_bytes(), 60);
}

#[test]
fn a_frame_inside_a_torn_records_value_does_not_turn_it_into_damage() {
    let (_dir, topic) = new_topic();
    let mut writer = Writer::open(&topic, 0, WriterOptions::default()).unwrap();
    writer.push(1, b"", &[], b"first").unwrap();
    writer.commit(0).unwrap();
    let hostile = [frame(2, 0, false, 1, b"\0\0\0\0"), vec![0; 100]].concat();
    writer.push(1, b"", &[], &hostile).unwrap();
    writer.commit(0).unwrap();
    drop(writer);
    let path = segments(&topic).pop().unwrap();
    let length = fs::metadata(&path).unwrap().len();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(length - 20).unwrap();
    assert_eq!(read_all(&topic).len(), 1);
    assert_eq!(Writer::open(&topic, 0, SMALL).unwrap().next_offset(), 1);
}

#[test]
fn a_producer_deals_records_out_by_key_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let topic = Topic::create(dir.path(), "measurements", 6).unwrap();
    let mut producer = Producer::open(&topic, SMALL).unwrap();
    let mut sent = vec![Vec::new(); 6];
    for i in 0..1000u64 {
        let key = format!("browser {}", i % 37);
        let (partition, offset) = producer
            .send(i as i64, key.as_bytes(), &[], &i.to_le_bytes())
            .unwrap();
        assert_eq!(partition, Shard::of(key.as_bytes()).partition(6));
        assert_eq!(offset, sent[partition as usize].len() as u64);
        sent[partition as usize].push(i);
    }
    let read = |partition: u32| {
        let (all, error) = read_on(&mut Reader::open(&topic, partition, 0).unwrap());
        assert!(error.is_none());
        let values = all
            .into_iter()
            .map(|r| u64::from_le_bytes(r.2.value.try_into().unwrap()));
        values.collect::<Vec<_>>()
    };
    // Full frames are seen at once, the rest after a flush.
    assert!((0..6).any(|p| !read(p).is_empty()));
    producer.flush().unwrap();
    for partition in 0..6 {
        assert_eq!(read(partition), sent[partition as usize]);
    }
    producer.close().unwrap();
    Producer::open(&topic, SMALL).unwrap();
}

#[test]
fn a_full_disk_leaves_what_is_committed_and_says_how_much_did_not_fit() {
    const CHILD: &str = "VISITFLOW_TEST_FULL_DISK";
    let Ok(dir) = std::env::var(CHILD) else {
        // A limit on the size of files stands for the full disk: both fail in the middle of a
        // write. It must not hold for the other tests, hence a process of its own.
        let dir = tempfile::tempdir().unwrap();
        let status = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_full_disk_leaves_what_is_committed_and_says_how_much_did_not_fit",
            ])
            .env(CHILD, dir.path())
            // The limit would hold for a file that this goes to.
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let topic = Topic::open(dir.path(), "t").unwrap();
        let writer = Writer::open(&topic, 0, WriterOptions::default()).unwrap();
        assert_eq!(writer.torn_bytes(), 0);
        assert_eq!(writer.next_offset(), read_all(&topic).len() as u64);
        return;
    };
    let topic = Topic::create(dir, "t", 1).unwrap();
    let mut writer = Writer::open(&topic, 0, WriterOptions::default()).unwrap();
    let mut committed = 0;
    let error = loop {
        for i in 0..10 {
            push(&mut writer, &plain(&format!("{i:0300}")));
        }
        match writer.commit(0) {
            Ok(()) => committed = writer.next_offset(),
            Err(e) => break e,
        }
    };
    let length = fs::metadata(&segments(&topic)[0]).unwrap().len();
    match &error {
        LogError::Write { at, bytes, .. } => {
            assert_eq!(*at, length);
            assert!(*bytes > 3000);
        }
        other => panic!("{other}"),
    }
    assert!(error.to_string().contains("cannot write "), "{error}");
    assert!(committed > 0);
    assert_eq!(read_all(&topic).len() as u64, committed);
    // Trying again fails again and still leaves nothing.
    writer.commit(0).unwrap_err();
    assert_eq!(fs::metadata(&segments(&topic)[0]).unwrap().len(), length);
}
