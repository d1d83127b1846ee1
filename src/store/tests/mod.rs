//! The store as its owners use it: what is removed and when, damage, full disks; and in `model`,
//! any order of calls.

mod model;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::tempdir;

use super::chunk::{file_name, segment_of};
use super::segment::{SEGMENT_HEADER, Segment};
use super::*;

const SMALL: Options = Options {
    segment_bytes: 4 << 10,
};

fn open(dir: &Path, incarnation: u64) -> Runs {
    Runs::open(dir, incarnation, 0, SMALL).unwrap()
}

/// Bytes that are others for each number.
fn bytes(number: u64, length: usize) -> Vec<u8> {
    let word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    word.iter().copied().cycle().take(length).collect()
}

fn group(numbers: std::ops::Range<u64>, length: usize) -> Vec<(Key, Vec<u8>)> {
    let chunk = |number| ([number, 0], bytes(number, length));
    numbers.map(chunk).collect()
}

fn read_all(runs: &mut Runs, chunks: &[Chunk]) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut all = vec![Vec::new(); chunks.len()];
    runs.read(chunks, &mut |index, bytes| all[index] = bytes.to_vec())?;
    Ok(all)
}

/// The snapshot's part of the store: seals, waits, and names what lives.
fn snapshot(runs: &mut Runs) {
    let ticket = runs.seal().unwrap();
    let manifest: Vec<u64> = runs.segments().collect();
    ticket.wait().unwrap();
    runs.named(&ticket, manifest).unwrap();
}

/// The runs that are there, and their lengths. One may go while it is looked at.
fn files(dir: &Path) -> HashMap<u64, u64> {
    let length = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let id = segment_of(entry.file_name().to_str().unwrap()).unwrap();
        Some((id, entry.metadata().ok()?.len()))
    };
    let entries = fs::read_dir(dir.join(DIR)).unwrap();
    entries.filter_map(length).collect()
}

fn path(dir: &Path, chunk: &Chunk) -> PathBuf {
    dir.join(DIR).join(file_name(chunk.segment()))
}

#[test]
fn a_group_is_split_into_segments_of_the_size_that_was_asked_for() {
    let dir = tempdir().unwrap();
    let options = Options {
        segment_bytes: 8 << 20,
    };
    let mut runs = Runs::open(dir.path(), 1, 0, options).unwrap();
    let chunks = runs.write(group(0..40, 512 << 10)).unwrap();
    runs.seal().unwrap().wait().unwrap();
    let files = files(dir.path());
    assert_eq!(files.len(), 5);
    assert!(files.values().all(|&length| length <= 8 << 20));
    let all = read_all(&mut runs, &chunks).unwrap();
    assert!((0..40).all(|i| all[i as usize] == bytes(i, 512 << 10)));
    let counters = runs.counters();
    assert_eq!(counters.bytes_pending, 0);
    assert_eq!(counters.bytes_live, 40 * ((512 << 10) + 24));
    assert_eq!(counters.bytes_on_disk, files.values().sum::<u64>());
}

#[test]
fn disk_comes_back_over_generations_of_new_browsers_though_some_stay_long() {
    let dir = tempdir().unwrap();
    let mut runs = open(dir.path(), 1);
    let mut kept: HashMap<Chunk, (u64, Key)> = HashMap::new();
    let mut most = 0;
    for generation in 0..300_u64 {
        let new = generation * 100..generation * 100 + 20;
        let until = |number| generation + if number % 10 == 0 { 40 } else { 3 };
        let chunks = runs.write(group(new.clone(), 300)).unwrap();
        kept.extend(
            chunks
                .into_iter()
                .zip(new.map(|number| (until(number), [number, 0]))),
        );
        kept.retain(|chunk, (until, _)| {
            let lives = *until > generation;
            if !lives {
                runs.free(*chunk).unwrap();
            }
            lives
        });
        while let Some(thin) = {
            let is_live = |key, chunk| kept.get(&chunk).is_some_and(|(_, k)| *k == key);
            runs.thin(is_live).unwrap()
        } {
            let places: Vec<_> = thin.iter().map(|(_, chunk)| *chunk).collect();
            let all = read_all(&mut runs, &places).unwrap();
            let keys = thin.iter().map(|(key, _)| *key);
            let moved = runs.write(keys.zip(all).collect()).unwrap();
            for (old, new) in places.into_iter().zip(moved) {
                runs.free(old).unwrap();
                let what = kept.remove(&old).unwrap();
                kept.insert(new, what);
            }
        }
        snapshot(&mut runs);
        runs.seal().unwrap().wait().unwrap();
        let on_disk: u64 = files(dir.path()).values().sum();
        assert_eq!(on_disk, runs.counters().bytes_on_disk);
        most = most.max(on_disk);
    }
    // 3 generations of 20 chunks, and 40 of 2, each of 324 bytes.
    let live = (3 * 20 + 40 * 2) * 324;
    assert!(most < 3 * live, "{most} bytes on disk for {live} live ones");
}

