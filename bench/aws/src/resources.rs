//! A queue and a table by the bare SDK.

use std::collections::HashMap;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType,
};

/// The table's keys.
pub(crate) const ARRAY: &str = "arrayId";
pub(crate) const PACKET: &str = "packetId";

pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) async fn make_queue(client: &aws_sdk_sqs::Client, name: &str) -> Result<String> {
    let made = client.create_queue().queue_name(name).send().await?;
    made.queue_url.context("a queue without a URL")
}

pub(crate) async fn make_table(client: &aws_sdk_dynamodb::Client, name: &str) -> Result<()> {
    let mut table = client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest);
    for (key, kind) in [(ARRAY, KeyType::Hash), (PACKET, KeyType::Range)] {
        let definition = AttributeDefinition::builder()
            .attribute_name(key)
            .attribute_type(ScalarAttributeType::S);
        let schema = KeySchemaElement::builder()
            .attribute_name(key)
            .key_type(kind);
        table = table
            .attribute_definitions(definition.build()?)
            .key_schema(schema.build()?);
    }
    table.send().await?;
    Ok(())
}
