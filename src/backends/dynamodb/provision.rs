//! Making the tables, and letting their items expire.

use std::time::Duration;

use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
    TimeToLiveSpecification, TimeToLiveStatus,
};
use tokio::time::Instant;

use super::groups::{EXPIRES, GROUP, SLOT};
use super::runs::ARRAY;
use super::{BACKOFF, DynamoDbScratchpad, SERVICE, Tables};
use crate::backends::aws;
use crate::core::error::{Error, Result};
use crate::core::provision::Change;

/// How long a new table may take until it can be used.
const PATIENCE: Duration = Duration::from_secs(300);

/// A table, and what it is keyed by: texts.
pub(crate) struct Table<'a> {
    pub(crate) name: &'a str,
    pub(crate) keys: &'static [(&'static str, KeyType)],
}

/// The one place that says what the tables are, for `provision` and for templates: the scratchpad's, and the results'.
pub(crate) fn tables(names: &Tables) -> [Table<'_>; 2] {
    [
        Table {
            name: &names.scratchpad,
            keys: &[(GROUP, KeyType::Hash), (SLOT, KeyType::Range)],
        },
        Table {
            name: &names.results,
            keys: &[(ARRAY, KeyType::Hash)],
        },
    ]
}

fn resource(table: &str) -> String {
    format!("DynamoDB table `{table}`")
}

pub(super) async fn provision(scratchpad: &DynamoDbScratchpad) -> Result<Vec<Change>> {
    let ensured = tables(&scratchpad.tables).map(|table| ensure(scratchpad, table));
    futures::future::try_join_all(ensured).await
}

pub(super) async fn deprovision(scratchpad: &DynamoDbScratchpad) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for Table { name, .. } in tables(&scratchpad.tables) {
        let deleted = scratchpad.client.delete_table().table_name(name).send();
        match deleted.await {
            Ok(_) => changes.push(Change::deleted(resource(name))),
            Err(error) if aws::code(&error) == Some("ResourceNotFoundException") => {}
            // It is being made or deleted at this moment.
            Err(error) => return Err(scratchpad.failed("DeleteTable", name, error)),
        }
    }
    Ok(changes)
}

async fn ensure(scratchpad: &DynamoDbScratchpad, table: Table<'_>) -> Result<Change> {
    let name = table.name;
    let created = match status(scratchpad, &table).await? {
        Some(_) => false,
        None => create(scratchpad, &table).await?,
    };
    let begin = Instant::now();
    let mut looks = 1;
    while status(scratchpad, &table).await? != Some(TableStatus::Active) {
        if begin.elapsed() > PATIENCE {
            return Err(Error::Backend {
                service: SERVICE,
                operation: format!("waiting for table `{name}`"),
                retryable: true,
                source: format!("it could not be used within {} s", PATIENCE.as_secs()).into(),
            });
        }
        tokio::time::sleep(BACKOFF.longest(looks)).await;
        looks += 1;
    }
    let expires = enable_expiry(scratchpad, name).await?;
    Ok(match (created, expires) {
        (true, _) => Change::created(resource(name)),
        (false, true) => Change::updated(resource(name), "time to live"),
        (false, false) => Change::unchanged(resource(name)),
    })
}

/// The status of a table, `None` where there is none.
async fn status(scratchpad: &DynamoDbScratchpad, table: &Table<'_>) -> Result<Option<TableStatus>> {
    let described = scratchpad.client.describe_table().table_name(table.name);
    let described = match described.send().await {
        Ok(described) => described.table,
        Err(error) if aws::code(&error) == Some("ResourceNotFoundException") => return Ok(None),
        Err(error) => return Err(scratchpad.failed("DescribeTable", table.name, error)),
    };
    let Some(described) = described else {
        return Ok(None);
    };
    let keys = described.key_schema().iter();
    let is_ours = keys
        .map(|key| (key.attribute_name(), key.key_type()))
        .eq(table.keys.iter().map(|(name, kind)| (*name, kind)));
    if !is_ours {
        let wanted: Vec<&str> = table.keys.iter().map(|(name, _)| *name).collect();
        return Err(aws::malformed(
            SERVICE,
            format!("provisioning table `{}`", table.name),
            format!(
                "there is a table of this name with other keys than {}: give the deployment another name, or its tables other names with `DynamoDbScratchpad::tables`",
                wanted.join(" and ")
            ),
        ));
    }
    Ok(described.table_status)
}

/// Makes a table. False where somebody else is doing so.
async fn create(scratchpad: &DynamoDbScratchpad, table: &Table<'_>) -> Result<bool> {
    let request = with_keys(scratchpad, table)?;
    match request.send().await {
        Ok(_) => Ok(true),
        Err(error) if aws::code(&error) == Some("ResourceInUseException") => Ok(false),
        Err(error) => Err(scratchpad.failed("CreateTable", table.name, error)),
    }
}

fn with_keys(
    scratchpad: &DynamoDbScratchpad,
    table: &Table<'_>,
) -> Result<CreateTableFluentBuilder> {
    let malformed = |error| scratchpad.malformed("the keys", table.name, error);
    let mut request = scratchpad
        .client
        .create_table()
        .table_name(table.name)
        .billing_mode(BillingMode::PayPerRequest);
    for (name, kind) in table.keys {
        let key = KeySchemaElement::builder()
            .attribute_name(*name)
            .key_type(kind.clone());
        let attribute = AttributeDefinition::builder()
            .attribute_name(*name)
            .attribute_type(ScalarAttributeType::S);
        request = request
            .key_schema(key.build().map_err(malformed)?)
            .attribute_definitions(attribute.build().map_err(malformed)?);
    }
    Ok(request)
}

/// Lets items expire. Whether that had to be set.
async fn enable_expiry(scratchpad: &DynamoDbScratchpad, table: &str) -> Result<bool> {
    let client = &scratchpad.client;
    let described = client
        .describe_time_to_live()
        .table_name(table)
        .send()
        .await;
    let described =
        described.map_err(|error| scratchpad.failed("DescribeTimeToLive", table, error))?;
    if let Some(expiry) = described.time_to_live_description
        && matches!(
            expiry.time_to_live_status,
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
        )
    {
        if expiry.attribute_name() != Some(EXPIRES) {
            tracing::warn!(
                table,
                attribute = expiry.attribute_name(),
                "items expire by another attribute than `{EXPIRES}`: those of old runs will stay"
            );
        }
        return Ok(false);
    }
    let expiry = TimeToLiveSpecification::builder()
        .enabled(true)
        .attribute_name(EXPIRES)
        .build()
        .map_err(|error| scratchpad.malformed("the time to live", table, error))?;
    let request = client.update_time_to_live().table_name(table);
    match request.time_to_live_specification(expiry).send().await {
        Ok(_) => Ok(true),
        // Somebody else has just done it; the service says so in its own ways.
        Err(error)
            if error
                .as_service_error()
                .and_then(|error| error.meta().message())
                .is_some_and(|message| message.contains("already enabled")) =>
        {
            Ok(false)
        }
        Err(error) => Err(scratchpad.failed("UpdateTimeToLive", table, error)),
    }
}
