//! The reader of RSA public keys, in any of the shapes that providers hand out.
//!
//! PEM with a public key, with a PKCS#1 key or with a certificate, or the bare base64 of the former two. Of several
//! sections the first one counts: a chain begins with its own certificate. Whether a certificate is still valid is not
//! checked: a provider's key is trusted because it was put here.

use base64::Engine;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::configured::{FileError, FileKind};
use base::secret::BASE64;

/// The bits of a key that `ring` verifies with.
const BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A file with an RSA public key of 2048 to 8192 bits. It is read as the DER of PKCS#1's `RSAPublicKey`, which `ring`
/// takes.
pub const FILE: FileKind = FileKind { max: 16 << 20, read };

fn read(bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    let hint = "the provider's RSA public key, 2048 bits or more: PEM (`PUBLIC KEY`, `RSA PUBLIC KEY` or `CERTIFICATE`), \
                or its base64 alone";
    public_key(bytes).map_err(|message| FileError { message, hint })
}

/// The key in the file, or the error as text.
fn public_key(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let Some(pem) = Pem::iter_from_buffer(bytes).next() else {
        return bare(bytes);
    };
    let Pem { label, contents } = pem.map_err(|error| format!("the file is not valid PEM: {error}"))?;
    match &*label {
        "PUBLIC KEY" => of_info(&contents).unwrap_or_else(|| Err("the public key is not a valid one".to_owned())),
        "RSA PUBLIC KEY" => of_pkcs1(&contents),
        "CERTIFICATE" => match X509Certificate::from_der(&contents) {
            Ok((_, certificate)) => of_parsed(certificate.public_key()),
            Err(_) => Err("the certificate is not a valid one".to_owned()),
        },
        private if private.ends_with("PRIVATE KEY") => {
            Err("the file holds a private key: callbacks are verified with the provider's public one".to_owned())
        }
        other => Err(format!("the file holds no public key but a section `{}`", other.escape_debug())),
    }
}

/// A key as base64, without the PEM lines around it.
fn bare(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = BASE64.decode(&text).ok().filter(|der| !der.is_empty());
    let der = der.ok_or("the file holds neither PEM nor a key in base64")?;
    of_info(&der).unwrap_or_else(|| of_pkcs1(&der))
}

