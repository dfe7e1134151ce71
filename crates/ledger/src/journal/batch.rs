//! One batch of callbacks, decided, written and committed as one.
//!
//! A batch is written as a whole. If the store refuses it, it is written again so that a refused callback fails alone:
//! on SQLite each within a savepoint, on PostgreSQL each in a transaction of its own. (Savepoints in each batch would
//! cost about a sixth of the writer's time: SQLite copies every page they touch.) If the disk or the connection fails,
//! all callbacks fail; none is answered before the commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::chain_tip::ChainTip;
use super::outbox::Fresh;
use super::{CommitError, Durable, Raised, Receipt, Reply, Sealed, Task, endpoints};
use crate::book::endpoints::fan_out;
use crate::book::{self, Callback, Facts, PostingBuilder, Postings, Time};
use crate::command::Commanded;
use crate::deliver::parcel::To;
use crate::endpoints::change::Changed;
use crate::keys::{DataKey, Ring};
use crate::outcome::Outcome;
use crate::resolve::{Reread, Resolution, Resolved};
use crate::store::{Changes, Grouping, Store, StoreError, Wanted};
use crate::stored_enum::AnomalyState;

/// The store and the end of the books in it.
pub struct BatchWriter {
    /// The store.
    pub store: Box<dyn Store>,
    /// The end of the books.
    pub end: ChainTip,
    /// The keys.
    pub ring: Arc<Ring>,
    /// The runtime on which answers are sent.
    pub runtime: tokio::runtime::Handle,
}

/// The answer to a task once the commit is there.
enum Decided {
    Receipt(Outcome),
    Marked {
        /// Whether endpoints changed with it.
        endpoints: bool,
    },
    Again(BTreeSet<To>, usize),
    Endpoint(Changed),
    Resolved(Resolved),
    Commanded(Commanded),
    Reconciled(Uuid),
}

/// The result of a batch.
#[derive(Debug, Default)]
pub struct Done {
    /// Callbacks in it.
    pub callbacks: usize,
    /// New events that it put on their way, once for each address.
    pub events: usize,
    /// Addresses to which it put something back.
    pub again: BTreeSet<To>,
    /// Whether it changed endpoints.
    pub endpoints: bool,
    /// The new events, if they are all at hand.
    pub fresh: Option<Fresh>,
    /// Whether there was anything to commit.
    pub committed: bool,
}

/// A batch in work: the decisions, and the data keys whose wraps it holds.
#[derive(Default)]
struct Work {
    done: Done,
    answers: Vec<Result<Decided, CommitError>>,
    keys: BTreeMap<Uuid, Arc<DataKey>>,
}

impl BatchWriter {
    /// Writes a batch and answers all its tasks. After an error no task is kept, and the books' end must be read anew.
    pub fn write(&mut self, tasks: Vec<Task>, wall_ms: u64) -> Result<Done, StoreError> {
        let wall = wall_ms as i64;
        let now = Time { recorded: self.end.recorded_at.max(wall), wall };
        match self.apart_if_refused(&tasks, now) {
            Ok(work) => {
                work.keys.values().for_each(|key| key.keep());
                let answers = work.answers;
                // One wake-up for all of them; the waiting tasks run on their own runtime.
                self.runtime.spawn(async move {
                    tasks.into_iter().zip(answers).for_each(|(task, answer)| reply(task, answer));
                });
                Ok(work.done)
            }
            Err(failure) => {
                self.store.rollback();
                tasks.into_iter().for_each(|task| task.refuse(CommitError::Failed));
                Err(failure)
            }
        }
    }

    fn apart_if_refused(&mut self, tasks: &[Task], now: Time) -> Result<Work, StoreError> {
        match self.together(tasks, now) {
            Err(StoreError::Row(reason)) => {
                log::warn!("a batch was refused, its callbacks are written apart: {reason}");
                match self.store.grouping() {
                    Grouping::Each => self.each(tasks, now),
                    Grouping::Whole => self.singly(tasks, now),
                }
            }
            written => written,
        }
    }

    /// Writes each task within a savepoint, so that a refused one fails alone.
    fn each(&mut self, tasks: &[Task], now: Time) -> Result<Work, StoreError> {
        let mut work = Work::default();
        self.store.rollback();
        self.end = ChainTip::new(self.store.heads()?);
        self.store.begin()?;
        for task in tasks {
            // A row that the task needs may be unreadable; that too fails this task alone.
            let loaded = self.load(std::slice::from_ref(task));
            let (mut plan, answer) = match loaded.and_then(|mut facts| self.decide(task, &mut facts, now)) {
                Ok(decided) => decided,
                Err(StoreError::Row(reason)) => {
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
                    self.take(&mut work, task, (&changes, &answer), &plan, now);
                    work.answers.push(Ok(answer));
                }
                Err(StoreError::Row(reason)) => {
                    self.store.release(false)?;
                    work.answers.push(Err(refused(&reason)));
                }
                Err(failure) => return Err(failure),
            }
        }
        self.finish(&work, &mut Changes::default())?;
        Ok(work)
    }

