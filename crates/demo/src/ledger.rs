//! The ledger's API, read with the platform's token, and its state at `/readyz`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::{HeaderName, header};
use serde_json::Value;

use crate::client;

/// Rows in a page.
const PAGE: usize = 500;

/// Balances (debits less credits, in minor units) by account and currency.
pub type Balances = BTreeMap<(String, String), i64>;

/// A ledger's listener.
pub struct Ledger {
    /// The address of the listener.
    pub address: SocketAddr,
    /// The platform's token.
    pub token: String,
}

impl Ledger {
    /// Whether it takes callbacks.
    pub async fn is_ready(&self) -> bool {
        client::once(self.address, "GET", "/readyz").await.is_ok_and(|answer| answer.status.is_success())
    }

    /// Reads a JSON document.
    pub async fn json(&self, path: &str) -> Result<Value, String> {
        let bearer = format!("Bearer {}", self.token);
        let answer = client::once_with(self.address, "GET", path, &[(header::AUTHORIZATION, &bearer)], "").await?;
        let parsed = serde_json::from_str(&answer.body).ok().filter(|_| answer.status.is_success());
        parsed.ok_or_else(|| format!("{path} answered {}: {}", answer.status, answer.body))
    }

    /// Asks for something, under a key of its own; the status and the object.
    pub async fn ask(&self, path: &str, key: &str, body: &Value) -> Result<(u16, Value), String> {
        let (bearer, key_name) = (format!("Bearer {}", self.token), HeaderName::from_static("idempotency-key"));
        let headers = [(header::AUTHORIZATION, &*bearer), (key_name, key)];
        let answer = client::once_with(self.address, "POST", path, &headers, &body.to_string()).await?;
        let parsed = serde_json::from_str(&answer.body).map_err(|e| format!("{path} answered no JSON: {e}"))?;
        Ok((answer.status.as_u16(), parsed))
    }

    /// All rows of a list, page after page.
    pub async fn all(&self, path: &str) -> Result<Vec<Value>, String> {
        let (mut rows, mut cursor) = (vec![], String::new());
        loop {
            let page = self.json(&format!("{path}?limit={PAGE}{cursor}")).await?;
            rows.extend(page["data"].as_array().ok_or_else(|| format!("{path} is no list"))?.iter().cloned());
            let Some(next) = page["next"].as_str() else { return Ok(rows) };
            cursor = format!("&cursor={next}");
        }
    }
}

/// The balances in the output of `tollgate ledger balances --json`.
pub fn balances_of(document: &Value) -> Balances {
    let accounts = document["data"].as_array().into_iter().flatten();
    let of = |account: &Value| {
        let id = account["id"].as_str().unwrap_or_default().to_owned();
        let balances = account["balances"].as_array().cloned().unwrap_or_default().into_iter();
        balances.filter_map(move |balance| {
            Some(((id.clone(), balance["currency"].as_str()?.to_owned()), balance["balance_minor"].as_i64()?))
        })
    };
    accounts.flat_map(of).collect()
}

/// The balances in the output of `tollgate ledger export --format csv`, summed entry by entry.
pub fn balances_of_entries(text: &str) -> Option<Balances> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().ok()?.clone();
    let [account, debit, credit, currency] = ["account", "debit_minor", "credit_minor", "currency"]
        .map(|name| names.iter().position(|column| column == name));
    let (account, debit, credit, currency) = (account?, debit?, credit?, currency?);
    let mut balances = Balances::new();
    for row in reader.records() {
        let row = row.ok()?;
        let minor = |column: usize| row.get(column).filter(|text| !text.is_empty()).map_or(Ok(0), str::parse::<i64>);
        let amount = minor(debit).ok()? - minor(credit).ok()?;
        *balances.entry((row[account].to_owned(), row[currency].to_owned())).or_default() += amount;
    }
    Some(balances)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_tell_the_same_balances() {
        let text = "account,debit_minor,credit_minor,currency\na,5,,CNY\nb,,5,CNY\na,0,2,CNY\n";
        let entries = balances_of_entries(text).unwrap();
        let document = json!({"data": [
            {"id": "a", "balances": [{"currency": "CNY", "balance_minor": 3}]},
            {"id": "b", "balances": [{"currency": "CNY", "balance_minor": -5}]},
        ]});
        assert_eq!(entries, balances_of(&document));
        assert_eq!(balances_of_entries("account,debit_minor\na,5\n"), None);
    }
}