/// A key as `SubjectPublicKeyInfo`; `None` where it is not one.
fn of_info(der: &[u8]) -> Option<Result<Vec<u8>, String>> {
    let (rest, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
    rest.is_empty().then(|| of_parsed(&info))
}

fn of_parsed(info: &SubjectPublicKeyInfo<'_>) -> Result<Vec<u8>, String> {
    match info.parsed() {
        Ok(PublicKey::RSA(_)) => of_pkcs1(&info.subject_public_key.data),
        Ok(_) => Err("the key is not an RSA key".to_owned()),
        Err(_) => Err("the public key is not a valid one".to_owned()),
    }
}

fn of_pkcs1(der: &[u8]) -> Result<Vec<u8>, String> {
    let (rest, key) = RSAPublicKey::from_der(der).map_err(|_| "the file holds no RSA public key".to_owned())?;
    let bits = bits(key.modulus);
    if !BITS.contains(&bits) {
        return Err(format!("the RSA key has {bits} bits, not {} to {}", BITS.start(), BITS.end()));
    }
    let odd = key.modulus.last().is_some_and(|byte| byte & 1 == 1);
    let exponent = key.try_exponent().is_ok_and(|e| e >= 3 && e & 1 == 1 && e >> 33 == 0);
    if !rest.is_empty() || !odd || !exponent {
        return Err("the RSA public key is not a valid one".to_owned());
    }
    Ok(der.to_vec())
}

fn bits(modulus: &[u8]) -> usize {
    let digits = &modulus[modulus.iter().take_while(|byte| **byte == 0).count()..];
    digits.first().map_or(0, |first| digits.len() * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of nobody; its key was thrown away.
    const CERTIFICATE: &str = "\
        MIIDATCCAemgAwIBAgIUKYstrzxgv1VAtIgKG+ngp3aZfMQwDQYJKoZIhvcNAQELBQAwDzENMAsGA1UEAwwEdGVzdDAgFw0yNjEx\
        MjExODM3MDZaGA8yMTI2MTAyODE4MzcwNlowDzENMAsGA1UEAwwEdGVzdDCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEB\
        ALjvU9op//DQCO4XWWgchc+L4ht4aX0m+qBMMoVdrU8sU7+NaZ3/VePZFo5ELvZIjCGP/B3ConpDR8+VN+C2FwfQ4FHz+lwW/wiX\
        yOUIavpwK6ahUg+x2JYGUPd22RaRh65JyuYya8cbMCislN1I1kehajTG3rtbbcLTs0eNMKaDYQJEjHK3VFXoLz0ubAXNOhLw17R+\
        KyyH+hGs8ryGs6s6UWo3+dP73AgVOLPoV4Xk6AE9maKWz84nsqDTyWYkU1OOGBENA9h8b1ZyN3C5JdAeHQIxZQlqO5dMDabenOn6\
        9gbsWGiFIXW6K8fZXg1ozbxqpRxaegBwZUEW4aV6zwsCAwEAAaNTMFEwHQYDVR0OBBYEFPmmgubh5OX/SikgQcjzkAhbJKHBMB8G\
        A1UdIwQYMBaAFPmmgubh5OX/SikgQcjzkAhbJKHBMA8GA1UdEwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADggEBAEUQVsjmBkK1\
        wjHUO8RgQUb423DXiNHXF+ViCFJY9ST4D/VvBOMrMDyi4ShnlKQhsdSztETo5TLQm3CbguxUpQiB9LEHAA+xzdL15P6Dx2fKO0wf\
        bqhiP+h3jLggtYTSc6VYxKRJMl0UzCbN6TNj1YuqgEgnjum/0HMjI1Q62+2UbW9nqfSJ6RgaLW7FW0K2tIUnsjFLS6kNL1EBZgkt\
        fiYGB27Q71OT7CJrtSZyVlLJ4Aa/DFTu8Dt0Hw7gUKkK7fkDiEX7HyFvFDG/yXOKDdkt59ttogIWD7Ej+fYDxi920h6GmojdHPQ0\
        OG/ZAIRdgPYC+4+PV4dYDJw7J9O+OyA=";
    /// The same key alone.
    const INFO: &str = "\
        MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAuO9T2in/8NAI7hdZaByFz4viG3hpfSb6oEwyhV2tTyxTv41pnf9V49kW\
        jkQu9kiMIY/8HcKiekNHz5U34LYXB9DgUfP6XBb/CJfI5Qhq+nArpqFSD7HYlgZQ93bZFpGHrknK5jJrxxswKKyU3UjWR6FqNMbe\
        u1ttwtOzR40wpoNhAkSMcrdUVegvPS5sBc06EvDXtH4rLIf6EazyvIazqzpRajf50/vcCBU4s+hXheToAT2ZopbPzieyoNPJZiRT\
        U44YEQ0D2HxvVnI3cLkl0B4dAjFlCWo7l0wNpt6c6fr2BuxYaIUhdborx9leDWjNvGqlHFp6AHBlQRbhpXrPCwIDAQAB";
    /// The same key, of PKCS#1.
    const PKCS1: &str = "\
        MIIBCgKCAQEAuO9T2in/8NAI7hdZaByFz4viG3hpfSb6oEwyhV2tTyxTv41pnf9V49kWjkQu9kiMIY/8HcKiekNHz5U34LYXB9Dg\
        UfP6XBb/CJfI5Qhq+nArpqFSD7HYlgZQ93bZFpGHrknK5jJrxxswKKyU3UjWR6FqNMbeu1ttwtOzR40wpoNhAkSMcrdUVegvPS5s\
        Bc06EvDXtH4rLIf6EazyvIazqzpRajf50/vcCBU4s+hXheToAT2ZopbPzieyoNPJZiRTU44YEQ0D2HxvVnI3cLkl0B4dAjFlCWo7\
        l0wNpt6c6fr2BuxYaIUhdborx9leDWjNvGqlHFp6AHBlQRbhpXrPCwIDAQAB";
    /// 1024 bits.
    const SMALL: &str = "\
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC9Xk5DEF+1TJ+ierbQry2Bme/7RRa88kM9+tOxlbPTeAAG4PFsQ8D8vLAC8fH+\
        h+Ny/zhujz/6wvbHSYUgt7Mz1W0f46KaJj+/qmS+yhAgqFzNRx2oUO5BV0RNoLjABWenNFmbKmOPds3PPfsLNpZXHHp021a5ISKr\
        915zLsMUvQIDAQAB";
    /// No RSA.
    const CURVE: &str = "\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1fgWOiQfDo23IBOhYfv9ayl6ITxhEQzVtEZFx/Nx/NpU8SDrylkRmBT6III5dE7+\
        OXiFt78BquqiV0m2BTJZvw==";

    fn pem(label: &str, base64: &str) -> String {
        let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    #[test]
    fn every_shape_of_a_key_is_the_same_key() {
        let key = public_key(pem("RSA PUBLIC KEY", PKCS1).as_bytes()).unwrap();
        assert_eq!(key, BASE64.decode(PKCS1).unwrap());
        let chain = pem("CERTIFICATE", CERTIFICATE).repeat(2);
        let broken_over_lines = format!("{}\n{}\r\n", &INFO[..64], &INFO[64..]);
        for text in [&*pem("PUBLIC KEY", INFO), &*chain, INFO, PKCS1, &*broken_over_lines] {
            assert_eq!(public_key(text.as_bytes()), Ok(key.clone()), "{text}");
        }
    }

    #[test]
    fn what_is_no_usable_key_is_told_why() {
        let cut = &INFO[..INFO.len() - 8];
        for (text, message) in [
            (String::new(), "the file holds neither PEM nor a key in base64"),
            ("not base64!".to_owned(), "the file holds neither PEM nor a key in base64"),
            (BASE64.encode("hello"), "the file holds no RSA public key"),
            (cut.to_owned(), "the file holds no RSA public key"),
            (pem("PUBLIC KEY", cut), "the public key is not a valid one"),
            (pem("RSA PUBLIC KEY", INFO), "the file holds no RSA public key"),
            (pem("CERTIFICATE", INFO), "the certificate is not a valid one"),
            (pem("PUBLIC KEY", SMALL), "the RSA key has 1024 bits, not 2048 to 8192"),
            (pem("PUBLIC KEY", CURVE), "the key is not an RSA key"),
            (CURVE.to_owned(), "the key is not an RSA key"),
            (
                pem("RSA PRIVATE KEY", "MAA="),
                "the file holds a private key: callbacks are verified with the provider's public one",
            ),
            (pem("X509 CRL", "MAA="), "the file holds no public key but a section `X509 CRL`"),
        ] {
            assert_eq!(public_key(text.as_bytes()), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn bits_are_counted_without_leading_zeroes() {
        for (modulus, counted) in [(&[][..], 0), (&[0, 0x80], 8), (&[1, 0], 9), (&[0x7f], 7)] {
            assert_eq!(bits(modulus), counted);
        }
    }
}
