//! The thread that writes a worker's runs, makes them durable, and removes them: so that the
//! worker never waits for a disk, unless two groups wait already.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use super::block::Block;
use super::chunk::file_name;
use super::error::StoreError;
use super::segment::{directory, header};
use crate::crash;

/// What is gathered before it is written at once.
const GATHER: usize = 1 << 20;

/// How many closed segments may wait for a seal to make them durable: a gigabyte of the usual
/// size, so that a seal is quick, and what does not live long may never get to the disk.
const UNSYNCED: usize = 4;

/// How a segment's file is made; tests make files that are full.
pub(super) type Create = fn(&Path) -> io::Result<File>;

/// A new file, never one that is there.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    File::create_new(path)
}

/// What the thread is asked for, and does in this order.
pub(super) enum Job {
    /// Writes a block behind the last one, or into a new segment.
    Block(Arc<Block>),
    /// Makes everything durable that was written.
    Seal,
    /// Removes a segment's file.
    Remove(u64),
}

/// How far the thread is.
pub(super) struct Progress {
    dir: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    blocks: u64,
    seals: u64,
    error: Option<StoreError>,
    ended: bool,
    /// The owner is gone: what waits is not written any more, since no manifest can name it.
    abandoned: bool,
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the state; and what it holds is right at any time.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// How many blocks are written.
    pub fn blocks(&self) -> Result<u64, StoreError> {
        let state = self.state();
        self.unless_over(&state)?;
        Ok(state.blocks)
    }

    /// Whether this many seals are done.
    pub fn sealed(&self, seals: u64) -> Result<bool, StoreError> {
        let state = self.state();
        if state.seals >= seals {
            return Ok(true);
        }
        self.unless_over(&state)?;
        Ok(false)
    }

    /// Waits until so many blocks are written and so many seals done.
    pub fn wait(&self, blocks: u64, seals: u64) -> Result<(), StoreError> {
        let mut state = self.state();
        while state.blocks < blocks || state.seals < seals {
            self.unless_over(&state)?;
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        Ok(())
    }

    fn unless_over(&self, state: &State) -> Result<(), StoreError> {
        match &state.error {
            Some(error) => Err(error.clone()),
            None if state.ended => Err(StoreError::Ended {
                dir: self.dir.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// The worker's end of the thread. When it is dropped, the thread ends with what it is at.
pub(super) struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    pub progress: Arc<Progress>,
}

impl Writer {
    pub fn start(dir: &Path, create: Create) -> Result<Writer, StoreError> {
        let progress = Arc::new(Progress {
            dir: dir.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (jobs, queue) = mpsc::channel();
        let thread = Thread {
            dir: dir.to_owned(),
            create,
            open: None,
            closed: Vec::new(),
            new_names: false,
            buffer: Vec::new(),
            progress: progress.clone(),
        };
        let thread = thread::Builder::new()
            .name("runs".to_owned())
            .spawn(move || thread.run(&queue))
            .map_err(StoreError::io("start the thread that writes to", dir))?;
        Ok(Writer {
            jobs: Some(jobs),
            thread: Some(thread),
            progress,
        })
    }

    /// Never waits. That the thread has ended is said by its progress.
    pub fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.progress.change(|state| state.abandoned = true);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed, and there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// A file that is written to, or was, and has not been made durable since.
struct Open {
    segment: u64,
    path: PathBuf,
    file: File,
    at: u64,
    durable: bool,
}

impl Open {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let (file, at) = (&self.file, self.at);
        crash::torn("torn-block", bytes, |part| file.write_all_at(part, at));
        let written = file.write_all_at(bytes, at);
        written.map_err(|source| StoreError::Write {
            file: self.path.clone(),
            at: self.at,
            bytes: bytes.len() as u64,
            source: Arc::new(source),
        })?;
        self.at += bytes.len() as u64;
        self.durable = false;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if !self.durable {
            let synced = self.file.sync_data();
            synced.map_err(StoreError::io("make durable", &self.path))?;
            self.durable = true;
        }
        Ok(())
    }
}

struct Thread {
    dir: PathBuf,
    create: Create,
    open: Option<Open>,
    closed: Vec<Open>,
    /// Whether there are files whose names the next seal makes durable.
    new_names: bool,
    buffer: Vec<u8>,
    progress: Arc<Progress>,
}

impl Thread {
    fn run(mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            if self.progress.state().abandoned {
                return;
            }
            let done = match job {
                Job::Block(block) => self.write(&block).map(|()| (1, 0)),
                Job::Seal => self.seal().map(|()| (0, 1)),
                Job::Remove(segment) => self.remove(segment).map(|()| (0, 0)),
            };
            match done {
                Ok((blocks, seals)) => self.progress.change(|state| {
                    state.blocks += blocks;
                    state.seals += seals;
                }),
                Err(error) => {
                    self.progress.change(|state| state.error = Some(error));
                    return;
                }
            }
        }
    }

    fn write(&mut self, block: &Block) -> Result<(), StoreError> {
        let mut open = match self.open.take() {
            Some(open) if open.segment == block.segment => open,
            other => {
                self.close(other)?;
                self.create(block.segment)?
            }
        };
        let keys = block.bytes.iter().map(|(key, _)| *key);
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.extend(directory(keys.zip(block.chunks.iter().copied())));
        for (_, bytes) in &block.bytes {
            if buffer.len() + bytes.len() > GATHER {
                open.write(buffer)?;
                buffer.clear();
            }
            if bytes.len() > GATHER {
                open.write(bytes)?;
            } else {
                buffer.extend_from_slice(bytes);
            }
        }
        open.write(buffer)?;
        self.open = Some(open);
        Ok(())
    }

    fn create(&mut self, segment: u64) -> Result<Open, StoreError> {
        let path = self.dir.join(file_name(segment));
        let file = (self.create)(&path).map_err(StoreError::io("create", &path))?;
        self.new_names = true;
        let mut open = Open {
            segment,
            path,
            file,
            at: 0,
            durable: false,
        };
        open.write(&header(segment))?;
        Ok(open)
    }

    fn close(&mut self, open: Option<Open>) -> Result<(), StoreError> {
        self.closed.extend(open.filter(|open| !open.durable));
        if self.closed.len() > UNSYNCED {
            self.closed[0].sync()?;
            self.closed.remove(0);
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<(), StoreError> {
        for open in self.closed.iter_mut().chain(&mut self.open) {
            open.sync()?;
        }
        self.closed.clear();
        if std::mem::take(&mut self.new_names) {
            sync_dir(&self.dir)?;
        }
        Ok(())
    }

    fn remove(&mut self, segment: u64) -> Result<(), StoreError> {
        self.open.take_if(|open| open.segment == segment);
        self.closed.retain(|open| open.segment != segment);
        remove(&self.dir.join(file_name(segment)))
    }
}

impl Drop for Thread {
    /// Also after a panic, so that nobody waits for ever.
    fn drop(&mut self) {
        self.progress.change(|state| state.ended = true);
    }
}

/// Removes a segment's file.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    fs::remove_file(path).map_err(StoreError::io("remove", path))
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(StoreError::io("make durable the names in", dir))
}
