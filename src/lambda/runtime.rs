//! The function under Lambda's own runtime.

use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use futures::future::BoxFuture;
use lambda_runtime::{Diagnostic, LambdaEvent, Service};

use super::LambdaFunction;
use crate::core::error::{Error, Result, describe};

/// What Lambda gives every function's process. Its runtime panics where one is missing.
const VARIABLES: [&str; 4] = [
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
];

/// In milliseconds since 1970, as deadlines are: in 2001, before there was any Lambda.
const EARLIEST: u64 = 1_000_000_000_000;

impl LambdaFunction {
    /// Takes events from Lambda for as long as the container lives: the whole of a function's `main`. To put layers
    /// around it, give it to `lambda_runtime::run`: it is a `Service<LambdaEvent<SqsEvent>>`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], with the name of the missing environment variable, if the process was not started by Lambda or something that plays it, and
    /// [`Error::Backend`] where the runtime's interface cannot be reached.
    pub async fn run(self) -> Result<()> {
        let missing = VARIABLES
            .iter()
            .find(|name| std::env::var_os(name).is_none());
        if let Some(name) = missing {
            return Err(Error::invalid_argument(
                name,
                format!(
                    "stage `{}` was started as a Lambda function, but {name} is not set, as it is in Lambda: deploy the program, or run it under `cargo lambda watch`",
                    self.stage()
                ),
            ));
        }
        if cfg!(panic = "abort") {
            tracing::warn!(
                stage = self.stage(),
                "built with panic = \"abort\": an item that panics takes its whole batch along; put panic = \"unwind\" under [profile.release] in Cargo.toml"
            );
        }
        lambda_runtime::run(self)
            .await
            .map_err(|source| Error::Backend {
                service: "Lambda",
                operation: "taking events from the runtime interface".to_owned(),
                retryable: false,
                source,
            })
    }
}

impl Service<LambdaEvent<SqsEvent>> for LambdaFunction {
    type Response = SqsBatchResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<SqsBatchResponse>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, event: LambdaEvent<SqsEvent>) -> Self::Future {
        let function = self.clone();
        Box::pin(async move {
            let remaining = remaining(&event.context);
            function.handle(event.payload, remaining).await
        })
    }
}

/// How long the invocation has. A context that was made without a deadline, as in tests, has none; nor has one under
/// `cargo lambda watch`, which tells every invocation the same moment in 1970.
fn remaining(context: &lambda_runtime::Context) -> Duration {
    if context.deadline < EARLIEST {
        return Duration::MAX;
    }
    let left = context.deadline().duration_since(SystemTime::now());
    left.unwrap_or(Duration::ZERO)
}

/// What Lambda shows of a failed invocation: the error and its causes on one line.
impl From<Error> for Diagnostic {
    fn from(error: Error) -> Self {
        Self {
            error_type: "catchment::Error".to_owned(),
            error_message: describe(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_lambda_cannot_have_given_is_none() {
        let until = |deadline: u64| {
            let mut context = lambda_runtime::Context::default();
            context.deadline = deadline;
            remaining(&context)
        };
        assert_eq!(until(0), Duration::MAX);
        assert_eq!(until(600_000), Duration::MAX, "cargo lambda watch");
        assert_eq!(until(EARLIEST), Duration::ZERO, "long past");
        let hour = Duration::from_secs(3_600);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let soon = (now.unwrap_or_default() + hour).as_millis();
        let left = until(u64::try_from(soon).unwrap_or_default());
        assert!(left > hour / 2 && left <= hour, "{left:?}");
    }
}
