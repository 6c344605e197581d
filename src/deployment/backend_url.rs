//! A backend by its URL, as a command line or the environment names it.

use super::backend::Backend;
use crate::core::error::{Error, Result};

/// The environment variable that names the backend.
const VARIABLE: &str = "CATCHMENT_BACKEND";

impl Backend {
    /// A backend by its URL. A file is opened, and made if there is none; no service is connected to yet.
    ///
    /// | URL | backend | feature |
    /// | --- | --- | --- |
    /// | `memory:` | [`Backend::memory`] | |
    /// | `postgres://user:password@host:port/database` | a PostgreSQL database; `?schema=NAME` and `&connections=NUMBER` are its settings, and `&sslmode=verify-full` asks for TLS | `postgres`, and `postgres-tls` for TLS |
    /// | `sqlite:path` | a [file](Backend::file): `sqlite:run.db`, `sqlite:///var/lib/app/run.db` | `sqlite` |
    /// | `aws:` | Amazon SQS and DynamoDB, configured as every AWS tool is | `aws` |
    ///
    /// ```
    /// use catchment::Backend;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), catchment::Error> {
    /// let backend = Backend::from_url("memory:").await?;
    /// let refused = Backend::from_url("memroy:").await.unwrap_err();
    /// assert!(refused.to_string().starts_with("\"memroy:\" names no backend: memory:, "));
    /// # drop(backend);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (`url`) if it names no backend, or one whose feature this program was built without;
    /// for a file as [`Backend::file`].
    pub async fn from_url(url: &str) -> Result<Self> {
        // Up to the colon, so that no password is in an error.
        let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
        match scheme {
            "memory" => Ok(Self::memory()),
            "postgres" | "postgresql" => postgres(url),
            "aws" => aws().await,
            "sqlite" => sqlite(url.split_at(scheme.len() + 1).1).await,
            _ => {
                let shown: String = scheme.chars().take(40).collect();
                let colon = if url.contains(':') { ":" } else { "" };
                let problem = format!(
                    "\"{shown}{colon}\" names no backend: memory:, sqlite:path, postgres://… and aws: do"
                );
                Err(Error::invalid_argument("url", problem))
            }
        }
    }

    /// The backend that the environment variable `CATCHMENT_BACKEND` names by its [URL](Self::from_url).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (`CATCHMENT_BACKEND`) if the variable is not set; otherwise as [`from_url`](Self::from_url).
    pub async fn from_env() -> Result<Self> {
        match std::env::var(VARIABLE) {
            Ok(url) => Self::from_url(&url).await,
            Err(_) => {
                let problem = "CATCHMENT_BACKEND is not set: give it a backend's URL, such as postgres://localhost/app";
                Err(Error::invalid_argument(VARIABLE, problem))
            }
        }
    }
}

#[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "aws")))]
fn lacks(scheme: &str, feature: &str) -> Error {
    let problem = format!(
        "no backend `{scheme}:` is in this program, which was built without the feature `{feature}` of catchment"
    );
    Error::invalid_argument("url", problem)
}

#[cfg(feature = "sqlite")]
async fn sqlite(path: &str) -> Result<Backend> {
    let path = path.strip_prefix("//").unwrap_or(path).to_owned();
    if path.is_empty() {
        let problem = "sqlite: is to be followed by the path of a file, as in sqlite:run.db";
        return Err(Error::invalid_argument("url", problem));
    }
    let opened = tokio::task::spawn_blocking(move || Backend::file(path));
    opened
        .await
        .map_err(|source| Error::unavailable("sqlite", "opening the file", source))?
}

#[cfg(not(feature = "sqlite"))]
async fn sqlite(_path: &str) -> Result<Backend> {
    Err(lacks("sqlite", "sqlite"))
}

#[cfg(feature = "postgres")]
fn postgres(url: &str) -> Result<Backend> {
    Ok(crate::backends::postgres::PostgresBackend::from_url(url)?.into())
}

#[cfg(not(feature = "postgres"))]
fn postgres(_url: &str) -> Result<Backend> {
    Err(lacks("postgres", "postgres"))
}

#[cfg(feature = "aws")]
async fn aws() -> Result<Backend> {
    Ok(Backend::aws_from_env().await)
}

#[cfg(not(feature = "aws"))]
async fn aws() -> Result<Backend> {
    Err(lacks("aws", "aws"))
}
