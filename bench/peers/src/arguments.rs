//! What can be asked for on the command line.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};

use crate::job::Kind;
use crate::peers::PEERS;

#[derive(Parser)]
#[command(
    about = "catchment beside other ways to map and to reduce",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) table: Table,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Measures one peer in this process, and prints a line of JSON.
    One(One),
    /// What the defaults give beside settings made by hand, for items that cost 1 µs, 1 ms and 1 s.
    Defaults,
}

#[derive(Args)]
pub(crate) struct Table {
    /// The jobs, or their letters [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(crate) job: Vec<Kind>,
    /// The peers [default: all]
    #[arg(long, value_delimiter = ',', value_parser = names())]
    pub(crate) peer: Vec<String>,
    /// Sizes of the jobs double, work, single and chain [default: each job's own]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) n: Vec<i64>,
    /// How often the whole table is measured.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Small sizes, one repetition: whether everything works.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Seconds after which a peer is stopped that has not come to its end.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) limit: u64,
    /// Writes the tables to this file too, as Markdown.
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct One {
    #[arg(value_parser = names())]
    pub(crate) peer: String,
    pub(crate) job: Kind,
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) n: i64,
    /// Rounds of xorshift an item [default: calibrated]
    #[arg(long)]
    pub(crate) rounds: Option<u32>,
    /// The right answer [default: worked out first]
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) answer: Option<i64>,
    /// The most repetitions [default: the job's own]
    #[arg(long)]
    pub(crate) repetitions: Option<usize>,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(PEERS.iter().map(|peer| peer.name))
}
