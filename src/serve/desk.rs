//! The desk between those who ask over HTTP and the dataflow that answers: a bounded list of
//! [questions](super::question), and who waits for which answer.
//!
//! For the dataflow's side: the process's first worker calls [`Desk::take`] whenever it steps, and all
//! of them [`Desk::answer`] for what workers have said. Neither waits for anybody. [`Desk::wake_by`] sets what
//! wakes that worker when it is parked: not for each question, but for all of a short time together, since
//! to wake all workers costs more than to answer. [`Desk::close`] tells all who wait that nobody will answer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;

use super::question::{Answer, Question};

/// Questions wait so long for others, for which workers are woken with them.
const GATHER: Duration = Duration::from_millis(25);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoAnswer {
    /// Too many questions wait.
    #[error("{0} questions wait for their answers already, and more are not taken")]
    Busy(usize),
    /// It took too long.
    #[error("no answer within {} ms; the job is behind, or stands: see /why", .0.as_millis())]
    Late(Duration),
    /// Nobody answers.
    #[error("{0}")]
    Closed(String),
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The tick as of which.
    pub tick: u64,
    /// What each worker said.
    pub parts: Vec<Answer>,
}

type Wake = Arc<dyn Fn() + Send + Sync>;

/// The desk of a process.
#[derive(Default)]
pub struct Desk {
    most: usize,
    open: Mutex<Open>,
    /// Whether somebody will wake who takes questions.
    waking: Arc<AtomicBool>,
}

#[derive(Default)]
struct Open {
    next: u64,
    asked: VecDeque<(u64, Question)>,
    waiting: BTreeMap<u64, Waiting>,
    wake: Option<Wake>,
    closed: Option<String>,
}

/// A part of an answer, which whoever has asked puts into words: those who answer have more to do.
type Part = Box<dyn FnOnce() -> Answer + Send>;

/// What is told to who waits: the tick and the parts.
type Told = Result<(u64, Vec<Part>), NoAnswer>;

/// One who waits, and what was said to it so far.
struct Waiting {
    parts: Vec<Part>,
    whole: oneshot::Sender<Told>,
}

impl Desk {
    /// That takes so many questions at a time. It is closed until somebody says that it answers.
    pub fn new(most: usize) -> Desk {
        let open = Open {
            closed: Some("this job answers no such questions".to_owned()),
            ..Open::default()
        };
        Desk {
            most,
            open: Mutex::new(open),
            waking: Arc::default(),
        }
    }

