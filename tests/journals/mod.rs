//! What every place for journals must do, whether a folder or a topic: one suite for all of them.

use visitflow::recovery::journal::{self, Closed, Cuts, Entry, Journal, file_name};
use visitflow::recovery::{Append, Journals};

fn entry(worker: u32, partition: u32, tick: u64) -> Entry {
    Entry {
        worker,
        until: tick + 100,
        partitions: vec![Closed {
            partition,
            next: tick,
            ticks: vec![(tick, 3)],
            ..Closed::default()
        }],
    }
}

fn base(worker: u32, partition: u32) -> Entry {
    Entry {
        worker,
        until: 0,
        partitions: vec![Closed {
            partition,
            ..Closed::default()
        }],
    }
}

/// All entries with records that a start of that incarnation finds in a place.
fn found(place: &impl Journals, incarnation: u64) -> Vec<Entry> {
    let cuts = journal::cut(place, incarnation, None).unwrap();
    let entries = journal::read(place, &cuts).unwrap().into_iter();
    let with_records = |entry: &Entry| !entry.partitions[0].ticks.is_empty();
    entries.filter(with_records).collect()
}

/// Holds a place to its promises. `open` opens the same empty place again, as another process does.
pub fn holds<J: Journals>(open: impl Fn() -> J) {
    what_is_appended_is_read_back(&open);
    what_is_forgotten_is_gone_and_nothing_else(&open);
    what_comes_behind_a_cut_does_not_count(&open);
}

fn what_is_appended_is_read_back<J: Journals>(open: &impl Fn() -> J) {
    let place = open();
    assert!(place.names().unwrap().is_empty());
    let (one, other) = (file_name(1, 0, 0), file_name(1, 1, 0));
    assert_eq!(place.bytes(&one).unwrap(), None);
    let mut first = place.begin(&one).unwrap();
    let second = open();
    let mut second = second.begin(&other).unwrap();
    let mut expected = vec![];
    for n in 0..50_u32 {
        let bytes = vec![n as u8; (n as usize * 977) % 3_000 + 1];
        first.append(&bytes).unwrap();
        expected.extend(bytes);
        second.append(&n.to_le_bytes()).unwrap();
        if n % 7 == 0 {
            first.sync().unwrap();
        }
    }
    // More than a record of a topic holds.
    let large = vec![7; 1 << 20];
    first.append(&large).unwrap();
    expected.extend(large);
    first.sync().unwrap();
    second.sync().unwrap();
    let later = open();
    assert_eq!(later.names().unwrap(), [one.clone(), other.clone()]);
    assert_eq!(later.bytes(&one).unwrap().unwrap(), expected);
    assert_eq!(later.bytes(&other).unwrap().unwrap().len(), 200);
    later.harden(&one).unwrap();
    assert!(later.begin(&one).is_err(), "it is there already");
    for name in [one, other] {
        later.forget(&name).unwrap();
        later.forget(&name).unwrap();
        assert_eq!(later.bytes(&name).unwrap(), None);
    }
    assert!(open().names().unwrap().is_empty());
}

fn what_is_forgotten_is_gone_and_nothing_else<J: Journals>(open: &impl Fn() -> J) {
    let mut zero = Journal::begin(open(), 2, 0, vec![base(0, 0)]).unwrap();
    let mut one = Journal::begin(open(), 2, 1, vec![base(1, 1)]).unwrap();
    for tick in [1_000, 2_000] {
        zero.append(&entry(0, 0, tick)).unwrap();
        zero.sync().unwrap();
        one.append(&entry(1, 1, tick)).unwrap();
        one.sync().unwrap();
        // A snapshot between the two.
        zero.forget(1_500, true).unwrap();
    }
    assert_eq!(
        found(&open(), 3),
        [entry(0, 0, 2_000), entry(1, 1, 1_000), entry(1, 1, 2_000)]
    );

    // The next start has one process, which clears up behind both.
    let next = open();
    assert_eq!(found(&next, 3).len(), 3);
    let mut next = Journal::begin(next, 3, 0, vec![base(0, 0), base(0, 1)]).unwrap();
    next.append(&entry(0, 1, 3_000)).unwrap();
    next.sync().unwrap();
    assert_eq!(found(&open(), 4).len(), 4);
    next.forget(2_500, true).unwrap();
    assert_eq!(found(&open(), 4), [entry(0, 1, 3_000)]);
    next.forget(9_000, true).unwrap();
    assert_eq!(found(&open(), 4), []);
}

fn what_comes_behind_a_cut_does_not_count<J: Journals>(open: &impl Fn() -> J) {
    let mut replaced = Journal::begin(open(), 5, 0, vec![base(0, 0)]).unwrap();
    replaced.append(&entry(0, 0, 1_000)).unwrap();
    replaced.sync().unwrap();
    let place = open();
    let cuts = journal::cut(&place, 6, None).unwrap();
    replaced.append(&entry(0, 0, 2_000)).unwrap();
    replaced.sync().unwrap();
    let counts = |place: &J| {
        let entries = journal::read(place, &cuts).unwrap();
        let own = |entry: &&Entry| (1_001..2_500).contains(&entry.until);
        entries.iter().filter(own).count()
    };
    assert_eq!(counts(&place), 1);
    assert_eq!(counts(&open()), 1, "nor for those who join");
    // And a later start takes over what the one before it has noted.
    let later = journal::cut(&open(), 7, Some((6, &cuts))).unwrap();
    let of_replaced = |all: &Cuts| -> Cuts {
        let own = all.iter().filter(|(name, _)| name.contains("/00000005-"));
        own.map(|(name, length)| (name.clone(), *length)).collect()
    };
    assert_eq!(of_replaced(&later), of_replaced(&cuts));
}
