//! What a run costs on Amazon SQS and DynamoDB, and how fast the library is on the wire, on emulators. `bench/aws/run`
//! starts those.

mod bill;
mod emulators;
mod floor;
mod handbook;
mod meter;
mod pace;
mod price;
mod prices;
mod resources;
mod table;
mod wire;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "What a run costs on AWS, and how fast the library is on the wire")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Writes the tables to a file as well.
    #[arg(long, global = true, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Fails where a target is missed.
    #[arg(long, global = true)]
    check: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Requests, bytes, billed units and dollars.
    Price(price::Options),
    /// Messages a second, beside a bare loop of the SDK's client.
    Wire(wire::Options),
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let (text, missed) = match &arguments.command {
        Command::Price(options) => price::run(options).await?,
        Command::Wire(options) => wire::run(options).await?,
    };
    println!("{text}");
    if let Some(file) = &arguments.markdown {
        std::fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    for problem in &missed {
        eprintln!("missed: {problem}");
    }
    match arguments.check && !missed.is_empty() {
        true => Ok(ExitCode::FAILURE),
        false => Ok(ExitCode::SUCCESS),
    }
}
