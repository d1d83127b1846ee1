//! Questions of those who read over HTTP, into the dataflow and back: put to all workers as of one
//! tick, answered by each, and told to whom has asked once all have.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Broadcast;
use visitflow_dataflows::cut::Cut;
use visitflow_dataflows::fact::Reading;
use visitflow_dataflows::stories::{Answer, Ask, Of, Question, Shown};
use visitflow_dataflows::visit::{Rules, words_of_bytes};

use crate::serve::Desk;
use crate::serve::question::{self, LiveVisit, OpenVisit, VisitFact, WholeVisit};

/// Takes questions from the desk of this worker's process, if it has one, and puts them to all workers,
/// as of the frontier. `cuts` is only what tells how time passes; `held` is what readers hold on to;
/// with `profiles` somebody answers for customers.
pub fn questions<'s>(
    cuts: StreamVec<'s, u64, Cut>,
    process: usize,
    desk: Option<(Arc<Desk>, Arc<AtomicU64>)>,
    profiles: bool,
) -> StreamVec<'s, u64, Question> {
    let scope = cuts.scope();
    type Builder = CapacityContainerBuilder<Vec<Question>>;
    let asked = cuts.unary_frontier::<Builder, _, _, _>(Pipeline, "Questions", move |cap, info| {
        let mut cap = Some(cap);
        if let Some((desk, _)) = &desk {
            let wake = scope.worker().sync_activator_for(info.address.to_vec());
            desk.wake_by(move || {
                // A worker that has gone says so by closing the desk.
                let _ = wake.activate();
            });
        }
        let mut held = u64::MAX;
        move |(input, frontier), output| {
            input.for_each(|_, _| ());
            let Some(at) = cap.as_mut() else { return };
            let Some(now) = frontier.frontier().first().copied() else {
                cap = None;
                if let Some((desk, _)) = &desk {
                    desk.close("the job has come to the end of its input");
                }
                return;
            };
            let Some((desk, least)) = &desk else {
                if now > *at.time() {
                    at.downgrade(&now);
                }
                return;
            };
            let put = |id, ask| Question {
                at: now,
                process: process as u32,
                id,
                ask,
            };
            // Whoever asks what is kept has taken a hold before, so that what is held is looked at after
            // the questions, and told before them.
            let asked = desk.take();
            let mut questions = Vec::new();
            let least = least.load(Ordering::Acquire);
            if std::mem::replace(&mut held, least) != least {
                questions.push(put(0, Ask::Hold(least)));
            }
            for (id, question) in asked {
                match ask(question, profiles) {
                    Some(ask) => questions.push(put(id, ask)),
                    None => desk.answer(id, now, || question::Answer::Nothing, 1),
                }
            }
            if !questions.is_empty() {
                output.session(&*at).give_container(&mut questions);
            }
            if now > *at.time() {
                at.downgrade(&now);
            }
        }
    });
    asked.broadcast()
}

/// What is asked of the workers; `None` for what they cannot know.
fn ask(question: question::Question, profiles: bool) -> Option<Ask> {
    use question::Question;
    Some(match question {
        Question::Visit(id) => Ask::Visit(words_of_bytes(&id)),
        Question::Browser(id) => Ask::Browser(id.into()),
        Question::Newest { limit, agent } => Ask::Newest {
            limit,
            agent: agent.map(Box::from),
        },
        Question::Live { after } => Ask::Live(after),
        Question::Kept => Ask::Kept,
        // An ID that is no text is nobody's.
        Question::Profile(customer) if profiles => {
            Ask::Profile(String::from_utf8(customer).ok()?.into())
        }
        Question::Profile(_) => return None,
    })
}

/// Brings answers to the process that has asked, and tells them to its desk: those of its own workers
/// where they were given, others by one of its workers. Whoever has asked then reads what workers have not,
/// with `reading` and by these rules. `workers` are those of each process, `peers` all.
pub fn answers<'s>(
    answers: StreamVec<'s, u64, Answer>,
    workers: usize,
    peers: usize,
    desk: Option<Arc<Desk>>,
    (reading, rules): (Reading, Rules),
) -> StreamVec<'s, u64, ()> {
    let reading = Arc::new(Mutex::new(reading));
    let nth = (answers.scope().worker().index() % workers) as u64;
    let of_process = move |answer: &Answer| u64::from(answer.process) * workers as u64 + nth;
    type Builder = CapacityContainerBuilder<Vec<()>>;
    answers.unary_frontier::<Builder, _, _, _>(Exchange::new(of_process), "Answers", move |_, _| {
        move |(input, _), _| {
            input.for_each(|_, answers| {
                for mut answer in answers.drain(..) {
                    let Some(desk) = &desk else { continue };
                    let (id, at) = (answer.id, answer.at);
                    let reading = reading.clone();
                    let part = move || {
                        // One that has failed at another's is as good as before.
                        let reading = reading.lock();
                        let mut reading = reading.unwrap_or_else(PoisonError::into_inner);
                        answer.read(&mut reading, &rules);
                        part(answer)
                    };
                    desk.answer(id, at, part, peers);
                }
            });
        }
    })
}

/// A worker's answer as readers know it. What it is an answer to follows from what is in it.
fn part(answer: Answer) -> question::Answer {
    use question::Answer as To;
    match answer.of {
        Of::Visit => match answer.visits.into_iter().next() {
            None => To::Nothing,
            Some(Shown {
                ended: Some((tick, reason)),
                ..
            }) => To::Ended { tick, reason },
            Some(shown) => To::Visit(Box::new(whole(shown))),
        },
        Of::Visits => To::Visits(answer.visits.into_iter().map(open).collect()),
        Of::Live => To::Live {
            kept: answer.kept,
            visits: answer.visits.into_iter().map(live).collect(),
        },
        Of::Kept => To::Kept(answer.kept),
        Of::Profile => match answer.profile {
            Some(profile) => To::Profile(profile.into()),
            None => To::Nothing,
        },
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// 32 hexadecimal digits.
pub fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

fn open(shown: Shown) -> OpenVisit {
    OpenVisit {
        visit_id: hex(shown.visit),
        browser_id: shown.browser_id,
        started: shown.started,
        last_seen: shown.last_seen,
        measurements: shown.measurements.into(),
        country: some(shown.country),
        agent: shown.agent,
        customer_id: shown.customer_id,
        orders: shown.orders.into(),
    }
}

fn whole(mut shown: Shown) -> WholeVisit {
    let facts = std::mem::take(&mut shown.facts).into_iter();
    let facts = facts.map(|fact| VisitFact {
        event_id: hex(fact.event),
        time: fact.time,
        effect: fact.effect,
        entity: fact.entity,
        entity_id: fact.entity_id,
        reason: fact.reason,
        cause: fact.cause.map(hex),
        value: fact.value,
    });
    WholeVisit {
        facts: facts.collect(),
        visit: open(shown),
    }
}

fn live(shown: Shown) -> LiveVisit {
    LiveVisit {
        visit_id: hex(shown.visit),
        browser_id: shown.browser_id,
        started: shown.started,
        last_seen: shown.last_seen,
        measurements: shown.measurements.into(),
        end_reason: shown.ended.map(|(_, reason)| reason),
        country: some(shown.country),
        agent: some(shown.agent),
        customer_id: shown.customer_id,
    }
}
