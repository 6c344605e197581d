//! What a backend over AWS shows of itself.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use catchment::backends::aws::AwsBackend;
use catchment::{Backend, Error, Pipeline};

const SECRET: &str = "wJalrXUtnFEMI";
const TOKEN: &str = "FwoGZXIvYXdz";

fn config() -> SdkConfig {
    let credentials = Credentials::new("AKIAIOSFODNN7", SECRET, Some(TOKEN.into()), None, "tests");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

#[test]
fn debug_names_the_parts_without_credentials() {
    let aws = AwsBackend::new(&config()).tables("pad", "answers");
    let backend = Backend::from(aws.clone());
    let counted = Pipeline::<i64>::new()
        .count()
        .deploy("counted", aws.clone());
    for text in [
        format!("{aws:?}"),
        format!("{backend:#?}"),
        format!("{:?}", counted.unwrap()),
    ] {
        for part in ["SqsQueues", "DynamoDbScratchpad", "eu-central-1", "answers"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        for secret in ["AKIAIOSFODNN7", SECRET, TOKEN] {
            assert!(!text.contains(secret), "{secret} is in: {text}");
        }
    }
}

#[test]
fn a_backend_knows_whether_it_was_made_of_aws() {
    assert!(Backend::aws(&config()).as_aws().is_some());
    assert!(Backend::memory().as_aws().is_none());
}

/// No request is sent, and the error says what to set.
#[tokio::test]
async fn offline_is_for_templates_only() {
    let counted = Pipeline::<i64>::new().count();
    let counted = counted.deploy("counted", AwsBackend::offline()).unwrap();
    let error = counted.provision().await.unwrap_err();
    assert!(matches!(error, Error::Backend { .. }), "{error:?}");
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("set AWS_REGION"), "{reason}");
    assert_eq!(counted.requests().total(), 0);
}
