//! The **normalise** stage, which turns a provider's message into a [`ProviderEvent`].
//!
//! It reads amounts, times and names, and says when money cannot be booked. An amount is read exactly or not at all;
//! nothing is rounded. A name is the number of a payment, a refund or an order: 1 to 256 bytes without control
//! characters. If both name and amount are wrong, the name is reported. An amount of zero comes before both: no money
//! moved, so nothing needs a look. The providers' files say which field holds what.

use std::borrow::Cow;
use std::str::FromStr;

use jiff::tz::{self, TimeZone};
use ring::digest;
use rust_decimal::Decimal;

use super::event::{AMOUNT_MAX, Amount, Effect, Kind, Of, ProviderEvent};
use base::units::Currency;

/// The most bytes of a name.
pub const NAME_MAX: usize = 256;

const MISSING: &str = "the amount is missing";
const NOT_A_NUMBER: &str = "the amount is not a number";
const NEGATIVE: &str = "the amount is negative";
const FRACTION: &str = "the amount has a fraction of a minor unit";
const TOO_LARGE: &str = "the amount is above 2^53 - 1";
/// Digits that a [`Decimal`] keeps without rounding.
const EXACT_DIGITS: usize = 28;

/// Minor units of an amount that is written with up to `digits` decimals; 12.0 is 12. `None` is a missing amount.
pub fn minor(text: Option<&str>, digits: u32) -> Result<i64, &'static str> {
    let text = text.filter(|text| !text.is_empty()).ok_or(MISSING)?;
    if let (true, Ok(whole)) = (digits == 0 && is_digits(text), text.parse::<i64>()) {
        return if whole <= AMOUNT_MAX { Ok(whole) } else { Err(TOO_LARGE) };
    }
    if !is_plain(text) {
        return Err(NOT_A_NUMBER);
    }
    let number = Decimal::from_str_exact(text).map_err(|_| unkept(text))?;
    scaled(number, digits)
}

/// The same for a JSON number, which may have an exponent.
pub fn minor_of_number(text: &str, digits: u32) -> Result<i64, &'static str> {
    if !text.contains(['e', 'E']) {
        return minor(Some(text), digits);
    }
    let text = text.replacen('+', "", 1);
    if text.len() > EXACT_DIGITS {
        return Err(NOT_A_NUMBER);
    }
    scaled(Decimal::from_scientific(&text).map_err(|_| NOT_A_NUMBER)?, digits)
}

/// Why a number does not fit into a [`Decimal`].
fn unkept(text: &str) -> &'static str {
    let whole = text.split('.').next().unwrap_or_default();
    if whole.trim_start_matches(['-', '0']).len() >= EXACT_DIGITS { TOO_LARGE } else { FRACTION }
}

fn scaled(number: Decimal, digits: u32) -> Result<i64, &'static str> {
    let number = number.normalize();
    if number.mantissa() < 0 {
        return Err(NEGATIVE);
    }
    let missing = digits.checked_sub(number.scale()).ok_or(FRACTION)?;
    let minor = 10i128.checked_pow(missing).and_then(|factor| number.mantissa().checked_mul(factor));
    let minor = minor.and_then(|minor| i64::try_from(minor).ok()).ok_or(TOO_LARGE)?;
    if minor <= AMOUNT_MAX { Ok(minor) } else { Err(TOO_LARGE) }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_plain(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    is_digits(whole) && is_digits(part)
}

/// A currency, which must be present and known.
pub fn currency(text: Option<&str>) -> Result<Currency, &'static str> {
    let text = text.ok_or("the currency is missing")?;
    Currency::parse(text).ok_or("the currency is unknown")
}

/// Whether the text may be a name.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_MAX && !text.chars().any(char::is_control)
}

/// A name to look up; `None` if it is missing or not a valid name.
pub fn name(text: Option<Cow<'_, str>>) -> Option<String> {
    text.filter(|text| is_name(text)).map(Cow::into_owned)
}

/// A text as a key: itself if it is a name, else its digest.
pub fn key(text: &str) -> String {
    if is_name(text) { text.to_owned() } else { digest(text.as_bytes()) }
}

/// SHA-256, in hex.
pub fn digest(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|nibble| HEX[usize::from(nibble)]).collect()
}

