//! One batch: decided, written and committed as one, or not at all.
//!
//! A batch is written as a whole. If the store refuses it, it is written again so that a callback that is refused fails
//! alone: on SQLite each within a savepoint, on PostgreSQL each in a transaction of its own. (Savepoints in each batch
//! would cost about a sixth of the writer's time: SQLite copies every page they touch.) When the disk or the connection fails,
//! everybody fails: nobody is answered before the commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::heads::End;
use super::outbox::Fresh;
use super::{Durable, NotKept, Raised, Receipt, Reply, Sealed, Task};
use crate::book::{self, Callback, Facts, Plan, Scribe, Time};
use crate::keys::{DataKey, Ring};
use crate::outcome::Outcome;
use crate::resolve::{Reread, Resolution, Resolved};
use crate::rows::Outgoing;
use crate::store::{Asked, Changes, Failure, Grouping, Store};
use crate::words::{AnomalyState, EventState};

/// What writes: the store, and where the books end in it.
pub struct Desk {
    /// The store.
    pub store: Box<dyn Store>,
    /// The books' end.
    pub end: End,
    /// The keys.
    pub ring: Arc<Ring>,
    /// Where answers are given.
    pub runtime: tokio::runtime::Handle,
}

/// What a task is answered once the commit is there.
enum Answer {
    Receipt(Outcome),
    Marked,
    Event(Option<Box<Outgoing>>),
    Resolved(Resolved),
}

/// What a batch did.
#[derive(Debug, Default)]
pub struct Done {
    /// Callbacks in it.
    pub callbacks: usize,
    /// How many events it put into the outbox, new ones and others.
    pub events: usize,
    /// The new ones, where they are at hand.
    pub fresh: Option<Fresh>,
    /// Whether there was something to commit.
    pub committed: bool,
}

/// A batch in work: what is decided, and the data keys whose wraps it holds.
#[derive(Default)]
struct Work {
    done: Done,
    answers: Vec<Result<Answer, NotKept>>,
    keys: BTreeMap<Uuid, Arc<DataKey>>,
}

impl Desk {
    /// Writes a batch and answers everybody in it; after an error nobody is kept, and the desk is to be set up anew.
    pub fn write(&mut self, tasks: Vec<Task>, wall_ms: u64) -> Result<Done, Failure> {
        let wall = wall_ms as i64;
        let now = Time { recorded: self.end.recorded_at.max(wall), wall };
        match self.apart_if_refused(&tasks, now) {
            Ok(work) => {
                work.keys.values().for_each(|key| key.keep());
                let answers = work.answers;
                // One wake-up for all of them: those who wait are woken on their own runtime.
                self.runtime.spawn(async move {
                    tasks.into_iter().zip(answers).for_each(|(task, answer)| reply(task, answer));
                });
                Ok(work.done)
            }
            Err(failure) => {
                self.store.rollback();
                tasks.into_iter().for_each(|task| task.refuse(NotKept::Failed));
                Err(failure)
            }
        }
    }

    fn apart_if_refused(&mut self, tasks: &[Task], now: Time) -> Result<Work, Failure> {
        match self.together(tasks, now) {
            Err(Failure::Row(reason)) => {
                log::warn!("a batch was refused, its callbacks are written apart: {reason}");
                match self.store.grouping() {
                    Grouping::Each => self.each(tasks, now),
                    Grouping::Whole => self.singly(tasks, now),
                }
            }
            written => written,
        }
    }

