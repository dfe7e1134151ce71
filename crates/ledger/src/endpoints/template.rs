//! A body of the receiver's own shape: JSON with `{{placeholders}}` that an event fills.
//!
//! Within a JSON string a placeholder becomes escaped text. Elsewhere it becomes a value: a number, a quoted text, or
//! null. `{{data.amount}}` is the amount in major units, as the currency writes it: `9.90`.

use serde_json::Value;

use base::units::Currency;

/// The most bytes of a template.
const TEXT_MAX: usize = 8 << 10;
/// The placeholders: of every event, and of what it tells of.
const NAMES: [&str; 29] = [
    "id",
    "type",
    "timestamp",
    "data.amount",
    "data.amount_minor",
    "data.channel",
    "data.channel_txn_no",
    "data.created_at",
    "data.credit_account",
    "data.currency",
    "data.debit_account",
    "data.expires_at",
    "data.fee_minor",
    "data.id",
    "data.kind",
    "data.merchant",
    "data.occurred_at",
    "data.order_id",
    "data.out_trade_no",
    "data.paid_at",
    "data.paid_minor",
    "data.payment_txn_no",
    "data.recorded_at",
    "data.refund_pending_minor",
    "data.refunded_minor",
    "data.sequence",
    "data.source",
    "data.state",
    "data.transaction_id",
];

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A placeholder, and whether it stands within a JSON string.
    Field(&'static str, bool),
}

impl Template {
    /// Parses a template; an error names the place.
    pub fn parse(text: &str) -> Result<Template, String> {
        if text.len() > TEXT_MAX {
            return Err(format!("`template` has at most {TEXT_MAX} bytes."));
        }
        let (mut parts, mut rest, mut within) = (vec![], text, false);
        while let Some((before, after)) = rest.split_once("{{") {
            let at = text.len() - after.len() - 2;
            let Some((name, left)) = after.split_once("}}") else {
                return Err(format!("`template` opens a placeholder at {} that it does not close.", place(text, at)));
            };
            let Some(known) = NAMES.iter().find(|known| **known == name.trim()) else {
                return Err(format!(
                    "`template` has an unknown placeholder at {}; there are: {}.",
                    place(text, at),
                    NAMES.join(", ")
                ));
            };
            within = is_within(before, within);
            parts.extend([Part::Text(before.to_owned()), Part::Field(known, within)]);
            rest = left;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Template(parts))
    }

    /// Checks that it is JSON once it is filled.
    pub fn check(&self) -> Result<(), String> {
        for sample in [Value::Null, Value::from(1), Value::from("a\"b\\\n")] {
            let filled = self.with(|_| sample.clone());
            if let Err(e) = serde_json::from_str::<serde::de::IgnoredAny>(&filled) {
                return Err(format!("`template` is no JSON once it is filled: {e}."));
            }
        }
        Ok(())
    }

    /// The body for an event with this id and own body.
    pub fn fill(&self, id: &str, body: &str) -> String {
        let event: Value = serde_json::from_str(body).unwrap_or_default();
        self.with(|name| match name {
            "id" => Value::from(id),
            "data.amount" => amount(&event["data"]).map_or(Value::Null, Value::from),
            _ => name.split('.').fold(&event, |value, key| &value[key]).clone(),
        })
    }

    fn with(&self, value: impl Fn(&str) -> Value) -> String {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Field(name, false) => filled.push_str(&value(name).to_string()),
                Part::Field(name, true) => {
                    let text = match value(name) {
                        Value::Null => String::new(),
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    let quoted = Value::from(text).to_string();
                    filled
                        .push_str(quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default());
                }
            }
        }
        filled
    }
}

/// Whether the end of `text` stands within a JSON string, if its beginning does or does not.
fn is_within(text: &str, mut within: bool) -> bool {
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if within => escaped = true,
            b'"' => within = !within,
            _ => {}
        }
    }
    within
}

/// Line and column of a byte.
fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line} column {column}")
}

/// The amount in major units.
fn amount(data: &Value) -> Option<String> {
    let minor = data["amount_minor"].as_i64()?;
    let digits = Currency::parse(data["currency"].as_str()?)?.digits();
    Some(rust_decimal::Decimal::try_from_i128_with_scale(minor.into(), digits).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"type":"payment.posted","timestamp":"2026-12-01T00:00:00.000Z","data":
        {"out_trade_no":"A \"1\"\\","amount_minor":990,"currency":"USD","fee_minor":null}}"#;

    fn filled(template: &str) -> String {
        let template = Template::parse(template).unwrap();
        template.check().unwrap();
        template.fill("e-1", BODY)
    }

    #[test]
    fn a_text_is_escaped_within_a_string_and_quoted_elsewhere() {
        assert_eq!(filled(r#"{"text":"Order {{data.out_trade_no}}"}"#), r#"{"text":"Order A \"1\"\\"}"#);
        assert_eq!(
            filled(r#"{"no":{{data.out_trade_no}},"n":{{ data.amount_minor }}}"#),
            r#"{"no":"A \"1\"\\","n":990}"#
        );
        assert_eq!(filled(r#"{"a\"{{id}}":"{{data.fee_minor}}","b":{{data.fee_minor}}}"#), r#"{"a\"e-1":"","b":null}"#);
    }

    #[test]
    fn amounts_are_in_major_units_of_their_currency() {
        assert_eq!(filled(r#"["{{data.amount}} {{data.currency}}"]"#), r#"["9.90 USD"]"#);
        let yen = BODY.replace("USD", "JPY");
        assert_eq!(Template::parse("[{{data.amount}}]").unwrap().fill("", &yen), r#"["990"]"#);
        let dinar = BODY.replace("USD", "KWD");
        assert_eq!(Template::parse("[{{data.amount}}]").unwrap().fill("", &dinar), r#"["0.990"]"#);
    }

    #[test]
    fn what_cannot_be_filled_is_refused_with_its_place() {
        let why = |template: &str| Template::parse(template).and_then(|template| template.check()).unwrap_err();
        assert!(why("{\n \"a\": \"{{data.nothing}}\"}").contains("line 2 column 8"));
        assert!(why("{\"a\": \"{{id").contains("does not close"));
        assert!(why("{\"a\": {{id}}").contains("no JSON"));
        assert!(why("Order {{data.out_trade_no}}").contains("no JSON"));
        assert!(why("{\"{{id}}").contains("no JSON"));
    }
}
