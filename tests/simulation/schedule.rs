//! What happens, step by step, as chance has it: records come, time passes, jobs work, die, sleep,
//! wake and are started again; then all goes well until everything is written.

use std::rc::Rc;

use visitflow::recovery::claim;
use visitflow_dataflows::visit::Position;

use crate::broker::Record;
use crate::disk::{SimDisk, is_death};
use crate::job::{Job, Shape, Stop};
use crate::judge;
use crate::mistakes::Mistakes;
use crate::start::begin;
use crate::world::{BROWSERS, RULES, Seen, World};

/// So many rounds are enough to write everything when all goes well.
const ROUNDS: usize = 200;
/// What a start says that somebody disturbs who runs still, and cleans up: it has to be tried again.
const CLEANING: &str = "gone since this start has looked";

/// Runs the schedule of a seed; what went wrong, and what happened last if it is `traced`.
pub fn run(seed: u64, mistakes: Mistakes, traced: bool) -> Result<Seen, (String, Vec<String>)> {
    let world = Rc::new(World::new(seed, mistakes, traced));
    storm(&world);
    calm(&world);
    if world.one_in(3) && world.failure().is_none() {
        // Once more, from what is left.
        world.say(|| "all die, and the job is started once more".to_owned());
        world.calm.set(false);
        kill_all(&world);
        (0..30).for_each(|_| step(&world));
        calm(&world);
    }
    if world.failure().is_none() {
        judge::judge(&world);
    }
    // What is left refers to the world.
    world.jobs.borrow_mut().clear();
    match world.failure() {
        None => Ok(world.seen()),
        Some(failure) => Err((failure, world.trace())),
    }
}

fn storm(world: &Rc<World>) {
    let steps = 150 + world.below(350);
    for _ in 0..steps {
        step(world);
        if world.failure().is_some() {
            return;
        }
    }
}

fn step(world: &Rc<World>) {
    let what = world.below(200);
    match what {
        0..40 => {
            let ms = world.between(10, 150);
            world.pass(ms);
        }
        40..70 => produce(world),
        70..165 => work(world),
        165..185 => world.brokers.borrow_mut().take(&mut world.chance()),
        185..187 => kill_one(world),
        187 => world.cut_power(),
        188..191 => pause(world),
        191 => {
            let reachable = &mut world.brokers.borrow_mut().reachable;
            *reachable = !*reachable;
            world.say(|| format!("brokers are reachable: {reachable}"));
        }
        192 => {
            if let Some(job) = world.jobs.borrow_mut().iter_mut().flatten().last() {
                world.say(|| format!("{} is asked to stop", job.incarnation));
                job.stop();
            }
        }
        _ => {
            let live = world.jobs.borrow().iter().flatten().count();
            let another = live < 3 && world.one_in(6);
            if another && world.one_in(2) {
                // It does not answer, so another one is started.
                pause(world);
            }
            if live == 0 || another {
                start(world);
            }
        }
    }
}

/// Records come.
fn produce(world: &World) {
    let mut brokers = world.brokers.borrow_mut();
    let mut chance = world.chance();
    let log_time = world.now() + world.broker_skew;
    for _ in 0..1 + chance.below(3) {
        let browser = chance.below(usize::from(BROWSERS)) as u8;
        let all = brokers.input.len();
        let source = match chance.one_in(5) {
            true => chance.below(all),
            false => usize::from(browser) % all,
        };
        let back = match chance.below(10) {
            0..6 => chance.between(0, 100),
            6..9 => chance.between(0, RULES.max_delay),
            _ => chance.between(0, RULES.max_delay + 500),
        };
        // In coarse steps, so that positions repeat.
        let time = (log_time - back) / 50 * 50;
        let before = brokers.input[source]
            .last()
            .map_or(0, |record| record.log_time);
        let record = Record {
            source: source as u32,
            browser,
            at: Position {
                time,
                event: [0, chance.below(3) as u64],
            },
            body: chance.below(4) as u8,
            log_time: log_time.max(before),
        };
        brokers.input[source].push(record);
    }
}

