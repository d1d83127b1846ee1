//! The board against what it promises, and against a plain list of all changes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use visitflow_dataflows::views::{Key, Of, Sums, View};

use super::*;

pub fn view(name: &str) -> View {
    View {
        name: name.into(),
        of: Of::Measurements,
        effects: vec![],
        entities: vec![],
        reasons: vec![],
        people: false,
        key: vec![],
        values: vec![],
        window: 600_000,
        step: 1_000,
        against: None,
        top: None,
        by_first: false,
        since: 0,
    }
}

fn board(history: u64) -> Arc<Board> {
    Arc::new(Board::new(vec![view("a"), view("b")], history))
}

fn row(key: &str, value: i64) -> Row {
    (Key::of([key]), Sums::one(0, value))
}

fn shown(board: &Board, tick: Option<u64>) -> Vec<(String, i64)> {
    let snapshot = board.snapshot(0, tick).unwrap();
    let plain = |row: &Arc<Row>| (row.0.to_string(), row.1.0[0]);
    snapshot.rows.iter().map(plain).collect()
}

fn rows(rows: &[(&str, i64)]) -> Vec<(String, i64)> {
    rows.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect()
}

#[test]
fn changes_are_seen_once_their_tick_is_complete_and_not_before() {
    let board = board(10_000);
    board.apply(0, 100, vec![(row("p1", 1), 1)]);
    assert_eq!(board.snapshot(0, None), Err(NotKept::NothingYet));
    board.apply(0, 200, vec![(row("p1", 1), -1), (row("p1", 2), 1)]);
    board.complete(100);
    assert_eq!(shown(&board, None), rows(&[("p1", 1)]));
    board.complete(200);
    assert_eq!(shown(&board, None), rows(&[("p1", 2)]));
    assert_eq!(shown(&board, Some(100)), rows(&[("p1", 1)]));
    assert_eq!(shown(&board, Some(150)), rows(&[("p1", 1)]));
}

#[test]
fn rows_come_by_their_first_value_from_the_greatest_and_then_by_key() {
    let board = board(0);
    let all = [("b", 2), ("c", 7), ("a", 2)];
    let diffs = all.map(|(key, value)| (row(key, value), 1));
    board.apply(0, 1, diffs.into());
    board.complete(1);
    assert_eq!(shown(&board, None), rows(&[("c", 7), ("a", 2), ("b", 2)]));
}

#[test]
fn what_several_workers_say_of_one_tick_is_summed_in_any_order() {
    let board = board(0);
    board.apply(0, 200, vec![(row("x", 1), 1)]);
    board.apply(0, 100, vec![(row("y", 1), 1)]);
    board.apply(0, 200, vec![(row("x", 1), -1), (row("z", 1), 1)]);
    board.complete(200);
    assert_eq!(shown(&board, None), rows(&[("y", 1), ("z", 1)]));
    assert_eq!(board.rows(0), 2);
    assert_eq!(board.rows(1), 0, "the other view has none of it");
}

#[test]
fn a_tick_that_is_not_kept_is_refused_with_those_that_are() {
    let board = board(1_000);
    for tick in [1_000, 2_000, 3_000] {
        board.apply(0, tick, vec![(row("p", tick as i64), 1)]);
        board.complete(tick);
    }
    let (oldest, newest) = (2_000, 3_000);
    assert_eq!(
        board.snapshot(0, Some(1_999)),
        Err(NotKept::Gone {
            asked: 1_999,
            oldest,
            newest
        })
    );
    assert_eq!(shown(&board, Some(2_000)).len(), 2);
    assert_eq!(
        board.snapshot(0, Some(3_001)),
        Err(NotKept::NotYet {
            asked: 3_001,
            oldest,
            newest
        })
    );
}

#[test]
fn the_history_takes_no_more_than_a_bounded_multiple_of_the_view() {
    let board = board(u64::MAX);
    board.complete(1);
    let half = LEAST_HISTORY / 2;
    for tick in 2..10 {
        let flip = if tick % 2 == 0 { 1 } else { -1 };
        let diffs = (0..half).map(|n| (row(&n.to_string(), 1), flip));
        board.apply(0, tick, diffs.collect());
        board.complete(tick);
    }
    // The view is empty; two ticks of that size are kept.
    assert_eq!(board.kept(0), Some((7, 9)));
    assert_eq!(shown(&board, Some(8)).len(), half);
}

