//! Making the tables, and letting their items expire, in whatever phase of their lives they are.

mod phase;
mod requests;

use std::time::Duration;

use aws_sdk_dynamodb::types::{KeyType, TableStatus};

use self::phase::Phase;
use self::requests::Outcome;
use super::groups::{EXPIRES, GROUP, SLOT};
use super::run_list::{INDEX, LISTED, LISTED_AT};
use super::runs::{ARRAY, FAILURES, LENGTH, PACKETS, RECORD, SUBMITTED};
use super::{DynamoDbScratchpad, SERVICE, Tables};
use crate::backends::aws::patience::Patience;
use crate::core::error::Result;
use crate::core::provision::Change;

/// How long to wait for what the service, or another process, does with a table.
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
        if remove(scratchpad, name).await? {
            changes.push(Change::deleted(resource(name)));
        }
    }
    Ok(changes)
}

fn patience(table: &str, call: &'static str) -> Patience {
    Patience::new(SERVICE, format!("table `{table}`"), call, PATIENCE)
}

/// Takes a table from whatever phase it is in to the one in which it can be used. A request that the service refuses because of
/// the phase, which may have changed since the look, is made again after another look.
async fn ensure(scratchpad: &DynamoDbScratchpad, table: Table<'_>) -> Result<Change> {
    let name = table.name;
    let mut patience = patience(name, "Deployment::provision()");
    let (mut created, mut indexed, mut expires) = (false, false, false);
    loop {
        let found = requests::describe(scratchpad, name).await?;
        let state = match phase::of(&table, found.as_ref())? {
            Phase::Missing => {
                let outcome = requests::create(scratchpad, &table).await?;
                outcome.noted_in(&mut created, "it is still being created")
            }
            Phase::Unindexed(index) => {
                let outcome = requests::add_index(scratchpad, &table, index).await?;
                outcome.noted_in(&mut indexed, "its index is still being created")
            }
            Phase::Busy(state) => state,
            Phase::Usable => match requests::enable_expiry(scratchpad, name).await? {
                Outcome::Refused(state) => state,
                outcome => {
                    outcome.noted_in(&mut expires, "");
                    break;
                }
            },
        };
        patience.wait(state).await?;
    }
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

/// Removes a table. False if there is none, or another process is deleting it.
async fn remove(scratchpad: &DynamoDbScratchpad, table: &str) -> Result<bool> {
    let mut patience = patience(table, "Deployment::deprovision()");
    loop {
        let state = match requests::delete(scratchpad, table).await? {
            Outcome::Done => return Ok(true),
            Outcome::Unneeded => return Ok(false),
            Outcome::Refused(state) => state,
        };
        // A table that is being created or changed cannot be deleted yet.
        match requests::describe(scratchpad, table).await? {
            None => return Ok(false),
            Some(found) if found.table_status == Some(TableStatus::Deleting) => return Ok(false),
            Some(_) => patience.wait(state).await?,
        }
    }
}