/// A job works: a few of the things that it may do, or each once.
fn work(world: &World) {
    let awake: Vec<usize> = {
        let jobs = world.jobs.borrow();
        let awake = jobs.iter().enumerate();
        let awake = awake.filter(|(_, job)| job.as_ref().is_some_and(|job| !job.paused));
        awake.map(|(n, _)| n).collect()
    };
    if awake.is_empty() {
        return;
    }
    let n = awake[world.below(awake.len())];
    let Some(mut job) = world.jobs.borrow_mut()[n].take() else {
        return;
    };
    let all = job.actions();
    let mut actions: Vec<usize> = (0..all).collect();
    let some = {
        let mut chance = world.chance();
        for at in (1..all).rev() {
            actions.swap(at, chance.below(at + 1));
        }
        if chance.one_in(2) {
            all
        } else {
            chance.below(all)
        }
    };
    let done = actions[..some]
        .iter()
        .try_for_each(|action| job.act(*action));
    settle(world, n, job, done);
}

/// Puts a job back, unless it has ended.
fn settle(world: &World, n: usize, job: Job, done: Result<(), Stop>) {
    let incarnation = job.incarnation;
    match done {
        Ok(()) => world.jobs.borrow_mut()[n] = Some(job),
        Err(Stop::Superseded) => {
            world.count(|seen| &mut seen.replaced);
            world.say(|| format!("{incarnation} has been replaced, and ends"));
        }
        Err(Stop::Stopped) => world.say(|| format!("{incarnation} has stopped")),
        // Whoever has been replaced may stumble over what is done behind it.
        Err(Stop::Fault(fault)) if is_newest(world, incarnation) => {
            world.fail(format!("incarnation {incarnation}: {fault}"));
        }
        Err(Stop::Fault(fault)) => world.say(|| format!("{incarnation} ends: {fault}")),
    }
}

/// The highest incarnation that was claimed.
fn newest(world: &World) -> u64 {
    let files = world.files.borrow();
    let claims = files
        .names("claims/")
        .filter_map(|name| name.strip_suffix(".json"));
    claims
        .filter_map(|name| name.parse().ok())
        .max()
        .unwrap_or(0)
}

fn is_newest(world: &World, incarnation: u64) -> bool {
    newest(world) <= incarnation
}

fn kill_one(world: &World) {
    let live: Vec<usize> = {
        let jobs = world.jobs.borrow();
        let live = jobs.iter().enumerate().filter(|(_, job)| job.is_some());
        live.map(|(n, _)| n).collect()
    };
    if live.is_empty() {
        return;
    }
    let n = live[world.below(live.len())];
    if let Some(job) = world.jobs.borrow_mut()[n].take() {
        world.say(|| format!("{} is killed", job.incarnation));
        job.die();
    }
}

fn kill_all(world: &World) {
    let jobs = std::mem::take(&mut *world.jobs.borrow_mut());
    jobs.into_iter().flatten().for_each(Job::die);
}

fn pause(world: &World) {
    let mut jobs = world.jobs.borrow_mut();
    let mut live: Vec<&mut Job> = jobs.iter_mut().flatten().collect();
    if !live.is_empty() {
        let n = world.below(live.len());
        live[n].paused = !live[n].paused;
        world.say(|| format!("{} sleeps: {}", live[n].incarnation, live[n].paused));
    }
}

