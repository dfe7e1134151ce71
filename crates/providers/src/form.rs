//! `application/x-www-form-urlencoded` as bytes: decoded once and in no charset, because a signature covers bytes.
//!
//! A `%` without two hex digits after it stands for itself.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// The most parameters that a form may have.
pub const PARAMETERS_MAX: usize = 256;

/// A parameter: its name and its value.
pub type Parameter<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// The parameters in the order of the form; `None` if there are more than [`PARAMETERS_MAX`].
pub fn parse(body: &[u8]) -> Option<Vec<Parameter<'_>>> {
    let mut parameters = Vec::with_capacity(32);
    for part in body.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
        if parameters.len() == PARAMETERS_MAX {
            return None;
        }
        let at = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
        parameters.push((decode(&part[..at]), decode(part.get(at + 1..).unwrap_or_default())));
    }
    Some(parameters)
}

fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'+') {
        return percent_decode(text).into();
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_once_and_keeps_its_bytes() {
        let parsed = parse(b"a=1&&b=%2525+%2B%26%3D&c=&d&=e&f=%zz%d6%d0&a=2=3").unwrap();
        let parsed: Vec<(&[u8], &[u8])> = parsed.iter().map(|(name, value)| (&**name, &**value)).collect();
        let expected: [(&[u8], &[u8]); 7] = [
            (b"a", b"1"),
            (b"b", b"%25 +&="),
            (b"c", b""),
            (b"d", b""),
            (b"", b"e"),
            (b"f", b"%zz\xd6\xd0"),
            (b"a", b"2=3"),
        ];
        assert_eq!(parsed, expected);
        assert_eq!(parse(&b"a&".repeat(PARAMETERS_MAX)).map(|all| all.len()), Some(PARAMETERS_MAX));
        assert_eq!(parse(&b"a&".repeat(PARAMETERS_MAX + 1)), None);
    }
}