#[test]
fn a_segment_goes_at_once_unless_a_manifest_names_it_or_may() {
    let dir = tempdir().unwrap();
    let mut runs = open(dir.path(), 1);
    let on_disk = |runs: &mut Runs| {
        runs.seal().unwrap().wait().unwrap();
        files(dir.path()).len()
    };
    let of_one = |runs: &mut Runs| runs.write(group(0..1, 100)).unwrap()[0];

    let never_named = of_one(&mut runs);
    runs.free(never_named).unwrap();
    assert_eq!(on_disk(&mut runs), 0);

    let freed_before_the_manifest_was_put = of_one(&mut runs);
    let id = freed_before_the_manifest_was_put.segment();
    let first = runs.seal().unwrap();
    runs.free(freed_before_the_manifest_was_put).unwrap();
    assert_eq!(on_disk(&mut runs), 1);
    runs.named(&first, [id]).unwrap();
    assert_eq!(on_disk(&mut runs), 1);
    let second = runs.seal().unwrap();
    assert_eq!(on_disk(&mut runs), 1);
    runs.named(&second, []).unwrap();
    assert_eq!(on_disk(&mut runs), 0);

    let of_a_snapshot_that_failed = of_one(&mut runs);
    runs.seal().unwrap();
    runs.free(of_a_snapshot_that_failed).unwrap();
    let next = runs.seal().unwrap();
    assert_eq!(on_disk(&mut runs), 1);
    runs.named(&next, []).unwrap();
    assert_eq!(on_disk(&mut runs), 0);
}

#[test]
fn any_changed_byte_is_found_by_the_walk_or_by_a_read() {
    let dir = tempdir().unwrap();
    let mut runs = open(dir.path(), 1);
    let chunks = runs.write(group(0..5, 40)).unwrap();
    runs.seal().unwrap().wait().unwrap();
    let file = path(dir.path(), &chunks[0]);
    let whole = fs::read(&file).unwrap();
    let mut look = || {
        let segment = Segment::open(&dir.path().join(DIR), chunks[0].segment())?;
        segment.check()?;
        let mut at = SEGMENT_HEADER as u64;
        let mut found = Vec::new();
        while at < whole.len() as u64 {
            let (chunks, next) = segment.block(at)?;
            found.extend(chunks.into_iter().map(|(_, chunk)| chunk));
            at = next;
        }
        assert_eq!(found, chunks);
        read_all(&mut runs, &chunks)
    };
    look().unwrap();
    let damaged = |looked: Result<_, StoreError>, change: &str| match looked {
        Err(StoreError::Damaged {
            file: named, at, ..
        }) => {
            assert_eq!(named, file);
            at
        }
        other => panic!("{change}: {:?}", other.map(|_: Vec<Vec<u8>>| ())),
    };
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        fs::write(&file, changed).unwrap();
        let said = damaged(look(), &format!("byte {at} changed"));
        assert!(said <= at as u64, "byte {at} changed, byte {said} said");
        fs::write(&file, &whole[..at]).unwrap();
        damaged(look(), &format!("cut at {at}"));
    }
}

#[test]
fn a_run_of_an_unknown_format_is_not_adopted() {
    let dir = tempdir().unwrap();
    let mut runs = open(dir.path(), 1);
    let chunk = runs.write(group(0..1, 40)).unwrap()[0];
    runs.seal().unwrap().wait().unwrap();
    drop(runs);
    let file = path(dir.path(), &chunk);
    let mut bytes = fs::read(&file).unwrap();
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let error = open(dir.path(), 2).adopt([chunk]).unwrap_err().to_string();
    let end = "00000001-0000-00000000.run: damaged at byte 8: a run of format 2; expected format 1";
    assert!(error.ends_with(end), "{error}");
}

