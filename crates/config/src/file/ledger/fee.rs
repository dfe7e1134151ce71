//! The form of `fee`: a percentage that is kept exactly as written, and amounts in minor units.
//!
//! A percentage may be an integer, a float or a string. The shortest spelling of a float of up to fifteen digits is
//! exact. A float with more digits may have lost some, so it is refused rather than rounded, and asked for in quotes.

use std::borrow::Cow;
use std::fmt;

use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::super::located::Located;
use super::super::number::Number;
use super::super::scalar::{OneOf, Word, shown};
use crate::model::ledger::Rounding;

/// The largest amount that JSON keeps exactly: 2^53 - 1.
pub const AMOUNT_MAX: u64 = 9_007_199_254_740_991;

/// The digits that every float keeps exactly.
const DIGITS: usize = 15;

/// What the merchant is charged: percent of the amount and fixed_minor, at least minimum_minor.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeeForm {
    /// Percent of the amount, exactly as written: 0.6 or "0.6".
    #[schemars(extend("default" = 0))]
    pub percent: Option<Located<Exact>>,
    /// Added to it, in minor units of the payment's currency.
    #[schemars(extend("default" = 0))]
    pub fixed_minor: Option<Located<Number<0, AMOUNT_MAX>>>,
    /// The least fee, in minor units of the payment's currency.
    #[schemars(extend("default" = 0))]
    pub minimum_minor: Option<Located<Number<0, AMOUNT_MAX>>>,
    /// How a fraction of a minor unit is rounded.
    #[schemars(extend("default" = "half_even"))]
    pub rounding: Option<Word<Rounding>>,
}

impl OneOf for Rounding {
    const WHAT: &'static str = "a way to round";
    const EXAMPLE: &'static str = "\"half_even\"";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("half_even", Rounding::HalfEven),
        ("half_up", Rounding::HalfUp),
        ("up", Rounding::Up),
        ("down", Rounding::Down),
    ];
}

/// A percentage from 0 to 100, exactly as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact(pub Decimal);

/// Reads the decimal digits of `text`.
fn exactly(text: &str) -> Result<Exact, String> {
    let decimal = Decimal::from_str_exact(text).map_err(|_| {
        let why = "is no number of percent that can be kept exactly";
        format!("`{}` {why}\nwrite its digits, at most 28 of them, such as \"0.6\"", shown(text))
    })?;
    if decimal.is_sign_negative() && !decimal.is_zero() || decimal > Decimal::ONE_HUNDRED {
        return Err(format!("`{}` is out of range\na number of percent from 0 to 100", shown(text)));
    }
    Ok(Exact(decimal.normalize()))
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Exacts;
        impl Visitor<'_> for Exacts {
            type Value = Exact;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of percent, such as 0.6 or \"0.6\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Exact, E> {
                exactly(text).map_err(E::custom)
            }
            fn visit_f64<E: Error>(self, percent: f64) -> Result<Exact, E> {
                if !(0.0..=100.0).contains(&percent) {
                    let message = format!("`{percent:e}` is out of range\na number of percent from 0 to 100");
                    return Err(E::custom(message));
                }
                let text = percent.to_string();
                let digits = text.trim_start_matches(['0', '.']).bytes().filter(u8::is_ascii_digit).count();
                if digits > DIGITS {
                    let hint = "write it in quotes, so that every digit is kept: percent = \"0.6\"";
                    return Err(E::custom(format!("`{text}` has more digits than a float keeps\n{hint}")));
                }
                exactly(&text).map_err(E::custom)
            }
            fn visit_i64<E: Error>(self, percent: i64) -> Result<Exact, E> {
                exactly(&percent.to_string()).map_err(E::custom)
            }
            fn visit_u64<E: Error>(self, percent: u64) -> Result<Exact, E> {
                exactly(&percent.to_string()).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Exacts)
    }
}

impl JsonSchema for Exact {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Exact".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["number", "string"], "minimum": 0, "maximum": 100 })
    }
}
