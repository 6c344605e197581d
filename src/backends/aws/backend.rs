//! SQS queues and a DynamoDB scratchpad, set up together.

use std::time::Duration;

use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_types::SdkConfig;

use crate::backends::dynamodb::DynamoDbScratchpad;
use crate::backends::sqs::SqsQueues;
use crate::core::requests::Requests;

/// Amazon SQS and DynamoDB with settings of your own: for a [`Backend`](crate::Backend), and for the templates of a deployment, which
/// describe the queues and tables with these settings. Cloning it gives another handle on the same clients and their connections.
///
/// ```no_run
/// use std::time::Duration;
/// use catchment::Pipeline;
/// use catchment::backends::aws::AwsBackend;
///
/// # async fn deploy(config: aws_types::SdkConfig) -> Result<(), catchment::Error> {
/// let backend = AwsBackend::new(&config)
///     .max_payload(256 * 1024)
///     .retention(Duration::from_secs(90 * 24 * 60 * 60));
/// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
/// let adder = adder.deploy("adder", backend)?;
/// adder.provision().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct AwsBackend {
    pub(crate) queues: SqsQueues,
    pub(crate) scratchpad: DynamoDbScratchpad,
    pub(crate) requests: Requests,
}

impl AwsBackend {
    /// Queues and tables in the account and region of `config`. Create one per process and clone it: clones share the clients'
    /// connection pools.
    pub fn new(config: &SdkConfig) -> Self {
        let requests = Requests::new();
        Self {
            queues: SqsQueues::counting(config, requests.clone()),
            scratchpad: DynamoDbScratchpad::counting(config, requests.clone()),
            requests,
        }
    }

    /// A backend without a region and without credentials, which is enough to make a template: that sends no request. Every request
    /// over this backend fails with an error that says what is missing.
    pub fn offline() -> Self {
        let config = SdkConfig::builder().behavior_version(BehaviorVersion::latest());
        Self::new(&config.build())
    }

    /// Sets the largest message, and the largest request of several messages, in bytes, as
    /// [`SqsQueues::max_payload`] does (default 1 MiB, at least 256 KiB).
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.queues = self.queues.max_payload(bytes);
        self
    }

    /// Names the tables of the scratchpad and of the results, as [`DynamoDbScratchpad::tables`] does (default: named after the
    /// deployment). Two deployments may not share tables.
    pub fn tables(mut self, scratchpad: impl Into<String>, results: impl Into<String>) -> Self {
        self.scratchpad = self.scratchpad.tables(scratchpad, results);
        self
    }

    /// Sets how long items of the tables are kept after they were last written, as [`DynamoDbScratchpad::retention`] does (default
    /// 30 days, at least 15).
    pub fn retention(mut self, retention: Duration) -> Self {
        self.scratchpad = self.scratchpad.retention(retention);
        self
    }

    /// The requests made through these clients so far: what is billed.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }
}