    fn together(&mut self, tasks: &[Task], now: Time) -> Result<Work, StoreError> {
        let mut work = Work::default();
        let before = self.end.seq;
        self.store.begin()?;
        let mut facts = self.load(tasks)?;
        let mut all = Changes::default();
        for task in tasks {
            let (mut plan, answer) = self.decide(task, &mut facts, now)?;
            let changes = self.end.changes(&mut plan, self.ring.chain());
            self.take(&mut work, task, (&changes, &answer), &plan, now);
            work.answers.push(Ok(answer));
            all.rows.extend(changes.rows);
            all.links.extend(changes.links);
            all.updates.extend(changes.updates);
            all.attempts.extend(changes.attempts);
        }
        self.finish(&work, &mut all)?;
        work.done.fresh = Some(Fresh::of(before, all.rows));
        Ok(work)
    }

    /// Writes each task in a transaction of its own, so that a refused one fails alone.
    fn singly(&mut self, tasks: &[Task], now: Time) -> Result<Work, StoreError> {
        let mut all = Work::default();
        for task in tasks {
            self.store.rollback();
            self.end = ChainTip::new(self.store.heads()?);
            match self.together(std::slice::from_ref(task), now) {
                Ok(work) => {
                    all.done.callbacks += work.done.callbacks;
                    all.done.events += work.done.events;
                    all.done.committed |= work.done.committed;
                    all.done.again.extend(work.done.again);
                    all.done.endpoints |= work.done.endpoints;
                    all.answers.extend(work.answers);
                    all.keys.extend(work.keys);
                }
                Err(StoreError::Row(reason)) => all.answers.push(Err(refused(&reason))),
                Err(failure) => return Err(failure),
            }
        }
        self.store.rollback();
        self.end = ChainTip::new(self.store.heads()?);
        Ok(all)
    }

    /// Loads the facts that these tasks need, some of which only the first ones tell.
    fn load(&mut self, tasks: &[Task]) -> Result<Facts, StoreError> {
        let mut asked = Wanted::default();
        for task in tasks {
            match (task, message(task)) {
                (_, Some(about)) => book::asks(&about, &mut asked),
                (Task::Command(command, _), _) => command.asks(&mut asked),
                (Task::Due(transfers, _), _) => asked.transfers.extend(transfers),
                (Task::Reconcile(done, _), _) => book::reconciled::asks(done, &mut asked),
                (Task::Finish(finish, _), _) => finish.asks(&mut asked),
                _ => {}
            }
        }
        asked.waiting.retain(|(.., of)| self.end.may_wait(of));
        let mut facts = Facts::new(self.store.load(&asked)?);
        let mut more = Wanted::default();
        for task in tasks {
            match (task, message(task)) {
                (Task::Resolve(..), Some(about)) => {
                    book::asks_more(&about, &facts, &mut more);
                    book::asks_to_accept(&about, &facts, &mut more);
                }
                (_, Some(about)) => book::asks_more(&about, &facts, &mut more),
                (Task::Command(command, _), _) => command.asks_more(&mut facts, &mut more),
                _ => {}
            }
        }
        book::asks_together(&tasks.iter().filter_map(message).collect::<Vec<_>>(), &facts, &mut more);
        more.waiting.retain(|(.., of)| self.end.may_wait(of));
        if more != Wanted::default() {
            facts.extend(self.store.load(&more)?);
        }
        Ok(facts)
    }

    fn decide(&mut self, task: &Task, facts: &mut Facts, now: Time) -> Result<(Postings, Decided), StoreError> {
        let mut ids = Uuid::now_v7;
        let mut scribe = PostingBuilder::new(self.end.seq, now, &mut ids);
        let answer = match task {
            Task::Callback(sealed, _) => Decided::Receipt(book::decide(&callback(sealed), facts, &mut scribe)),
            Task::Mark(marks, _) => {
                marks.updates.iter().for_each(|mark| scribe.state(mark.clone()));
                marks.attempts.iter().for_each(|attempt| scribe.attempt(attempt.clone()));
                marks.raised.iter().for_each(|raised| raise(&mut scribe, raised));
                Decided::Marked { endpoints: endpoints::fare(&marks.health, &mut self.end.endpoints, &mut scribe) }
            }
            Task::Redeliver(what, _) => {
                let (again, count) = endpoints::again(what, &mut *self.store, &mut scribe)?;
                Decided::Again(again, count)
            }
            Task::Endpoint(change, _) => {
                Decided::Endpoint(endpoints::change(change, &mut self.end.endpoints, &self.ring, &mut scribe))
            }
            Task::Resolve(resolution, _) => Decided::Resolved(self.resolve(resolution, facts, &mut scribe)?),
            Task::Command(command, _) => {
                let end = &self.end;
                Decided::Commanded(command.decide(
                    facts,
                    |account, currency| end.balance(account, currency),
                    &mut scribe,
                ))
            }
            Task::Due(transfers, _) => {
                transfers.iter().for_each(|id| book::transfers::due(*id, facts, &mut scribe));
                Decided::Marked { endpoints: false }
            }
            Task::Reconcile(done, _) => {
                let explained: Vec<Uuid> = done.explained.iter().map(|(id, _)| *id).collect();
                let open = self.store.anomalies(&explained)?;
                Decided::Reconciled(book::reconciled::write(done, open, facts, &mut scribe))
            }
            Task::Finish(finish, _) => Decided::Commanded(finish.decide(facts, &mut scribe)),
            Task::Wake => Decided::Marked { endpoints: false },
        };
        fan_out(&self.end.endpoints, &mut scribe);
        Ok((scribe.done(), answer))
    }

