//! The phase of its life that a table is in, and what it lacks.

use aws_sdk_dynamodb::types::{
    IndexStatus, KeySchemaElement, KeyType, TableDescription, TableStatus,
};

use super::{Index, Table};
use crate::backends::aws;
use crate::backends::dynamodb::SERVICE;
use crate::core::error::Result;

/// What there is to do about a table.
pub(super) enum Phase<'a> {
    /// It is to be created.
    Missing,
    /// It has no index, and is to have this one.
    Unindexed(&'a Index),
    /// It, or its index, is in the middle of a change, which is described.
    Busy(String),
    /// It has its keys and its index.
    Usable,
}

/// The phase of a table, from its description if there is one.
///
/// # Errors
/// If it is another's table, or one that comes back by nothing that provisioning or time can do.
pub(super) fn of<'a>(table: &'a Table<'_>, found: Option<&TableDescription>) -> Result<Phase<'a>> {
    let Some(found) = found else {
        return Ok(Phase::Missing);
    };
    let busy = |state: &str| Ok(Phase::Busy(state.to_owned()));
    // A table on its way out is described without its keys, and no longer matters.
    if found.table_status == Some(TableStatus::Deleting) {
        return busy("it is still being deleted");
    }
    check_keys(table.name, found.key_schema(), table.keys)?;
    match &found.table_status {
        Some(TableStatus::Creating) => busy("it is still being created"),
        Some(TableStatus::InaccessibleEncryptionCredentials) => Err(unusable(
            table.name,
            "it is INACCESSIBLE_ENCRYPTION_CREDENTIALS: DynamoDB may not use the KMS key that encrypts it. Enable the key and let DynamoDB use it, within seven days, before the table is archived",
        )),
        Some(status @ (TableStatus::Archiving | TableStatus::Archived)) => Err(unusable(
            table.name,
            &format!(
                "it is {status}: DynamoDB could not use the KMS key that encrypts it for seven days. Restore the backup that DynamoDB made of it, or delete the table, and provision again"
            ),
        )),
        // A table that is changed, even for hours, can be used meanwhile.
        _ => index(table, found),
    }
}

/// The phase of the index of a table that can be used.
fn index<'a>(table: &'a Table<'_>, found: &TableDescription) -> Result<Phase<'a>> {
    let Some(wanted) = &table.index else {
        return Ok(Phase::Usable);
    };
    let mut indexes = found.global_secondary_indexes().iter();
    let Some(index) = indexes.find(|index| index.index_name() == Some(wanted.name)) else {
        return Ok(Phase::Unindexed(wanted));
    };
    let name = wanted.name;
    if index.index_status() == Some(&IndexStatus::Deleting) {
        return Ok(Phase::Busy(format!(
            "its index `{name}` is still being deleted"
        )));
    }
    check_keys(table.name, index.key_schema(), wanted.keys)?;
    Ok(match index.index_status() {
        Some(IndexStatus::Creating) => Phase::Busy(format!(
            "its index `{name}` is still being filled, which takes longer the larger the table is; all but the list of runs works meanwhile"
        )),
        _ => Phase::Usable,
    })
}

fn unusable(table: &str, problem: &str) -> crate::Error {
    aws::malformed(SERVICE, format!("provisioning table `{table}`"), problem)
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
