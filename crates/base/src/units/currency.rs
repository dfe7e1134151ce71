//! Currencies of ISO 4217, with their minor units.

use std::fmt;

/// A currency of ISO 4217.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: [u8; 3],
    digits: u8,
}

impl Currency {
    /// The yuan.
    pub const CNY: Currency = Currency { code: *b"CNY", digits: 2 };

    /// The currency of a code in any case; `None` where ISO 4217 has no such currency.
    pub fn parse(code: &str) -> Option<Currency> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        let code = bytes.map(|byte| byte.to_ascii_uppercase());
        let known = iso_currency::Currency::from_code(std::str::from_utf8(&code).ok()?)?;
        Some(Currency { code, digits: known.exponent().unwrap_or(0).min(8) as u8 })
    }

    /// The code, upper case.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.code).unwrap_or_default()
    }

    /// Decimal digits of its minor unit: 2 for CNY, 0 for JPY, 3 for KWD.
    pub fn digits(self) -> u32 {
        u32::from(self.digits)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Currency;

    #[test]
    fn the_digits_are_those_of_iso_4217() {
        for (code, digits) in [("CNY", 2), ("usd", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)] {
            let currency = Currency::parse(code).unwrap();
            assert_eq!((currency.code(), currency.digits()), (&*code.to_uppercase(), digits));
        }
        for unknown in ["", "CN", "CNYX", "XQQ", "元"] {
            assert_eq!(Currency::parse(unknown), None);
        }
        assert_eq!(Currency::parse("CNY"), Some(Currency::CNY));
    }
}