    /// Counts a task whose rows are written.
    fn take(
        &mut self,
        work: &mut Work,
        task: &Task,
        (changes, answer): (&Changes, &Decided),
        plan: &Postings,
        now: Time,
    ) {
        self.end.advance(changes, plan, now.recorded);
        work.done.events += plan.events;
        work.done.committed |= *changes != Changes::default();
        match answer {
            Decided::Again(again, _) => work.done.again.extend(again.iter().cloned()),
            Decided::Endpoint(_) | Decided::Marked { endpoints: true } => work.done.endpoints = true,
            _ => {}
        }
        if let Task::Mark(marks, _) = task {
            let unkept = marks.keys.iter().filter(|key| !key.unkept().is_empty());
            work.keys.extend(unkept.map(|key| (key.id(), key.clone())));
        }
        if changes.rows.is_empty() {
            return;
        }
        let key = match task {
            Task::Callback(sealed, _) => {
                work.done.callbacks += 1;
                &sealed.key
            }
            Task::Resolve(resolution, _) => &resolution.key,
            Task::Command(command, _) => &command.sealing,
            Task::Reconcile(done, _) => &done.key,
            Task::Finish(finish, _) => &finish.sealing,
            _ => return,
        };
        if !key.unkept().is_empty() {
            work.keys.insert(key.id(), key.clone());
        }
    }

    /// Writes a resolution beside its postings; writes nothing if a required posting cannot be made.
    fn resolve(
        &mut self,
        asked: &Resolution,
        facts: &mut Facts,
        scribe: &mut PostingBuilder<'_>,
    ) -> Result<Resolved, StoreError> {
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

    /// Writes the rest with the sums over the batch, and commits. A batch that changes nothing needs no commit: the
    /// rows behind its duplicates are on the disk already.
    fn finish(&mut self, work: &Work, rest: &mut Changes) -> Result<(), StoreError> {
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

/// Refuses one task alone.
fn refused(reason: &str) -> CommitError {
    log::error!("the ledger's store refused a callback or a mark: {reason}");
    CommitError::Refused
}

fn callback(sealed: &Sealed) -> Callback<'_> {
    let Sealed { channel, event, evidence, .. } = sealed;
    Callback { provider: channel.provider.provider, channel, event, evidence }
}

/// The message that a task is about.
fn message(task: &Task) -> Option<Callback<'_>> {
    match task {
        Task::Callback(sealed, _) => Some(callback(sealed)),
        Task::Resolve(resolution, _) => resolution.accepted.as_ref().map(reread),
        _ => None,
    }
}

fn reread(again: &Reread) -> Callback<'_> {
    let Reread { channel, event, evidence } = again;
    Callback { provider: channel.provider.provider, channel, event, evidence }
}

fn raise(scribe: &mut PostingBuilder<'_>, raised: &Raised) {
    scribe.anomaly(raised.kind, (&raised.channel, &raised.merchant), raised.transaction_id, None, &raised.detail);
}

fn reply(task: Task, answer: Result<Decided, CommitError>) {
    fn send<T>(reply: Reply<T>, answer: Result<T, CommitError>) {
        // If the caller has gone, the provider sends again and finds a duplicate.
        drop(reply.send(answer));
    }
    match (task, answer) {
        (Task::Callback(_, to), Ok(Decided::Receipt(outcome))) => send(to, Ok(Durable(Receipt { outcome }))),
        (Task::Mark(_, to) | Task::Due(_, to), Ok(_)) => send(to, Ok(())),
        (Task::Resolve(_, to), Ok(Decided::Resolved(resolved))) => send(to, Ok(resolved)),
        (Task::Reconcile(_, to), Ok(Decided::Reconciled(id))) => send(to, Ok(id)),
        (Task::Command(_, to) | Task::Finish(_, to), Ok(Decided::Commanded(commanded))) => send(to, Ok(commanded)),
        (Task::Redeliver(_, to), Ok(Decided::Again(_, count))) => send(to, Ok(count)),
        (Task::Endpoint(_, to), Ok(Decided::Endpoint(changed))) => send(to, Ok(changed)),
        (task, Err(why)) => task.refuse(why),
        (task, Ok(_)) => task.refuse(CommitError::Failed),
    }
}
