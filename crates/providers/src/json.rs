//! Reads a few fields out of a JSON object in one pass. It builds no tree and copies only text with escapes.
//!
//! A field that occurs twice makes the message unreadable, because it is unknown which one was meant. Numbers are kept
//! as written, so that no amount goes through a float. Arrays are not searched.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::normalise;

/// The values at `paths`, of which there are at most 32; `None` if the text is not a JSON object.
pub fn pick<'de, S: AsRef<str>, const N: usize>(
    text: &'de [u8],
    paths: &[&[S]; N],
) -> Option<[Option<&'de RawValue>; N]> {
    const { assert!(N <= 32) };
    let mut found = [None; N];
    let mut parser = serde_json::Deserializer::from_slice(text);
    let active = (0..N).fold(0, |mask, at| mask | 1u32 << at);
    Level { paths, found: &mut found, active, depth: 0 }.deserialize(&mut parser).ok()?;
    parser.end().ok()?;
    Some(found)
}

/// The value, if it is a string.
pub fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let raw = raw?.get();
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// A string, or a number as written: some senders use numbers as ids.
pub fn scalar(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let written = raw?.get();
    if is_number(written) { Some(Cow::Borrowed(written)) } else { text(raw) }
}

/// An amount in minor units, as a number or as a string of digits.
pub fn minor(raw: Option<&RawValue>, digits: u32) -> Result<i64, &'static str> {
    match raw.map(RawValue::get) {
        None | Some("null") => normalise::minor(None, digits),
        Some(written) if is_number(written) => normalise::minor_of_number(written, digits),
        // Anything else, even `{}`, is not a number.
        Some(written) => normalise::minor(Some(&text(raw).unwrap_or(Cow::Borrowed(written))), digits),
    }
}

fn is_number(written: &str) -> bool {
    written.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// One object on the way; `active` is the set of paths that lead through it.
struct Level<'w, 'de, S, const N: usize> {
    paths: &'w [&'w [S]; N],
    found: &'w mut [Option<&'de RawValue>; N],
    active: u32,
    depth: usize,
}

impl<'de, S: AsRef<str>, const N: usize> DeserializeSeed<'de> for Level<'_, 'de, S, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth == 0 { deserializer.deserialize_map(self) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de, S: AsRef<str>, const N: usize> Visitor<'de> for Level<'_, 'de, S, N> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let key = Key { paths: self.paths, active: self.active, depth: self.depth };
        while let Some((ends, through)) = map.next_key_seed(key)? {
            let next = Level { paths: self.paths, found: &mut *self.found, active: through, depth: self.depth + 1 };
            match (ends, through) {
                (0, 0) => drop(map.next_value::<IgnoredAny>()?),
                (0, _) => map.next_value_seed(next)?,
                (_, 0) => keep(next.found, ends, map.next_value()?)?,
                (_, _) => {
                    let raw: &RawValue = map.next_value()?;
                    keep(next.found, ends, raw)?;
                    next.deserialize(&mut serde_json::Deserializer::from_str(raw.get())).map_err(A::Error::custom)?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

fn keep<'de, E: Error>(found: &mut [Option<&'de RawValue>], ends: u32, raw: &'de RawValue) -> Result<(), E> {
    for (at, place) in found.iter_mut().enumerate().filter(|(at, _)| ends & (1 << at) != 0) {
        if place.replace(raw).is_some() {
            return Err(E::custom(format_args!("field {at} is there twice")));
        }
    }
    Ok(())
}

/// A field on the way: which paths end there, and which lead on.
struct Key<'w, S, const N: usize> {
    paths: &'w [&'w [S]; N],
    active: u32,
    depth: usize,
}

impl<S, const N: usize> Clone for Key<'_, S, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, const N: usize> Copy for Key<'_, S, N> {}

impl<'de, S: AsRef<str>, const N: usize> DeserializeSeed<'de> for Key<'_, S, N> {
    type Value = (u32, u32);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(u32, u32), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, S: AsRef<str>, const N: usize> Visitor<'de> for Key<'_, S, N> {
    type Value = (u32, u32);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<(u32, u32), E> {
        let (mut ends, mut through) = (0, 0);
        for (at, path) in self.paths.iter().enumerate().filter(|(at, _)| self.active & (1 << at) != 0) {
            if path.get(self.depth).is_some_and(|segment| segment.as_ref() == name) {
                *(if path.len() == self.depth + 1 { &mut ends } else { &mut through }) |= 1 << at;
            }
        }
        Ok((ends, through))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<const N: usize>(json: &str, paths: &[&[&str]; N]) -> Option<[Option<String>; N]> {
        Some(pick(json.as_bytes(), paths)?.map(|raw| raw.map(|raw| raw.get().to_owned())))
    }

    #[test]
    fn fields_are_found_at_their_paths_only() {
        let json =
            r#"{"x":[{"id":1}],"id":"a","data":{"id":12.50,"b":null,"object":{"id":"c\"","id2":{}}},"y":{"id":2}}"#;
        let paths: [&[&str]; 6] =
            [&["id"], &["data", "id"], &["data", "object", "id"], &["data", "object"], &["data", "b", "id"], &["z"]];
        let expected = [Some("\"a\""), Some("12.50"), Some(r#""c\"""#), Some(r#"{"id":"c\"","id2":{}}"#), None, None];
        assert_eq!(texts(json, &paths), Some(expected.map(|text| text.map(str::to_owned))));
        let found = pick(json.as_bytes(), &paths).unwrap();
        assert_eq!(text(found[2]).as_deref(), Some("c\""));
        assert_eq!(text(found[1]), None);
        assert_eq!(scalar(found[1]).as_deref(), Some("12.50"));
        assert_eq!(minor(found[1], 2), Ok(1250));
        assert_eq!(minor(found[3], 2), Err("the amount is not a number"));
    }

    #[test]
    fn what_is_no_single_object_is_refused() {
        let paths: [&[&str]; 2] = [&["a"], &["b", "c"]];
        for json in
            ["", "[]", "1", "{", "{} {}", r#"{"a":1,"a":2}"#, r#"{"b":{"c":1},"b":{"c":1}}"#, "{\"a\":\"\u{1}\"}"]
        {
            assert_eq!(texts(json, &paths), None, "{json}");
        }
        assert!(pick(b"{\"a\":\"\xff\"}", &paths).is_none());
        for json in
            ["{}", r#"{"b":1}"#, r#"{"b":null}"#, r#"{"b":"c"}"#, r#"{"b":[1]}"#, r#"{"b":1.5}"#, r#"{"b":true}"#]
        {
            assert_eq!(texts(json, &paths), Some([None, None]), "{json}");
        }
        let deep = format!("{}1{}", r#"{"b":"#.repeat(100_000), "}".repeat(100_000));
        assert_eq!(texts(&deep, &paths), Some([None, None]));
        let deep: [&[&str]; 1] = [&["b"; 200]];
        let text = format!("{}1{}", r#"{"b":"#.repeat(200), "}".repeat(200));
        assert_eq!(texts(&text, &deep), None, "128 levels are the parser's limit");
    }
}
