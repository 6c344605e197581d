//! Requests to the table, of the kinds and sizes that the library makes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};

use super::Requests;
use crate::emulators::unique;
use crate::floor::FAN_IN;
use crate::resources::{self, ARRAY, PACKET};

pub(super) struct Table {
    client: aws_sdk_dynamodb::Client,
    name: String,
    /// Every partial result.
    partial: String,
    groups: u64,
    /// A new one each time, so that its groups are empty.
    run: Mutex<String>,
    requests: Requests,
}

impl Table {
    pub(super) async fn new(
        name: String,
        partial: String,
        groups: u64,
        requests: Requests,
        config: &SdkConfig,
    ) -> Result<Self> {
        let client = aws_sdk_dynamodb::Client::new(config);
        resources::make_table(&client, &name).await?;
        Ok(Self {
            client,
            name,
            partial,
            groups,
            run: Mutex::default(),
            requests,
        })
    }

    pub(super) fn begin(&self) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = unique("run");
    }

    fn run(&self) -> String {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.clone()
    }

    fn group(&self, group: u64) -> String {
        format!("{}#sum#1#{group}", self.run())
    }

    /// Partial results into a group: those from this one on.
    pub(super) async fn arrive(&self, first: u64, count: u64) -> Result<()> {
        self.requests.count();
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let mut names = HashMap::from([("#expires".to_owned(), "expiresAt".to_owned())]);
        let mut values =
            HashMap::from([(":expires".to_owned(), AttributeValue::N("1".to_owned()))]);
        let mut set = vec!["#expires = :expires".to_owned()];
        let mut add = String::new();
        // A group has no more.
        let count = count.min(FAN_IN);
        for place in 0..count {
            let slot = (first + place) % FAN_IN;
            names.insert(format!("#s{slot}"), format!("s{slot}"));
            values.insert(format!(":s{slot}"), text(&self.partial));
            set.push(format!("#s{slot} = if_not_exists(#s{slot}, :s{slot})"));
        }
        if count > 0 {
            let slots = (first..first + count).map(|slot| (slot % FAN_IN).to_string());
            values.insert(":slots".to_owned(), AttributeValue::Ns(slots.collect()));
            names.insert("#arrived".to_owned(), "arrived".to_owned());
            add = "ADD #arrived :slots ".to_owned();
        }
        names.insert("#retired".to_owned(), "retired".to_owned());
        let update = self.client.update_item().table_name(&self.name);
        update
            .key(ARRAY, text(&self.group(first / FAN_IN)))
            .key(PACKET, text("group"))
            .update_expression(format!("{add}SET {}", set.join(", ")))
            .condition_expression("attribute_not_exists(#retired)")
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await?;
        Ok(())
    }

    pub(super) async fn query(&self, place: u64) -> Result<()> {
        self.requests.count();
        let query = self.client.query().table_name(&self.name);
        let group = AttributeValue::S(self.group(place % self.groups.max(1)));
        let found = query
            .key_condition_expression("#array = :array")
            .expression_attribute_names("#array", ARRAY)
            .expression_attribute_values(":array", group)
            .consistent_read(true)
            .send()
            .await?;
        found.items.map(drop).context("a query without an answer")
    }

    fn record(&self) -> [(&'static str, AttributeValue); 2] {
        let run = AttributeValue::S(self.run());
        [
            (ARRAY, run),
            (PACKET, AttributeValue::S("record".to_owned())),
        ]
    }

    pub(super) async fn put(&self) -> Result<()> {
        self.requests.count();
        let record = AttributeValue::S(self.partial.clone());
        let mut put = self
            .client
            .put_item()
            .table_name(&self.name)
            .item("record", record);
        for (name, value) in self.record() {
            put = put.item(name, value);
        }
        put.send().await?;
        Ok(())
    }

    pub(super) async fn get(&self) -> Result<()> {
        self.requests.count();
        let mut get = self
            .client
            .get_item()
            .table_name(&self.name)
            .consistent_read(true);
        for (name, value) in self.record() {
            get = get.key(name, value);
        }
        get.send().await?;
        Ok(())
    }

    pub(super) async fn remove(&self) -> Result<()> {
        let delete = self.client.delete_table().table_name(&self.name);
        delete.send().await?;
        Ok(())
    }
}