    /// Opens it; `wake` is called forty times a second at most while there are questions, on any
    /// thread, and must return at once: it unparks the worker that takes them.
    pub fn wake_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        let mut open = self.open();
        open.closed = None;
        open.wake = Some(Arc::new(wake));
    }

    /// The questions that nobody has taken, in order, each with the number that its answer must name.
    /// Those whose asker has gone are left out.
    pub fn take(&self) -> Vec<(u64, Question)> {
        let mut open = self.open();
        if open.asked.is_empty() {
            return Vec::new();
        }
        let asked = std::mem::take(&mut open.asked);
        let asked = asked.into_iter();
        asked
            .filter(|(id, _)| open.waiting.contains_key(id))
            .collect()
    }

    /// Takes one of so many parts of the answer to a question, as of this tick, which is the same for
    /// all of them; with the last, the answer is whole. Any worker of the process may call this. An
    /// answer that nobody waits for any more is let go. `part` runs where the question was asked.
    pub fn answer(
        &self,
        id: u64,
        tick: u64,
        part: impl FnOnce() -> Answer + Send + 'static,
        parts: usize,
    ) {
        let mut open = self.open();
        let Some(waiting) = open.waiting.get_mut(&id) else {
            return;
        };
        waiting.parts.push(Box::new(part));
        if waiting.parts.len() < parts {
            return;
        }
        if let Some(Waiting { parts, whole }) = open.waiting.remove(&id) {
            drop(open);
            // Who asked may have gone.
            let _ = whole.send(Ok((tick, parts)));
        }
    }

    /// Tells all who wait, and whoever asks later, why there is no answer.
    pub fn close(&self, why: impl Into<String>) {
        let why = why.into();
        let mut open = self.open();
        open.wake = None;
        open.asked.clear();
        for (_, waiting) in std::mem::take(&mut open.waiting) {
            let _ = waiting.whole.send(Err(NoAnswer::Closed(why.clone())));
        }
        open.closed = Some(why);
    }

    /// Asks, and waits so long for the answer, of which up to 25 ms are for others who ask. Who gives up
    /// waiting leaves nothing behind.
    ///
    /// # Errors
    /// Too many wait; it takes too long; nobody answers.
    pub async fn ask(&self, question: Question, patience: Duration) -> Result<Answered, NoAnswer> {
        let (id, answer, wake) = self.put(question)?;
        // However this ends, also when the asker goes away and this is dropped midway.
        let _gone = Gone { desk: self, id };
        self.wake_soon(wake);
        match tokio::time::timeout(patience, answer).await {
            Err(_) => Err(NoAnswer::Late(patience)),
            Ok(Ok(answer)) => answer.map(|(tick, parts)| {
                let parts = parts.into_iter().map(|part| part());
                let parts = parts.filter(|part| *part != Answer::Nothing).collect();
                Answered { tick, parts }
            }),
            Ok(Err(_)) => Err(NoAnswer::Closed("the job has ended".to_owned())),
        }
    }

    /// Wakes who takes questions, unless somebody will already. If they are taken before, workers are
    /// woken for what is asked next: otherwise there would soon be as many who wake as ask.
    fn wake_soon(&self, wake: Wake) {
        if self.waking.swap(true, Ordering::AcqRel) {
            return;
        }
        let waking = Waking(self.waking.clone());
        tokio::spawn(async move {
            tokio::time::sleep(GATHER).await;
            // Before it wakes: what is asked from here on may be too late for that.
            drop(waking);
            wake();
        });
    }

    fn put(&self, question: Question) -> Result<(u64, oneshot::Receiver<Told>, Wake), NoAnswer> {
        let mut open = self.open();
        let wake = match (&open.wake, &open.closed) {
            (Some(wake), None) => wake.clone(),
            (_, why) => return Err(NoAnswer::Closed(why.clone().unwrap_or_default())),
        };
        if open.waiting.len() >= self.most {
            return Err(NoAnswer::Busy(self.most));
        }
        let id = open.next;
        open.next += 1;
        let (whole, answer) = oneshot::channel();
        let parts = Vec::new();
        open.waiting.insert(id, Waiting { parts, whole });
        open.asked.push_back((id, question));
        Ok((id, answer, wake))
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody will wake who takes questions, until this is dropped.
struct Waking(Arc<AtomicBool>);

impl Drop for Waking {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Takes away what an asker leaves behind.
struct Gone<'a> {
    desk: &'a Desk,
    id: u64,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let mut open = self.desk.open();
        open.waiting.remove(&self.id);
        // One that was not taken need not be.
        open.asked.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn wait<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn an_answer_is_whole_with_its_last_part_and_goes_to_who_has_asked() {
        let desk = Arc::new(Desk::new(9));
        let answering = desk.clone();
        desk.wake_by(move || {
            for (id, question) in answering.take() {
                assert_eq!(question, Question::Kept);
                answering.answer(id + 1, 5, || Answer::Kept(0), 1);
                answering.answer(id, 5, || Answer::Kept(1), 3);
                answering.answer(id, 5, || Answer::Nothing, 3);
                answering.answer(id, 5, || Answer::Kept(2), 3);
            }
        });
        let whole = wait(desk.ask(Question::Kept, LONG)).unwrap();
        let parts = vec![Answer::Kept(1), Answer::Kept(2)];
        assert_eq!(whole, Answered { tick: 5, parts });
    }

    #[test]
    fn who_is_not_answered_in_time_hears_so_and_leaves_nothing_behind() {
        let desk = Desk::new(1);
        desk.wake_by(|| ());
        let none = Duration::ZERO;
        for _ in 0..3 {
            let late = wait(desk.ask(Question::Kept, none));
            assert_eq!(late, Err(NoAnswer::Late(none)));
        }
        assert_eq!(desk.take(), []);
        desk.answer(0, 1, || Answer::Nothing, 1);
    }

    #[test]
    fn for_questions_that_come_together_workers_are_woken_once() {
        let desk = Arc::new(Desk::new(9));
        let woken = Arc::new(AtomicUsize::new(0));
        let (answering, seen) = (desk.clone(), woken.clone());
        desk.wake_by(move || {
            seen.fetch_add(1, Ordering::Relaxed);
            for (id, _) in answering.take() {
                answering.answer(id, 5, move || Answer::Kept(id), 1);
            }
        });
        for round in 1..3 {
            let desk = desk.clone();
            let kept = wait(async move {
                let ask = |_| {
                    let desk = desk.clone();
                    tokio::spawn(async move { desk.ask(Question::Kept, LONG).await })
                };
                let mut parts = Vec::new();
                for asked in (0..3).map(ask).collect::<Vec<_>>() {
                    parts.extend(asked.await.unwrap().unwrap().parts);
                }
                parts
            });
            let first = 3 * (round - 1);
            let own = [0, 1, 2].map(|n| Answer::Kept(first + n));
            assert_eq!(kept, own);
            assert_eq!(woken.load(Ordering::Relaxed) as u64, round);
        }
    }

    #[test]
    fn questions_that_are_taken_before_do_not_make_workers_wake_more_often() {
        let desk = Desk::new(9);
        let woken = Arc::new(AtomicUsize::new(0));
        let seen = woken.clone();
        desk.wake_by(move || {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        wait(async {
            let mut asked = Vec::new();
            for _ in 0..4 {
                let mut ask = Box::pin(desk.ask(Question::Kept, LONG));
                let begun = |cx: &mut std::task::Context<'_>| {
                    assert!(ask.as_mut().poll(cx).is_pending());
                    std::task::Poll::Ready(())
                };
                std::future::poll_fn(begun).await;
                asked.push(ask);
                assert_eq!(desk.take().len(), 1);
            }
            tokio::time::sleep(3 * GATHER).await;
        });
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn more_than_so_many_questions_are_not_taken() {
        let desk = Desk::new(2);
        desk.wake_by(|| ());
        let first = desk.put(Question::Kept).ok().unwrap();
        let _second = desk.put(Question::Kept).ok().unwrap();
        let third = wait(desk.ask(Question::Kept, LONG));
        assert_eq!(third, Err(NoAnswer::Busy(2)));
        desk.answer(first.0, 1, || Answer::Nothing, 1);
        assert!(desk.put(Question::Kept).is_ok());
    }

    #[test]
    fn a_closed_desk_says_why_to_those_who_wait_and_to_those_who_come() {
        let desk = Arc::new(Desk::new(2));
        let why = NoAnswer::Closed("this job answers no such questions".into());
        assert_eq!(wait(desk.ask(Question::Kept, LONG)), Err(why));
        let closing = desk.clone();
        desk.wake_by(move || {
            let closing = closing.clone();
            std::thread::spawn(move || closing.close("the job has ended"));
        });
        let why = NoAnswer::Closed("the job has ended".into());
        assert_eq!(wait(desk.ask(Question::Kept, LONG)), Err(why.clone()));
        assert_eq!(wait(desk.ask(Question::Kept, LONG)), Err(why));
    }
}
