//! Options of the HTTP API: who may call it, how often, and what is logged of it.

use super::options::{check_log_days, invalid};
use crate::core::error::Result;

/// Requests per second, and at once, unless the options say otherwise.
const RATE: u32 = 100;
const BURST: u32 = 200;

/// Options of a template's HTTP API, given to [`TemplateOptions::api`](super::TemplateOptions::api).
///
/// By default every caller has to sign its requests with AWS credentials (Signature Version 4) that
/// allow `execute-api:Invoke` on the API, and the API takes 100 requests per second.
///
/// ```
/// use catchment::template::{ApiOptions, TemplateOptions};
///
/// let api = ApiOptions::at("/invoices")
///     .jwt("https://login.example.com/", ["invoices"]) // tokens of this issuer, for this audience
///     .throttle(20, 40)
///     .access_log(90);
/// let options = TemplateOptions::new().api(api);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct ApiOptions {
    path: Option<String>,
    authorizer: Authorizer,
    throttle: Option<(u32, u32)>,
    access_log: Option<u32>,
}

/// Who may call the API.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Authorizer {
    /// Callers whose AWS credentials allow it.
    #[default]
    Iam,
    /// Callers with a token.
    Jwt {
        issuer: String,
        audiences: Vec<String>,
    },
    /// Everybody.
    Public,
}

/// The options as they hold.
pub(super) struct Api {
    pub(super) path: String,
    pub(super) authorizer: Authorizer,
    pub(super) rate: u32,
    pub(super) burst: u32,
    /// For how many days the access log is kept.
    pub(super) access_log: Option<u32>,
}

impl ApiOptions {
    /// An API at `/{deployment}`, for callers with AWS credentials.
    pub fn new() -> Self {
        Self::default()
    }

    /// An API at this path, for callers with AWS credentials: `POST` there submits, `GET` of an id
    /// below it looks.
    pub fn at(path: impl Into<String>) -> Self {
        Self {
            path: Some(path.into()),
            ..Self::default()
        }
    }

    /// Lets callers in that bring a JSON Web Token of this issuer for one of these audiences, as
    /// `Authorization: Bearer …`, instead of AWS credentials. `issuer` is an `https://` address whose
    /// `.well-known/openid-configuration` names the issuer's keys. API Gateway takes at most 50
    /// audiences.
    pub fn jwt<A: Into<String>>(
        mut self,
        issuer: impl Into<String>,
        audiences: impl IntoIterator<Item = A>,
    ) -> Self {
        let audiences = audiences.into_iter().map(Into::into).collect();
        let issuer = issuer.into();
        self.authorizer = Authorizer::Jwt { issuer, audiences };
        self
    }

    /// **Opens the API to everybody who knows its address**, which is no secret: any caller
    /// submits work that the account pays for, and reads the result of every run whose id is known.
    pub fn public(mut self) -> Self {
        self.authorizer = Authorizer::Public;
        self
    }

    /// How many requests the API takes per second, and how many at once (default 100 and 200);
    /// callers beyond that get status 429. An account's quota stands above it: by default 10,000 and
    /// 5,000 for all its APIs in a region. Throttling costs nothing, and a million requests that it
    /// lets through cost about 1 USD in `us-east-1`.
    pub fn throttle(mut self, per_second: u32, burst: u32) -> Self {
        self.throttle = Some((per_second, burst));
        self
    }

    /// Logs each request and keeps that for this many days, one of the numbers that CloudWatch
    /// takes (default: no log). A line has the time, the caller's address and ARN, the route, the
    /// status and the answer's length: no path, which has a run's id in it, and nothing of a body.
    /// CloudWatch takes 0.50 USD per GB in `us-east-1`, which is about 3 million lines.
    pub fn access_log(mut self, days: u32) -> Self {
        self.access_log = Some(days);
        self
    }

    /// Defaults filled in, values checked.
    pub(super) fn resolve(&self, deployment: &str) -> Result<Api> {
        let path = match &self.path {
            None => format!("/{deployment}"),
            Some(path) => path.trim_end_matches('/').to_owned(),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.~/".contains(c);
        if !path.starts_with('/') || path.contains("//") || !path.chars().all(allowed) {
            return Err(invalid(format!(
                "api path {path:?}: use `/` and one or more segments of ASCII letters, digits, `-`, `_`, `.` and `~`, such as `/{deployment}`"
            )));
        }
        let (rate, burst) = self.throttle.unwrap_or((RATE, BURST));
        if rate == 0 || burst == 0 {
            return Err(invalid(format!(
                "the API's throttle is {rate} requests per second and {burst} at once: it would refuse every caller; leave the API out instead"
            )));
        }
        if let Authorizer::Jwt { issuer, audiences } = &self.authorizer {
            check_token(issuer, audiences)?;
        }
        if let Some(days) = self.access_log {
            check_log_days("access_log", days)?;
        }
        Ok(Api {
            path,
            authorizer: self.authorizer.clone(),
            rate,
            burst,
            access_log: self.access_log,
        })
    }
}

fn check_token(issuer: &str, audiences: &[String]) -> Result<()> {
    let is_plain = |text: &str| !text.contains(|c: char| c.is_control() || c.is_whitespace());
    let host = issuer.strip_prefix("https://");
    if host.is_none_or(str::is_empty) || !is_plain(issuer) {
        return Err(invalid(format!(
            "the API's JWT issuer is {issuer:?}: use the issuer's address, which begins with `https://`"
        )));
    }
    let bad = audiences.iter().any(|it| it.is_empty() || !is_plain(it));
    // A token for whomever it was made would open the API.
    if bad || !(1..=50).contains(&audiences.len()) {
        return Err(invalid(format!(
            "the API's JWT audiences are {audiences:?}: name 1 to 50 of them, none empty"
        )));
    }
    Ok(())
}
