//! `Content-Digest` (RFC 9530): sha-256 and sha-512 over the body as it was sent.
//!
//! Every digest of a known algorithm must match, and there must be at least one; unknown ones are ignored, as the RFC
//! asks. An algorithm that is named twice makes the field invalid. `Repr-Digest` is not covered.

use http::HeaderMap;
use ring::digest::{Algorithm, Context, SHA256, SHA512};
use sfv::visitor::{DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor};
use sfv::{BareItemFromInput, KeyRef, Parser};

use super::signature::field;

/// The name of the field.
pub const CONTENT_DIGEST: &str = "content-digest";

/// The digests that a message claims for its body, and those of the body so far.
pub struct Digests {
    claims: Vec<(Vec<u8>, Context)>,
}

/// The digests in the field.
#[derive(Debug, Default)]
struct WrittenDigest {
    sha256: Option<Vec<u8>>,
    sha512: Option<Vec<u8>>,
}

impl Digests {
    /// The digests of a message; `None` where there is none of a known algorithm, or the field is invalid.
    pub fn of(headers: &HeaderMap) -> Option<Digests> {
        let text = field(headers, CONTENT_DIGEST)?;
        let written = Parser::new(&*text).parse_dictionary_with_visitor(WrittenDigest::default()).ok()?;
        let mut claims = vec![];
        let known: [(_, &'static Algorithm); 2] = [(written.sha256, &SHA256), (written.sha512, &SHA512)];
        for (digest, algorithm) in known {
            let Some(digest) = digest else { continue };
            if digest.len() != algorithm.output_len() {
                return None;
            }
            claims.push((digest, Context::new(algorithm)));
        }
        (!claims.is_empty()).then_some(Digests { claims })
    }

    /// Adds the next part of the body.
    pub fn update(&mut self, part: &[u8]) {
        self.claims.iter_mut().for_each(|(_, seen)| seen.update(part));
    }

    /// Whether all claimed digests match the body.
    pub fn fit(self) -> bool {
        self.claims.into_iter().all(|(claimed, seen)| seen.finish().as_ref() == claimed.as_slice())
    }
}

/// The field names a known algorithm twice, or gives it a value that is not bytes.
#[derive(Debug, thiserror::Error)]
#[error("not a digest")]
pub struct DigestError;

impl<'de> DictionaryVisitor<'de> for WrittenDigest {
    type Out = WrittenDigest;
    type Error = DigestError;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, DigestError> {
        let place = match key.as_str() {
            "sha-256" => &mut self.sha256,
            "sha-512" => &mut self.sha512,
            _ => return Ok(None),
        };
        if place.is_some() { Err(DigestError) } else { Ok(Some(Bytes(place))) }
    }

    fn finish(self) -> Result<WrittenDigest, DigestError> {
        Ok(self)
    }
}

/// Takes a byte sequence.
pub(super) struct Bytes<'a>(pub(super) &'a mut Option<Vec<u8>>);

impl<'de> EntryVisitor<'de> for Bytes<'_> {
    type Error = DigestError;

    fn item(self) -> Result<impl ItemVisitor<'de>, DigestError> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, DigestError> {
        Err::<sfv::visitor::Never, _>(DigestError)
    }
}

impl<'de> ItemVisitor<'de> for Bytes<'_> {
    type Out = ();
    type Error = DigestError;

    fn bare_item(self, item: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de, Out = ()>, DigestError> {
        let BareItemFromInput::ByteSequence(bytes) = item else { return Err(DigestError) };
        *self.0 = Some(bytes);
        Ok(Ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{\"hello\": \"world\"}";
    // RFC 9530, appendix B.
    const SHA_256: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    const SHA_512: &str =
        "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";

    fn fits(lines: &[&str], body: &[u8]) -> bool {
        let mut digests = of(lines).unwrap();
        // However it is cut.
        body.chunks(5).for_each(|part| digests.update(part));
        digests.fit()
    }

    fn of(lines: &[&str]) -> Option<Digests> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_DIGEST, line.parse().unwrap());
        }
        Digests::of(&headers)
    }

    #[test]
    fn the_digests_of_the_rfc_fit_their_body_and_no_other() {
        for lines in [vec![SHA_256], vec![SHA_512], vec![SHA_256, SHA_512], vec!["md5=:AA==:", SHA_256]] {
            assert!(fits(&lines, BODY), "{lines:?}");
            for at in 0..BODY.len() {
                let mut body = BODY.to_vec();
                body[at] ^= 1;
                assert!(!fits(&lines, &body), "{lines:?} with byte {at} flipped");
            }
            assert!(!fits(&lines, &BODY[1..]) && !fits(&lines, b""));
        }
    }

    #[test]
    fn of_two_digests_both_must_fit() {
        let wrong = SHA_512.replace("WZDP", "WZDQ");
        assert!(!fits(&[SHA_256, &wrong], BODY));
    }

    #[test]
    fn what_is_no_digest_is_none() {
        for lines in [
            &[][..],
            &[""],
            &["md5=:AA==:"],
            &["sha-256"],
            &["sha-256=abc"],
            &["sha-256=\"X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=\""],
            &["sha-256=:AA==:"],
            &["sha-256=:X48E:, sha-256=:X48E:"],
            &["sha-256=(:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:)"],
            &[SHA_256, SHA_256],
            &[SHA_256, "?"],
            &[SHA_256, "sha-512=:AA==:"],
        ] {
            assert!(of(lines).is_none(), "{lines:?}");
        }
    }
}
