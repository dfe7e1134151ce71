//! A message to a receiver, and its two forms.
//!
//! `webhook` is Standard Webhooks (standard-webhooks/standard-webhooks, `spec/standard-webhooks.md`): three headers and
//! a body of `type`, `timestamp` and `data`. The signature covers id, time of the attempt and body; it is left out
//! without a secret. `alertmanager` is the input of Alertmanager's API, version 2, at `/api/v2/alerts`: an array of one
//! alert.
//!
//! An id is the same in every attempt, so a receiver can recognise a repetition. It contains no full stop, because the
//! signature's parts are joined with one.

use serde_json::{Value, json};

use config::model::NotifyFormat;
use gray::report::{Action, Kind, Report};

/// A message, before it has a form.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its id, the same in every attempt.
    pub id: String,
    /// Such as `release.rolled_back`.
    pub event: String,
    /// When it happened, RFC 3339.
    pub at: String,
    /// The full content.
    pub data: Value,
    /// The same for Alertmanager.
    pub alert: Alert,
}

/// An alert in Alertmanager's API.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The labels that identify the alert; `alertname` first.
    pub labels: Vec<(&'static str, String)>,
    /// One line.
    pub summary: String,
    /// More lines.
    pub description: String,
    /// When it began, RFC 3339.
    pub starts_at: String,
}

impl Message {
    /// A message about a release.
    pub fn of_report(report: &Report) -> Message {
        let facts = &report.facts;
        let labels = vec![
            ("alertname", "TollgateRelease".to_owned()),
            ("release", facts.release.clone()),
            ("kind", facts.kind.label().to_owned()),
            ("action", facts.action.label().to_owned()),
            ("severity", severity(facts.kind, facts.action).to_owned()),
        ];
        let places = facts.places.iter().map(|place| format!("\n{}", place.text)).collect::<String>();
        let alert = Alert {
            labels,
            summary: report.verdict.clone(),
            description: format!("{}{places}\n{}\nReport {}", report.verdict, report.next, report.id),
            starts_at: facts.since.clone().unwrap_or_else(|| facts.at.clone()),
        };
        Message {
            id: format!("msg_{}", report.id.replace('.', "_")),
            event: format!("release.{}", facts.action.label()),
            at: facts.at.clone(),
            // A report consists of text and finite numbers, so it always has a JSON form.
            data: serde_json::to_value(report).unwrap_or_default(),
            alert,
        }
    }

    /// A message about a state of the ledger: `kind` in one word, `text` without personal data; reported at `at`, and
    /// true since `since`, both RFC 3339.
    pub fn of_alarm(kind: &str, severity: &str, text: &str, at: &str, since: &str) -> Message {
        let labels = vec![
            ("alertname", "TollgateLedger".to_owned()),
            ("kind", kind.to_owned()),
            ("severity", severity.to_owned()),
        ];
        let moment: String = at.chars().filter(|c| !matches!(c, '-' | ':')).collect();
        Message {
            id: format!("msg_{}-ledger-{kind}", moment.replace('.', "_")),
            event: format!("ledger.{kind}"),
            at: at.to_owned(),
            data: json!({"kind": kind, "severity": severity, "text": text, "since": since}),
            alert: Alert {
                labels,
                summary: format!("ledger: {kind}"),
                description: text.to_owned(),
                starts_at: since.to_owned(),
            },
        }
    }

    /// The body for a receiver of this format.
    pub fn body(&self, format: NotifyFormat) -> String {
        let value = match format {
            NotifyFormat::Webhook => json!({"type": self.event, "timestamp": self.at, "data": self.data}),
            NotifyFormat::Alertmanager => {
                let labels: serde_json::Map<String, Value> =
                    self.alert.labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
                json!([{
                    "labels": labels,
                    "annotations": {"summary": self.alert.summary, "description": self.alert.description},
                    "startsAt": self.alert.starts_at,
                }])
            }
        };
        value.to_string()
    }
}

/// A rollback that has succeeded can wait; while users are still harmed, a person must act.
fn severity(kind: Kind, action: Action) -> &'static str {
    match (kind, action) {
        (Kind::NoEvidence, _) => "info",
        (Kind::Untrusted, _) | (_, Action::RolledBack) => "warning",
        (Kind::Worse | Kind::Watch | Kind::Outside | Kind::Shared, Action::Held | Action::Reported) => "critical",
    }
}
