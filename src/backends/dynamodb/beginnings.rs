//! What is on record of a message's deliveries, beside its failed attempts: the unfinished ones and the numbers of the
//! attempts that failed, as sets, so that a request that is repeated after its answer was lost counts once.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};

use super::failures::{Kind, message_key};
use super::groups::EXPIRES;
use super::item::{Item, Terms};
use super::{DynamoDbScratchpad, is_condition};
use crate::core::error::Result;
use crate::core::id::RunId;
use crate::scratchpad::{Beginning, Deliveries, DeliveryId, FailureReport};

const UNFINISHED: &str = "unfinished";
const FAILED: &str = "failed";

fn set(delivery: DeliveryId) -> AttributeValue {
    AttributeValue::Ns(vec![delivery.as_u64().to_string()])
}

fn key(beginning: &Beginning) -> Item {
    let message = message_key(&beginning.stage, &beginning.message);
    Kind::Attempts.key(&beginning.run, message)
}

/// The rest of an expression for the failure of a delivery.
pub(super) fn failed(terms: &mut Terms, report: &FailureReport) -> String {
    let mut expression = String::new();
    if let Some(last) = report.attempts.last() {
        let number = AttributeValue::Ns(vec![last.number.to_string()]);
        expression = format!(" ADD {} {}", terms.name(FAILED), terms.value(number));
    }
    if let Some(delivery) = report.delivery {
        let (name, delivery) = (terms.name(UNFINISHED), terms.value(set(delivery)));
        expression.push_str(&format!(" DELETE {name} {delivery}"));
    }
    expression
}

/// The numbers of a set.
fn numbers<'a>(item: &'a Item, name: &str) -> impl Iterator<Item = &'a str> {
    let set = item.get(name).and_then(|set| set.as_ns().ok());
    set.into_iter().flatten().map(String::as_str)
}

impl DynamoDbScratchpad {
    pub(super) async fn add_beginning(&self, beginning: &Beginning) -> Result<Deliveries> {
        let table = &self.tables.scratchpad;
        let mut terms = Terms::default();
        let expires = terms.equal(EXPIRES, self.expires_at());
        let (name, delivery) = (terms.name(UNFINISHED), terms.value(set(beginning.delivery)));
        let expression = format!("SET {expires} ADD {name} {delivery}");
        let written = self
            .update(table, key(beginning), expression, terms)
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        let written = written.map_err(|error| self.failed("UpdateItem", table, error))?;
        let message = written.attributes.unwrap_or_default();
        let unfinished = u32::try_from(numbers(&message, UNFINISHED).count()).unwrap_or(u32::MAX);
        let failed = numbers(&message, FAILED).filter_map(|number| number.parse().ok());
        let failed = failed.max().unwrap_or(0);
        Ok(Deliveries::new(unfinished, failed))
    }

    pub(super) async fn remove_beginning(&self, beginning: &Beginning) -> Result<()> {
        let mut terms = Terms::default();
        let delivery = terms.value(set(beginning.delivery));
        let expression = format!("DELETE {} {delivery}", terms.name(UNFINISHED));
        let condition = terms.exists(UNFINISHED);
        self.update_where(key(beginning), expression, condition, terms)
            .await
    }

    /// Forgets a message's deliveries.
    pub(super) async fn remove_deliveries(
        &self,
        run: &RunId,
        stage: &str,
        message: &str,
    ) -> Result<()> {
        let key = Kind::Attempts.key(run, message_key(stage, message));
        let mut terms = Terms::default();
        let expression = format!("REMOVE {}, {}", terms.name(UNFINISHED), terms.name(FAILED));
        let known = [terms.exists(UNFINISHED), terms.exists(FAILED)];
        self.update_where(key, expression, known.join(" OR "), terms)
            .await
    }

    /// Makes an update where the condition holds: anywhere else it would write an item of nothing.
    async fn update_where(
        &self,
        key: Item,
        expression: String,
        condition: String,
        terms: Terms,
    ) -> Result<()> {
        let table = &self.tables.scratchpad;
        let written = self
            .update(table, key, expression, terms)
            .condition_expression(condition)
            .send()
            .await;
        match written {
            Ok(_) => Ok(()),
            Err(error) if is_condition(&error) => Ok(()),
            Err(error) => Err(self.failed("UpdateItem", table, error)),
        }
    }
}
