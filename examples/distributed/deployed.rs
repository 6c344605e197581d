//! The subcommands that need a backend: one part of a deployment, whose other parts are other
//! processes.

use std::fmt::Write as _;
use std::io::Write as _;

use catchment::provision::Change;
use catchment::{Backend, BoxError, DeadLetter, Deployment, Error, Run, Status};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::arguments::{Command, Input, Options, Usage};
use crate::signals::told_to_end;
use crate::{one_line, pipeline};

type Adder = Deployment<i64, i64>;

/// Standard output has the answer and nothing else, so that scripts can use it.
pub(crate) async fn run(command: Command, options: Options) -> Result<(), BoxError> {
    log();
    let url = url(options.backend)?;
    if let Command::Provision { dry_run: true } = command {
        return dry_run(&url).await;
    }
    let backend = backend(&url).await?;
    let limit = match command {
        Command::Worker { limit, .. } => limit,
        _ => None,
    };
    let adder = pipeline(&options.tuning, limit).deploy(&options.name, backend)?;
    let adder: Adder = signed(adder)?;
    let answer = match command {
        Command::Provision { .. } => changes(&adder.provision().await?)?,
        Command::Submit { input, id } => submit(&adder, input, id).await?,
        Command::Worker { stages, .. } => {
            work(&adder, stages).await?;
            String::new()
        }
        Command::Result { id } => format!("{}\n", adder.attach(id).result().await?),
        Command::Status { id } => status(&adder.attach(id)).await?,
        Command::DeadLetters { id: None } => {
            dead_letters(&adder.dead_letters().limit(10_000).await?)?
        }
        Command::DeadLetters { id: Some(id) } => {
            dead_letters(&adder.attach(id).dead_letters().limit(10_000).await?)?
        }
        Command::Redrive { id } => format!("{}\n", adder.attach(id).redrive().await?.redriven),
        Command::Cancel { id } => cancel(&adder.attach(id)).await?,
        Command::Template { .. } => return Err(Usage("a template needs no backend".into()).into()),
        Command::Deprovision { confirmed } => changes(&adder.deprovision(&confirmed).await?)?,
    };
    std::io::stdout().write_all(answer.as_bytes())?;
    eprintln!("catchment: {}", adder.requests());
    Ok(())
}

/// The environment variable with the deployment's keys, if it has any.
const KEY: &str = "CATCHMENT_KEY";

#[cfg(feature = "signed")]
fn signed(adder: Adder) -> Result<Adder, BoxError> {
    Ok(match std::env::var_os(KEY) {
        Some(_) => adder.signed(catchment::Keys::from_env(KEY)?),
        None => adder,
    })
}

/// Without the keys, it would write what the others refuse.
#[cfg(not(feature = "signed"))]
fn signed(adder: Adder) -> Result<Adder, BoxError> {
    match std::env::var_os(KEY) {
        Some(_) => Err(Usage(format!("{KEY} is set: build with --features signed")).into()),
        None => Ok(adder),
    }
}

/// The backend's URL; a bare word, such as `aws`, is one without its colon.
fn url(named: Option<String>) -> Result<String, Usage> {
    let named = named.or_else(|| std::env::var("CATCHMENT_BACKEND").ok());
    let named = named.unwrap_or_else(|| "memory".to_owned());
    let url = match named.contains(':') {
        true => named,
        false => format!("{named}:"),
    };
    match url.as_str() {
        "memory:" => Err(Usage(
            "a backend in memory is gone with its process, so that no other could go on: give subcommands --backend aws, or the URL of another backend".into(),
        )),
        _ => Ok(url),
    }
}

async fn backend(url: &str) -> Result<Backend, BoxError> {
    match Backend::from_url(url).await {
        Ok(backend) => Ok(backend),
        Err(error @ Error::InvalidArgument { .. }) => Err(Usage(format!(
            "{error}: cargo run --features aws,postgres --example distributed -- … has them all"
        ))
        .into()),
        Err(error) => Err(error.into()),
    }
}