#[test]
fn what_cannot_be_adopted_is_said_with_its_file() {
    let dir = tempdir().unwrap();
    let mut runs = open(dir.path(), 1);
    let chunk = runs.write(group(0..1, 40)).unwrap()[0];
    runs.seal().unwrap().wait().unwrap();
    let said = |error: StoreError| {
        let text = error.to_string();
        assert!(text.contains("00000001-0000-00000000.run: "), "{text}");
        error
    };
    let own = said(runs.adopt([chunk]).unwrap_err());
    assert!(matches!(
        own,
        StoreError::NotEarlier {
            found: 1,
            own: 1,
            ..
        }
    ));
    let mut later = open(dir.path(), 2);
    let file = path(dir.path(), &chunk);
    let short = OpenOptions::new().write(true).open(&file).unwrap();
    short.set_len(70).unwrap();
    let short = said(later.adopt([chunk]).unwrap_err());
    assert!(matches!(short, StoreError::Damaged { .. }));
    fs::remove_file(&file).unwrap();
    let gone = said(later.adopt([chunk]).unwrap_err());
    assert!(matches!(gone, StoreError::Io { doing: "open", .. }));
}

#[test]
fn a_full_disk_says_file_and_bytes_on_every_call_and_harms_nothing_durable() {
    fn full_from_the_second(path: &Path) -> io::Result<File> {
        match path
            .to_str()
            .is_some_and(|path| path.ends_with("00000001.run"))
        {
            true => OpenOptions::new().write(true).open("/dev/full"),
            false => File::create_new(path),
        }
    }
    let dir = tempdir().unwrap();
    let mut runs = Runs::open_with(dir.path(), 1, 0, SMALL, full_from_the_second).unwrap();
    let durable = runs.write(group(0..3, 1000)).unwrap();
    let first = runs.seal().unwrap();
    first.wait().unwrap();
    let lost = runs.write(group(3..6, 1000)).unwrap();
    assert_ne!(lost[2].segment(), durable[0].segment());
    let full = |error: StoreError| {
        let text = error.to_string();
        assert!(
            text.contains(
                "00000001-0000-00000001.run: cannot write 24 bytes at byte 0: No space left"
            ),
            "{text}"
        );
    };
    // The thread may still be at it, in which case the seal is asked for, but never done.
    match runs.seal() {
        Ok(ticket) => full(ticket.wait().unwrap_err()),
        Err(error) => full(error),
    }
    full(runs.write(Vec::new()).unwrap_err());
    full(read_all(&mut runs, &durable).unwrap_err());
    full(runs.free(lost[0]).unwrap_err());
    full(runs.thin(|_, _| true).unwrap_err());
    assert!(first.is_done().unwrap());
    drop(runs);
    let mut runs = open(dir.path(), 2);
    runs.adopt(durable.iter().copied()).unwrap();
    let all = read_all(&mut runs, &durable).unwrap();
    assert!((0..3).all(|i| all[i as usize] == bytes(i, 1000)));
}

#[test]
fn a_chunk_is_freed_once() {
    let dir = tempdir().unwrap();
    let mut runs = open(dir.path(), 1);
    let chunks = runs.write(group(0..2, 40)).unwrap();
    runs.free(chunks[0]).unwrap();
    runs.free(chunks[1]).unwrap();
    let error = runs.free(chunks[1]).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::NotLive {
                bytes: 64,
                live: 0,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_seal_of_runs_that_are_gone_is_done_or_an_error() {
    let dir = tempdir().unwrap();
    for incarnation in 1..20 {
        let mut runs = open(dir.path(), incarnation);
        runs.write(group(0..9, 1000)).unwrap();
        let ticket = runs.seal().unwrap();
        drop(runs);
        match ticket.wait() {
            Ok(()) => assert!(ticket.is_done().unwrap()),
            Err(error) => assert!(matches!(error, StoreError::Ended { .. }), "{error}"),
        }
    }
}

#[test]
fn a_sweep_leaves_what_is_named_what_is_of_this_incarnation_and_what_is_no_run() {
    let dir = tempdir().unwrap();
    let none = HashSet::new();
    assert_eq!(Runs::sweep(dir.path(), &none, 9).unwrap(), Swept::default());
    let mut chunks = Vec::new();
    for incarnation in 1..4 {
        let mut runs = open(dir.path(), incarnation);
        chunks.push(runs.write(group(0..1, 40)).unwrap()[0]);
        runs.seal().unwrap().wait().unwrap();
    }
    let other = dir.path().join(DIR).join("notes.txt");
    fs::write(&other, "kept").unwrap();
    let named = HashSet::from([chunks[0].segment()]);
    let swept = Runs::sweep(dir.path(), &named, 3).unwrap();
    assert_eq!(
        swept,
        Swept {
            segments: 1,
            bytes: 24 + 16 + 24 + 40
        }
    );
    fs::remove_file(other).unwrap();
    let left: HashSet<u64> = files(dir.path()).into_keys().collect();
    assert_eq!(
        left,
        HashSet::from([chunks[0].segment(), chunks[2].segment()])
    );
}
