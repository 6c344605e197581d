//! The emulators that the tests run on.

use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use catchment::Backend;
use catchment::backends::dynamodb::DynamoDbScratchpad;
use catchment::backends::sqs::SqsQueues;
use uuid::Uuid;

/// The endpoint of the tables.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tables {
    Ministack,
    DynamoDbLocal,
}

/// The endpoint of SQS, and of ministack's own DynamoDB.
pub(crate) fn ministack() -> String {
    endpoint("CATCHMENT_TEST_MINISTACK")
}

impl Tables {
    pub(crate) fn endpoint(self) -> String {
        match self {
            Self::Ministack => ministack(),
            Self::DynamoDbLocal => endpoint("CATCHMENT_TEST_DYNAMODB"),
        }
    }

    pub(crate) fn backend(self) -> Backend {
        let queues = SqsQueues::new(&config(&ministack()));
        let scratchpad = DynamoDbScratchpad::new(&config(&self.endpoint()));
        Backend::new(Arc::new(queues), Arc::new(scratchpad))
    }
}

fn endpoint(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run scripts/test, or eval \"$(scripts/aws-local env)\" after scripts/aws-local start")
    })
}

/// The configuration of every client of an emulator.
pub(crate) fn config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("catchment", "catchment", None, None, "tests");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// A deployment's name that no other test uses.
pub(crate) fn unique(name: &str) -> String {
    format!("{name}-{}", &Uuid::new_v4().simple().to_string()[..12])
}
