//! Template options and their defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use super::api::{Api, ApiOptions};
use super::resources::Keeping;
use crate::core::error::{Error, Result};

/// For how many days CloudWatch can keep logs.
const LOG_RETENTIONS: [u32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];
const MEMORY: std::ops::RangeInclusive<u32> = 128..=10_240;
const BATCH: std::ops::RangeInclusive<u32> = 1..=10_000;
const WINDOW: std::ops::RangeInclusive<u64> = 0..=300;
const CONCURRENCY: std::ops::RangeInclusive<u32> = 2..=1_000;
/// For how many days back DynamoDB can restore a table.
const RECOVERY: std::ops::RangeInclusive<u32> = 1..=35;
/// The longest that a function may run, in seconds.
pub(super) const LONGEST_FUNCTION: u64 = 900;
/// Batches above this have to be gathered for a second at least.
const UNGATHERED_BATCH: u32 = 10;

/// The kinds of template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Template {
    /// For the AWS Serverless Application Model's `sam deploy`, which uploads the functions' code
    /// from this machine.
    Sam,
    /// For plain AWS CloudFormation: the functions' code is an object in S3, named by the
    /// parameters `CodeBucket` and `CodeKey`.
    CloudFormation,
}

/// The processors that functions run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// AWS Graviton, which is cheaper: the default.
    #[default]
    Arm64,
    /// Intel and AMD.
    X86_64,
}

impl Architecture {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::X86_64 => "x86_64",
        }
    }

    /// What `cargo lambda build` is told.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Arm64 => "--arm64",
            Self::X86_64 => "--x86-64",
        }
    }
}

/// Options of a stage's function, or of all of them. What is not set keeps its default.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct FunctionOptions {
    memory: Option<u32>,
    timeout: Option<Duration>,
    batch_size: Option<u32>,
    batching_window: Option<Duration>,
    maximum_concurrency: Option<u32>,
}

impl FunctionOptions {
    /// No option set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Memory, in MiB, from 128 to 10,240 (default 512). Processor time grows with it: one core at
    /// 1,769.
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = Some(mebibytes);
        self
    }

    /// How long one invocation may take, for a whole batch; in seconds, rounded up, at most 900.
    ///
    /// Lambda asks that a queue's visibility timeout be at least six times this, and the batching
    /// window more. By default this is as long as the stage's
    /// [`visibility_timeout`](crate::Stage::visibility_timeout) allows: 5 s of the default 30 s.
    /// For a longer one, set the visibility timeout of the stage, so that
    /// [`provision`](crate::Deployment::provision) and the template say the same.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many messages an invocation gets at most, from 1 to 10,000 (default 10). An invocation's
    /// event has at most 6 MiB.
    pub fn batch_size(mut self, messages: u32) -> Self {
        self.batch_size = Some(messages);
        self
    }

    /// How long messages are gathered for a batch; in whole seconds, at most 300 (default none, or
    /// 1 s for batches of more than 10, which Lambda asks for).
    pub fn batching_window(mut self, window: Duration) -> Self {
        self.batching_window = Some(window);
        self
    }

    /// How many invocations of the function run side by side at most, from 2 to 1,000 (default
    /// 100).
    pub fn maximum_concurrency(mut self, invocations: u32) -> Self {
        self.maximum_concurrency = Some(invocations);
        self
    }

    /// These options, and where they are not set, the others.
    pub(super) fn over(&self, others: &Self) -> Self {
        Self {
            memory: self.memory.or(others.memory),
            timeout: self.timeout.or(others.timeout),
            batch_size: self.batch_size.or(others.batch_size),
            batching_window: self.batching_window.or(others.batching_window),
            maximum_concurrency: self.maximum_concurrency.or(others.maximum_concurrency),
        }
    }

    /// Defaults filled in, values checked. `whose` begins the error.
    pub(super) fn resolve(&self, whose: &str) -> Result<Resolved> {
        let batch_size = self.batch_size.unwrap_or(10);
        let gathered = u64::from(batch_size > UNGATHERED_BATCH);
        let resolved = Resolved {
            memory: self.memory.unwrap_or(512),
            timeout: self.timeout.map(whole_seconds),
            batch_size,
            window: self.batching_window.map_or(gathered, whole_seconds),
            concurrency: self.maximum_concurrency.unwrap_or(100),
        };
        let Resolved {
            memory,
            window,
            concurrency,
            ..
        } = resolved;
        if !MEMORY.contains(&memory) {
            return Err(outside(whose, "memory", memory, "MiB", 128, 10_240));
        }
        if !BATCH.contains(&batch_size) {
            return Err(outside(
                whose,
                "batch_size",
                batch_size,
                "messages",
                1,
                10_000,
            ));
        }
        if !WINDOW.contains(&window) {
            return Err(outside(whose, "batching_window", window, "s", 0, 300));
        }
        if window < gathered {
            return Err(invalid(format!(
                "{whose}: a batch_size of {batch_size} messages needs a batching_window of at least 1 s, and it is 0: set a longer one, or a batch_size of at most {UNGATHERED_BATCH}"
            )));
        }
        if !CONCURRENCY.contains(&concurrency) {
            let what = "maximum_concurrency";
            return Err(outside(whose, what, concurrency, "invocations", 2, 1_000));
        }
        if let Some(timeout) = resolved.timeout
            && !(1..=LONGEST_FUNCTION).contains(&timeout)
        {
            return Err(outside(whose, "timeout", timeout, "s", 1, LONGEST_FUNCTION));
        }
        Ok(resolved)
    }
}

