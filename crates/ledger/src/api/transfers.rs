//! `/v1/transfers`: made, read, posted and voided, each change once for its `Idempotency-Key`.
//!
//! The platform moves money between all accounts. A merchant's token holds and moves its own, to other merchants.

use std::time::Duration;

use axum::extract::{Extension, State as With};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::calls::{self, ApiResult, Caller, QueryParams, Segment, json, uuid};
use super::create::{self, Keyed, wrong};
use super::{Calls, Problem};
use crate::book::transfers::{Account, Hold, NewTransfer};
use crate::command::Call;
use crate::query::views::{self, View};
use crate::query::{self, list};
use crate::rows;
use config::model::ledger::Ledger;

/// A transfer to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferBody {
    /// The account that is debited, such as `liabilities:merchant:shop`.
    pub debit_account: String,
    /// The account that is credited, such as `assets:bank`.
    pub credit_account: String,
    /// The amount, in minor units of the currency.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    pub amount_minor: i64,
    /// ISO 4217 code, in upper case.
    pub currency: String,
    /// Whether it is only held, until it is posted or voided.
    #[serde(default)]
    pub pending: bool,
    /// How long it is held, such as `10m`; for ever without.
    #[serde(default)]
    pub expires_in: Option<String>,
    /// After which silence its merchant is asked about it (`transfer.check`), such as `1m`.
    #[serde(default)]
    pub check_after: Option<String>,
}

fn account(config: &Ledger, field: &str, id: &str) -> Result<Account, Problem> {
    let example = "such as `assets:bank`, `assets:channel:CHANNEL` or `liabilities:merchant:MERCHANT`";
    let account = Account::read(id).ok_or_else(|| wrong(format!("`{field}` is an account, {example}.")))?;
    let is_merchant = |name: &str| config.merchants.iter().any(|merchant| *merchant.name == *name);
    let is_channel = |name: &str| config.channels.iter().any(|channel| *channel.name == *name);
    let words: Vec<&str> = id.split(':').collect();
    let known = match words[..] {
        ["liabilities", "merchant", name] => is_merchant(name),
        ["assets", "channel", name] | ["liabilities", "suspense", name] | ["income" | "expenses", "fee", name] => {
            is_channel(name)
        }
        _ => true,
    };
    if known {
        Ok(account)
    } else {
        Err(wrong(format!("`{field}` names a merchant or channel that is not configured.")))
    }
}

fn time(field: &str, text: Option<&str>) -> Result<Option<Duration>, Problem> {
    let Some(text) = text else { return Ok(None) };
    match config::duration(text) {
        Ok(time) if !time.is_zero() => Ok(Some(time)),
        _ => Err(wrong(format!("`{field}` is a duration above 0 and up to 366 days, such as \"10m\"."))),
    }
}

impl TransferBody {
    /// Checks it against the configuration.
    fn checked(&self, config: &Ledger, caller: Option<&str>) -> Result<NewTransfer, Problem> {
        let debit = account(config, "debit_account", &self.debit_account)?;
        let credit = account(config, "credit_account", &self.credit_account)?;
        create::amount(self.amount_minor)?;
        let currency = create::currency(&self.currency)?;
        if debit.id == credit.id {
            return Err(wrong("The two accounts are one.".to_owned()));
        }
        let is_own = |own: &str| debit.is_moved_by(own, &credit);
        if !caller.is_none_or(is_own) {
            let detail = "A merchant's token moves its own money to other merchants; the rest is the platform's.";
            return Err(Problem::new(StatusCode::FORBIDDEN, "platform_only", detail));
        }
        let hold = Hold {
            expires_in: time("expires_in", self.expires_in.as_deref())?,
            check_after: time("check_after", self.check_after.as_deref())?,
        };
        if !self.pending && hold != Hold::default() {
            return Err(wrong("`expires_in` and `check_after` go with `pending`: true.".to_owned()));
        }
        if hold.check_after.is_some() && debit.merchant().or(credit.merchant()).is_none() {
            return Err(wrong("`check_after` asks a merchant, and neither account is a merchant's.".to_owned()));
        }
        if hold.expires_in.zip(hold.check_after).is_some_and(|(end, check)| check >= end) {
            return Err(wrong("`check_after` is shorter than `expires_in`.".to_owned()));
        }
        let hold = self.pending.then_some(hold);
        Ok(NewTransfer { debit, credit, amount_minor: self.amount_minor, currency, hold })
    }
}

