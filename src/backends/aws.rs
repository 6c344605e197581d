//! Amazon SQS and DynamoDB as one backend (with both features, `sqs` and `dynamodb`).

// Below is what the two services share: how their clients are set up, how requests are counted, and what their errors mean.

#[cfg(all(feature = "sqs", feature = "dynamodb"))]
mod backend;
pub(super) mod patience;
mod retryable;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::ProvideErrorKind;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

use crate::core::error::{BoxError, Error, describe};
use crate::core::requests::Requests;

#[cfg(all(feature = "sqs", feature = "dynamodb"))]
pub use self::backend::AwsBackend;
#[cfg(feature = "sqs")]
pub(super) use self::retryable::{bare, is_retryable_code};
use self::retryable::{credentials_problem, is_lasting, is_retryable};

/// How long one attempt at a request may take where the application has not said. Longer than a long poll.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// Without a limit, a connection that has silently died would be waited for until the system gives it up.
pub(super) fn timeouts(config: &SdkConfig) -> TimeoutConfig {
    let given = config.timeout_config();
    // What nobody has set stays as the client has it, such as how long connecting may take.
    let mut timeouts = given.map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder);
    let is_limited = given.is_some_and(|given| {
        given.operation_attempt_timeout().is_some()
            || given.operation_timeout().is_some()
            || given.read_timeout().is_some()
    });
    if !is_limited {
        timeouts = timeouts.operation_attempt_timeout(ATTEMPT_TIMEOUT);
    }
    timeouts.build()
}

/// Counts every request that leaves the client, repeated ones included.
#[derive(Debug)]
pub(super) struct CountRequests(pub(super) Requests);

impl Intercept for CountRequests {
    fn name(&self) -> &'static str {
        "CountRequests"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(metadata) = config.load::<Metadata>() {
            self.0
                .count(&format!("{} {}", metadata.service(), metadata.name()));
        }
        Ok(())
    }
}

/// Where requests to a service go, for error messages: the region, and the endpoint where one was set.
pub(super) fn place(config: &SdkConfig, service: &str) -> String {
    let region = match config.region() {
        Some(region) => format!("region {region}"),
        None => NO_REGION.to_owned(),
    };
    let key = ServiceConfigKey::builder()
        .service_id(service)
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build();
    let of_service = || config.service_config()?.load_config(key.ok()?);
    let endpoint = match config.get_origin("endpoint_url").is_client_config() {
        true => None,
        false => of_service(),
    };
    let endpoint = endpoint.or_else(|| config.endpoint_url().map(str::to_owned));
    match endpoint {
        Some(endpoint) => format!("{region} at {endpoint}"),
        None => region,
    }
}

const NO_REGION: &str = "no region";

/// The error code of a refusal by the service.
pub(super) fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(|error| error.code())
}

/// The error of a call that failed, as a user reads it. `operation` says what was asked and of which
/// queue or table, `place` where it went, `requests` what this client has sent so far.
pub(super) fn failed<E>(
    service: &'static str,
    operation: impl Into<String>,
    error: SdkError<E, HttpResponse>,
    place: &str,
    requests: &Requests,
) -> Error
where
    E: ProvideErrorMetadata + ProvideErrorKind + StdError + Send + Sync + 'static,
{
    let has_sent = requests.total() > 0;
    let source = Reason::of(&error, place, has_sent).into();
    Error::Backend {
        service,
        operation: operation.into(),
        retryable: is_retryable(error, has_sent),
        source,
    }
}

/// What a service or its client said, on one line.
#[derive(Debug)]
struct Reason(String);

impl Reason {
    fn of<E>(error: &SdkError<E, HttpResponse>, place: &str, has_sent: bool) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let text = describe(error);
        let Some(refusal) = error.as_service_error() else {
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let text = lines.join(" ");
            let lacks_credentials = credentials_problem(error).is_some_and(is_lasting);
            return Self(if lacks_credentials && has_sent {
                format!("the AWS credentials could not be renewed ({text})")
            } else if lacks_credentials {
                format!(
                    "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a role provides them ({text})"
                )
            } else if place.starts_with(NO_REGION) {
                format!(
                    "there is no AWS region: set AWS_REGION, or a profile that has one ({text})"
                )
            } else {
                text
            });
        };
        Self(match (refusal.code(), refusal.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => {
                let status = error.raw_response().map(|answer| answer.status().as_u16());
                let status = status.unwrap_or_default();
                format!("the answer has HTTP status {status} and no error code ({text})")
            }
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl StdError for Reason {}

/// A request that could not even be put together.
pub(super) fn malformed(
    service: &'static str,
    operation: impl Into<String>,
    source: impl Into<BoxError>,
) -> Error {
    Error::Backend {
        service,
        operation: operation.into(),
        retryable: false,
        source: source.into(),
    }
}