/// Options of a function as they hold; times are in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved {
    pub(super) memory: u32,
    pub(super) timeout: Option<u64>,
    pub(super) batch_size: u32,
    pub(super) window: u64,
    pub(super) concurrency: u32,
}

/// Options of a template, given to [`Deployment::template_with`](crate::Deployment::template_with).
/// What is not set keeps its default.
///
/// ```
/// use catchment::template::{Architecture, FunctionOptions, TemplateOptions};
///
/// let options = TemplateOptions::new()
///     .binary("invoices")                                       // the program that serves every function
///     .architecture(Architecture::X86_64)
///     .functions(FunctionOptions::new().memory(256))
///     .stage("parse", FunctionOptions::new().memory(1_769).batch_size(1));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct TemplateOptions {
    binary: Option<String>,
    build: Option<String>,
    code: Option<String>,
    architecture: Architecture,
    log_retention: Option<u32>,
    key: Option<String>,
    recovery: Option<u32>,
    retain: bool,
    api: Option<ApiOptions>,
    functions: FunctionOptions,
    stages: BTreeMap<String, FunctionOptions>,
}

impl TemplateOptions {
    /// No option set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name of the program that serves every function, as Cargo has it (default
    /// `{deployment}_lambda`).
    pub fn binary(mut self, name: impl Into<String>) -> Self {
        self.binary = Some(name.into());
        self
    }

    /// What `cargo lambda build` is told to build, for the command at the template's head (default
    /// `--bin {binary}`): such as `--package invoices --bin invoices_lambda`, or for an example
    /// `--features lambda --example invoices`.
    pub fn build(mut self, arguments: impl Into<String>) -> Self {
        self.build = Some(arguments.into());
        self
    }

    /// Where the program's zip file is: for SAM a path, from the template's folder (default
    /// `target/lambda/{binary}/bootstrap.zip`, where `cargo lambda build --output-format zip`
    /// leaves it, for an example too: the template then belongs into the folder that has `target`,
    /// the workspace's), for CloudFormation the default of the parameter `CodeKey` (default
    /// `{binary}.zip`).
    pub fn code(mut self, path: impl Into<String>) -> Self {
        self.code = Some(path.into());
        self
    }

    /// The default of the template's parameter `Architecture`.
    pub fn architecture(mut self, architecture: Architecture) -> Self {
        self.architecture = architecture;
        self
    }

    /// For how many days logs are kept (default 30): one of the numbers that CloudWatch takes.
    pub fn log_retention(mut self, days: u32) -> Self {
        self.log_retention = Some(days);
        self
    }

    /// Encrypts the queues, the tables and the logs with this KMS key, named by its ARN, instead of
    /// with keys of the services' own. The functions' roles may use it through SQS and DynamoDB; other
    /// programs that submit, work or look need the same. The key's policy has to allow
    /// `logs.{region}.amazonaws.com` to use it, as CloudWatch documents, or the stack is not created.
    ///
    /// A key costs 1 USD per month, and 10,000 requests to it 0.03 USD, in `us-east-1`. SQS asks it
    /// once in five minutes for each caller and queue, DynamoDB about as often for each caller and
    /// table. If the key is disabled, all of the deployment stands still.
    pub fn kms_key(mut self, arn: impl Into<String>) -> Self {
        self.key = Some(arn.into());
        self
    }

    /// Lets both tables be restored, under other names, as they were at any second of this many days
    /// (1 to 35; default: not at all). It costs 0.20 USD per GB and month in `us-east-1`.
    ///
    /// It is for results. Runs that were under way at that second do not go on from a restored
    /// scratchpad: their messages have moved on since, and have to be submitted again.
    pub fn point_in_time_recovery(mut self, days: u32) -> Self {
        self.recovery = Some(days);
        self
    }

