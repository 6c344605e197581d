//! Which certificate of a server is good enough.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};

use crate::core::error::{BoxError, Error, Result};

/// Who may answer for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The connection is encrypted, and that is all.
    Anybody,
    /// A server that has a certificate of an authority that is trusted.
    Authority,
    /// A server that has such a certificate for the name of the host.
    AuthorityAndName,
}

/// The client's side of the encryption. The authorities are those of the file in PEM at the path `roots`, or the system's.
pub(super) fn client(trust: Trust, roots: Option<&str>) -> Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let authorities = match trust {
        Trust::Anybody => None,
        Trust::Authority | Trust::AuthorityAndName => {
            let store = Arc::new(roots.map_or_else(of_system, of_file)?);
            let builder = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&provider));
            let place = roots.unwrap_or("the system's store");
            Some(builder.build().map_err(|error| unusable(place, error))?)
        }
    };
    let verifier = Verifier {
        provider: Arc::clone(&provider),
        authorities,
        checks_name: trust == Trust::AuthorityAndName,
    };
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unusable("the defaults", error))?;
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(builder.with_no_client_auth())
}

fn unusable(place: &str, problem: impl std::fmt::Display) -> Error {
    let problem = format!("no certificates of authorities can be had of {place}: {problem}");
    Error::invalid_argument("url", problem)
}

fn of_file(path: &str) -> Result<RootCertStore> {
    let read = || -> std::result::Result<RootCertStore, BoxError> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path)? {
            store.add(certificate?)?;
        }
        match store.is_empty() {
            true => Err("there is none in it".into()),
            false => Ok(store),
        }
    };
    read().map_err(|error| unusable(path, error))
}

fn of_system() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // Systems have some that are no good: those count for nothing.
    store.add_parsable_certificates(found.certs);
    match (store.is_empty(), found.errors.first()) {
        (false, _) => Ok(store),
        (true, Some(error)) => Err(unusable("the system", error)),
        (true, None) => Err(unusable(
            "the system",
            "there is none: give sslrootcert a file",
        )),
    }
}

/// Checks as much as the URL asks for.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None` if every certificate will do.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    checks_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The name is looked at last.
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
