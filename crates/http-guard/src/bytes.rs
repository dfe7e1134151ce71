//! Classes of bytes, and the search for the end of a line.
//!
//! This is the only place that looks at every byte of a head. The search takes eight bytes at a time in one word,
//! without `unsafe`: the usual borrow tricks are wrong only above the lowest hit, and only the lowest hit is wanted.

use super::violation::Violation;

/// A letter, digit or other byte of a token (RFC 9110, section 5.6.2).
pub const TOKEN: u8 = 1;
/// A byte of a token other than a letter, digit or hyphen: a name with one gets a second look.
pub const ODD: u8 = 2;
/// A byte of a path: those of RFC 3986, `%` even where no escape follows, and the few that browsers send bare.
pub const PATH: u8 = 4;
/// A byte of a query, likewise; browsers leave more bytes bare there.
pub const QUERY: u8 = 8;
/// A byte of a host name: unreserved characters of RFC 3986.
pub const HOST: u8 = 16;
/// A byte that gives a path a second look: it escapes, or some servers end a segment there.
pub const SUBTLE: u8 = 32;

const CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = class_of(i as u8);
        i += 1;
    }
    table
};

const fn class_of(byte: u8) -> u8 {
    let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let sub_delimiter = matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
    let token = byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
        || matches!(byte, b'^' | b'_' | b'`' | b'|' | b'~');
    let path = unreserved
        || sub_delimiter
        || matches!(byte, b':' | b'@' | b'/' | b'%')
        || matches!(byte, b'|' | b'^' | b'{' | b'}' | b'[' | b']');
    let query = byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>');
    let odd = token && !byte.is_ascii_alphanumeric() && byte != b'-';
    (if token { TOKEN } else { 0 })
        | (if odd { ODD } else { 0 })
        | (if path { PATH } else { 0 })
        | (if query { QUERY } else { 0 })
        | (if unreserved { HOST } else { 0 })
        | (if matches!(byte, b'%' | b';') { SUBTLE } else { 0 })
}

/// The classes of a byte.
#[inline]
pub fn class(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// Whether every byte is in the class.
#[inline]
pub fn all(bytes: &[u8], of: u8) -> bool {
    bytes.iter().all(|byte| class(*byte) & of != 0)
}

/// Whether the bytes are a token: not empty, and of token bytes only.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// The result of the search for the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// CR is at this index, LF follows it, and no control character but HTAB comes before.
    Ends(usize),
    /// Neither an end nor an error; a CR at the very end is to be looked at again, from this index.
    Open(usize),
    /// A byte that no line may have.
    Broken(Violation),
}

/// Searches the end of the line from `at` on.
#[inline]
pub fn line(bytes: &[u8], mut at: usize) -> Line {
    loop {
        at = next_control(bytes, at);
        match bytes.get(at) {
            None => return Line::Open(at),
            Some(b'\t') => at += 1,
            Some(b'\r') => {
                return match bytes.get(at + 1) {
                    None => Line::Open(at),
                    Some(b'\n') => Line::Ends(at),
                    Some(_) => Line::Broken(Violation::BareCr),
                };
            }
            Some(b'\n') => return Line::Broken(Violation::BareLf),
            Some(_) => return Line::Broken(Violation::ControlByte),
        }
    }
}

/// The first byte below 0x20, or DEL, from `at` on; the length where there is none.
#[inline]
fn next_control(bytes: &[u8], mut at: usize) -> usize {
    // Two words at a time: most lines are longer than one.
    while let Some(pair) = bytes.get(at..).and_then(<[u8]>::first_chunk::<16>) {
        let pair = u128::from_le_bytes(*pair);
        let (low, high) = (controls(pair as u64), controls((pair >> 64) as u64));
        if low | high != 0 {
            let (word, from) = if low != 0 { (low, at) } else { (high, at + 8) };
            return from + (word.trailing_zeros() / 8) as usize;
        }
        at += 16;
    }
    while let Some(byte) = bytes.get(at) {
        if byte.is_ascii_control() {
            return at;
        }
        at += 1;
    }
    at
}

/// The high bit of each byte that is a control character; above the lowest, bits may be wrong.
#[inline]
fn controls(word: u64) -> u64 {
    const EACH: u64 = u64::MAX / 255;
    let low = word.wrapping_sub(EACH * 0x20);
    // DEL has no high bit and becomes zero here; a byte with the high bit is neither.
    let delete = (word ^ (EACH * 0x7f)).wrapping_sub(EACH);
    (low | delete) & !word & (EACH * 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_control_byte_is_found_wherever_it_stands() {
        for byte in 0..=255u8 {
            for at in 0..20 {
                for length in at + 1..24 {
                    for filler in [b'a', 0x80, 0xff, b' ', b'~'] {
                        let mut bytes = vec![filler; length];
                        bytes[at] = byte;
                        let expected = if byte.is_ascii_control() { at } else { length };
                        assert_eq!(next_control(&bytes, 0), expected, "{byte} at {at} of {length}");
                    }
                }
            }
        }
    }

    #[test]
    fn lines_end_in_both_and_nothing_else() {
        assert_eq!(line(b"ab\tc\r\nx", 0), Line::Ends(4));
        assert_eq!(line(b"\r\n", 0), Line::Ends(0));
        assert_eq!(line(b"abcdefghijk", 0), Line::Open(11));
        assert_eq!(line(b"abcdefghijk\r", 0), Line::Open(11));
        assert_eq!(line(b"abcdefghijk\r", 11), Line::Open(11));
        assert_eq!(line(b"abc\n", 0), Line::Broken(Violation::BareLf));
        assert_eq!(line(b"abc\r\r\n", 0), Line::Broken(Violation::BareCr));
        assert_eq!(line(b"abc\0\r\n", 0), Line::Broken(Violation::ControlByte));
        assert_eq!(line(b"abc\x7f\r\n", 0), Line::Broken(Violation::ControlByte));
    }

    #[test]
    fn classes_hold_what_the_standards_say() {
        let of = |class_: u8| (0..=255u8).filter(|b| class(*b) & class_ != 0).collect::<Vec<_>>();
        assert_eq!(of(TOKEN).len(), 77);
        assert_eq!(of(HOST).len(), 66);
        for byte in b"\\\"<>`# ?\0\x7f\x80\xff" {
            assert_eq!(class(*byte) & PATH, 0, "{byte}");
        }
        for byte in b"\"<># \0\x7f\x80\xff" {
            assert_eq!(class(*byte) & QUERY, 0, "{byte}");
        }
        for byte in of(PATH) {
            assert_ne!(class(byte) & QUERY, 0, "{byte}");
        }
    }
}
