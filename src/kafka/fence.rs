//! Keeps everybody who wrote before from writing any more, and says what they have written.

use std::thread;

use super::batch::Batch;
use super::producer::Producer;
use super::progress::Progresses;
use super::record::Standing;
use super::tail::{self, Extent};
use super::{Connection, KafkaError, Patience};

/// Takes over all transactional IDs that any earlier incarnation used, says so in the progress
/// topic, and returns what they have committed; nothing can be added to that but by a later
/// incarnation. Their open transactions are aborted, so that readers wait for them no longer.
///
/// To take over is not enough: whoever was fenced could do the same once more, and then commit.
/// But he looks for later incarnations first, and finds this one.
///
/// Fails if a later incarnation than `incarnation` has written. All IDs are taken over at a time,
/// which takes half a second for 16, and a few threads each.
pub fn fence(
    connection: &Connection,
    ids: &[String],
    progress_topic: &str,
    incarnation: u64,
    patience: &Patience,
) -> Result<Progresses, KafkaError> {
    let read = |extent| {
        let found = tail::read(connection, progress_topic, ids, extent, patience)?;
        let id = ids.first().map_or("", String::as_str);
        found.check(id, incarnation)?;
        Ok(found)
    };
    patience.retry(|| {
        // First, so as not to disturb somebody who has rightly taken over.
        read(Extent::Decided)?;
        let producers = each(ids, |id| Producer::start(connection, id, patience))?;
        let mut found = read(Extent::Everything)?;
        let taken: Vec<(&String, &Producer)> = ids.iter().zip(&producers).collect();
        each(&taken, |(id, producer)| {
            let before = found.standing(id).cloned().unwrap_or_default();
            let standing = Standing {
                incarnation,
                session: 0,
                sequence: 0,
                ..before
            };
            producer.commit(&Batch::default(), progress_topic, &standing, patience)
        })?;
        found.incarnation = incarnation;
        Ok(found)
    })
}

/// Does something for each, all at a time; fails with the first error.
fn each<T: Sync, U: Send>(
    all: &[T],
    act: impl Fn(&T) -> Result<U, KafkaError> + Sync,
) -> Result<Vec<U>, KafkaError> {
    thread::scope(|scope| {
        let act = &act;
        let started: Vec<_> = all
            .iter()
            .map(|one| scope.spawn(move || act(one)))
            .collect();
        let ended = started.into_iter().map(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect()
    })
}
