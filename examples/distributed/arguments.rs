//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(
    about = "Doubles numbers and adds them up, each part in a process of its own",
    override_usage = "distributed [OPTIONS] <COMMAND>"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes the queues and tables that are missing, and prints what it did.
    Provision {
        /// Prints the SQL that it would run instead, and runs nothing: over PostgreSQL.
        #[arg(long)]
        dry_run: bool,
    },
    /// Submits an array, and prints the run's id.
    Submit {
        #[command(flatten)]
        input: Input,
        /// The run's id: submitting the same array under it twice is one run [default: a random
        /// one]
        #[arg(long)]
        id: Option<String>,
    },
    /// Works until SIGTERM or Ctrl-C.
    Worker {
        /// Only these stages, of `times_two` and `sum` [default: all]
        #[arg(long, value_name = "STAGES", value_delimiter = ',')]
        stages: Option<Vec<String>>,
        /// Numbers above this one fail permanently.
        #[arg(long, value_name = "N", allow_negative_numbers = true)]
        limit: Option<i64>,
    },
    /// Waits for a run's result, and prints it.
    Result { id: String },
    /// Prints the progress of a run.
    Status { id: String },
    /// Lists what could not be processed, and why.
    DeadLetters {
        /// The run [default: all runs]
        id: Option<String>,
    },
    /// Puts a run's dead letters back on their queues, and prints how many.
    Redrive { id: String },
    /// Ends a run.
    Cancel { id: String },
    /// Prints a template of everything on AWS: queues, tables, and a Lambda function for each
    /// stage. Asks nothing of AWS.
    Template {
        /// The kind of template.
        #[arg(long, value_enum, default_value_t = Format::Sam)]
        format: Format,
        #[command(flatten)]
        stack: Stack,
    },
    /// Removes the queues and tables with everything in them.
    Deprovision {
        /// The deployment's name once more, so that this does not happen by accident.
        #[arg(value_name = "NAME")]
        confirmed: String,
    },
}

/// The array.
#[derive(Args)]
pub(crate) struct Input {
    /// The numbers to add up
    #[arg(default_values_t = [1, 2, 3, 4, 5], allow_negative_numbers = true)]
    pub(crate) numbers: Vec<i64>,
    /// Streams the numbers 1 to N instead.
    #[arg(long, value_name = "N", conflicts_with = "numbers")]
    pub(crate) count: Option<i64>,
}

impl Input {
    /// The numbers one by one: those up to a large N are never in memory together.
    pub(crate) fn items(self) -> Box<dyn Iterator<Item = i64>> {
        match self.count {
            Some(count) => Box::new(1..=count),
            None => Box::new(self.numbers.into_iter()),
        }
    }
}

#[derive(Args)]
pub(crate) struct Options {
    /// Where queues and results are: `aws`, or a URL such as `postgres://localhost/app` [default: $CATCHMENT_BACKEND]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) backend: Option<String>,
    /// The deployment's name.
    #[arg(long, global = true, default_value = "adder")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) tuning: Tuning,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// For `sam deploy`.
    Sam,
    /// For `aws cloudformation deploy`.
    #[value(name = "cloudformation")]
    CloudFormation,
}

/// What a template opens, encrypts and keeps. Prices are those of us-east-1.
#[derive(Args)]
#[cfg_attr(
    not(all(feature = "aws", feature = "lambda")),
    allow(dead_code, reason = "templates need both features")
)]
pub(crate) struct Stack {
    /// Adds an HTTP API for these callers [default: no API]
    #[arg(long, value_enum, value_name = "CALLERS")]
    pub(crate) api: Option<Callers>,
    /// The https:// address of the tokens' issuer.
    #[arg(long, value_name = "URL", required_if_eq("api", "jwt"))]
    pub(crate) jwt_issuer: Option<String>,
    /// The audiences that the tokens are for, with commas between them.
    #[arg(
        long,
        value_name = "AUDIENCES",
        value_delimiter = ',',
        required_if_eq("api", "jwt")
    )]
    pub(crate) jwt_audience: Vec<String>,
    /// Requests that the API takes per second, and twice as many at once [default: 100]
    #[arg(long, value_name = "REQUESTS", requires = "api")]
    pub(crate) throttle: Option<u32>,
    /// Logs the API's requests, kept for this many days: 0.50 USD per GB, about 3 million requests.
    #[arg(long, value_name = "DAYS", requires = "api")]
    pub(crate) access_log: Option<u32>,
    /// Keeps the functions' logs for this many days [default: 30]
    #[arg(long, value_name = "DAYS")]
    pub(crate) log_retention: Option<u32>,
    /// Encrypts queues, tables and logs with this KMS key: 1 USD per month, and 0.03 USD per 10,000
    /// requests.
    #[arg(long, value_name = "ARN")]
    pub(crate) kms_key: Option<String>,
    /// Lets the tables be restored as they were up to 35 days ago: 0.20 USD per GB and month.
    #[arg(long, value_name = "DAYS")]
    pub(crate) point_in_time_recovery: Option<u32>,
    /// Keeps queues, tables and logs when the stack is deleted.
    #[arg(long)]
    pub(crate) retain_data: bool,
}

/// The callers that the HTTP API answers.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Callers {
    /// Callers that sign with AWS credentials which allow execute-api:Invoke on it.
    Iam,
    /// Callers that bring a JSON Web Token: see --jwt-issuer and --jwt-audience.
    Jwt,
    /// Everybody who knows its address.
    Public,
}

/// Options of the pipeline's stages.
#[derive(Args)]
pub(crate) struct Tuning {
    /// Items per packet [default: by the length of the array]
    #[arg(long, global = true, value_name = "ITEMS")]
    pub(crate) packet_size: Option<u32>,
    /// For tests: the visibility timeout, after which another worker gets the messages of a dead
    /// one.
    #[arg(long, global = true, value_name = "SECONDS", hide = true)]
    pub(crate) visibility_seconds: Option<u64>,
    /// For tests: how many numbers a worker doubles per second, so that there is time to do
    /// something to it.
    #[arg(long, global = true, value_name = "ITEMS", hide = true)]
    pub(crate) items_per_second: Option<u32>,
}

/// A command that makes no sense, or that this program cannot do: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
