//! How far the shards' output is committed, by the progress topic: compacted, of one partition,
//! a record in every transaction, whose key is the transactional ID.

use std::collections::BTreeMap;

use super::record::Standing;
use super::tail::{self, Extent};
use super::{Connection, KafkaError, Patience};

/// What a shard has committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The tick before which all its output is committed.
    pub until: u64,
    /// The sum of that output, as its writer gave it.
    pub sum: u64,
}

/// What all transactional IDs together have committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progresses {
    /// The highest incarnation that has written; 0 if none has.
    pub incarnation: u64,
    /// Of each shard that has committed anything, the most that any ID has.
    pub shards: BTreeMap<u8, Done>,
    standings: BTreeMap<String, Standing>,
}

impl Progresses {
    /// Of the last standing of each ID.
    pub(super) fn of(standings: BTreeMap<String, Standing>) -> Progresses {
        let mut shards: BTreeMap<u8, Done> = BTreeMap::new();
        for (shard, done) in standings.values().flat_map(|standing| &standing.shards) {
            let most = shards.entry(*shard).or_insert(*done);
            if most.until < done.until {
                *most = *done;
            }
        }
        let incarnations = standings.values().map(|standing| standing.incarnation);
        Progresses {
            incarnation: incarnations.max().unwrap_or(0),
            shards,
            standings,
        }
    }

    /// What one ID has committed.
    pub(super) fn standing(&self, id: &str) -> Option<&Standing> {
        self.standings.get(id)
    }

    /// Whether all of some IDs are known.
    pub(super) fn knows(&self, ids: &[String]) -> bool {
        ids.iter().all(|id| self.standings.contains_key(id))
    }

    /// Fails if a later incarnation than one's own has written.
    pub(super) fn check(&self, id: &str, incarnation: u64) -> Result<(), KafkaError> {
        if self.incarnation > incarnation {
            return Err(KafkaError::Superseded {
                id: id.to_owned(),
                incarnation,
                found: self.incarnation,
            });
        }
        Ok(())
    }
}

/// Reads what some transactional IDs, all that ever wrote, have committed: everything that was
/// decided when it was called, and whatever was open then, once that is decided. From the end
/// backwards, so that the length of the topic does not matter unless an ID never wrote.
///
/// Whoever is going to write wants [`fence`](super::fence), since others may still commit.
pub fn read_progress(
    connection: &Connection,
    topic: &str,
    ids: &[String],
    patience: &Patience,
) -> Result<Progresses, KafkaError> {
    patience.retry(|| tail::read(connection, topic, ids, Extent::Everything, patience))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(incarnation: u64, shards: &[(u8, u64, u64)]) -> Standing {
        let done = |&(shard, until, sum)| (shard, Done { until, sum });
        Standing {
            incarnation,
            shards: shards.iter().map(done).collect(),
            ..Standing::default()
        }
    }

    #[test]
    fn of_each_shard_the_most_counts_whoever_wrote_it() {
        let found = Progresses::of(BTreeMap::from([
            (
                "job-0".to_owned(),
                standing(3, &[(1, 500, 11), (2, 400, 12)]),
            ),
            (
                "job-1".to_owned(),
                standing(2, &[(2, 900, 22), (7, 100, 27)]),
            ),
        ]));
        let done = |until, sum| Done { until, sum };
        let most = [(1, done(500, 11)), (2, done(900, 22)), (7, done(100, 27))];
        assert_eq!(found.shards, BTreeMap::from(most));
        assert_eq!(found.incarnation, 3);
        assert_eq!(found.check("job-0", 3), Ok(()));
        let superseded = KafkaError::Superseded {
            id: "job-0".to_owned(),
            incarnation: 2,
            found: 3,
        };
        assert_eq!(found.check("job-0", 2), Err(superseded));
    }
}
