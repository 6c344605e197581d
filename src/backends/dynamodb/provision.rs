//! Making the tables, and letting their items expire.

use std::time::Duration;

use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata};
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
    GlobalSecondaryIndexUpdate, IndexStatus, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};
use tokio::time::Instant;

use super::groups::{EXPIRES, GROUP, SLOT};
use super::run_list::{INDEX, LISTED, LISTED_AT};
use super::runs::{ARRAY, FAILURES, LENGTH, PACKETS, RECORD, SUBMITTED};
use super::{BACKOFF, DynamoDbScratchpad, SERVICE, Tables};
use crate::backends::aws;
use crate::core::error::{Error, Result};
use crate::core::provision::Change;

/// How long a new table or index may take until it can be used.
const PATIENCE: Duration = Duration::from_secs(300);

/// A table, and what it is keyed by: texts.
pub(crate) struct Table<'a> {
    pub(crate) name: &'a str,
    pub(crate) keys: &'static [(&'static str, KeyType)],
    pub(crate) index: Option<Index>,
}

/// A global secondary index, keyed by texts.
pub(crate) struct Index {
    pub(crate) name: &'static str,
    pub(crate) keys: &'static [(&'static str, KeyType)],
    /// The attributes that it has beside keys.
    pub(crate) attributes: &'static [&'static str],
}

impl Table<'_> {
    /// Every attribute that is a key of the table or of its index.
    pub(crate) fn key_attributes(&self) -> impl Iterator<Item = &'static str> {
        let index = self.index.iter().flat_map(|index| index.keys);
        self.keys.iter().chain(index).map(|(name, _)| *name)
    }
}

