//! The adder over HTTP: its API under `/adder` and a worker in one process, until SIGTERM or
//! Ctrl-C.
//!
//! ```text
//! cargo run --features http --example adder_http
//! adder=http://127.0.0.1:8080/adder
//! json='content-type: application/json'
//! curl -H "$json" -d '[1, 2, 3, 4, 5]' $adder/runs
//! curl -X PUT -H "$json" -d '[10, 20, 30]' $adder/runs/invoices%2F2026-11-21
//! curl $adder/runs/invoices%2F2026-11-21
//! curl "$adder/runs/invoices%2F2026-11-21/result?wait=20"
//! curl -H "$json" -d '[1, "two"]' $adder/runs
//! curl -X PUT -H "$json" -d '[1, 9223372036854775807]' $adder/runs/too-much
//! curl "$adder/runs/too-much/result?wait=20"
//! curl "$adder/runs/too-much/dead-letters?bodies=true"
//! curl -X POST -H "$json" $adder/runs/too-much/redrive
//! curl -X POST -H "$json" $adder/runs/too-much/cancel
//! curl $adder/openapi.json
//! ```
//!
//! With `--backend aws` its runs are in Amazon SQS and DynamoDB, and outlive it:
//!
//! ```text
//! cargo run --features aws,http --example adder_http -- --backend aws
//! ```
//!
//! **It does not authenticate its callers.** It listens on 127.0.0.1 only; a server for others puts
//! authentication around the router.

#[path = "distributed/pipeline.rs"]
mod pipeline;
#[path = "distributed/signals.rs"]
mod signals;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use catchment::http::HttpOptions;
use catchment::{Backend, BoxError, Stage};
use clap::{Parser, ValueEnum};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

#[derive(Parser)]
#[command(about = "Doubles numbers and adds them up, over HTTP")]
struct Arguments {
    /// The port to listen on, on 127.0.0.1; 0 picks a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where runs are kept.
    #[arg(long, value_enum, default_value_t = BackendName::Memory)]
    backend: BackendName,
    /// The deployment's name.
    #[arg(long, default_value = "adder")]
    name: String,
    /// For tests: the visibility timeout, after which another server gets the messages of a dead
    /// one.
    #[arg(long, value_name = "SECONDS", hide = true)]
    visibility_seconds: Option<u64>,
    /// For tests: how many numbers are doubled per second, so that there is time to do something to
    /// the server.
    #[arg(long, value_name = "ITEMS", hide = true)]
    items_per_second: Option<u32>,
}

impl Arguments {
    fn stage(&self, name: &str) -> Stage {
        let stage = Stage::named(name);
        match self.visibility_seconds {
            Some(seconds) => stage.visibility_timeout(Duration::from_secs(seconds)),
            None => stage,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum BackendName {
    Memory,
    Aws,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adder_http: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), BoxError> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter.from_env_lossy())
        .with_writer(std::io::stderr)
        .init();
    let told_to_end = signals::told_to_end()?;
    let mut times_two = arguments.stage("times_two");
    if let Some(items) = arguments.items_per_second {
        times_two = times_two.rate_limit(items, Duration::from_secs(1));
    }
    let adder = pipeline::adder(times_two, arguments.stage("sum"), None);
    let adder = adder.deploy(&arguments.name, backend(arguments.backend).await?)?;
    adder.provision().await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    println!("http://{}/adder", listener.local_addr()?);

    let worker = adder.worker().start();
    // A page elsewhere whose name leads to this machine must not reach it.
    let local = HttpOptions::new()
        .allow_host("127.0.0.1")
        .allow_host("localhost");
    let application = Router::new().nest("/adder", adder.router_with(local));
    // First no more requests are taken and those under way are answered, then the worker finishes
    // what it holds.
    let served = axum::serve(listener, application).with_graceful_shutdown(told_to_end);
    let served = served.await;
    worker.shutdown().await;
    served?;
    Ok(())
}

async fn backend(name: BackendName) -> Result<Backend, BoxError> {
    match name {
        BackendName::Memory => Ok(Backend::memory()),
        #[cfg(feature = "aws")]
        BackendName::Aws => Ok(Backend::aws_from_env().await),
        #[cfg(not(feature = "aws"))]
        BackendName::Aws => Err(
            "built without the feature `aws`: cargo run --features aws,http --example adder_http -- --backend aws"
                .into(),
        ),
    }
}
