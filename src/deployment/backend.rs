//! What a deployment is over: queues and a scratchpad.

use std::sync::Arc;

use crate::backends::memory::{MemoryQueues, MemoryScratchpad};
use crate::core::requests::Requests;
use crate::queue::Queues;
use crate::scratchpad::Scratchpad;

/// Queues and a scratchpad: any queue goes with any scratchpad. Cloning it gives the same backend.
#[derive(Clone)]
pub struct Backend {
    pub(crate) queues: Arc<dyn Queues>,
    pub(crate) scratchpad: Arc<dyn Scratchpad>,
    requests: Requests,
}

impl Backend {
    /// Queues and scratchpad in this process's memory, for as long as the backend or a deployment over it
    /// lives. They behave as the services do: visibility timeouts, redelivery, dead letters.
    pub fn memory() -> Self {
        Self::new(
            Arc::new(MemoryQueues::new()),
            Arc::new(MemoryScratchpad::new()),
        )
    }

    /// Somebody else's queues or scratchpad.
    pub fn new(queues: Arc<dyn Queues>, scratchpad: Arc<dyn Scratchpad>) -> Self {
        Self {
            queues,
            scratchpad,
            requests: Requests::new(),
        }
    }

    /// Amazon SQS and DynamoDB, in the account and region of this configuration: one client each, whose
    /// connections are used again. Make one such backend a process, and clone it.
    ///
    /// ```no_run
    /// use catchment::{Backend, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let backend = Backend::aws(&aws_config::load_from_env().await);
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let adder = adder.deploy("adder", backend)?;
    /// adder.provision().await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "aws")]
    pub fn aws(config: &aws_config::SdkConfig) -> Self {
        use crate::backends::{dynamodb::DynamoDbScratchpad, sqs::SqsQueues};
        let requests = Requests::new();
        Self {
            queues: Arc::new(SqsQueues::counting(config, requests.clone())),
            scratchpad: Arc::new(DynamoDbScratchpad::counting(config, requests.clone())),
            requests,
        }
    }

    /// [`aws`](Self::aws), configured as every AWS tool is: environment (`AWS_REGION`, `AWS_PROFILE`,
    /// `AWS_ENDPOINT_URL`, …), profile, and the role of the instance, container or function.
    #[cfg(feature = "aws")]
    pub async fn aws_from_env() -> Self {
        Self::aws(&aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await)
    }

    /// The requests this backend has made of a service, in this process: what is billed. None for one in memory, nor
    /// for one of [`new`](Self::new), whose parts count their own.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Backend")
            .field("queues", &self.queues)
            .field("scratchpad", &self.scratchpad)
            .finish_non_exhaustive()
    }
}
