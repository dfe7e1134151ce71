//! The event types that an endpoint takes: `payment.posted`, or `payment.*` for all that begin so.
//!
//! They are kept as one text, separated by commas. An empty text takes every event that the configuration's url gets.
//! [`ORDER_CREATED`] goes only to endpoints that name it.

/// The event of an order that a merchant made by API and that is not paid yet.
pub const ORDER_CREATED: &str = "order.created";
/// The most patterns of an endpoint, and the most bytes of one.
const MOST: (usize, usize) = (32, 64);

/// Checks patterns and joins them; an error names the wrong one.
pub fn joined(patterns: &[String]) -> Result<String, String> {
    if patterns.len() > MOST.0 {
        return Err(format!("`events` has at most {} patterns.", MOST.0));
    }
    match patterns.iter().find(|pattern| !is_pattern(pattern)) {
        Some(_) => {
            Err("`events` holds types such as \"payment.posted\", or \"payment.*\" for all that begin so.".to_owned())
        }
        None => Ok(patterns.join(",")),
    }
}

fn is_pattern(text: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let Some((kind, state)) = text.split_once('.') else { return false };
    text.len() <= MOST.1 && word(kind) && (state == "*" || word(state))
}

/// The patterns of a joined text.
pub fn patterns(joined: &str) -> impl Iterator<Item = &str> {
    joined.split(',').filter(|pattern| !pattern.is_empty())
}

/// Whether an endpoint with these patterns takes events of this type.
pub fn takes(joined: &str, kind: &str) -> bool {
    (joined.is_empty() && kind != ORDER_CREATED) || patterns(joined).any(|pattern| covers(pattern, kind))
}

fn covers(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => kind.starts_with(beginning),
        None => pattern == kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_a_type_or_all_that_begin_so() {
        assert!(takes("", "payment.posted") && takes("", "refund.suspense"));
        assert!(takes("payment.*", "payment.suspense") && !takes("payment.*", "refund.posted"));
        assert!(takes("refund.posted,payment.posted", "payment.posted"));
        assert!(!takes("payment.posted", "payment.suspense") && !takes("chargeback.*", "chargeback_reversal.posted"));
    }

    #[test]
    fn an_order_is_told_only_to_who_names_it() {
        assert!(!takes("", ORDER_CREATED) && !takes("payment.*", ORDER_CREATED));
        assert!(takes("order.created", ORDER_CREATED) && takes("payment.*,order.*", ORDER_CREATED));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let one = |text: &str| joined(&[text.to_owned()]);
        assert_eq!(one("payment.*"), Ok("payment.*".to_owned()));
        for wrong in
            ["", "*", "payment", "payment.", ".posted", "payment.po*", "Payment.posted", "a,b.c", "a.b.c", "a.%"]
        {
            assert!(one(wrong).is_err(), "{wrong}");
        }
        assert!(joined(&vec!["a.b".to_owned(); 33]).is_err());
    }
}
