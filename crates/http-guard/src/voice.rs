//! Headers that speak in the gateway's place: about the client, or about another request than
//! the one that was validated.
//!
//! Servers believe the first kind because some proxy once set it: an address (`X-Real-IP` and similar ones) or a
//! certificate (RFC 9440, section 2.2). Only a trusted proxy may send them. The second kind asks a server for another
//! path or method than routes, limits and credentials were checked with, or (`Proxy`, as CGI passes it on) for another
//! way out. No client may send these. `X-Forwarded-*` and `Forwarded` are not here: the gateway writes them itself.

/// The subject of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// The client's identity.
    OfClient,
    /// Another request, or the server's own environment.
    OfRequest,
}

const VOICES: [(&[u8], Voice); 28] = {
    use Voice::{OfClient, OfRequest};
    [
        (b"cf-connecting-ip", OfClient),
        (b"cf-connecting-ipv6", OfClient),
        (b"cf-pseudo-ipv4", OfClient),
        (b"client-cert", OfClient),
        (b"client-cert-chain", OfClient),
        (b"client-ip", OfClient),
        (b"do-connecting-ip", OfClient),
        (b"fastly-client-ip", OfClient),
        (b"fly-client-ip", OfClient),
        (b"forwarded-for", OfClient),
        (b"true-client-ip", OfClient),
        (b"x-appengine-user-ip", OfClient),
        (b"x-azure-clientip", OfClient),
        (b"x-azure-socketip", OfClient),
        (b"x-client-ip", OfClient),
        (b"x-cluster-client-ip", OfClient),
        (b"x-envoy-external-address", OfClient),
        (b"x-original-forwarded-for", OfClient),
        (b"x-originating-ip", OfClient),
        (b"x-real-ip", OfClient),
        (b"x-remote-addr", OfClient),
        (b"x-remote-ip", OfClient),
        (b"proxy", OfRequest),
        (b"x-http-method", OfRequest),
        (b"x-http-method-override", OfRequest),
        (b"x-method-override", OfRequest),
        (b"x-original-url", OfRequest),
        (b"x-rewrite-url", OfRequest),
    ]
};

/// Bit sets of the lengths of the names, and of the low five bits of their first bytes.
const SHAPES: (u32, u32) = {
    let (mut lengths, mut firsts, mut i) = (0, 0, 0);
    while i < VOICES.len() {
        let name = VOICES[i].0;
        lengths |= 1 << name.len();
        firsts |= 1 << (name[0] & 31);
        i += 1;
    }
    (lengths, firsts)
};

/// The subject of a header, by its name in lower case.
#[inline]
pub fn of(name: &[u8]) -> Option<Voice> {
    // Most names have another length or first byte than any of these.
    let first = name.first()? & 31;
    let looks = name.len() < 32 && SHAPES.0 >> name.len() & 1 != 0 && SHAPES.1 >> first & 1 != 0;
    if looks { VOICES.iter().find(|(voice, _)| *voice == name).map(|(_, of)| *of) } else { None }
}

/// The same for a name with other signs in place of hyphens, in any case.
pub fn of_lookalike(name: &[u8]) -> Option<Voice> {
    let mut folded = [0; 32];
    for (place, byte) in folded.get_mut(..name.len())?.iter_mut().zip(name) {
        *place = if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    }
    of(&folded[..name.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voices_are_told_from_what_everybody_sends() {
        for (name, voice) in VOICES {
            assert_eq!(of(name), Some(voice));
            let spelt: Vec<u8> = name.to_ascii_uppercase().iter().map(|b| if *b == b'-' { b'_' } else { *b }).collect();
            assert_eq!(of_lookalike(&spelt), Some(voice));
        }
        for name in ["", "host", "proxy-connection", "x-request-id", "x-forwarded-for", "forwarded", "cache-control"] {
            assert_eq!((of(name.as_bytes()), of_lookalike(name.as_bytes())), (None, None), "{name}");
        }
        let long = [b'x'; 64];
        assert_eq!((of(&long), of_lookalike(&long)), (None, None));
    }
}
