//! Doubles numbers and adds them up: the whole of map and reduce on a page, and how a deployment of it is run.
//!
//! ```text
//! cargo run --example adder                              [1, 2, 3, 4, 5] -> 30
//! cargo run --example adder -- 10 20 30                  [10, 20, 30] -> 120
//! cargo run --release --example adder -- --count 10000000
//! ```
//!
//! With a subcommand each part is a process of its own, which meets the others in Amazon SQS and DynamoDB:
//!
//! ```text
//! alias adder='cargo run --features aws --example adder -- --backend aws'
//! adder provision                                        queues and tables
//! adder worker                                           any number of them, here or elsewhere
//! id=$(adder submit --count 100000)
//! adder result $id                                       10000100000
//! adder deprovision adder
//! ```
//!
//! `adder template` prints what makes all of it on AWS, with a Lambda function for each stage (feature `lambda`).
//!
//! `status`, `dead-letters`, `redrive` and `cancel` are for the rest of a run's life. `adder worker --limit 100` cannot
//! do numbers above 100: a run that it has failed is completed by a worker without a limit, after `adder redrive`.

mod arguments;
mod deployed;
mod embedded;
mod pipeline;
mod signals;
mod template;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use catchment::{BoxError, One, Pipeline, Stage};
use clap::Parser;

use arguments::{Arguments, BackendName, Command, Tuning, Usage};

/// The numbers go in, their doubled sum comes out. `limit` is the largest number that can be done here, if there is one.
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
            eprintln!("adder: {}", describe(error.as_ref()));
            match error.is::<Usage>() {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), BoxError> {
    let Arguments {
        command,
        input,
        options,
    } = arguments;
    match (command, options.backend) {
        (Some(_), _) if !input.is_empty() => {
            Err(Usage("numbers and --count stand behind `submit`".into()).into())
        }
        (Some(Command::Template { format }), _) => template::print(format, &options),
        (Some(command), _) => deployed::run(command, options).await,
        (None, BackendName::Memory) => embedded::run(input, &options.tuning).await,
        (None, BackendName::Aws) => Err(Usage(
            "--backend aws needs a subcommand, such as `provision` or `submit`: without one, everything is done in this process's memory".into(),
        )
        .into()),
    }
}

/// Help and version as they are; a mistake as one line and exit code 2.
fn explain(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        error.exit();
    }
    // What is missing stands in lines of its own; advice comes after an empty one.
    let text = error.to_string();
    let problem = text.lines().map(str::trim);
    let problem: Vec<&str> = problem.take_while(|line| !line.is_empty()).collect();
    let problem = problem.join(" ");
    eprintln!("adder: {}", problem.trim_start_matches("error: "));
    std::process::exit(2)
}

/// The error and its causes on one line. Causes whose text stands there already are left out.
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
