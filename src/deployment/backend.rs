//! What a deployment is over: queues and a scratchpad.

use std::sync::Arc;

use super::share::Share;
#[cfg(all(feature = "sqs", feature = "dynamodb"))]
use crate::backends::aws::AwsBackend;
use crate::backends::memory::{MemoryQueues, MemoryScratchpad};
#[cfg(feature = "postgres")]
use crate::backends::postgres::{PostgresBackend, PostgresOutbox};
#[cfg(feature = "sqlite")]
use crate::backends::sqlite::SqliteFile;
use crate::core::requests::Requests;
use crate::outbox::Outbox;
use crate::queue::Queues;
use crate::scratchpad::Scratchpad;

/// Queues and a scratchpad: any queue goes with any scratchpad. Cloning it gives the same backend. Its `Debug` names both parts.
#[derive(Clone)]
pub struct Backend {
    pub(crate) queues: Arc<dyn Queues>,
    pub(crate) scratchpad: Arc<dyn Scratchpad>,
    requests: Requests,
    /// The settings it was made of, for templates.
    #[cfg(all(feature = "sqs", feature = "dynamodb"))]
    aws: Option<AwsBackend>,
    /// Where an application submits inside its own transactions.
    #[cfg(feature = "postgres")]
    pub(crate) outbox: Option<PostgresOutbox>,
}

impl Backend {
    /// Queues and scratchpad in this process's memory, for as long as the backend or a deployment over it
    /// lives. They behave as the services do: visibility timeouts, redelivery, dead letters.
    pub fn memory() -> Self {
        Self::new(MemoryQueues::new(), MemoryScratchpad::new())
    }

    /// A backend from any [`Queues`] and [`Scratchpad`]: each by value, or in an [`Arc`] if the caller keeps using it.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use catchment::Backend;
    /// use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
    ///
    /// let backend = Backend::new(MemoryQueues::new(), MemoryScratchpad::new());
    /// let queues = Arc::new(MemoryQueues::new());
    /// let other = Backend::new(Arc::clone(&queues), MemoryScratchpad::new());
    /// assert!(format!("{backend:?}").contains("MemoryQueues"));
    /// # drop(other);
    /// ```
    pub fn new(queues: impl Share<dyn Queues>, scratchpad: impl Share<dyn Scratchpad>) -> Self {
        Self {
            queues: queues.share(),
            scratchpad: scratchpad.share(),
            requests: Requests::new(),
            #[cfg(all(feature = "sqs", feature = "dynamodb"))]
            aws: None,
            #[cfg(feature = "postgres")]
            outbox: None,
        }
    }

    /// Amazon SQS and DynamoDB in the account and region of `config`. Create one per process and clone it: clones share the
    /// clients' connection pools. For settings of your own, see [`AwsBackend`].
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
        AwsBackend::new(config).into()
    }

    /// [`aws`](Self::aws), configured as every AWS tool is: environment (`AWS_REGION`, `AWS_PROFILE`,
    /// `AWS_ENDPOINT_URL`, …), profile, and the role of the instance, container or function.
    #[cfg(feature = "aws")]
    pub async fn aws_from_env() -> Self {
        Self::aws(&aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await)
    }

    /// A PostgreSQL database by its URL, in the schema `catchment`. Create one per process and clone it: clones share its
    /// connections, which are made when they are needed. For settings of your own, and for TLS, see [`PostgresBackend::from_url`].
    ///
    /// ```no_run
    /// use catchment::{Backend, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// let backend = Backend::postgres("postgres://worker:secret@localhost/app")?;
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let adder = adder.deploy("adder", backend)?;
    /// adder.provision().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) (`url`) if it is not the URL of such a database.
    #[cfg(feature = "postgres")]
    pub fn postgres(url: &str) -> crate::core::error::Result<Self> {
        Ok(PostgresBackend::from_url(url)?.into())
    }

    /// The [`AwsBackend`] it was made of; `None` for any other backend, such as one that [`new`](Self::new) made of SQS queues and a
    /// scratchpad.
    #[cfg(all(feature = "sqs", feature = "dynamodb"))]
    pub fn as_aws(&self) -> Option<&AwsBackend> {
        self.aws.as_ref()
    }

    /// Queues and scratchpad in a SQLite file, which is made if it is missing: for one machine, and for any number of
    /// processes on it. What it promises, and for settings of your own: [`sqlite`](crate::backends::sqlite).
    ///
    /// ```
    /// use catchment::{Backend, Pipeline};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("run.db");
    /// let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
    /// let adder = adder.deploy("adder", Backend::file(&path)?)?;
    /// let worker = adder.worker().start(); // in this process or in others
    /// assert_eq!(adder.submit(1..=5).await?.result().await?, 30);
    /// worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`SqliteOptions::open`](crate::backends::sqlite::SqliteOptions::open).
    #[cfg(feature = "sqlite")]
    pub fn file(path: impl AsRef<std::path::Path>) -> crate::core::error::Result<Self> {
        SqliteFile::open(path).map(Self::from)
    }

    /// This backend, its scratchpad kept apart from those of other deployments.
    pub(crate) fn bound_to(mut self, deployment: &str) -> Self {
        if let Some(scratchpad) = self.scratchpad.bind(deployment) {
            self.scratchpad = scratchpad;
        }
        #[cfg(feature = "postgres")]
        {
            self.outbox = self.outbox.map(|outbox| outbox.bind(deployment));
        }
        self
    }

    /// The outbox of the deployment that this backend is bound to.
    pub(crate) fn outbox(&self) -> Option<Arc<dyn Outbox>> {
        #[cfg(feature = "postgres")]
        if let Some(outbox) = &self.outbox {
            return Some(Arc::new(outbox.clone()));
        }
        None
    }

    /// The requests this backend has made of a service, in this process: what is billed. None for one in memory, nor
    /// for one of [`new`](Self::new), whose parts count their own.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }
}

#[cfg(all(feature = "sqs", feature = "dynamodb"))]
impl From<AwsBackend> for Backend {
    fn from(aws: AwsBackend) -> Self {
        Self {
            queues: Arc::new(aws.queues.clone()),
            scratchpad: Arc::new(aws.scratchpad.clone()),
            requests: aws.requests(),
            aws: Some(aws),
            #[cfg(feature = "postgres")]
            outbox: None,
        }
    }
}

#[cfg(feature = "sqlite")]
impl From<SqliteFile> for Backend {
    fn from(file: SqliteFile) -> Self {
        Self::new(file.queues(), file.scratchpad())
    }
}

#[cfg(feature = "postgres")]
impl From<PostgresBackend> for Backend {
    fn from(database: PostgresBackend) -> Self {
        let (queues, scratchpad, outbox, requests) = database.all_parts();
        Self {
            requests,
            outbox: Some(outbox),
            ..Self::new(queues, scratchpad)
        }
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
