//! The ledger's HTTP API: reads of the books, orders, refunds and transfers, the redelivery of an event, and the resolution of an
//! anomaly.
//!
//! Reads run on blocking threads, a few at once, on connections of their own. They neither wait for the writer nor
//! delay a callback, and go on in standby and after a failure, as long as the store can be read. `/callbacks/{channel}`
//! is another router, which is merged with this one; only this one has a fallback.

mod calls;
mod create;
mod cumulative;
mod endpoints;
mod events;
mod openapi;
mod problem;
mod reconcile;
mod resolve;
mod token;
mod transfers;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, patch, post};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::audit::LastCheck;
use super::command::{Command, Commanded};
use super::endpoints::change::{Changed, EndpointChange};
use super::journal::{CommitError, Journal, Redelivery, Standing};
use super::keys::Ring;
use super::outcalls::{Outcalls, Unfinished};
use super::reconcile::Reconciled;
use super::resolve::{Resolution, Resolved};
use super::store::{Reader, Readers, StoreError};
use crate::book::called::Subject;
use crate::metrics::LedgerSeries;
use config::model::ledger::Ledger;

pub use problem::Problem;

/// The most reads at once.
const READS: usize = 4;
/// The longest time of a read, since others wait for its turn.
pub const READ: Duration = Duration::from_secs(5);

/// The writer as the calls need it.
#[async_trait]
pub trait ApiWriter: Send + Sync {
    /// Whether this process writes.
    fn standing(&self) -> Standing;
    /// Puts events back to be sent at once; returns for how many addresses.
    async fn redeliver(&self, what: Redelivery) -> Result<usize, CommitError>;
    /// Changes a merchant's endpoints.
    async fn endpoint(&self, change: EndpointChange) -> Result<Changed, CommitError>;
    /// Resolves an anomaly, and books what is accepted.
    async fn resolve(&self, resolution: Resolution) -> Result<Resolved, CommitError>;
    /// Does what a caller asks for, once.
    async fn command(&self, command: Command) -> Result<Commanded, CommitError>;
    /// Calls the provider of what a command made, and answers the caller whose idempotency key has this digest.
    async fn call(&self, subject: Subject, key: String) -> Result<Commanded, Unfinished>;
    /// Writes what a statement came to.
    async fn reconcile(&self, done: Reconciled) -> Result<Uuid, CommitError>;
    /// The keys, while this process writes.
    fn ring(&self) -> Option<Arc<Ring>>;
}

/// The writer, and the way to the providers.
pub struct Desk {
    /// The writer.
    pub journal: Journal,
    /// Calls providers.
    pub outcalls: Arc<Outcalls>,
}

#[async_trait]
impl ApiWriter for Desk {
    fn standing(&self) -> Standing {
        self.journal.standing()
    }

    async fn redeliver(&self, what: Redelivery) -> Result<usize, CommitError> {
        self.journal.redeliver(what).await
    }

    async fn endpoint(&self, change: EndpointChange) -> Result<Changed, CommitError> {
        self.journal.endpoint(change).await
    }

    async fn resolve(&self, resolution: Resolution) -> Result<Resolved, CommitError> {
        self.journal.resolve(resolution).await
    }

    async fn command(&self, command: Command) -> Result<Commanded, CommitError> {
        self.journal.command(command).await
    }

    async fn call(&self, subject: Subject, key: String) -> Result<Commanded, Unfinished> {
        let outcalls = self.outcalls.clone();
        // A caller that goes away does not end the call.
        let call = tokio::spawn(async move { outcalls.attempt(subject, Some(key)).await });
        call.await.unwrap_or(Err(Unfinished::NotWritten(CommitError::Failed)))
    }

    async fn reconcile(&self, done: Reconciled) -> Result<Uuid, CommitError> {
        self.journal.reconcile(done).await
    }

    fn ring(&self) -> Option<Arc<Ring>> {
        self.journal.ring()
    }
}

/// The state of the calls.
#[derive(Clone)]
pub struct ApiState {
    /// The configuration that is served.
    pub config: Arc<ArcSwap<Ledger>>,
    /// The writer.
    pub journal: Arc<dyn ApiWriter>,
    /// Connections for reads.
    pub readers: Arc<Readers>,
    /// The metrics.
    pub series: Arc<LedgerSeries>,
    /// The last verification.
    pub integrity: LastCheck,
}

/// The state, and the number of reads that may begin.
#[derive(Clone)]
struct Calls {
    state: ApiState,
    turns: Arc<Semaphore>,
    /// The number of statements that may be read at once.
    statements: Arc<Semaphore>,
}

impl Calls {
    /// Runs a read on a blocking thread, when it is its turn.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut dyn Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = self.turns.clone().acquire_owned().await;
        let readers = self.state.readers.clone();
        let done = tokio::task::spawn_blocking(move || {
            let answer = readers.with(read);
            drop(turn);
            answer
        });
        match done.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(StoreError::Slow(why))) => {
                log::warn!("a question to the ledger's books took longer than {READ:?}: {why}");
                Err(Problem::too_broad())
            }
            Ok(Err(e)) => {
                log::warn!("the ledger's books cannot be read: {e}");
                Err(Problem::unavailable("The books cannot be read now; the log says why."))
            }
            Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The call failed.")),
        }
    }
}

/// The router of all calls except the callbacks.
pub fn router(state: ApiState) -> Router {
    let calls = Calls { state, turns: Arc::new(Semaphore::new(READS)), statements: Arc::new(Semaphore::new(1)) };
    Router::new()
        .route("/healthz", get(calls::healthz))
        .route("/readyz", get(calls::readyz))
        .route("/metrics", get(calls::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/v1/orders", get(calls::orders).post(create::order))
        .route("/v1/orders/{id}", get(calls::order))
        .route("/v1/orders/{id}/refunds", post(create::refund))
        .route("/v1/refunds", get(calls::refunds))
        .route("/v1/refunds/{id}", get(calls::refund))
        .route("/v1/transfers", get(transfers::all).post(transfers::transfer))
        .route("/v1/transfers/{id}", get(transfers::one))
        .route("/v1/transfers/{id}/post", post(transfers::post))
        .route("/v1/transfers/{id}/void", post(transfers::void))
        .route("/v1/accounts", get(calls::accounts))
        .route("/v1/accounts/{id}", get(calls::account))
        .route("/v1/accounts/{id}/entries", get(calls::entries))
        .route("/v1/transactions", get(calls::transactions))
        .route("/v1/transactions/{id}", get(calls::transaction))
        .route("/v1/merchants/{merchant}/endpoints", get(endpoints::list).post(endpoints::create))
        .route("/v1/merchants/{merchant}/endpoints/{id}", patch(endpoints::change).delete(endpoints::delete))
        .route("/v1/events", get(events::list))
        .route("/v1/events/redeliver", post(events::redeliver_many))
        .route("/v1/events/{id}/redeliver", post(events::redeliver))
        .route("/v1/events/{id}/attempts", get(events::attempts))
        .route("/v1/anomalies", get(calls::anomalies))
        .route("/v1/anomalies/{id}/resolve", post(resolve::resolve))
        .route("/v1/reconciliations", post(reconcile::run).layer(DefaultBodyLimit::disable()))
        .route("/v1/reconciliations/{id}", get(reconcile::one))
        .route("/v1/integrity", get(calls::integrity))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "not_found", "There is no such call.") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This call takes another method.")
        })
        .layer(DefaultBodyLimit::max(calls::BODY_MAX))
        .layer(from_fn_with_state(calls.state.config.clone(), token::check))
        .with_state(calls)
}
