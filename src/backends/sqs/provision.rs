//! Making queues, and bringing the settings of those that exist up to date.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName as Name;
use serde_json::{Value, json};

use super::{SERVICE, Service, dead_name, whole_seconds};
use crate::backends::aws;
use crate::core::error::{Error, Result};
use crate::core::provision::Change;
use crate::core::retry::Policy;
use crate::queue::QueueOptions;

/// How long messages are kept: what the service allows at most.
const RETENTION_DAYS: u32 = 14;
/// `maxReceiveCount` is this multiple of the library's attempts: a safety net for messages that
/// never reach `bury`.
const SAFETY_NET: u32 = 10;
/// The most deliveries that the service's own policy counts.
const MOST_DELIVERIES: u32 = 1_000;
/// After a queue of the same name was deleted: the service asks for a minute in between.
const DELETED_RECENTLY: Policy = Policy::times(14).every(Duration::from_secs(5));

type Attributes = HashMap<Name, String>;

/// What a stage's queue is set to; its dead-letter queue as well, but for the deliveries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueSettings {
    /// In seconds.
    pub(crate) visibility: i32,
    /// In seconds.
    pub(crate) retention: u32,
    /// In bytes.
    pub(crate) max_message: usize,
    /// After so many deliveries the service moves a message to the dead letters by itself.
    pub(crate) deliveries: u32,
}

impl QueueSettings {
    pub(super) fn new(max_payload: usize, options: &QueueOptions) -> Self {
        Self {
            visibility: whole_seconds(options.visibility_timeout),
            retention: RETENTION_DAYS * 24 * 60 * 60,
            max_message: max_payload,
            deliveries: options
                .attempts
                .saturating_mul(SAFETY_NET)
                .clamp(1, MOST_DELIVERIES),
        }
    }
}

pub(super) async fn provision(
    service: &Service,
    name: &str,
    settings: QueueSettings,
) -> Result<Vec<Change>> {
    let dead = dead_name(name);
    let shared = [
        (Name::VisibilityTimeout, settings.visibility.to_string()),
        (Name::MessageRetentionPeriod, settings.retention.to_string()),
        (Name::MaximumMessageSize, settings.max_message.to_string()),
    ];
    let mut changes = vec![ensure(service, &dead, &Attributes::from(shared.clone())).await?];
    let arn = attributes(
        service,
        &dead,
        &service.url(&dead).await?,
        &[Name::QueueArn],
    )
    .await?;
    let arn = arn.get(&Name::QueueArn).cloned().unwrap_or_default();
    let policy = json!({
        "deadLetterTargetArn": arn,
        "maxReceiveCount": settings.deliveries,
    });
    let mut wanted = Attributes::from(shared);
    wanted.insert(Name::RedrivePolicy, policy.to_string());
    changes.push(ensure(service, name, &wanted).await?);
    Ok(changes)
}

pub(super) async fn deprovision(service: &Service, name: &str) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for name in [name.to_owned(), dead_name(name)] {
        let url = match service.url(&name).await {
            Err(Error::NotProvisioned { .. }) => continue,
            url => url?,
        };
        match service.client.delete_queue().queue_url(url).send().await {
            Ok(_) => changes.push(Change::deleted(resource(&name))),
            Err(error) if Service::is_missing(aws::code(&error)) => {}
            Err(error) => return Err(service.failed("DeleteQueue", &name, error)),
        }
    }
    Ok(changes)
}

fn resource(queue: &str) -> String {
    format!("SQS queue `{queue}`")
}

/// Makes a queue, or sets those of its attributes that differ.
async fn ensure(service: &Service, queue: &str, wanted: &Attributes) -> Result<Change> {
    let url = match service.url(queue).await {
        Err(Error::NotProvisioned { .. }) => {
            if create(service, queue, wanted).await? {
                return Ok(Change::created(resource(queue)));
            }
            service.url(queue).await?
        }
        url => url?,
    };
    let names: Vec<Name> = wanted.keys().cloned().collect();
    let present = attributes(service, queue, &url, &names).await?;
    let differing: Attributes = wanted
        .iter()
        .filter(|(name, value)| !is_same(present.get(name), value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if differing.is_empty() {
        return Ok(Change::unchanged(resource(queue)));
    }
    let mut what: Vec<String> = differing.keys().map(|name| name.to_string()).collect();
    what.sort();
    let request = service.client.set_queue_attributes().queue_url(&url);
    let set = request.set_attributes(Some(differing)).send().await;
    set.map_err(|error| service.failed("SetQueueAttributes", queue, error))?;
    Ok(Change::updated(resource(queue), what.join(", ")))
}

/// Makes a queue. False where one of this name, made meanwhile by somebody else, has other
/// attributes.
async fn create(service: &Service, queue: &str, wanted: &Attributes) -> Result<bool> {
    let mut delays = DELETED_RECENTLY.delays();
    loop {
        let request = service.client.create_queue().queue_name(queue);
        let created = request.set_attributes(Some(wanted.clone())).send().await;
        let Err(error) = created else { return Ok(true) };
        match aws::code(&error) {
            Some("QueueNameExists" | "QueueAlreadyExists") => return Ok(false),
            Some("QueueDeletedRecently" | "AWS.SimpleQueueService.QueueDeletedRecently")
                if !delays.is_last() =>
            {
                tracing::info!(
                    queue,
                    "a queue of this name was deleted a moment ago: waiting until it may be made again"
                );
                delays.wait().await;
            }
            _ => return Err(service.failed("CreateQueue", queue, error)),
        }
    }
}

async fn attributes(
    service: &Service,
    queue: &str,
    url: &str,
    names: &[Name],
) -> Result<Attributes> {
    let request = service.client.get_queue_attributes().queue_url(url);
    let found = request
        .set_attribute_names(Some(names.to_vec()))
        .send()
        .await;
    let found = found.map_err(|error| service.failed("GetQueueAttributes", queue, error))?;
    found.attributes.ok_or_else(|| {
        aws::malformed(
            SERVICE,
            format!("GetQueueAttributes on queue `{queue}`"),
            "the answer has no attributes",
        )
    })
}

/// Whether a setting is as wanted. A policy is JSON, whose fields may come in any order, and
/// numbers in it as text.
fn is_same(present: Option<&String>, wanted: &str) -> bool {
    let Some(present) = present else { return false };
    let read = |text: &str| {
        let Ok(Value::Object(policy)) = serde_json::from_str(text) else {
            return None;
        };
        let fields = policy.into_iter().map(|(name, value)| {
            let value = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            (name, value)
        });
        Some(fields.collect::<HashMap<String, String>>())
    };
    present == wanted || (read(wanted).is_some() && read(present) == read(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_compared_by_what_they_say() {
        let wanted = r#"{"deadLetterTargetArn":"arn:aws:sqs:x","maxReceiveCount":50}"#;
        let same = r#"{ "maxReceiveCount": "50", "deadLetterTargetArn": "arn:aws:sqs:x" }"#;
        assert!(is_same(Some(&same.to_owned()), wanted));
        let other = same.replace("50", "5");
        assert!(!is_same(Some(&other), wanted));
        assert!(!is_same(None, wanted));
        assert!(!is_same(Some(&"30".to_owned()), "31"));
    }
}
