//! The adder on AWS Lambda: one program, whose environment selects the function that it is.
//!
//! | `CATCHMENT_STAGE` | invoked by | does |
//! | --- | --- | --- |
//! | `api` | an HTTP API or a function URL | `POST /adder` submits an array, `GET /adder/{arrayId}` returns its status and result |
//! | `times_two` | an event source mapping on the queue `adder--times_two` | doubles numbers |
//! | `sum` | an event source mapping on the queue `adder--sum` | adds them up |
//!
//! `CATCHMENT_DEPLOYMENT` is the deployment's name, `adder` by default; `RUST_LOG` sets the log
//! level. For tests: `ADDER_ITEMS_PER_SECOND` is how many numbers a container doubles per second,
//! so that there is too little time for them.

#[path = "distributed/api.rs"]
mod api;
#[path = "distributed/pipeline.rs"]
mod pipeline;

use std::process::ExitCode;
use std::time::Duration;

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use catchment::{Backend, BoxError, Stage};
use lambda_runtime::{LambdaEvent, service_fn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adder_lambda: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        return Err("this program is started by Lambda (AWS_LAMBDA_RUNTIME_API is not set): run it under `cargo lambda watch`, as scripts/lambda-local does, or deploy it".into());
    }
    log();
    let name = std::env::var("CATCHMENT_DEPLOYMENT").unwrap_or_else(|_| "adder".to_owned());
    // Once per container: invocations share the clients and their connections.
    let (mut times_two, sum) = (Stage::named("times_two"), Stage::named("sum"));
    if let Ok(items) = std::env::var("ADDER_ITEMS_PER_SECOND") {
        let items = items
            .parse()
            .map_err(|error| format!("ADDER_ITEMS_PER_SECOND is {items:?}: {error}"))?;
        times_two = times_two.rate_limit(items, Duration::from_secs(1));
    }
    let adder = pipeline::adder(times_two, sum, None);
    let adder = adder.deploy(&name, Backend::aws_from_env().await)?;
    if std::env::var("CATCHMENT_STAGE").is_ok_and(|stage| stage == "api") {
        let api = service_fn(|event: LambdaEvent<ApiGatewayV2httpRequest>| async {
            Ok::<_, BoxError>(api::answer(&adder, event.payload).await)
        });
        return lambda_runtime::run(api).await;
    }
    adder.lambda_from_env()?.run().await?;
    Ok(())
}

/// Lambda keeps what is written to standard error, and adds the time.
fn log() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter.from_env_lossy())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
}
