//! TLS from the outside: certificates made for a test, and clients of both protocols.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::wait::PATIENCE;

/// A certificate and its key.
pub struct Made {
    pub cert: String,
    pub key: String,
    pub der: Vec<u8>,
    pub key_der: Vec<u8>,
}

/// A certificate for these names, signed by itself.
pub fn made(names: &[&str]) -> Made {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let cert = params.self_signed(&key).unwrap();
    Made { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().to_vec(), key_der: key.serialize_der() }
}

/// An authority, and a client certificate that it signed.
pub fn authority() -> (Made, Made) {
    authority_until(u64::from(u32::MAX))
}

/// The same, with a client certificate that ends at this second since 1970.
pub fn authority_until(ends_s: u64) -> (Made, Made) {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.clone().self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::from_params(&params, &ca_key);
    let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(ends_s);
    let client = params.signed_by(&key, &issuer).unwrap();
    let made = |cert: &rcgen::Certificate, key: &KeyPair| Made {
        cert: cert.pem(),
        key: key.serialize_pem(),
        der: cert.der().to_vec(),
        key_der: key.serialize_der(),
    };
    (made(&ca, &ca_key), made(&client, &key))
}

/// What a client offers.
#[derive(Clone, Default)]
pub struct Offer<'a> {
    pub protocols: &'a [&'a str],
    pub tls12: bool,
    pub certificate: Option<&'a Made>,
}

/// A client's configuration, which trusts everybody.
pub fn client(offer: &Offer<'_>) -> Arc<ClientConfig> {
    let versions: &[_] = if offer.tls12 { &[&rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match offer.certificate {
        None => builder.with_no_client_auth(),
        Some(made) => {
            let key = PrivateKeyDer::try_from(made.key_der.clone()).unwrap();
            builder.with_client_auth_cert(vec![CertificateDer::from(made.der.clone())], key).unwrap()
        }
    };
    config.alpn_protocols = offer.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// What came of a request over TLS.
#[derive(Debug)]
pub struct Secured {
    /// The answer, head and body.
    pub text: String,
    /// The protocol that was agreed on.
    pub protocol: Option<String>,
    /// The certificate that the gateway showed.
    pub certificate: Vec<u8>,
}

/// An open connection over TLS.
pub type Secure = StreamOwned<ClientConnection, TcpStream>;

/// Connects, `before` it in the clear. Sessions may be resumed among those of one configuration.
pub fn connect(port: u16, name: &str, config: Arc<ClientConfig>, before: &[u8]) -> std::io::Result<Secure> {
    let mut tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.write_all(before)?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(config, name).map_err(std::io::Error::other)?;
    Ok(StreamOwned::new(connection, tcp))
}

/// Sends these bytes over TLS, `before` it in the clear, and reads until the end.
pub fn exchange(port: u16, name: &str, offer: &Offer<'_>, before: &[u8], bytes: &[u8]) -> std::io::Result<Secured> {
    let mut stream = connect(port, name, client(offer), before)?;
    stream.write_all(bytes)?;
    let mut read = vec![];
    let ended = stream.read_to_end(&mut read);
    // Who closes without saying so in TLS has still said what there is.
    ended.map(drop).or_else(|e| if read.is_empty() { Err(e) } else { Ok(()) })?;
    Ok(Secured {
        text: String::from_utf8_lossy(&read).into_owned(),
        protocol: stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        certificate: stream
            .conn
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|der| der.to_vec())
            .unwrap_or_default(),
    })
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