    /// Keeps queues, tables and logs with everything in them when the stack is deleted or replaces
    /// them (default: they are deleted with it). They go on costing what they store, until messages
    /// and items expire. A stack with the same deployment cannot be created again while they are
    /// there, except by importing them.
    pub fn retain_data(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Adds an HTTP API, and the function that answers it. Without this option the template has
    /// none, and arrays are submitted by programs with permissions of their own.
    pub fn api(mut self, options: ApiOptions) -> Self {
        self.api = Some(options);
        self
    }

    /// Options of every function.
    pub fn functions(mut self, options: FunctionOptions) -> Self {
        self.functions = options;
        self
    }

    /// Options of one stage's function, before those of every function.
    pub fn stage(mut self, name: impl Into<String>, options: FunctionOptions) -> Self {
        self.stages.insert(name.into(), options);
        self
    }

    pub(super) fn binary_name(&self, deployment: &str) -> String {
        match &self.binary {
            Some(name) => name.clone(),
            None => format!("{deployment}_lambda"),
        }
    }

    /// What is built, on one line.
    pub(super) fn built(&self, deployment: &str) -> Result<String> {
        match &self.build {
            None => Ok(format!("--bin {}", self.binary_name(deployment))),
            Some(arguments) if arguments.contains(char::is_control) => Err(invalid(format!(
                "build is {arguments:?}: write the arguments of `cargo lambda build` on one line"
            ))),
            Some(arguments) => Ok(arguments.clone()),
        }
    }

    pub(super) fn code_path(&self) -> Option<&str> {
        self.code.as_deref()
    }

    pub(super) fn processors(&self) -> Architecture {
        self.architecture
    }

    pub(super) fn log_days(&self) -> Result<u32> {
        let days = self.log_retention.unwrap_or(30);
        check_log_days("log_retention", days)?;
        Ok(days)
    }

    /// How what the stack stores is kept.
    pub(super) fn keeping(&self) -> Result<Keeping<'_>> {
        if let Some(key) = self.key.as_deref().filter(|key| !is_key_arn(key)) {
            return Err(invalid(format!(
                "kms_key is {key:?}: use a key's ARN, such as `arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab` (the roles' permissions cannot name an alias)"
            )));
        }
        if let Some(days) = self.recovery.filter(|days| !RECOVERY.contains(days)) {
            return Err(invalid(format!(
                "point_in_time_recovery is {days} days, and DynamoDB takes {} to {}",
                RECOVERY.start(),
                RECOVERY.end()
            )));
        }
        Ok(Keeping {
            key: self.key.as_deref(),
            recovery: self.recovery,
            retain: self.retain,
        })
    }

    /// The HTTP API, if there is to be one.
    pub(super) fn http_api(&self, deployment: &str) -> Result<Option<Api>> {
        let api = self.api.as_ref();
        api.map(|api| api.resolve(deployment)).transpose()
    }

    pub(super) fn common(&self) -> &FunctionOptions {
        &self.functions
    }

    pub(super) fn of_stage(&self, stage: &str) -> FunctionOptions {
        match self.stages.get(stage) {
            Some(own) => own.over(&self.functions),
            None => self.functions.clone(),
        }
    }

    /// The stages that have options of their own.
    pub(super) fn named_stages(&self) -> impl Iterator<Item = &str> {
        self.stages.keys().map(String::as_str)
    }
}

/// `arn:{partition}:kms:{region}:{account}:key/{id}`.
fn is_key_arn(text: &str) -> bool {
    let mut parts = text.splitn(6, ':');
    let is_plain = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !part.is_empty() && part.chars().all(allowed)
    };
    let mut next = |holds: &dyn Fn(&str) -> bool| parts.next().is_some_and(holds);
    next(&|part| part == "arn")
        && next(&is_plain)
        && next(&|part| part == "kms")
        && next(&is_plain)
        && next(&is_plain)
        && next(&|part| part.strip_prefix("key/").is_some_and(is_plain))
}

/// CloudWatch keeps logs for certain numbers of days only.
pub(super) fn check_log_days(option: &str, days: u32) -> Result<()> {
    if LOG_RETENTIONS.contains(&days) {
        return Ok(());
    }
    let known = LOG_RETENTIONS.map(|days| days.to_string()).join(", ");
    Err(invalid(format!(
        "{option} is {days} days, and CloudWatch keeps logs for one of {known}"
    )))
}

pub(super) fn invalid(problem: String) -> Error {
    Error::invalid_argument("options", problem)
}

fn outside(
    whose: &str,
    what: &str,
    value: impl std::fmt::Display,
    unit: &str,
    least: u64,
    most: u64,
) -> Error {
    invalid(format!(
        "{whose}: {what} is {value} {unit}, and Lambda takes {least} to {most}"
    ))
}

/// Rounded up.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    let more = u64::from(time.subsec_nanos() > 0);
    time.as_secs().saturating_add(more)
}
