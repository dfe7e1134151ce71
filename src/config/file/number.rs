//! Numbers with their range in the type, so that a number out of range is found where it is read. Nothing is clamped.
//!
//! A percentage may be written as an integer or as a float; a whole number may not be written as a float.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::units::Share;

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number<const MIN: u64, const MAX: u64>(pub u64);

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Number<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers<const MIN: u64, const MAX: u64>;
        impl<const MIN: u64, const MAX: u64> Numbers<MIN, MAX> {
            fn within<E: Error>(number: Option<u64>, written: impl fmt::Display) -> Result<u64, E> {
                number.filter(|number| (MIN..=MAX).contains(number)).ok_or_else(|| {
                    E::custom(format!("`{written}` is out of range\na whole number from {MIN} to {MAX}"))
                })
            }
        }
        impl<const MIN: u64, const MAX: u64> Visitor<'_> for Numbers<MIN, MAX> {
            type Value = u64;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}, such as {}", MIN.max(1))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
                Self::within(u64::try_from(number).ok(), number)
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
                Self::within(Some(number), number)
            }
            fn visit_i128<E: Error>(self, number: i128) -> Result<u64, E> {
                Self::within(u64::try_from(number).ok(), number)
            }
            fn visit_u128<E: Error>(self, number: u128) -> Result<u64, E> {
                Self::within(u64::try_from(number).ok(), number)
            }
        }
        deserializer.deserialize_any(Numbers::<MIN, MAX>).map(Number)
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Number<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A share in percent, from 0 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent<const MAX: u32>(pub Share);

impl<'de, const MAX: u32> Deserialize<'de> for Percent<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Percents<const MAX: u32>;
        impl<const MAX: u32> Visitor<'_> for Percents<MAX> {
            type Value = Share;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of percent, such as 20 or 0.5")
            }
            fn visit_f64<E: Error>(self, percent: f64) -> Result<Share, E> {
                Share::percent(percent).filter(|_| percent <= f64::from(MAX)).ok_or_else(|| {
                    E::custom(format!("`{percent}` is out of range\na number of percent from 0 to {MAX}"))
                })
            }
            fn visit_i64<E: Error>(self, percent: i64) -> Result<Share, E> {
                self.visit_f64(percent as f64)
            }
            fn visit_u64<E: Error>(self, percent: u64) -> Result<Share, E> {
                self.visit_f64(percent as f64)
            }
        }
        deserializer.deserialize_any(Percents::<MAX>).map(Percent)
    }
}

impl<const MAX: u32> JsonSchema for Percent<MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": MAX })
    }
}
