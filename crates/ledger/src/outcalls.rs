//! Calls to the providers of channels that name an `api_url`.
//!
//! The writer commits an order or a refund first. Then its provider is called ([`Outcalls::attempt`]), with numbers that
//! stay the same, so that a call that is made again does nothing twice. What comes of it is written by a second commit:
//! a payment or a refund goes the way of a callback, with the answer as its evidence; the rest is a [`Finish`].
//!
//! A process may end between the two commits, and a provider may not answer. Then the caller's key has no answer yet:
//! the same call goes on where it stopped. And the [`watch`] asks, without any caller, at the times of `query_after`.
//!
//! | module | is |
//! |---|---|
//! | [`ask`] | what is to be asked about an order or a refund, from its rows |
//! | [`bill`] | the download of a provider's bill |
//! | [`watch`] | the watch over what is pending |

pub mod ask;
pub mod bill;
pub mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;

use self::ask::Asked;
use crate::book::called::{self, Came, Subject};
use crate::command::{Commanded, Finish, FinishedAnswer, Refusal};
use crate::ingest;
use crate::journal::{CommitError, Journal, Sealed};
use crate::keys::DataKey;
use crate::metrics::LedgerSeries;
use crate::query::views;
use crate::rows::Evidence;
use crate::store::{Reader, Readers, StoreError};
use base::clock;
use config::model::ledger::{Channel, Ledger};
use http_client::api::{ApiClient, Request};
use providers::api::{Answer, Api, ApiRequest, Call, Meaning, Moment, Refused, Trouble};
use providers::event::ProviderEvent;
use providers::receive::Received;

/// Time that one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
const TOO_LATE: &str = "its provider might do it twice by now; look there whether it was done";
/// What the kept headers of an answer begin with: no header of a callback can have this name.
const ANSWER: &str = ":answer: ";

/// A channel whose provider is called.
#[derive(Debug)]
pub struct Called {
    /// The channel.
    pub channel: Arc<Channel>,
    api: Box<dyn Api>,
}

impl Called {
    /// Whether the provider may take a refund that is asked for again for another one.
    fn is_too_late(&self, asked: &Asked, now: i64) -> bool {
        let same_for = self.channel.provider.provider.outgoing.as_ref().and_then(|outgoing| outgoing.same_for_ms);
        same_for.is_some_and(|same_for| now.saturating_sub(asked.created_at) > same_for)
    }
}

/// The channels of one configuration whose providers are called.
struct CalledChannels {
    of: Arc<Ledger>,
    by_name: HashMap<Arc<str>, Arc<Called>>,
}

impl CalledChannels {
    fn new(of: Arc<Ledger>) -> CalledChannels {
        let called = of.channels.iter().filter_map(|channel| {
            let api = channel.api()?;
            Some((channel.name.clone(), Arc::new(Called { channel: Arc::new(channel.clone()), api })))
        });
        let by_name = called.collect();
        CalledChannels { of, by_name }
    }
}

/// Calls providers.
pub struct Outcalls {
    config: Arc<ArcSwap<Ledger>>,
    journal: Journal,
    readers: Arc<Readers>,
    series: Arc<LedgerSeries>,
    client: ApiClient,
    channels: ArcSwap<CalledChannels>,
    busy: Mutex<HashSet<Uuid>>,
}

/// An order or a refund about which a call is being made; no other call about it begins.
struct Turn<'a>(&'a Outcalls, Uuid);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().remove(&self.1);
    }
}

/// Why a caller gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// A call about it is being made.
    Running,
    /// The order is written, and its provider did not answer; what happened.
    NoAnswer(String),
    /// The writer did not write what came of it.
    NotWritten(CommitError),
}

/// What came of the calls about an order or a refund.
#[derive(Debug)]
enum Heard {
    Created(views::Pay, Option<String>),
    Open(Option<String>),
    /// It went the way of a callback.
    Booked,
    Refused(Refused),
    Trouble(String),
}

impl Outcalls {
    /// Nothing is called yet; an error says what is wrong with the machine.
    pub fn new(
        config: Arc<ArcSwap<Ledger>>,
        journal: Journal,
        readers: Arc<Readers>,
        series: Arc<LedgerSeries>,
    ) -> Result<Outcalls, String> {
        let channels = ArcSwap::from_pointee(CalledChannels::new(config.load_full()));
        let client = ApiClient::new(TIMEOUT)?;
        Ok(Outcalls { config, journal, readers, series, client, channels, busy: Mutex::default() })
    }

    /// The channels of the configuration of now; their keys are prepared once for each.
    fn channels(&self) -> Arc<CalledChannels> {
        let (now, known) = (self.config.load_full(), self.channels.load_full());
        if Arc::ptr_eq(&now, &known.of) {
            return known;
        }
        let made = Arc::new(CalledChannels::new(now));
        self.channels.store(made.clone());
        made
    }

