//! What a running process tells of its job to those who ask it over HTTP: of itself as it is now, of
//! the others as they have said last, in the files beside the job's outputs.

use visitflow_dataflows::visit::Rules;

use super::Handle;
use super::status::Status;
use crate::job::Job;
use crate::observe::{exposition, unread};
use crate::serve::operations::Account;
use crate::serve::progress::Progress;
use crate::wall;
use crate::why::{explain, statuses};

/// A process of a job that runs.
pub struct Process {
    /// The job.
    pub job: Job,
    /// Its number.
    pub process: usize,
    /// Itself.
    pub handle: Handle,
    /// Its rules.
    pub rules: Rules,
}

impl Process {
    /// What each process says, the first one first.
    fn all(&self) -> Vec<Status> {
        let own = Status::of(&self.job, self.process, &self.handle, self.rules);
        if self.handle.processes == 1 {
            return vec![own];
        }
        // The others may not have said anything yet.
        let mut all = statuses(&self.job).unwrap_or_default();
        all.retain(|status| status.process != self.process && status.process < own.processes);
        all.push(own);
        all.sort_by_key(|status| status.process);
        all
    }
}

impl Account for Process {
    fn progress(&self) -> Progress {
        let shown = self.handle.served.board.completed();
        let lag = |partition: &_| unread(&self.job, partition);
        Progress::of(&self.all(), wall::now(), shown, &lag)
    }

    fn why(&self) -> String {
        explain(&self.all(), wall::now())
    }

    fn metrics(&self) -> String {
        exposition::text(&self.job, self.process, &self.handle, self.rules)
    }
}
