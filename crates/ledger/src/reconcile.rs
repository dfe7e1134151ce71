//! Reconciliation: a provider's statement of a day against the books.
//!
//! | module | is |
//! |---|---|
//! | [`compare`] | a row of a statement beside the transaction of its number (pure) |
//! | [`run`] | the statement, streamed past the books, and the books of its day past the statement |
//! | [`explained`] | what a statement explains of what was found before |
//! | [`report`] | what was found, as JSON, CSV and Markdown |
//!
//! A statement is read twice: first as a whole, so that a file with a bad line, one that was cut, or one of another day
//! changes nothing; then row by row beside the books. In memory is one 16-byte digest a row. What was found goes to the
//! writer as one task. A finding is known by statement (channel and day), kind and number: a statement that is run again
//! opens no anomaly twice, a resolved one stays resolved, and an open one that is not found any more is resolved with
//! that reason.
//!
//! | the statement | the books | is |
//! |---|---|---|
//! | a payment or refund | nothing, or only `noted` | `missing_in_ledger` |
//! | nothing | posted or in suspense that day | `missing_in_statement` |
//! | another amount or currency | | `amount_differs` |
//! | a fee of another minor unit | the channel's `fee` | `fee_differs` |
//! | a refund that failed | posted | `status_differs` |
//! | a refund that succeeded | taken back | `status_differs` |
//! | one number twice | | `duplicate_number` |
//! | another day than its own, or than that of the books | | `wrong_day` |
//! | a refund | parked: its payment never came | `refund_without_payment` |
//! | a payment | parked: its order never came | `stuck_pending` |

pub mod compare;
pub mod explained;
pub mod report;
pub mod run;

use std::sync::Arc;

use uuid::Uuid;

use crate::keys::DataKey;
use crate::rows::Evidence;
use crate::stored_enum::AnomalyKind;
use base::units::Currency;

/// The most findings of a statement: above, it is another channel's, or another day's.
pub const FOUND_MAX: usize = 10_000;

/// A difference between a statement and the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The kind of the anomaly.
    pub kind: AnomalyKind,
    /// The provider's number.
    pub number: String,
    /// The transaction, if there is one.
    pub transaction_id: Option<Uuid>,
    /// A description of amounts, numbers and states only.
    pub detail: String,
}

/// What a statement came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compared {
    /// Rows of the statement.
    pub rows: u64,
    /// Rows that are in the books as the statement has them.
    pub matched: u64,
    /// The differences, in the order of the statement, each kind of a number once.
    pub found: Vec<Found>,
    /// What the provider kept, in minor units by currency; below 0 where it gave more back.
    pub fees: Vec<(Currency, i64)>,
}

/// The result of a statement, ready to be written.
#[derive(Debug)]
pub struct Reconciled {
    /// The channel.
    pub channel: String,
    /// Its merchant.
    pub merchant: String,
    /// The statement's day, such as `2026-11-21`.
    pub day: String,
    /// What it came to.
    pub compared: Compared,
    /// Anomalies of an earlier run that are not found any more, with the proof of their resolution.
    pub explained: Vec<(Uuid, Evidence)>,
    /// The key that encrypts the proofs.
    pub key: Arc<DataKey>,
}
