//! Numbers with their range in the type, so that a number out of range is found where it is read. Nothing is clamped.
//!
//! A percentage may be written as an integer or as a float; a whole number may not be written as a float. A share of
//! users is a percentage that must be met exactly: one finer than 0.01 is refused, not rounded.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use base::units::{BasisPoints, Share};

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

/// A number as its author may have written it, without three hundred digits.
fn written(number: f64) -> String {
    let usual = number == 0.0 || (1e-9..1e15).contains(&number.abs()) || !number.is_finite();
    if usual { number.to_string() } else { format!("{number:e}") }
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
                    let percent = written(percent);
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

/// A share of users in percent: at least `MIN` hundredths, at most 100, in steps of 0.01.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Points<const MIN: u16>(pub BasisPoints);

impl<'de, const MIN: u16> Deserialize<'de> for Points<MIN> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Percents<const MIN: u16>;
        impl<const MIN: u16> Visitor<'_> for Percents<MIN> {
            type Value = BasisPoints;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of percent, such as 20 or 0.5")
            }
            fn visit_f64<E: Error>(self, percent: f64) -> Result<BasisPoints, E> {
                let least = f64::from(MIN) / 100.0;
                if percent == 0.0 && MIN > 0 || !(0.0..=100.0).contains(&percent) {
                    let hint = format!("a number of percent from {least} to 100");
                    return Err(E::custom(format!("`{}` is out of range\n{hint}", written(percent))));
                }
                // Both numbers are the nearest to the written one, so they are equal where nothing finer was written.
                BasisPoints::percent(percent).filter(|points| points.as_percent() == percent).ok_or_else(|| {
                    let near = ((percent * 100.0).round() / 100.0).max(least);
                    let hint = format!("users are counted in steps of 0.01 percent: such as {near}");
                    E::custom(format!("`{}` is finer than 0.01\n{hint}", written(percent)))
                })
            }
            fn visit_i64<E: Error>(self, percent: i64) -> Result<BasisPoints, E> {
                self.visit_f64(percent as f64)
            }
            fn visit_u64<E: Error>(self, percent: u64) -> Result<BasisPoints, E> {
                self.visit_f64(percent as f64)
            }
        }
        deserializer.deserialize_any(Percents::<MIN>).map(Points)
    }
}

impl<const MIN: u16> JsonSchema for Points<MIN> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Points".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": f64::from(MIN) / 100.0, "maximum": 100 })
    }
}

/// The probability of a false alarm: above 0, at most one half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance(pub f64);

impl<'de> Deserialize<'de> for Chance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Chances;
        impl Visitor<'_> for Chances {
            type Value = f64;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a chance, such as 0.001")
            }
            fn visit_f64<E: Error>(self, chance: f64) -> Result<f64, E> {
                if chance > 0.0 && chance <= 0.5 {
                    return Ok(chance);
                }
                let hint = "a chance above 0, at most 0.5, such as 0.001";
                Err(E::custom(format!("`{}` is out of range\n{hint}", written(chance))))
            }
            fn visit_i64<E: Error>(self, chance: i64) -> Result<f64, E> {
                self.visit_f64(chance as f64)
            }
        }
        deserializer.deserialize_any(Chances).map(Chance)
    }
}

impl JsonSchema for Chance {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Chance".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0, "maximum": 0.5 })
    }
}
