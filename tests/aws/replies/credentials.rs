//! Credentials that are missing, and some that cannot be renewed for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use catchment::RunId;
use catchment::backends::dynamodb::DynamoDbScratchpad;
use catchment::backends::sqs::SqsQueues;
use catchment::queue::{QueueOptions, Queues};
use catchment::scratchpad::Runs;

use super::*;

/// A source of credentials that have to be renewed for each request. While it is away, it says that it has none, as the
/// metadata service of a machine does that does not answer in time.
#[derive(Clone, Debug, Default)]
struct Source {
    is_away: Arc<AtomicBool>,
}

impl ProvideCredentials for Source {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(match self.is_away.load(Ordering::Relaxed) {
            true => Err(CredentialsError::not_loaded(
                "the metadata service did not answer",
            )),
            false => {
                let until = Some(SystemTime::now());
                Ok(Credentials::new("key", "secret", None, until, "a test"))
            }
        })
    }
}

async fn start(source: &Source) -> (Fake, SqsQueues, DynamoDbScratchpad) {
    let fake = Fake::start(|request| match request.operation.as_str() {
        "GetQueueUrl" => Reply::ok(json!({"QueueUrl": "http://queues/work"})),
        _ => Reply::ok(json!({})),
    });
    let fake = fake.await;
    let config = fake.config().into_builder();
    let config = config.credentials_provider(SharedCredentialsProvider::new(source.clone()));
    let config = config.build();
    let pad = DynamoDbScratchpad::new(&config).tables("pad", "results");
    (fake, SqsQueues::new(&config), pad)
}

#[tokio::test(start_paused = true)]
async fn credentials_that_cannot_be_renewed_for_a_moment_are_waited_for() {
    let source = Source::default();
    let (fake, queues, pad) = start(&source).await;
    let run = RunId::from("run");
    let queue = queues.open("work", &QueueOptions::default()).await.unwrap();
    pad.status(&run).await.unwrap();
    source.is_away.store(true, Ordering::Relaxed);
    let outcomes = [queue.depth().await.err(), pad.status(&run).await.err()];
    for error in outcomes {
        let error = error.unwrap();
        assert!(error.is_retryable(), "{}", said(&error));
        let text = said(&error);
        assert!(text.contains("could not be renewed"), "{text}");
        assert!(
            text.contains("the metadata service did not answer"),
            "{text}"
        );
    }
    assert_eq!(operations(&fake.take()), ["GetQueueUrl", "GetItem"]);
    source.is_away.store(false, Ordering::Relaxed);
    pad.status(&run).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn credentials_that_were_never_there_are_named_at_once() {
    let source = Source::default();
    source.is_away.store(true, Ordering::Relaxed);
    let (fake, queues, pad) = start(&source).await;
    let run = RunId::from("run");
    let opened = queues.open("work", &QueueOptions::default()).await;
    for error in [opened.err(), pad.status(&run).await.err()] {
        let error = error.unwrap();
        assert!(!error.is_retryable(), "{}", said(&error));
        assert!(
            said(&error).contains("AWS_ACCESS_KEY_ID"),
            "{}",
            said(&error)
        );
    }
    assert!(fake.take().is_empty());
}