#[test]
fn a_subscriber_gets_the_view_and_then_what_changes() {
    let board = board(1_000);
    let mut one = board.subscribe(0, None);
    assert_eq!(one.look(), None);
    board.apply(0, 100, vec![(row("p", 1), 1)]);
    board.complete(100);
    assert!(matches!(one.look(), Some(Update::Snapshot(s)) if s.tick == 100 && s.rows.len() == 1));
    board.complete(200);
    assert_eq!(one.look(), None, "nothing has changed");
    board.apply(0, 300, vec![(row("p", 1), -1), (row("p", 2), 1)]);
    board.complete(300);
    let change = Change {
        tick: 300,
        gone: vec![Arc::new(row("p", 1))],
        rows: vec![Arc::new(row("p", 2))],
    };
    assert_eq!(one.look(), Some(Update::Change(Arc::new(change.clone()))));
    assert_eq!(one.look(), None);

    let mut resumed = board.subscribe(0, Some(200));
    assert_eq!(resumed.look(), Some(Update::Change(Arc::new(change))));
}

#[test]
fn a_subscriber_whose_last_tick_is_not_kept_gets_the_view_again() {
    let board = board(1_000);
    let mut slow = board.subscribe(0, None);
    board.complete(1_000);
    assert!(matches!(slow.look(), Some(Update::Snapshot(_))));
    board.apply(0, 1_100, vec![(row("p", 1), 1)]);
    board.complete(9_000);
    assert!(matches!(slow.look(), Some(Update::Snapshot(s)) if s.tick == 9_000));
    // One that has heard of a tick that is not there yet: the job has gone back to a snapshot.
    let mut ahead = board.subscribe(0, Some(99_000));
    assert!(matches!(ahead.look(), Some(Update::Snapshot(s)) if s.tick == 9_000));
}

#[test]
fn a_subscriber_of_a_view_that_stays_the_same_for_long_goes_on_with_what_changes_then() {
    let board = board(1_000);
    board.apply(0, 100, vec![(row("p", 1), 1)]);
    board.complete(100);
    let mut one = board.subscribe(0, None);
    assert!(matches!(one.look(), Some(Update::Snapshot(_))));
    for tick in 2..90 {
        board.complete(tick * 100);
    }
    assert_eq!(board.kept(0), Some((7_900, 8_900)));
    board.apply(0, 9_000, vec![(row("q", 1), 1)]);
    board.complete(9_000);
    let is_change = |change: &Change| change.tick == 9_000 && change.rows.len() == 1;
    assert!(matches!(one.look(), Some(Update::Change(change)) if is_change(&change)));
    // A row as of a tick is not kept for that.
    assert!(board.snapshot(0, Some(100)).is_err());
}

#[test]
fn who_waits_is_not_woken_by_ticks_that_change_another_view() {
    let board = board(1_000);
    let one = board.subscribe(0, None);
    let is_woken = || one.changed.has_changed().unwrap();
    board.apply(1, 100, vec![(row("p", 1), 1)]);
    board.complete(100);
    assert!(is_woken(), "there is a first tick");
    let one = board.subscribe(0, None);
    let is_woken = || one.changed.has_changed().unwrap();
    board.apply(1, 200, vec![(row("q", 1), 1)]);
    board.complete(200);
    assert!(!is_woken());
    board.apply(0, 300, vec![(row("p", 1), 1)]);
    assert!(!is_woken());
    board.complete(300);
    assert!(is_woken());
}

#[test]
fn a_worker_does_not_wait_for_a_reader() {
    let board = board(1_000);
    board.complete(1);
    let reading = board.read(0);
    board.apply(0, 2, vec![(row("p", 1), 1)]);
    board.complete(2);
    board.apply(0, 3, vec![(row("q", 1), 1)]);
    board.complete(3);
    drop(reading);
    assert_eq!(shown(&board, Some(2)), rows(&[("p", 1)]));
    assert_eq!(shown(&board, None).len(), 2);
}

