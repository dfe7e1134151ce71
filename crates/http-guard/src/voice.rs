//! Headers that speak in the gateway's place: of who the client is, or of another request than the one that was judged.
//!
//! Servers believe the first kind because some proxy once set it: an address (`X-Real-IP` and its kin) or a certificate
//! (RFC 9440, section 2.2). Nobody but a trusted proxy may say them. The second kind asks a server for another path or
//! method than routes, limits and credentials were judged by, or (`Proxy`, as CGI hands it on) for another way out; nobody
//! may say them. `X-Forwarded-*` and `Forwarded` are not here: the gateway writes them itself.

/// What a header speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Who the client is.
    OfClient,
    /// Another request, or the server's own surroundings.
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

/// Bits of the lengths that names have, and of the low five bits of their first bytes.
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

/// What a header speaks of, by its name in lower case.
#[inline]
pub fn of(name: &[u8]) -> Option<Voice> {
    // Most names have another length or beginning than any of these.
    let first = name.first()? & 31;
    let looks = name.len() < 32 && SHAPES.0 >> name.len() & 1 != 0 && SHAPES.1 >> first & 1 != 0;
    if looks { VOICES.iter().find(|(voice, _)| *voice == name).map(|(_, of)| *of) } else { None }
}

/// The same of a name that has other signs where a hyphen would be, in any case.
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