/// Starts the job, with any number of processes and workers.
fn start(world: &Rc<World>) {
    if !world.brokers.borrow().reachable {
        return;
    }
    let shape = {
        let mut chance = world.chance();
        Shape {
            processes: 1 + chance.below(3),
            workers: 1 + chance.below(2),
        }
    };
    let before = newest(world);
    world.starting.set(world.starting.get() + 1);
    let started = begin(world, shape);
    world.starting.set(world.starting.get() - 1);
    match started {
        Ok(job) => {
            world.count(|seen| &mut seen.starts);
            world.jobs.borrow_mut().push(Some(job));
        }
        Err(error) if is_death(&error) => world.say(|| "a start dies".to_owned()),
        Err(error) => {
            let stop = Stop::from(error);
            world.say(|| format!("a start ends: {stop:?}"));
            let overtaken = newest(world) > before + 1;
            if let Stop::Fault(fault) = stop
                && !overtaken
                && !fault.contains(CLEANING)
            {
                world.fail(format!("a start: {fault}"));
            }
        }
    }
}

/// Others run in front of a step of a start; whether it dies.
pub fn interrupt(world: &Rc<World>) -> bool {
    if world.calm.get() {
        return false;
    }
    let (busy, nested, dies) = {
        let mut chance = world.chance();
        (chance.one_in(3), chance.one_in(80), chance.one_in(150))
    };
    if busy {
        let most = if world.one_in(8) { 60 } else { 6 };
        let steps = 1 + world.below(most);
        for _ in 0..steps {
            match world.below(10) {
                0 | 3 => world.brokers.borrow_mut().take(&mut world.chance()),
                1 => world.pass(20),
                2 => produce(world),
                _ => work(world),
            }
        }
        if world.one_in(100) {
            world.cut_power();
        }
    }
    if nested && world.starting.get() == 1 {
        start(world);
    }
    dies
}

/// Nothing goes wrong any more, until everything is written.
fn calm(world: &Rc<World>) {
    world.say(|| "nothing goes wrong any more".to_owned());
    world.calm.set(true);
    world.brokers.borrow_mut().reachable = true;
    for job in world.jobs.borrow_mut().iter_mut().flatten() {
        job.paused = false;
    }
    let settled = RULES.max_lag + RULES.max_delay + RULES.inactivity + 2_000;
    let end = (world.now() + settled) as u64;
    for _ in 0..ROUNDS {
        if world.failure().is_some() || is_done(world, end) {
            return;
        }
        world.pass(200);
        let newest = world
            .jobs
            .borrow()
            .iter()
            .flatten()
            .any(|job| is_newest(world, job.incarnation));
        if !newest {
            start(world);
        }
        while !world.brokers.borrow().requests.is_empty() {
            world.brokers.borrow_mut().take(&mut world.chance());
        }
        let jobs = world.jobs.borrow().len();
        for n in 0..jobs {
            let Some(mut job) = world.jobs.borrow_mut()[n].take() else {
                continue;
            };
            // Three times, so that what one does reaches the others.
            let all = job.actions();
            let done = (0..3 * all).try_for_each(|action| job.act(action % all));
            let done = done.and_then(|()| (0..6).try_for_each(|_| job.act(all - 5)));
            settle(world, n, job, done);
        }
    }
    let error = "all goes well, and yet not everything is written".to_owned();
    world.fail(error);
}

fn is_done(world: &World, end: u64) -> bool {
    let jobs = world.jobs.borrow();
    let newest = jobs
        .iter()
        .flatten()
        .find(|job| is_newest(world, job.incarnation));
    newest.is_some_and(|job| job.committed() >= end && job.is_written())
}

/// A check that the names of claims are as this harness takes them to be.
#[test]
fn claims_are_named_by_their_incarnation() {
    let world = Rc::new(World::new(0, Mistakes::default(), false));
    world.calm.set(true);
    let shape = Shape {
        processes: 1,
        workers: 1,
    };
    let job = begin(&world, shape).expect("nothing goes wrong");
    let disk = SimDisk::starting(&world);
    assert_eq!(claim::highest(&disk).unwrap(), job.incarnation);
    assert!(is_newest(&world, job.incarnation) && !is_newest(&world, 0));
}
