//! Making queues, and bringing the settings of those that exist up to date.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::QueueAttributeName as Name;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use serde_json::{Value, json};

use super::limits::MOST_RECEIVES;
use super::{SERVICE, Service, dead_name, whole_seconds};
use crate::backends::aws;
use crate::backends::aws::patience::Patience;
use crate::core::error::{Error, Result};
use crate::core::provision::Change;
use crate::queue::QueueOptions;

/// How long messages are kept: what the service allows at most.
const RETENTION_DAYS: u32 = 14;
/// How long to wait for what the service, or another process, does with a queue. After a queue of the same name was deleted,
/// the service asks for a minute.
const PATIENCE: Duration = Duration::from_secs(120);

type Attributes = HashMap<Name, String>;

/// What a stage's queue is set to; its dead-letter queue as well, but for the receives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueSettings {
    /// In seconds.
    pub(crate) visibility: i32,
    /// In seconds.
    pub(crate) retention: u32,
    /// In bytes.
    pub(crate) max_message: usize,
    /// `maxReceiveCount`: the service moves a message to the dead letters by itself after this many receives. That many may be
    /// handed back without having been an attempt, so it is the most that the service counts.
    pub(crate) receives: u32,
}

impl QueueSettings {
    pub(super) fn new(max_payload: usize, options: &QueueOptions) -> Self {
        Self {
            visibility: whole_seconds(options.visibility_timeout),
            retention: RETENTION_DAYS * 24 * 60 * 60,
            max_message: max_payload,
            receives: MOST_RECEIVES,
        }
    }
}

pub(super) async fn provision(
    service: &Service,
    name: &str,
    settings: QueueSettings,
) -> Result<Vec<Change>> {
    let dead = dead_name(name);
    let mut wanted = Attributes::from([
        (Name::VisibilityTimeout, settings.visibility.to_string()),
        (Name::MessageRetentionPeriod, settings.retention.to_string()),
        (Name::MaximumMessageSize, settings.max_message.to_string()),
    ]);
    let (change, found) = ensure(service, &dead, &wanted, Some(Name::QueueArn)).await?;
    let arn = found.get(&Name::QueueArn).ok_or_else(|| {
        aws::malformed(
            SERVICE,
            format!("GetQueueAttributes on queue `{dead}`"),
            "the answer does not have the queue's ARN",
        )
    })?;
    let policy = json!({
        "deadLetterTargetArn": arn,
        "maxReceiveCount": settings.receives,
    });
    wanted.insert(Name::RedrivePolicy, policy.to_string());
    let (own, _) = ensure(service, name, &wanted, None).await?;
    Ok(vec![change, own])
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

/// Makes a queue, or sets those of its attributes that differ. Returns the attribute `read` as well.
///
/// What one request has done, the next need not see: a new queue may not be found, a deleted one still may. A request that
/// contradicts the last look is followed by another look, until they agree.
async fn ensure(
    service: &Service,
    queue: &str,
    wanted: &Attributes,
    read: Option<Name>,
) -> Result<(Change, Attributes)> {
    let subject = format!("queue `{queue}`");
    let mut patience = Patience::new(SERVICE, subject, "Deployment::provision()", PATIENCE);
    let mut url = find(service, queue).await?;
    let mut created = false;
    let (change, found) = loop {
        let mut state = "it cannot be seen yet".to_owned();
        let at = match url.take() {
            Some(at) => Some(at),
            None => match create(service, queue, wanted).await? {
                Created::Made(_) if read.is_none() => {
                    created = true;
                    break (Change::created(resource(queue)), Attributes::new());
                }
                Created::Made(at) => {
                    created = true;
                    at
                }
                Created::Exists => {
                    state = "it was made by another process and cannot be seen yet".to_owned();
                    find(service, queue).await?
                }
                Created::Refused(why) => {
                    state = why;
                    None
                }
            },
        };
        if let Some(at) = at
            && let Some((change, found)) = settle(service, queue, &at, wanted, read.clone()).await?
        {
            let change = match created {
                true => Change::created(resource(queue)),
                false => change,
            };
            break (change, found);
        }
        // If it was found and is not there, its URL has outlived it: it is created next.
        patience.wait(state).await?;
    };
    // The caller opens the queue as soon as it is told that it was created.
    while created && find(service, queue).await?.is_none() {
        patience.wait("it cannot be found by its name yet").await?;
    }
    Ok((change, found))
}

/// The URL of a queue, `None` if there is none.
async fn find(service: &Service, queue: &str) -> Result<Option<String>> {
    match service.url(queue).await {
        Err(Error::NotProvisioned { .. }) => Ok(None),
        url => url.map(Some),
    }
}

/// Sets those attributes of a queue that differ. `None` if the service says that there is no such queue.
async fn settle(
    service: &Service,
    queue: &str,
    url: &str,
    wanted: &Attributes,
    read: Option<Name>,
) -> Result<Option<(Change, Attributes)>> {
    let names: Vec<Name> = wanted.keys().cloned().chain(read).collect();
    let present = match attributes(service, queue, url, &names).await {
        Err(Error::NotProvisioned { .. }) => return Ok(None),
        present => present?,
    };
    let differing: Attributes = wanted
        .iter()
        .filter(|(name, value)| !is_same(present.get(name), value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if differing.is_empty() {
        return Ok(Some((Change::unchanged(resource(queue)), present)));
    }
    let mut what: Vec<String> = differing.keys().map(|name| name.to_string()).collect();
    what.sort();
    let request = service.client.set_queue_attributes().queue_url(url);
    match request.set_attributes(Some(differing)).send().await {
        Ok(_) => Ok(Some((
            Change::updated(resource(queue), what.join(", ")),
            present,
        ))),
        Err(error) if Service::is_missing(aws::code(&error)) || lacks_target(&error) => Ok(None),
        Err(error) => Err(service.failed("SetQueueAttributes", queue, error)),
    }
}

/// What became of creating a queue.
enum Created {
    /// It is there, with these attributes, at this URL.
    Made(Option<String>),
    /// There is one with other attributes.
    Exists,
    /// The service does not do it at the moment, in this state.
    Refused(String),
}

async fn create(service: &Service, queue: &str, wanted: &Attributes) -> Result<Created> {
    let request = service.client.create_queue().queue_name(queue);
    let created = request.set_attributes(Some(wanted.clone())).send().await;
    let error = match created {
        Ok(created) => return Ok(Created::Made(created.queue_url)),
        Err(error) => error,
    };
    match aws::code(&error) {
        Some("QueueNameExists" | "QueueAlreadyExists") => Ok(Created::Exists),
        Some("QueueDeletedRecently" | "AWS.SimpleQueueService.QueueDeletedRecently") => {
            let state = "a queue of this name was deleted less than a minute ago, and SQS does not make another so soon";
            Ok(Created::Refused(state.to_owned()))
        }
        code if Service::is_missing(code) || lacks_target(&error) => Ok(Created::Refused(
            "its dead-letter queue cannot be seen yet".to_owned(),
        )),
        _ => Err(service.failed("CreateQueue", queue, error)),
    }
}

/// Whether a redrive policy was refused because its dead-letter queue, which is there, is not seen.
fn lacks_target<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let message = error.as_service_error().and_then(|error| error.message());
    message.is_some_and(|message| message.contains("target does not exist"))
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