/// The one place that says what the tables are, for `provision` and for templates: the scratchpad's, and the results'.
pub(crate) fn tables(names: &Tables) -> [Table<'_>; 2] {
    [
        Table {
            name: &names.scratchpad,
            keys: &[(GROUP, KeyType::Hash), (SLOT, KeyType::Range)],
            index: None,
        },
        Table {
            name: &names.results,
            keys: &[(ARRAY, KeyType::Hash)],
            index: Some(Index {
                name: INDEX,
                keys: &[(LISTED, KeyType::Hash), (LISTED_AT, KeyType::Range)],
                // All that a list says of a run, and not its result.
                attributes: &[RECORD, LENGTH, PACKETS, SUBMITTED, FAILURES],
            }),
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
    let (mut created, mut indexed) = (false, false);
    let begin = Instant::now();
    for looks in 1.. {
        match describe(scratchpad, &table).await? {
            None => created |= create(scratchpad, &table).await?,
            Some(found) if found.status == Some(TableStatus::Active) => {
                match (&table.index, found.index) {
                    (None, _) | (_, Some(true)) => break,
                    (Some(_), Some(false)) => {}
                    (Some(index), None) => indexed |= add_index(scratchpad, &table, index).await?,
                }
            }
            Some(_) => {}
        }
        if begin.elapsed() > PATIENCE {
            return Err(Error::Backend {
                service: SERVICE,
                operation: format!("waiting for table `{name}`"),
                retryable: true,
                source: format!("it could not be used within {} s", PATIENCE.as_secs()).into(),
            });
        }
        tokio::time::sleep(BACKOFF.longest(looks)).await;
    }
    let expires = enable_expiry(scratchpad, name).await?;
    let updated: Vec<&str> = [(indexed, "index of runs"), (expires, "time to live")]
        .into_iter()
        .filter_map(|(done, what)| done.then_some(what))
        .collect();
    Ok(match (created, updated.is_empty()) {
        (true, _) => Change::created(resource(name)),
        (false, false) => Change::updated(resource(name), updated.join(", ")),
        (false, true) => Change::unchanged(resource(name)),
    })
}

/// A table as it is.
struct Found {
    status: Option<TableStatus>,
    /// Whether its index can be used; `None` if it has none.
    index: Option<bool>,
}

/// A table as it is, `None` if there is none.
async fn describe(scratchpad: &DynamoDbScratchpad, table: &Table<'_>) -> Result<Option<Found>> {
    let described = scratchpad.client.describe_table().table_name(table.name);
    let described = match described.send().await {
        Ok(described) => described.table,
        Err(error) if aws::code(&error) == Some("ResourceNotFoundException") => return Ok(None),
        Err(error) => return Err(scratchpad.failed("DescribeTable", table.name, error)),
    };
    let Some(described) = described else {
        return Ok(None);
    };
    check_keys(table.name, described.key_schema(), table.keys)?;
    let mut found = Found {
        status: described.table_status.clone(),
        index: None,
    };
    if let Some(wanted) = &table.index {
        let indexes = described.global_secondary_indexes();
        let mut ours = indexes
            .iter()
            .filter(|index| index.index_name() == Some(wanted.name));
        if let Some(index) = ours.next() {
            check_keys(table.name, index.key_schema(), wanted.keys)?;
            let status = index.index_status();
            found.index = Some(status.is_none_or(|status| *status == IndexStatus::Active));
        }
    }
    Ok(Some(found))
}

fn check_keys(
    table: &str,
    found: &[KeySchemaElement],
    wanted: &[(&'static str, KeyType)],
) -> Result<()> {
    let keys = found.iter();
    let is_ours = keys
        .map(|key| (key.attribute_name(), key.key_type()))
        .eq(wanted.iter().map(|(name, kind)| (*name, kind)));
    if is_ours {
        return Ok(());
    }
    let wanted: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
    Err(aws::malformed(
        SERVICE,
        format!("provisioning table `{table}`"),
        format!(
            "there is a table of this name with other keys than {}: give the deployment another name, or its tables other names with `DynamoDbScratchpad::tables`",
            wanted.join(" and ")
        ),
    ))
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
        .set_key_schema(Some(schema(table.keys).map_err(malformed)?))
        .set_attribute_definitions(Some(attributes(table).map_err(malformed)?))
        .billing_mode(BillingMode::PayPerRequest);
    if let Some(index) = &table.index {
        let index = GlobalSecondaryIndex::builder()
            .index_name(index.name)
            .set_key_schema(Some(schema(index.keys).map_err(malformed)?))
            .projection(projection(index))
            .build();
        request = request.global_secondary_indexes(index.map_err(malformed)?);
    }
    Ok(request)
}

/// Adds an index to a table that has none. False if another process is doing so, or the table is busy.
async fn add_index(
    scratchpad: &DynamoDbScratchpad,
    table: &Table<'_>,
    index: &Index,
) -> Result<bool> {
    let malformed = |error| scratchpad.malformed("the index", table.name, error);
    let create = CreateGlobalSecondaryIndexAction::builder()
        .index_name(index.name)
        .set_key_schema(Some(schema(index.keys).map_err(malformed)?))
        .projection(projection(index))
        .build()
        .map_err(malformed)?;
    let update = GlobalSecondaryIndexUpdate::builder().create(create).build();
    let request = scratchpad.client.update_table().table_name(table.name);
    let updated = request
        .set_attribute_definitions(Some(attributes(table).map_err(malformed)?))
        .global_secondary_index_updates(update)
        .send()
        .await;
    let Err(error) = updated else {
        return Ok(true);
    };
    let message = error.as_service_error().and_then(|error| error.message());
    let exists = message.is_some_and(|message| message.contains("already exist"));
    match aws::code(&error) {
        Some("ResourceInUseException" | "LimitExceededException") => Ok(false),
        Some("ValidationException") if exists => Ok(false),
        _ => Err(scratchpad.failed("UpdateTable", table.name, error)),
    }
}

fn schema(keys: &[(&str, KeyType)]) -> Result<Vec<KeySchemaElement>, BuildError> {
    let keys = keys.iter().map(|(name, kind)| {
        let key = KeySchemaElement::builder().attribute_name(*name);
        key.key_type(kind.clone()).build()
    });
    keys.collect()
}

fn attributes(table: &Table<'_>) -> Result<Vec<AttributeDefinition>, BuildError> {
    let attributes = table.key_attributes().map(|name| {
        let attribute = AttributeDefinition::builder().attribute_name(name);
        attribute.attribute_type(ScalarAttributeType::S).build()
    });
    attributes.collect()
}

fn projection(index: &Index) -> Projection {
    let attributes = index.attributes.iter().map(|name| (*name).to_owned());
    Projection::builder()
        .projection_type(ProjectionType::Include)
        .set_non_key_attributes(Some(attributes.collect()))
        .build()
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
