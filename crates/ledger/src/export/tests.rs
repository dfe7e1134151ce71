//! Exports of a small book, read back by a CSV reader and by hledger itself.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::query::accounts;
use crate::query::tests::book::sample;
use crate::stored_enum::What;
use providers::event::Kind;

fn exported(format: Format) -> String {
    let mut text = vec![];
    export(&mut sample().reader(), format, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn csv_has_a_line_for_each_entry_in_the_order_of_the_books() {
    let text = exported(Format::Csv);
    let mut lines = text.lines();
    assert_eq!(
        lines.next().unwrap(),
        "sequence,transaction_id,recorded_at,kind,merchant,channel,out_trade_no,channel_txn_no,account,debit_minor,\
         credit_minor,currency"
    );
    let first = "5,01900000-0000-7000-8000-000000000003,2026-11-21T03:38:00.120Z,payment,shop,card,T-1,pi_1,";
    assert_eq!(lines.next().unwrap(), format!("{first}assets:channel:card,10000,0,CNY"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 16);
    let number = |record: &csv::StringRecord, at: usize| record[at].parse::<i64>().unwrap();
    assert!(records.windows(2).all(|pair| number(&pair[0], 0) < number(&pair[1], 0)));
    let sum = |at| records.iter().map(|record| number(record, at)).sum::<i64>();
    assert_eq!(sum(9), sum(10));
}

fn hledger(file: &Path, arguments: &[&str]) -> String {
    let done = Command::new("hledger").arg("-f").arg(file).args(arguments).output();
    let done = done.unwrap_or_else(|e| panic!("hledger: {e}; apt-get install hledger"));
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn hledger_takes_the_books_strictly_and_finds_the_same_balances() {
    let text = exported(Format::Hledger);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.journal");
    std::fs::write(&file, &text).unwrap();
    hledger(&file, &["check", "-s", "ordereddates"]);
    let mut compared = 0;
    for account in accounts::all(&mut sample().reader()).unwrap() {
        for balance in account.balances {
            let only = [&*format!("^{}$", account.id), &*format!("cur:{}", balance.currency)].map(str::to_owned);
            let told = hledger(&file, &["bal", "--flat", "-N", "-E", "-O", "csv", &only[0], &only[1]]);
            let minor = if balance.currency == "JPY" {
                balance.balance_minor.to_string()
            } else {
                let sign = if balance.balance_minor < 0 { "-" } else { "" };
                let minor = balance.balance_minor.abs();
                format!("{sign}{}.{:02}", minor / 100, minor % 100)
            };
            let amount =
                if balance.balance_minor == 0 { "0".to_owned() } else { format!("{} {minor}", balance.currency) };
            let expected = format!("\"{}\",\"{amount}\"", account.id);
            assert!(told.lines().any(|line| line == expected), "{expected} is not in {told}");
            compared += 1;
        }
    }
    assert_eq!(compared, 8);
    let printed = hledger(&file, &["print", "tag:transaction_id=01900000-0000-7000-8000-000000000003"]);
    assert!(printed.contains("2026-11-21 payment") && printed.contains("CNY 100.00"), "{printed}");
    assert_eq!(hledger(&file, &["commodities"]), "CNY\nJPY\n");
}

#[test]
fn empty_books_are_exported_too() {
    let mut text = vec![];
    let book = crate::query::tests::book::Book::empty();
    export(&mut book.reader(), Format::Hledger, &mut text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.journal");
    std::fs::write(&file, &text).unwrap();
    hledger(&file, &["check", "-s", "ordereddates"]);
}

#[test]
fn amounts_that_stripe_counts_in_other_units_are_the_sums_that_were_paid() {
    for (code, amount) in [("MGA", "MGA 10000"), ("ISK", "ISK 100.00"), ("KWD", "KWD 10.000")] {
        let mut book = sample();
        let paid_out = book.fact(|t| (t.kind, t.provider, t.channel) = (Kind::Payout, String::new(), String::new()));
        book.journal(&paid_out, What::Post, "liabilities:merchant:shop", "assets:bank");
        book.commit();
        for table in ["entries", "balances"] {
            let sql = format!("UPDATE {table} SET currency = ?1 WHERE currency = 'CNY'");
            book.store.execute(&sql, [code]).unwrap();
        }
        book.store.execute("UPDATE transactions SET provider = 'stripe' WHERE channel = 'card'", []).unwrap();
        let mut text = vec![];
        export(&mut book.reader(), Format::Hledger, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().any(|line| line.ends_with(amount)), "{amount} is not in {text}");
        let bank = text.lines().find(|line| line.contains("assets:bank  ")).unwrap();
        assert!(bank.ends_with(&amount.replace(' ', " -")), "{bank}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.journal");
        std::fs::write(&file, &text).unwrap();
        hledger(&file, &["check", "-s", "ordereddates"]);
    }
}

/// A reader beside which the books go on with each page.
struct Beside(crate::query::tests::book::TestReader, crate::query::tests::book::Book);

impl Reader for Beside {
    fn select(
        &mut self,
        sql: &str,
        values: &[Value],
        types: &[crate::rows::Type],
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let rows = self.0.select(sql, values, types)?;
        let fact = self.1.fact(|t| (t.channel, t.merchant) = ("later".to_owned(), "later".to_owned()));
        self.1.journal(&fact, What::Post, "assets:channel:later", "liabilities:merchant:later");
        self.1.commit();
        self.1.store.execute_batch("UPDATE transactions SET state = 'parked' WHERE kind = 'payment'").unwrap();
        Ok(rows)
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        panic!("a view would be open as long as somebody reads")
    }

    fn end(&mut self) {}
}

#[test]
fn an_export_ends_where_the_books_ended_when_it_began() {
    for format in [Format::Csv, Format::Hledger] {
        let book = sample();
        let mut text = vec![];
        export(&mut Beside(book.reader(), book), format, &mut text).unwrap();
        let alone = exported(format);
        assert_eq!(String::from_utf8(text).unwrap(), alone, "{format:?}");
    }
}
