//! The CPU time of a process's threads, as Linux counts it.

use std::path::Path;
use std::time::Duration;

/// CPU time since their start of the threads that live.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// The workers of the dataflow.
    pub workers: Duration,
    /// The thread that answers readers, and those that look for things for it.
    pub serving: Duration,
    /// All threads.
    pub all: Duration,
}

impl Spent {
    /// Of this process, or of a child.
    pub fn of(process: Option<u32>) -> Spent {
        let process = process.map_or("self".to_owned(), |id| id.to_string());
        let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
        let mut spent = Spent::default();
        // One that ends meanwhile is left out.
        for task in tasks.into_iter().flatten().flatten() {
            let (Some(name), Some(time)) = (name(&task.path()), time(&task.path())) else {
                continue;
            };
            spent.all += time;
            if name.starts_with("timely:work") {
                spent.workers += time;
            } else if name.starts_with("serve") {
                spent.serving += time;
            }
        }
        spent
    }

    /// What was spent between the two.
    pub fn since(&self, before: &Spent) -> Spent {
        Spent {
            workers: self.workers.saturating_sub(before.workers),
            serving: self.serving.saturating_sub(before.serving),
            all: self.all.saturating_sub(before.all),
        }
    }
}

fn name(task: &Path) -> Option<String> {
    std::fs::read_to_string(task.join("comm")).ok()
}

fn time(task: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(task.join("schedstat")).ok()?;
    let nanos = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}
