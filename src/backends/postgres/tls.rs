//! Connections that are encrypted as the URL says.

#[cfg(feature = "postgres-tls")]
mod verifier;

use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};

use super::connect::Connect;
use crate::core::error::{Error, Result};

/// What a URL says of encryption by its `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    fn of(text: &str) -> Result<Self> {
        Ok(match text {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                let problem = format!(
                    "sslmode={text} is not one of disable, prefer, require, verify-ca and verify-full"
                );
                return Err(Error::invalid_argument("url", problem));
            }
        })
    }

    /// How the client asks the server for it.
    fn of_client(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }
}

/// The way to connect by these parameters of a URL, and the configuration's part in it.
pub(super) fn connect(
    config: &mut Config,
    mode: Option<&str>,
    roots: Option<&str>,
) -> Result<Connect> {
    let mode = mode.map_or(Ok(Mode::Prefer), Mode::of)?;
    config.ssl_mode(mode.of_client());
    match mode {
        Mode::Disable => Ok(Connect::with(NoTls)),
        mode => encrypted(mode, roots),
    }
}

#[cfg(feature = "postgres-tls")]
fn encrypted(mode: Mode, roots: Option<&str>) -> Result<Connect> {
    use self::verifier::{Trust, client};

    let trust = match (mode, roots) {
        (Mode::VerifyFull, _) => Trust::AuthorityAndName,
        // A file of authorities that is not looked at would be a trap. It is so for `psql` too.
        (Mode::VerifyCa, _) | (Mode::Require, Some(_)) => Trust::Authority,
        _ => Trust::Anybody,
    };
    Ok(Connect::with(
        tokio_postgres_rustls::MakeRustlsConnect::new(client(trust, roots)?),
    ))
}

#[cfg(not(feature = "postgres-tls"))]
fn encrypted(mode: Mode, roots: Option<&str>) -> Result<Connect> {
    let parameter = match (mode, roots) {
        (Mode::Prefer, None) => return Ok(Connect::with(NoTls)),
        (Mode::Prefer | Mode::Disable, _) => "sslrootcert",
        (Mode::Require, _) => "sslmode=require",
        (Mode::VerifyCa, _) => "sslmode=verify-ca",
        (Mode::VerifyFull, _) => "sslmode=verify-full",
    };
    let problem = format!(
        "{parameter} needs TLS, and this program was built without the feature `postgres-tls` of catchment: enable that, or give a connector of your own to `PostgresBackend::with_tls`"
    );
    Err(Error::invalid_argument("url", problem))
}
