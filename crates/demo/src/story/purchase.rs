//! A purchase: the merchant creates an order, the payer pays it, a part goes back, and the provider's statement of the
//! day is held against the books. The statement has one payment that the ledger never heard of.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::payments::Paid;
use super::{LIMIT, Story};
use crate::payment::{Callback, Channel};
use crate::sender::send;
use crate::stage::until;
use base::clock;

/// The order's number within the channel; the load has lower ones.
const ORDER: u32 = 1_000;
/// The order's amount in fen, and what goes back of it.
const AMOUNT: i64 = 4_200;
const BACK: i64 = 1_200;
/// The payment whose callback never came.
const LOST: &str = "pi_wallet_lost";

impl Story<'_> {
    pub(super) async fn purchase(&mut self, paid: &Paid) -> Result<(), String> {
        self.tell.act("A purchase, from the order to the statement");
        let payment = Callback { channel: Channel::Wallet, order: ORDER, is_refund: false, amount: AMOUNT };
        let order = self.is_ordered(paid, &payment).await?;
        self.is_paid(paid, &payment, &order).await?;
        self.is_refunded(paid, &payment, &order).await?;
        self.reconciles(paid).await
    }

    /// The merchant creates an order, and asks twice as one does who got no answer; the order's id.
    async fn is_ordered(&mut self, paid: &Paid, payment: &Callback) -> Result<String, String> {
        let body = json!({ "merchant": "shop", "channel": "wallet", "out_trade_no": payment.out_trade_no(),
            "amount_minor": AMOUNT, "currency": "CNY" });
        let (status, order) = paid.ledger.ask("/v1/orders", "purchase-1", &body).await?;
        let again = paid.ledger.ask("/v1/orders", "purchase-1", &body).await?;
        self.tell.say(format_args!("POST /v1/orders {body}"));
        let is_pending = status == 201 && order["state"] == "pending" && again == (status, order.clone());
        self.promise(is_pending, "an order is created once, however often it is asked for under one key");
        order["id"].as_str().map(str::to_owned).ok_or_else(|| format!("no order: {order}"))
    }

    /// The payer pays, and the merchant hears of it.
    async fn is_paid(&mut self, paid: &Paid, payment: &Callback, order: &str) -> Result<(), String> {
        self.calls_back(payment).await?;
        let shown = paid.ledger.json(&format!("/v1/orders/{order}")).await?;
        let transactions =
            paid.ledger.json(&format!("/v1/transactions?out_trade_no={}", payment.out_trade_no())).await?;
        let transaction = transactions["data"][0]["id"].as_str().unwrap_or_default().to_owned();
        let told = async || {
            let heard = self.heard().await.ok()?;
            heard.events.values().any(|event| event.transaction == transaction).then_some(())
        };
        let told = until("the merchant to hear of the payment", LIMIT, told).await.is_ok();
        self.promise(
            shown["state"] == "paid" && shown["paid_minor"] == AMOUNT && told,
            "its callback pays the order, and the merchant has the event",
        );
        Ok(())
    }

    /// The merchant gives a part back.
    async fn is_refunded(&mut self, paid: &Paid, payment: &Callback, order: &str) -> Result<(), String> {
        let refund = Callback { is_refund: true, amount: BACK, ..payment.clone() };
        let (path, number) = (format!("/v1/orders/{order}/refunds"), refund.out_refund_no());
        let much = json!({ "out_refund_no": "too-much", "amount_minor": AMOUNT + 1 });
        let (refused, _) = paid.ledger.ask(&path, "purchase-2", &much).await?;
        let body = json!({ "out_refund_no": number, "amount_minor": BACK });
        let (status, asked) = paid.ledger.ask(&path, "purchase-3", &body).await?;
        self.calls_back(&refund).await?;
        let id = asked["id"].as_str().unwrap_or_default();
        let ended = paid.ledger.json(&format!("/v1/refunds/{id}")).await?;
        self.promise(
            refused == 422 && status == 201 && asked["state"] == "pending" && ended["state"] == "succeeded",
            "a refund of more than was paid is refused; one of a part succeeds with the provider's message",
        );
        Ok(())
    }

    async fn calls_back(&mut self, callback: &Callback) -> Result<(), String> {
        let signed = callback.signed(&self.secrets, clock::wall_ms());
        let answer = send(&self.visitor.door, &mut None, &signed).await?;
        self.visitor.answers += 1;
        if answer.status.is_success() { Ok(()) } else { Err(format!("{}: {}", signed.path, answer.status)) }
    }

    /// The statement has all of the day, and a payment whose callback never came.
    async fn reconciles(&mut self, paid: &Paid) -> Result<(), String> {
        let mut days = BTreeMap::<String, Vec<Value>>::new();
        for row in paid.ledger.all("/v1/transactions").await? {
            if row["channel"] == "wallet" && row["channel_txn_no"].is_string() {
                let day = row["occurred_at"].as_str().unwrap_or_default().chars().take(10).collect();
                days.entry(day).or_default().push(row);
            }
        }
        // The load may have begun before midnight.
        let (day, rows) = days.pop_last().ok_or("the wallet had no payments")?;
        let file = self.folder.at("wallet.csv");
        std::fs::write(&file, statement(&day, &rows)).map_err(|e| format!("{}: {e}", file.display()))?;
        let file = file.to_string_lossy().into_owned();
        let words = ["reconcile", "wallet", &file, "--date", &day];
        let (is_clean, said) = self.ledger_tool(&words).await?;
        self.tell.say(format_args!("tollgate ledger reconcile wallet wallet.csv --date {day} -c gateway.toml"));
        self.tell.quote(&said);
        let open = paid.ledger.json("/v1/anomalies?state=open&kind=missing_in_ledger").await?;
        let found = open["data"].as_array().cloned().unwrap_or_default();
        let names = found.first().and_then(|found| found["detail"].as_str()).is_some_and(|text| text.contains(LOST));
        self.promise(
            !is_clean && found.len() == 1 && names,
            format!("{} lines of the statement are in the books, and {LOST} is found missing", rows.len()),
        );
        let id = found.first().and_then(|found| found["id"].as_str()).unwrap_or_default();
        let note = json!({ "action": "dismiss", "note": "the provider sends its callback again" });
        let (resolved, _) = paid.ledger.ask(&format!("/v1/anomalies/{id}/resolve"), "", &note).await?;
        let (is_clean, _) = self.ledger_tool(&words).await?;
        let open = paid.ledger.json("/v1/anomalies?state=open").await?;
        let none = open["data"].as_array().is_some_and(Vec::is_empty);
        self.promise(resolved == 200 && is_clean && none, "it is resolved, and the statement again finds nothing new");
        Ok(())
    }
}

/// The provider's file of a day.
fn statement(day: &str, rows: &[Value]) -> String {
    let line = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let (number, kind, trade, at) =
            (text("channel_txn_no"), text("kind"), text("out_trade_no"), text("occurred_at"));
        format!("{number},{kind},{},CNY,{trade},SUCCESS,{at}\n", row["amount_minor"])
    };
    let lines: String = rows.iter().map(line).collect();
    format!(
        "number,kind,amount_minor,currency,out_trade_no,status,at\n{lines}\
         {LOST},payment,990,CNY,order-wallet-lost,SUCCESS,{day}T12:00:00Z\n"
    )
}
