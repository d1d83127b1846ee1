//! Mistakes: each takes one rule out of the protocol, by composing it wrongly in this harness. That
//! the simulation finds every one of them shows that each rule is needed, and that it looks.

/// Which rules are broken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mistakes {
    /// A manifest is put as soon as the parts are there, whatever sinks have committed.
    pub manifest_before_sinks: bool,
    /// Progress is read, and sinks are fenced then.
    pub progress_before_fence: bool,
    /// Sinks are not fenced.
    pub no_fence: bool,
    /// A source gives up its capability when it has closed a step, not when that is durable.
    pub capability_before_journal: bool,
    /// After a start all partitions go on above the largest tick in the journal.
    pub above_largest: bool,
    /// After a start a partition goes on at any tick, even below its own last entry.
    pub not_above_own: bool,
    /// New records get the least tick of the worker's partitions, not their own partition's.
    pub tick_by_worker: bool,
    /// A seal gets the tick at which it was noticed.
    pub seal_when_noticed: bool,
    /// The older journals are cut, and sinks are fenced then.
    pub cut_before_fence: bool,
    /// All that older journals have, and will have, counts.
    pub no_cut: bool,
    /// Visits that are sealed and in no version of a table are not in the snapshot.
    pub sealed_not_saved: bool,
    /// Tables are opened when the first version is put, not when they are fenced.
    pub table_opened_late: bool,
    /// Without an answer from the brokers a partition takes the wall clock.
    pub time_without_answer: bool,
    /// Which journal files count is found out anew by each start, for all earlier ones.
    pub cuts_forgotten: bool,
    /// What older journals hold counts, durable or not.
    pub cut_not_durable: bool,
}
