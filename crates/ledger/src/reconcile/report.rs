//! What the statements of a channel found, as JSON, CSV and Markdown.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::query;
use crate::query::views::{self, View};
use crate::rows::{Anomaly, Finding, Reconciliation, Value};
use crate::store::{Reader, StoreError};

/// Anomalies that are read at once.
const PAGE: usize = 200;

/// The reconciliation of a statement.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Reconciliation)]
pub struct Report {
    /// The reconciliation's id.
    pub id: String,
    /// The channel.
    pub channel: String,
    /// The day of the statement, in the provider's time zone.
    #[schema(format = Date)]
    pub date: String,
    /// `done`: a statement is compared before it is answered.
    pub state: &'static str,
    /// Rows of the statement.
    pub rows: i64,
    /// Its rows that are in the books as it has them.
    pub matched: i64,
    /// What its runs found, in that order.
    pub anomalies: Vec<views::Anomaly>,
}

/// A form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The object.
    Json,
    /// A line for each anomaly.
    Csv,
    /// A page for people.
    Markdown,
}

impl Format {
    /// The format of this name.
    pub fn named(name: &str) -> Option<Format> {
        match name {
            "json" => Some(Format::Json),
            "csv" => Some(Format::Csv),
            "markdown" => Some(Format::Markdown),
            _ => None,
        }
    }
}

/// The anomalies that the runs of a statement found, each with its number.
pub fn found(reader: &mut dyn Reader, reconciliation: Uuid) -> Result<Vec<(Finding, Anomaly)>, StoreError> {
    let id = crate::rows::Cell::put(&reconciliation);
    let findings = query::rows::<Finding>(reader, " WHERE reconciliation_id = $1 ORDER BY seq", &[id])?;
    let mut anomalies = HashMap::new();
    for page in findings.chunks(PAGE) {
        let (tail, ids): (String, Vec<Value>) = query::among("id", page.iter().map(|one| one.anomaly_id), PAGE);
        anomalies.extend(query::rows::<Anomaly>(reader, &tail, &ids)?.into_iter().map(|one| (one.id, one)));
    }
    Ok(findings.into_iter().filter_map(|one| anomalies.remove(&one.anomaly_id).map(|anomaly| (one, anomaly))).collect())
}

/// The report of a reconciliation; `None` if there is none of this id.
pub fn read(reader: &mut dyn Reader, id: Uuid) -> Result<Option<Report>, StoreError> {
    let Some(row) = query::one::<Reconciliation>(reader, id, None)? else { return Ok(None) };
    let anomalies = found(reader, id)?.into_iter().map(|(_, anomaly)| views::Anomaly::of(anomaly)).collect();
    Ok(Some(Report {
        id: row.id.to_string(),
        channel: row.channel,
        date: row.day,
        state: "done",
        rows: row.rows,
        matched: row.matched,
        anomalies,
    }))
}

impl Report {
    /// A line for each anomaly, under a header.
    pub fn csv(&self) -> String {
        let mut out = csv::Writer::from_writer(vec![]);
        let head = ["id", "kind", "state", "transaction_id", "opened_at", "detail"];
        let lines = self.anomalies.iter().map(|one| {
            [
                &one.id,
                one.kind,
                one.state,
                one.transaction_id.as_deref().unwrap_or_default(),
                &one.opened_at,
                &one.detail,
            ]
        });
        // A buffer takes all that is written.
        let written = std::iter::once(head).chain(lines).try_for_each(|line| out.write_record(line));
        let bytes = written.ok().and_then(|()| out.into_inner().ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A page for people.
    pub fn markdown(&self) -> String {
        let Report { channel, date, rows, matched, anomalies, .. } = self;
        let open = anomalies.iter().filter(|one| one.state == "open").count();
        let mut page = format!(
            "# Reconciliation of {channel}, {date}\n\n{rows} rows, {matched} of them in the books as the statement has \
             them. {open} anomalies are open, {} are resolved.\n",
            anomalies.len() - open
        );
        if !anomalies.is_empty() {
            page.push_str("\n| state | kind | detail | anomaly |\n|---|---|---|---|\n");
        }
        for one in anomalies {
            let detail = one.detail.replace('|', "\\|");
            page.push_str(&format!("| {} | {} | {detail} | {} |\n", one.state, one.kind, one.id));
        }
        page
    }
}