    /// Each task within a savepoint, so that one that is refused fails alone.
    fn each(&mut self, tasks: &[Task], now: Time) -> Result<Work, Failure> {
        let mut work = Work::default();
        self.store.rollback();
        self.end = End::new(self.store.heads()?);
        self.store.begin()?;
        for task in tasks {
            // A row that it needs may not read: that is its own failure, too.
            let loaded = self.load(std::slice::from_ref(task));
            let (mut plan, answer) = match loaded.and_then(|all| self.decide(task, &mut Facts::new(all), now)) {
                Ok(decided) => decided,
                Err(Failure::Row(reason)) => {
                    work.answers.push(Err(refused(&reason)));
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let changes = self.end.changes(&mut plan, self.ring.chain());
            if changes == Changes::default() {
                work.answers.push(Ok(answer));
                continue;
            }
            self.store.savepoint()?;
            match self.store.write(&changes) {
                Ok(()) => {
                    self.store.release(true)?;
                    self.take(&mut work, task, &changes, &plan, now);
                    work.answers.push(Ok(answer));
                }
                Err(Failure::Row(reason)) => {
                    self.store.release(false)?;
                    work.answers.push(Err(refused(&reason)));
                }
                Err(failure) => return Err(failure),
            }
        }
        self.finish(&work, &mut Changes::default())?;
        Ok(work)
    }

    fn together(&mut self, tasks: &[Task], now: Time) -> Result<Work, Failure> {
        let mut work = Work::default();
        let before = self.end.seq;
        self.store.begin()?;
        let mut facts = Facts::new(self.load(tasks)?);
        let mut all = Changes::default();
        for task in tasks {
            let (mut plan, answer) = self.decide(task, &mut facts, now)?;
            let changes = self.end.changes(&mut plan, self.ring.chain());
            self.take(&mut work, task, &changes, &plan, now);
            work.answers.push(Ok(answer));
            all.rows.extend(changes.rows);
            all.links.extend(changes.links);
            all.updates.extend(changes.updates);
        }
        self.finish(&work, &mut all)?;
        work.done.fresh = Some(Fresh::of(before, all.rows));
        Ok(work)
    }

    /// Each task in a transaction of its own, so that one that is refused fails alone.
    fn singly(&mut self, tasks: &[Task], now: Time) -> Result<Work, Failure> {
        let mut all = Work::default();
        for task in tasks {
            self.store.rollback();
            self.end = End::new(self.store.heads()?);
            match self.together(std::slice::from_ref(task), now) {
                Ok(work) => {
                    all.done.callbacks += work.done.callbacks;
                    all.done.events += work.done.events;
                    all.done.committed |= work.done.committed;
                    all.answers.extend(work.answers);
                    all.keys.extend(work.keys);
                }
                Err(Failure::Row(reason)) => all.answers.push(Err(refused(&reason))),
                Err(failure) => return Err(failure),
            }
        }
        self.store.rollback();
        self.end = End::new(self.store.heads()?);
        Ok(all)
    }

    /// What is known of the books that matters to these tasks.
    fn load(&mut self, tasks: &[Task]) -> Result<crate::store::Loaded, Failure> {
        let mut asked = Asked::default();
        for task in tasks {
            let about = match task {
                Task::Callback(sealed, _) => Some(callback(sealed)),
                Task::Resolve(resolution, _) => resolution.accepted.as_ref().map(reread),
                _ => None,
            };
            if let Some(about) = about {
                book::asks(&about, &mut asked);
            }
        }
        asked.waiting.retain(|(.., of)| self.end.may_wait(of));
        self.store.load(&asked)
    }

    fn decide(&mut self, task: &Task, facts: &mut Facts, now: Time) -> Result<(Plan, Answer), Failure> {
        let mut ids = Uuid::now_v7;
        let mut scribe = Scribe::new(self.end.seq, now, &mut ids);
        let answer = match task {
            Task::Callback(sealed, _) => Answer::Receipt(book::decide(&callback(sealed), facts, &mut scribe)),
            Task::Mark(marks, raised, _) => {
                marks.iter().for_each(|mark| scribe.state(mark.clone()));
                raised.iter().for_each(|raised| raise(&mut scribe, raised));
                Answer::Marked
            }
            Task::Redeliver(id, _) => {
                let event = self.store.events(&[*id])?.pop();
                let event = event.map(|event| Box::new(again(event, now.wall)));
                event.iter().for_each(|event| scribe.update(&**event));
                Answer::Event(event)
            }
            Task::Resolve(resolution, _) => Answer::Resolved(self.resolve(resolution, facts, &mut scribe)?),
            Task::Wake => Answer::Marked,
        };
        let mut plan = scribe.done();
        plan.events += usize::from(matches!(answer, Answer::Event(Some(_))));
        Ok((plan, answer))
    }

    /// Counts a task whose rows are written.
    fn take(&mut self, work: &mut Work, task: &Task, changes: &Changes, plan: &Plan, now: Time) {
        self.end.advance(changes, plan, now.recorded);
        work.done.events += plan.events;
        work.done.committed |= *changes != Changes::default();
        if changes.rows.is_empty() {
            return;
        }
        let key = match task {
            Task::Callback(sealed, _) => {
                work.done.callbacks += 1;
                &sealed.key
            }
            Task::Resolve(resolution, _) => &resolution.key,
            _ => return,
        };
        if !key.unkept().is_empty() {
            work.keys.insert(key.id(), key.clone());
        }
    }

    /// Writes a resolution beside what it books; nothing, where it books nothing that it should.
    fn resolve(&mut self, asked: &Resolution, facts: &mut Facts, scribe: &mut Scribe<'_>) -> Result<Resolved, Failure> {
        let Some(mut anomaly) = self.store.anomalies(&[asked.anomaly])?.pop() else { return Ok(Resolved::Unknown) };
        if anomaly.state == AnomalyState::Resolved {
            return Ok(Resolved::Before(Box::new(anomaly)));
        }
        if let Some(again) = &asked.accepted
            && let Err(why) = book::accept(&reread(again), &anomaly, facts, scribe)
        {
            return Ok(Resolved::Refused(why));
        }
        scribe.evidence(&asked.proof);
        anomaly.state = AnomalyState::Resolved;
        scribe.update(&anomaly);
        Ok(Resolved::Done(Box::new(anomaly)))
    }

    /// What is not written yet, with what is summed over the batch, and the commit. A batch that changes nothing needs none:
    /// what its duplicates rest on is on the disk already.
    fn finish(&mut self, work: &Work, rest: &mut Changes) -> Result<(), Failure> {
        if !work.done.committed {
            self.store.rollback();
            return Ok(());
        }
        rest.wraps = work.keys.values().flat_map(|key| key.unkept()).cloned().collect();
        rest.balances = self.end.changed();
        self.store.write(rest)?;
        self.store.commit()
    }
}

/// One task alone is not kept.
fn refused(reason: &str) -> NotKept {
    log::error!("the ledger's store refused a callback or a mark: {reason}");
    NotKept::Refused
}

fn callback(sealed: &Sealed) -> Callback<'_> {
    Callback { provider: sealed.provider, channel: &sealed.channel, event: &sealed.event, evidence: &sealed.evidence }
}

fn reread(again: &Reread) -> Callback<'_> {
    let Reread { channel, event, evidence } = again;
    Callback { provider: channel.provider.label(), channel, event, evidence }
}