#[test]
fn the_end_of_all_ticks_completes_what_there_is() {
    let board = board(1_000);
    board.apply(0, 700, vec![(row("p", 1), 1)]);
    board.complete(u64::MAX);
    assert_eq!(board.completed(), Some(700));
    board.complete(u64::MAX);
    assert_eq!(board.completed(), Some(700));
}

#[test]
fn who_waits_is_woken_by_a_tick_that_changes_the_view() {
    let board = board(1_000);
    board.complete(1);
    let mut one = board.subscribe(0, Some(1));
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    let writer = std::thread::spawn(move || {
        board.complete(2);
        board.apply(0, 3, vec![(row("p", 1), 1)]);
        board.complete(3);
    });
    let update = runtime.block_on(one.next());
    writer.join().unwrap();
    assert!(matches!(update, Update::Change(change) if change.tick == 3));
}

/// What happens to a board, one thing after the other.
#[derive(Clone, Debug)]
enum Step {
    Apply(u64, Vec<(u8, i64, i64)>),
    Complete(u64),
    Read(u64),
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0..6_u8, 0..3_i64, prop_oneof![Just(1_i64), Just(-1)]);
    let step = prop_oneof![
        4 => (1..8_u64, prop::collection::vec(change, 1..6)).prop_map(|(t, c)| Step::Apply(t, c)),
        3 => (1..6_u64).prop_map(Step::Complete),
        3 => (0..24_u64).prop_map(Step::Read),
        2 => Just(Step::Look),
    ];
    prop::collection::vec(step, 1..60)
}

/// All that was ever applied.
#[derive(Default)]
struct Plain(Vec<(u64, Row, i64)>);

impl Plain {
    fn at(&self, tick: u64) -> Vec<Row> {
        let mut sums: BTreeMap<&Row, i64> = BTreeMap::new();
        for (_, row, diff) in self.0.iter().filter(|(at, ..)| *at <= tick) {
            *sums.entry(row).or_default() += diff;
        }
        let there = sums.into_iter().filter(|(_, count)| *count > 0);
        there.map(|(row, _)| row.clone()).collect()
    }
}

proptest! {
    #[test]
    fn what_is_read_as_of_any_kept_tick_is_the_sum_of_all_changes_up_to_it(steps in steps()) {
        let history = 10;
        let board = board(history);
        let (mut plain, mut done, mut first) = (Plain::default(), 0, None);
        let mut one = board.subscribe(0, None);
        let mut told: BTreeMap<Row, ()> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Apply(ahead, changes) => {
                    let tick = done + ahead;
                    let row = |key: u8, value| (Key::of([&*key.to_string()]), Sums::one(0, value));
                    let diffs: Vec<Diff> =
                        changes.into_iter().map(|(key, value, diff)| (row(key, value), diff)).collect();
                    let all = diffs.iter().map(|(row, diff)| (tick, row.clone(), *diff));
                    plain.0.extend(all);
                    board.apply(0, tick, diffs);
                }
                Step::Complete(ahead) => {
                    done += ahead;
                    first = first.or(Some(done));
                    board.complete(done);
                }
                Step::Read(back) => {
                    let tick = done.saturating_sub(back);
                    let oldest = first.map(|first| first.max(done.saturating_sub(history)));
                    match board.snapshot(0, Some(tick)) {
                        Ok(snapshot) => {
                            let mut rows: Vec<Row> = snapshot.rows.iter().map(|row| (**row).clone()).collect();
                            rows.sort();
                            prop_assert_eq!(rows, plain.at(tick));
                            prop_assert!(oldest.is_some_and(|oldest| oldest <= tick));
                        }
                        Err(_) => prop_assert!(oldest.is_none_or(|oldest| tick < oldest)),
                    }
                }
                Step::Look => {
                    match one.look() {
                        None => {}
                        Some(Update::Snapshot(snapshot)) => {
                            told = snapshot.rows.iter().map(|row| ((**row).clone(), ())).collect();
                        }
                        Some(Update::Change(change)) => {
                            for row in &change.gone {
                                prop_assert!(told.remove(&**row).is_some());
                            }
                            for row in &change.rows {
                                prop_assert!(told.insert((**row).clone(), ()).is_none());
                            }
                        }
                    }
                    if first.is_some() {
                        prop_assert_eq!(told.keys().cloned().collect::<Vec<_>>(), plain.at(done));
                    }
                }
            }
        }
    }
}