    fn turn(&self, id: Uuid) -> Option<Turn<'_>> {
        // Not `then_some`: a turn that is dropped frees the id, and takes the lock for it.
        let is_free = self.busy.lock().insert(id);
        is_free.then(|| Turn(self, id))
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut dyn Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, String> {
        let readers = self.readers.clone();
        let done = tokio::task::spawn_blocking(move || readers.with(read)).await;
        done.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    /// Calls the provider about an order or a refund that is written, and writes what comes of it. With the digest of a
    /// caller's idempotency key it answers that call.
    pub async fn attempt(&self, subject: Subject, key: Option<String>) -> Result<Commanded, Unfinished> {
        let _turn = self.turn(subject.id()).ok_or(Unfinished::Running)?;
        let ring = self.journal.ring().ok_or(Unfinished::NotWritten(CommitError::Standby))?;
        let for_pay = ring.clone();
        let asked = self.read(move |reader| ask::load(reader, subject, &for_pay)).await;
        let asked = asked.map_err(Unfinished::NoAnswer)?;
        let asked = asked.ok_or_else(|| Unfinished::NoAnswer("it is not in the books".to_owned()))?;
        let called = self.channels().by_name.get(&*asked.channel).cloned();
        let heard = match (&called, &asked.call) {
            (Some(called), Some(Call::Refund(_))) if called.is_too_late(&asked, now(&self.journal)) => {
                let name = &called.channel.name;
                log::warn!("ledger: refund {} of channel {name} is not asked for again: {TOO_LATE}", subject.id());
                Heard::Trouble(TOO_LATE.to_owned())
            }
            (Some(called), Some(call)) if key.is_none() || asked.pay.is_none() => self.ask(called, call.clone()).await,
            _ => Heard::Open(None),
        };
        let sealing = ring.today(clock::wall_ms()).map_err(|_| Unfinished::NotWritten(CommitError::Failed))?;
        let finish = self.finish(subject, &asked, called.as_deref(), &heard, key, sealing);
        let is_answered = finish.answer.is_some();
        let done = self.journal.finish(finish).await.map_err(Unfinished::NotWritten)?;
        match heard {
            Heard::Trouble(why) if !is_answered => Err(Unfinished::NoAnswer(why)),
            _ => Ok(done),
        }
    }

    /// What is written of what was heard. An order whose provider did not answer leaves its caller without one, who asks
    /// again with the same key; a refund is pending, which is an answer.
    fn finish(
        &self,
        subject: Subject,
        asked: &Asked,
        called: Option<&Called>,
        heard: &Heard,
        key: Option<String>,
        sealing: Arc<DataKey>,
    ) -> Finish {
        let now = now(&self.journal);
        let query_at = called.and_then(|called| match subject {
            Subject::Order(_) => called::next(asked.created_at, now, &called.channel),
            Subject::Refund(_) => called::next_of_refund(asked.created_at, now, &called.channel),
        });
        let (mut evidence, mut pay, mut refusal) = (None, asked.pay.clone(), None);
        let came = match heard {
            Heard::Created(new, number) => {
                let kept = kept_pay(new, &sealing);
                let id = kept.id;
                (evidence, pay) = (Some(kept), Some(new.clone()));
                Came::Created { evidence: id, number: number.clone() }
            }
            Heard::Open(Some(number)) => Came::Number(number.clone()),
            Heard::Refused(Refused { code, message }) => {
                if let Subject::Order(_) = subject {
                    let detail = format!(
                        "The provider does not take the order, which is closed: {code} {message}. Mend it, and create \
                         another order with a number of its own."
                    );
                    refusal = Some(Refusal::new(422, "provider_refused", detail));
                }
                Came::Refused
            }
            Heard::Open(None) | Heard::Booked | Heard::Trouble(_) => Came::Nothing,
        };
        let waits = matches!((subject, heard), (Subject::Order(_), Heard::Trouble(_)));
        let answer = key.filter(|_| !waits).map(|key| FinishedAnswer { key, pay, refusal });
        Finish { subject, came, evidence, query_at, answer, sealing }
    }

    /// Asks a provider, and once more where it says that another question tells what became of it.
    async fn ask(&self, called: &Called, call: Call) -> Heard {
        let mut call = call;
        for _ in 0..2 {
            let heard = match self.send(called, &call).await {
                Ok(Meaning::Ask) => {
                    self.count(called, &call, "answered");
                    call = call.query();
                    continue;
                }
                heard => heard,
            };
            let word = match &heard {
                Ok(Meaning::Refused(_)) => "refused",
                Ok(_) => "answered",
                Err(_) => "failed",
            };
            self.count(called, &call, word);
            let name = &called.channel.name;
            return match heard {
                Ok(Meaning::Created { pay, number }) => Heard::Created(pay.into(), number),
                Ok(Meaning::Open { number }) => Heard::Open(number),
                Ok(Meaning::Refused(refused)) => {
                    log::warn!("ledger: the provider of channel {name} refuses a {}: {}", call.name(), refused.code);
                    Heard::Refused(refused)
                }
                Ok(Meaning::Ask) | Ok(Meaning::Decided(_)) => Heard::Booked,
                Err(why) => {
                    log::warn!("ledger: no answer to a {} of channel {name}: {why}", call.name());
                    Heard::Trouble(why)
                }
            };
        }
        Heard::Trouble("it says of what was done only that it was done".to_owned())
    }

    /// One request and its meaning; a decided one is in the books when this returns.
    async fn send(&self, called: &Called, call: &Call) -> Result<Meaning, String> {
        let request = called.api.request(call, moment()?);
        let answer = self.answer(request).await?;
        let meaning = called.api.read(call, &answer).map_err(|Trouble(why)| why)?;
        if let Meaning::Decided(event) = &meaning {
            self.book(called, call, event, &answer).await?;
        }
        Ok(meaning)
    }

    async fn answer(&self, request: ApiRequest) -> Result<Answer, String> {
        let reply = self.client.send(sendable(request)).await?;
        let received = Received::new(reply.headers, reply.body.into(), clock::wall_ms());
        Ok(Answer { status: reply.status, received })
    }

    /// Books what an answer says as if a callback had said it.
    async fn book(&self, called: &Called, call: &Call, event: &ProviderEvent, answer: &Answer) -> Result<(), String> {
        let received = &answer.received;
        let ring = self.journal.ring().ok_or("another process has the books")?;
        let key = ring.today(received.at_ms).map_err(|e| e.to_string())?;
        let seal = |column: &str, content: &[u8]| key.seal("evidence", column, received.id, content);
        // Texts and integers always have a JSON form.
        let asked = serde_json::to_string(call).unwrap_or_default();
        let headers = [ANSWER.as_bytes(), asked.as_bytes(), b"\r\n", &ingest::headers(received)].concat();
        let evidence = Evidence {
            seq: 0,
            id: received.id,
            channel: called.channel.name.to_string(),
            key_id: key.id(),
            received_at: i64::try_from(received.at_ms).unwrap_or(i64::MAX),
            headers: seal("headers", &headers),
            body: seal("body", &received.body),
        };
        let sealed = Sealed { channel: called.channel.clone(), event: event.clone(), evidence, key, room: None };
        let kept = self.journal.keep(sealed, self.journal.coming()).await;
        kept.map(drop).map_err(|why| format!("what it says could not be written: {why:?}"))
    }

    fn count(&self, called: &Called, call: &Call, outcome: &str) {
        self.series.provider_calls.with_label_values(&[&called.channel.name, call.name(), outcome]).inc();
    }
}

/// The question whose answer these kept headers belong to, if they are not a callback's.
pub fn answered(headers: &[u8]) -> Option<Call> {
    let line = headers.strip_prefix(ANSWER.as_bytes())?;
    let end = line.windows(2).position(|pair| pair == b"\r\n")?;
    serde_json::from_slice(line.get(..end)?).ok()
}

/// Evidence of what a payer needs.
fn kept_pay(pay: &views::Pay, sealing: &DataKey) -> Evidence {
    let id = Uuid::now_v7();
    let seal = |column: &str, content: &[u8]| sealing.seal("evidence", column, id, content);
    // Texts always have a JSON form.
    let body = serde_json::to_vec(pay).unwrap_or_default();
    Evidence {
        seq: 0,
        id,
        // No callback's: it stays where its day is archived.
        channel: String::new(),
        key_id: sealing.id(),
        received_at: i64::try_from(clock::wall_ms()).unwrap_or(i64::MAX),
        headers: seal("headers", b""),
        body: seal("body", &body),
    }
}

fn sendable(request: ApiRequest) -> Request {
    let ApiRequest { method, url, headers, body } = request;
    Request { method, url, headers, body }
}

/// Now, and a nonce.
fn moment() -> Result<Moment, String> {
    let mut nonce = [0; 16];
    SystemRandom::new().fill(&mut nonce).map_err(|_| "the system has no randomness")?;
    Ok(Moment { now_ms: clock::wall_ms(), nonce })
}

/// The time of now, never before a row's.
fn now(journal: &Journal) -> i64 {
    journal.recorded_at().max(i64::try_from(clock::wall_ms()).unwrap_or(i64::MAX))
}