/// Prints what `provision` would run.
#[cfg(feature = "postgres")]
async fn dry_run(url: &str) -> Result<(), BoxError> {
    if !url.starts_with("postgres") {
        return Err(Usage("only a PostgreSQL database has SQL to show".into()).into());
    }
    let database = catchment::backends::postgres::PostgresBackend::from_url(url)?;
    let script = database.missing_migrations().await?;
    std::io::stdout().write_all(script.as_bytes())?;
    Ok(())
}

#[cfg(not(feature = "postgres"))]
async fn dry_run(_url: &str) -> Result<(), BoxError> {
    Err(Usage("built without the feature `postgres`: cargo run --features postgres --example distributed -- …".into()).into())
}

/// Outages and dead letters show on standard error; `RUST_LOG` sets the log level.
fn log() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter.from_env_lossy())
        .with_writer(std::io::stderr)
        .init();
}

fn changes(changes: &[Change]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for change in changes {
        writeln!(text, "{change}")?;
    }
    Ok(text)
}

async fn submit(adder: &Adder, input: Input, id: Option<String>) -> Result<String, BoxError> {
    let run = match id {
        Some(id) => adder.submit_as(id, input.items()).await?,
        None => adder.submit(input.items()).await?,
    };
    Ok(format!("{}\n", run.id()))
}

async fn work(adder: &Adder, stages: Option<Vec<String>>) -> Result<(), BoxError> {
    // Signals are handled from here on, so that none arrives before its handler is in place.
    let told_to_end = told_to_end()?;
    let worker = adder.worker();
    let worker = match stages {
        Some(stages) => worker.stages(stages),
        None => worker,
    };
    worker.run_until(told_to_end).await?;
    Ok(())
}

async fn status(run: &Run<i64>) -> Result<String, BoxError> {
    let Status {
        state,
        items,
        items_done,
        packets,
        packets_done,
        items_skipped,
        items_failed,
        messages_failed,
        settled,
        failure,
        ..
    } = run.status().await?;
    let mut text = String::new();
    writeln!(text, "run: {}", run.id())?;
    writeln!(text, "state: {state}")?;
    writeln!(text, "items: {}", share(items_done, items))?;
    writeln!(text, "packets: {}", share(packets_done, packets))?;
    writeln!(text, "skipped items: {items_skipped}")?;
    writeln!(text, "failed items: {items_failed}")?;
    writeln!(text, "failed messages: {messages_failed}")?;
    writeln!(text, "settled: {settled}")?;
    if let Some(failure) = failure {
        writeln!(text, "first failure: {}", one_line(&failure.to_string()))?;
    }
    Ok(text)
}

fn share(done: u64, all: Option<u64>) -> String {
    match all {
        Some(all) => format!("{done} of {all}"),
        None => format!("{done}, more may come"),
    }
}

fn dead_letters(letters: &[DeadLetter]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for letter in letters {
        write!(text, "stage {}", letter.stage)?;
        if let Some(run) = &letter.run {
            write!(text, ", run {run}")?;
        }
        if let Some(message) = &letter.message {
            write!(text, ", {message}")?;
        }
        if let Some(item) = letter.item {
            write!(text, ", item {item}")?;
        }
        // A packet may have several failed items, each with its attempts.
        if let Some(last) = letter.attempts.iter().map(|attempt| attempt.number).max() {
            write!(text, ", attempts {last}")?;
        }
        writeln!(text, ": {}", one_line(&letter.error))?;
    }
    Ok(text)
}

async fn cancel(run: &Run<i64>) -> Result<String, BoxError> {
    if run.cancel().await? {
        return Ok("cancelled\n".to_owned());
    }
    let state = run.status().await?.state;
    Err(format!("run {} is {state}: there is nothing to cancel", run.id()).into())
}