/// Makes a transfer, at once or held.
#[utoipa::path(post, path = "/v1/transfers", request_body = TransferBody,
    params(("Idempotency-Key" = String, Header, description = "The same for every try of this call")),
    responses(
        (status = 201, description = "The transfer", body = views::Transfer),
        (status = 403, description = "Only the platform may make it.", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "A call with this key runs.", content_type = "application/problem+json", body = Problem),
        (status = 422, description = "It cannot be made so, or the key was used for another call.", content_type = "application/problem+json", body = Problem),
    ))]
pub async fn transfer(With(calls): With<Calls>, keyed: Keyed) -> ApiResult {
    let example = "{\"debit_account\", \"credit_account\", \"amount_minor\", \"currency\"}";
    let asked: TransferBody = keyed.read(example)?;
    match asked.checked(&calls.state.config.load(), keyed.merchant()) {
        Ok(asked) => create::decided(&calls, keyed, Call::Transfer(asked)).await,
        Err(problem) => create::before_or(&calls, keyed, problem).await,
    }
}

/// Lists transfers.
#[utoipa::path(get, path = "/v1/transfers", responses((status = 200, description = "A page of the list",
    body = views::Page<views::Transfer>)))]
pub async fn all(With(calls): With<Calls>, Extension(scope): Caller, QueryParams(pairs): QueryParams) -> ApiResult {
    calls::listed::<views::Transfer>(&calls, &list::TRANSFERS, &pairs, scope).await
}

/// A transfer.
#[utoipa::path(get, path = "/v1/transfers/{id}", params(("id" = String, Path)),
    responses((status = 200, description = "The transfer", body = views::Transfer)))]
pub async fn one(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    id: Segment,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    list::only(&pairs, &[])?;
    let id = uuid(id, "transfer")?;
    let found = calls.read(move |reader| query::one::<rows::Transfer>(reader, id, scope.0.as_deref())).await?;
    json(found.map(views::Transfer::of), "transfer")
}

/// Posts a transfer that is held.
#[utoipa::path(post, path = "/v1/transfers/{id}/post",
    params(("id" = String, Path), ("Idempotency-Key" = String, Header, description = "The same for every try of this call")),
    responses(
        (status = 200, description = "The transfer, posted", body = views::Transfer),
        (status = 403, description = "Only the platform may decide it.", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "It is decided already, or a call with this key runs.", content_type = "application/problem+json", body = Problem),
    ))]
pub async fn post(With(calls): With<Calls>, id: Segment, keyed: Keyed) -> ApiResult {
    create::decided(&calls, keyed, Call::Post(uuid(id, "transfer")?)).await
}

/// Voids a transfer that is held: gives back what it holds.
#[utoipa::path(post, path = "/v1/transfers/{id}/void",
    params(("id" = String, Path), ("Idempotency-Key" = String, Header, description = "The same for every try of this call")),
    responses(
        (status = 200, description = "The transfer, voided", body = views::Transfer),
        (status = 403, description = "Only the platform may decide it.", content_type = "application/problem+json", body = Problem),
        (status = 409, description = "It is decided already, or a call with this key runs.", content_type = "application/problem+json", body = Problem),
    ))]
pub async fn void(With(calls): With<Calls>, id: Segment, keyed: Keyed) -> ApiResult {
    create::decided(&calls, keyed, Call::Void(uuid(id, "transfer")?)).await
}
