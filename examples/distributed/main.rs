//! The adder as a deployment: each command is a process of its own, and they meet in a PostgreSQL
//! database, or in Amazon SQS and DynamoDB.
//!
//! ```text
//! export CATCHMENT_BACKEND=postgres://localhost/app      or aws: (feature aws); --backend does the same
//! alias distributed='cargo run --features postgres --example distributed --'
//! distributed provision                                  queues and tables; --dry-run shows the SQL
//! distributed worker                                     any number of them, here or elsewhere
//! id=$(distributed submit --count 100000)
//! distributed result $id                                 10000100000
//! distributed deprovision adder
//! ```
//!
//! `distributed template` prints a template of everything on AWS, with a Lambda function for each
//! stage (feature `lambda`).
//!
//! `status`, `dead-letters`, `redrive` and `cancel` are for the rest of a run's life. `distributed
//! worker --limit 100` fails numbers above 100. After `distributed redrive`, a worker without a
//! limit completes such a run.
//!
//! With the feature `signed`, each command takes the deployment's keys from `CATCHMENT_KEY` if it is set.
//!
//! The example `adder` is the same pipeline inside one process.

mod arguments;
mod deployed;
mod pipeline;
mod signals;
mod template;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use catchment::pipeline::One;
use catchment::{BoxError, Pipeline, Stage};
use clap::Parser;

use arguments::{Arguments, Command, Tuning, Usage};

/// Takes numbers and returns their doubled sum. `limit` is the largest number that succeeds here,
/// if there is one.
fn pipeline(tuning: &Tuning, limit: Option<i64>) -> Pipeline<i64, i64, One> {
    let mut times_two = stage("times_two", tuning);
    if let Some(items) = tuning.packet_size {
        times_two = times_two.packet_size(items);
    }
    if let Some(items) = tuning.items_per_second {
        times_two = times_two.rate_limit(items, Duration::from_secs(1));
    }
    pipeline::adder(times_two, stage("sum", tuning), limit)
}

fn stage(name: &str, tuning: &Tuning) -> Stage {
    let stage = Stage::named(name);
    match tuning.visibility_seconds {
        Some(seconds) => stage.visibility_timeout(Duration::from_secs(seconds)),
        None => stage,
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| explain(&error));
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("distributed: {}", describe(error.as_ref()));
            match error.is::<Usage>() {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}

async fn run(Arguments { command, options }: Arguments) -> Result<(), BoxError> {
    match command {
        Some(Command::Template { format, stack }) => template::print(format, &options, stack),
        Some(command) => deployed::run(command, options).await,
        None => Err(Usage(
            "it needs a subcommand, such as `provision` or `submit`: --help lists them, and the example `adder` does everything in one process".into(),
        )
        .into()),
    }
}

/// Help and version as they are; a mistake as one line and exit code 2.
fn explain(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        error.exit();
    }
    // Missing arguments are on lines of their own; advice follows an empty line.
    let text = error.to_string();
    let problem = text.lines().map(str::trim);
    let problem: Vec<&str> = problem.take_while(|line| !line.is_empty()).collect();
    let problem = problem.join(" ");
    let problem = problem.trim_start_matches("error: ");
    eprintln!("distributed: {problem}: --help says what it takes");
    std::process::exit(2)
}

/// The error and its causes on one line. Causes whose text is there already are left out.
fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        cause = error.source();
    }
    one_line(&text)
}

fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ")
}