fn raise(scribe: &mut Scribe<'_>, raised: &Raised) {
    scribe.anomaly(raised.kind, (&raised.channel, &raised.merchant), raised.transaction_id, None, &raised.detail);
}

/// An event that is to be sent again, with the whole backoff before it.
fn again(event: Outgoing, wall: i64) -> Outgoing {
    Outgoing { state: EventState::Pending, round: 0, next_attempt_at: Some(wall), delivered_at: None, ..event }
}

fn reply(task: Task, answer: Result<Answer, NotKept>) {
    fn send<T>(reply: Reply<T>, answer: Result<T, NotKept>) {
        // Who asked may have gone: the provider will come again and find a duplicate.
        drop(reply.send(answer));
    }
    match (task, answer) {
        (Task::Callback(_, to), Ok(Answer::Receipt(outcome))) => send(to, Ok(Durable(Receipt { outcome }))),
        (Task::Mark(_, _, to), Ok(_)) => send(to, Ok(())),
        (Task::Resolve(_, to), Ok(Answer::Resolved(resolved))) => send(to, Ok(resolved)),
        (Task::Redeliver(_, to), Ok(Answer::Event(event))) => send(to, Ok(event.map(|event| *event))),
        (task, Err(why)) => task.refuse(why),
        (task, Ok(_)) => task.refuse(NotKept::Failed),
    }
}