const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];

/// Milliseconds since 1970 of an RFC 3339 time.
pub fn rfc3339(text: Option<&str>) -> Option<u64> {
    let time = jiff::Timestamp::from_str(text?).ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

/// Milliseconds since 1970 of `2026-11-21 11:38:00` in China's time zone.
pub fn china(text: Option<&str>) -> Option<u64> {
    let time = jiff::civil::DateTime::from_str(text?).ok()?;
    let time = time.to_zoned(TimeZone::fixed(tz::offset(8))).ok()?;
    u64::try_from(time.timestamp().as_millisecond()).ok()
}

/// A time in China's time zone, as `2026-11-21 11:38:00`.
pub fn in_china(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    time.to_zoned(TimeZone::fixed(tz::offset(8))).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The kind of a generic message by its word; `None` for a kind that is not needed.
pub fn kind(word: &str) -> Option<Kind> {
    match word {
        "payment" | "payment.succeeded" => Some(Kind::Payment),
        "refund" | "refund.succeeded" => Some(Kind::Refund),
        "chargeback" => Some(Kind::Chargeback),
        _ => None,
    }
}

/// A movement of money as a provider wrote it.
#[derive(Debug)]
pub struct Money<'a> {
    /// The kind of the transaction.
    pub kind: Kind,
    /// The account whose numbers these are.
    pub account: Cow<'a, str>,
    /// The provider's number of the transaction.
    pub number: Option<Cow<'a, str>>,
    /// The scope in which the number is unique, if that is not the account.
    pub within: Option<&'a str>,
    /// The merchant's number of the order.
    pub out_trade_no: Option<Cow<'a, str>>,
    /// The payment that it belongs to; only a payment needs none.
    pub of: Option<Of>,
    /// The amount, or why it cannot be read.
    pub amount: Result<Amount, &'static str>,
    /// `None` means the payment's currency.
    pub currency: Result<Option<Currency>, &'static str>,
    /// The provider's time, in milliseconds since 1970.
    pub occurred_ms: Option<u64>,
}

impl Money<'_> {
    /// The event; without a number, the digest of `body` is its key.
    pub fn event(self, body: &[u8]) -> ProviderEvent {
        let unreadable = self.unreadable();
        let effect = match (self.amount, unreadable) {
            (Ok(amount), _) if amount.stated() == 0 => Effect::Note,
            (_, Some(reason)) => Effect::Unreadable(reason),
            _ => Effect::Book,
        };
        let key = match (&self.number, self.within) {
            (Some(number), Some(within)) => format!("{}/{}", key(within), key(number)),
            (Some(number), None) => key(number),
            (None, _) => digest(body),
        };
        ProviderEvent {
            kind: self.kind,
            effect,
            account: account(self.account),
            key,
            number: name(self.number),
            out_trade_no: name(self.out_trade_no),
            of: self.of,
            amount: self.amount.ok(),
            currency: self.currency.ok().flatten(),
            occurred_ms: self.occurred_ms,
            request: None,
        }
    }

    fn unreadable(&self) -> Option<&'static str> {
        match (&self.number, &self.out_trade_no) {
            (None, _) => return Some("the number is missing"),
            (Some(number), _) if !is_name(number) => return Some("the number is no name"),
            (_, Some(order)) if !is_name(order) => return Some("out_trade_no is no name"),
            _ => {}
        }
        if self.kind != Kind::Payment && self.of.is_none() {
            return Some("it does not say of which payment it is");
        }
        self.amount.err().or(self.currency.err())
    }
}

/// A verified message that is not needed. Its key must keep different messages apart and repeated deliveries together.
#[derive(Debug)]
pub struct Note<'a> {
    /// The account whose numbers these are.
    pub account: Cow<'a, str>,
    /// A key of the object and its state.
    pub key: String,
    /// The provider's number of the object.
    pub number: Option<Cow<'a, str>>,
    /// The merchant's number of the order.
    pub out_trade_no: Option<Cow<'a, str>>,
    /// The provider's time, in milliseconds since 1970.
    pub occurred_ms: Option<u64>,
}

