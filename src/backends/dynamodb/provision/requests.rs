//! The requests that make, change and remove a table, and what their refusals mean.

use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
    GlobalSecondaryIndexUpdate, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType, TableDescription, TimeToLiveSpecification, TimeToLiveStatus,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::{EXPIRES, Index, Table};
use crate::backends::aws;
use crate::backends::dynamodb::{DynamoDbScratchpad, SERVICE};
use crate::core::error::{Error, Result};

/// What became of a request for a change.
pub(super) enum Outcome {
    /// The change is made, or under way.
    Done,
    /// There is nothing to change.
    Unneeded,
    /// The service does not do it at the moment, in this state of the table.
    Refused(String),
}

impl Outcome {
    /// Notes whether the change was made, and returns the state to wait in; `state` if the request was not refused.
    pub(super) fn noted_in(self, done: &mut bool, state: &str) -> String {
        *done |= matches!(self, Self::Done);
        match self {
            Self::Refused(state) => state,
            Self::Done | Self::Unneeded => state.to_owned(),
        }
    }

    /// The meaning of a refusal that passes: `busy` is the state of a table that is in the middle of something else. `None` for
    /// any other error.
    fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>, busy: &str) -> Option<Self> {
        let message = error.as_service_error().and_then(|error| error.message());
        match aws::code(error)? {
            "ResourceInUseException" => Some(Self::Refused(busy.to_owned())),
            "LimitExceededException" => Some(Self::Refused(format!(
                "the account makes, changes or has as many tables as it may ({})",
                message.unwrap_or("no details")
            ))),
            _ => None,
        }
    }
}

/// A table as it is, `None` if there is none.
pub(super) async fn describe(
    scratchpad: &DynamoDbScratchpad,
    table: &str,
) -> Result<Option<TableDescription>> {
    let described = scratchpad.client.describe_table().table_name(table);
    match described.send().await {
        Ok(described) => Ok(described.table),
        Err(error) if aws::code(&error) == Some(MISSING) => Ok(None),
        Err(error) => Err(scratchpad.failed("DescribeTable", table, error)),
    }
}

const MISSING: &str = "ResourceNotFoundException";

/// Makes a table.
pub(super) async fn create(scratchpad: &DynamoDbScratchpad, table: &Table<'_>) -> Result<Outcome> {
    let request = with_keys(scratchpad, table)?;
    let Err(error) = request.send().await else {
        return Ok(Outcome::Done);
    };
    let busy = "a table of this name is being made by another process, or still being deleted";
    Outcome::of(&error, busy).ok_or_else(|| scratchpad.failed("CreateTable", table.name, error))
}

/// Removes a table.
pub(super) async fn delete(scratchpad: &DynamoDbScratchpad, table: &str) -> Result<Outcome> {
    let deleted = scratchpad.client.delete_table().table_name(table);
    let Err(error) = deleted.send().await else {
        return Ok(Outcome::Done);
    };
    if aws::code(&error) == Some(MISSING) {
        return Ok(Outcome::Unneeded);
    }
    Outcome::of(&error, "it is still being changed")
        .ok_or_else(|| scratchpad.failed("DeleteTable", table, error))
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

/// Adds an index to a table that has none.
pub(super) async fn add_index(
    scratchpad: &DynamoDbScratchpad,
    table: &Table<'_>,
    index: &Index,
) -> Result<Outcome> {
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
        return Ok(Outcome::Done);
    };
    let message = error.as_service_error().and_then(|error| error.message());
    let exists = message.is_some_and(|message| message.contains("already exist"));
    match aws::code(&error) {
        Some("ValidationException") if exists => Ok(Outcome::Unneeded),
        // Deleted since it was seen: the next look decides.
        Some(MISSING) => Ok(Outcome::Refused("it cannot be seen yet".to_owned())),
        _ => Outcome::of(&error, "another change of it is still under way")
            .ok_or_else(|| scratchpad.failed("UpdateTable", table.name, error)),
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

/// Lets items expire.
pub(super) async fn enable_expiry(scratchpad: &DynamoDbScratchpad, table: &str) -> Result<Outcome> {
    let client = &scratchpad.client;
    let described = client.describe_time_to_live().table_name(table);
    let described = match described.send().await {
        Ok(described) => described.time_to_live_description,
        Err(error) if aws::code(&error) == Some(MISSING) => {
            return Ok(Outcome::Refused("it cannot be seen yet".to_owned()));
        }
        Err(error) => return Err(scratchpad.failed("DescribeTimeToLive", table, error)),
    };
    if let Some(expiry) = described {
        match expiry.time_to_live_status {
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling) => {
                if expiry.attribute_name() != Some(EXPIRES) {
                    tracing::warn!(
                        table,
                        attribute = expiry.attribute_name(),
                        "items expire by another attribute than `{EXPIRES}`: those of old runs will stay"
                    );
                }
                return Ok(Outcome::Unneeded);
            }
            Some(TimeToLiveStatus::Disabling) => return Err(being_disabled(table)),
            _ => {}
        }
    }
    let expiry = TimeToLiveSpecification::builder()
        .enabled(true)
        .attribute_name(EXPIRES)
        .build()
        .map_err(|error| scratchpad.malformed("the time to live", table, error))?;
    let request = client.update_time_to_live().table_name(table);
    let updated = request.time_to_live_specification(expiry).send().await;
    let Err(error) = updated else {
        return Ok(Outcome::Done);
    };
    let message = error.as_service_error().and_then(|error| error.message());
    let says = |words: &str| message.is_some_and(|message| message.contains(words));
    match aws::code(&error) {
        // Another process has just done it; the service says so in its own ways.
        _ if says("already enabled") => Ok(Outcome::Unneeded),
        _ if says("modified multiple times") => Err(being_disabled(table)),
        Some(MISSING) => Ok(Outcome::Refused("it cannot be seen yet".to_owned())),
        _ => Outcome::of(&error, "another change of it is still under way")
            .ok_or_else(|| scratchpad.failed("UpdateTimeToLive", table, error)),
    }
}

/// The service takes longer for this than a caller would wait.
fn being_disabled(table: &str) -> Error {
    Error::unavailable(
        SERVICE,
        format!("UpdateTimeToLive on table `{table}`"),
        "its time to live was turned off a moment ago, and DynamoDB takes up to an hour until it can be turned on again: repeat `Deployment::provision()` then. Until then the table can be used, and its items do not expire",
    )
}
