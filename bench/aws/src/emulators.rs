//! The clients' configuration.

use anyhow::{Result, ensure};
use aws_config::{BehaviorVersion, SdkConfig};
use uuid::Uuid;

use crate::meter::Meter;

/// From the environment, which has to point at emulators: on an account this would cost money.
async fn load(loader: aws_config::ConfigLoader) -> Result<SdkConfig> {
    let config = loader.load().await;
    ensure!(
        config.endpoint_url().is_some(),
        "AWS_ENDPOINT_URL is not set: use bench/aws/run, or eval \"$(scripts/aws-local env --dynamodb-local)\""
    );
    Ok(config)
}

/// As an application has it.
pub(crate) async fn plain() -> Result<SdkConfig> {
    load(aws_config::defaults(BehaviorVersion::latest())).await
}

pub(crate) async fn metered(meter: &Meter) -> Result<SdkConfig> {
    load(aws_config::defaults(BehaviorVersion::latest()).http_client(meter.clone())).await
}

/// A name that nobody else uses.
pub(crate) fn unique(name: &str) -> String {
    let id = Uuid::new_v4().simple().to_string();
    format!("{name}-{}", &id[..12])
}