impl Note<'_> {
    /// The event.
    pub fn event(self) -> ProviderEvent {
        ProviderEvent {
            kind: Kind::Other,
            effect: Effect::Note,
            account: account(self.account),
            key: self.key,
            number: name(self.number),
            out_trade_no: name(self.out_trade_no),
            of: None,
            amount: None,
            currency: None,
            occurred_ms: self.occurred_ms,
            request: None,
        }
    }
}

fn account(text: Cow<'_, str>) -> String {
    if text.is_empty() || is_name(&text) { text.into_owned() } else { digest(text.as_bytes()) }
}

/// A note's key: the number and its subject, or, without a number, the digest of the body.
pub fn note_key(number: Option<&str>, about: &str, body: &[u8]) -> String {
    match number {
        Some(number) if about.is_empty() => key(number),
        Some(number) => format!("{}:{}", key(number), key(about)),
        None => digest(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_or_not_read() {
        for (text, digits, expected) in [
            ("12", 0, Ok(12)),
            ("12.0", 0, Ok(12)),
            ("0012.00", 2, Ok(1200)),
            ("88.88", 2, Ok(8888)),
            ("88.8", 2, Ok(8880)),
            ("0", 2, Ok(0)),
            ("-0.00", 2, Ok(0)),
            ("1.234", 3, Ok(1234)),
            ("90071992547409.91", 2, Ok(AMOUNT_MAX)),
            ("9007199254740991", 0, Ok(AMOUNT_MAX)),
            ("9007199254740992", 0, Err(TOO_LARGE)),
            ("90071992547409.92", 2, Err(TOO_LARGE)),
            ("99999999999999999999", 0, Err(TOO_LARGE)),
            ("999999999999999999999999999999999999999", 2, Err(TOO_LARGE)),
            ("0.001", 2, Err(FRACTION)),
            ("12.5", 0, Err(FRACTION)),
            ("12.340000000000000000000000000000000001", 2, Err(FRACTION)),
            ("-1", 0, Err(NEGATIVE)),
            ("-1.00", 2, Err(NEGATIVE)),
            ("", 2, Err(MISSING)),
            ("+1", 0, Err(NOT_A_NUMBER)),
            ("1_000", 0, Err(NOT_A_NUMBER)),
            ("1,000", 0, Err(NOT_A_NUMBER)),
            (".5", 2, Err(NOT_A_NUMBER)),
            ("5.", 2, Err(NOT_A_NUMBER)),
            ("1e3", 0, Err(NOT_A_NUMBER)),
            (" 1", 0, Err(NOT_A_NUMBER)),
            ("一", 0, Err(NOT_A_NUMBER)),
        ] {
            assert_eq!(minor(Some(text), digits), expected, "{text}");
        }
        assert_eq!(minor(None, 0), Err(MISSING));
    }

    #[test]
    fn a_json_number_may_have_an_exponent() {
        for (text, expected) in [
            ("1.25e1", Ok(1250)),
            ("1E+3", Ok(100_000)),
            ("125e-1", Ok(1250)),
            ("12.34", Ok(1234)),
            ("1e-3", Err(FRACTION)),
            ("1e20", Err(TOO_LARGE)),
            ("1e999999999", Err(NOT_A_NUMBER)),
            ("-1e1", Err(NEGATIVE)),
        ] {
            assert_eq!(minor_of_number(text, 2), expected, "{text}");
        }
    }

    #[test]
    fn times_are_those_of_their_zone() {
        assert_eq!(rfc3339(Some("2018-06-08T10:34:56+08:00")), Some(1_528_425_296_000));
        assert_eq!(china(Some("2018-06-08 10:34:56")), Some(1_528_425_296_000));
        assert_eq!(china(Some("2018-06-08 10:34:56.320")), Some(1_528_425_296_320));
        for text in [None, Some(""), Some("1969-01-01 00:00:00"), Some("2018-13-01 00:00:00"), Some("9999-99")] {
            assert_eq!((china(text), rfc3339(text)), (None, None), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_short_and_has_no_control_character() {
        assert_eq!(name(Some("订单-1".into())), Some("订单-1".to_owned()));
        for text in ["", "a\nb", "a\0", "a\u{85}", &"x".repeat(NAME_MAX + 1)] {
            assert_eq!(name(Some(text.into())), None, "{text:?}");
        }
        assert_eq!(key("a"), "a");
        assert_eq!(key(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
