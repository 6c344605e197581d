//! Calls about one group that are made at the same time, as one statement for all their groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio_postgres::Row;

use super::database::Database;
use super::groups::{Columns, state};
use crate::core::batcher::Batcher;
use crate::core::error::Result;
use crate::scratchpad::{GroupId, Members};

/// The calls of one deployment's scratchpad. In their statements the arrays are subqueries, of which the planner expects few
/// elements, so that it looks groups up by their keys and never reads the table as a whole.
pub(super) struct SharedCalls {
    pub(super) members: Batcher<GroupId, Members>,
    pub(super) retire: Batcher<GroupId, ()>,
}

impl SharedCalls {
    pub(super) fn new(database: &Arc<Database>, deployment: &Arc<str>) -> Self {
        let of = (Arc::clone(database), Arc::clone(deployment));
        let members = Batcher::new(move |groups: Arc<Vec<GroupId>>| {
            let (database, deployment) = of.clone();
            async move { members(&database, &deployment, &groups).await }.boxed()
        });
        let of = (Arc::clone(database), Arc::clone(deployment));
        let retire = Batcher::new(move |groups: Arc<Vec<GroupId>>| {
            let (database, deployment) = of.clone();
            async move { retire(&database, &deployment, &groups).await }.boxed()
        });
        Self { members, retire }
    }
}

async fn members(
    database: &Database,
    deployment: &str,
    groups: &[GroupId],
) -> Result<Vec<Members>> {
    const MEMBERS: &str = "SELECT i.place, coalesce(cardinality(g.arrived), 0)::int8, g.expected,
            coalesce(g.root, false), coalesce(g.retired, false), p.slots, p.contents
        FROM unnest((SELECT $2), (SELECT $3), (SELECT $4), (SELECT $5), (SELECT $6)) WITH ORDINALITY AS i (run, stage, tree, level, position, place)
        JOIN @.runs r ON r.deployment = $1 AND r.key = i.run AND r.result IS NULL AND NOT r.cancelled
        LEFT JOIN @.groups g ON g.run = r.number
            AND g.stage = i.stage AND g.tree = i.tree AND g.level = i.level AND g.position = i.position
        LEFT JOIN @.partials p ON p.run = r.number AND NOT g.retired
            AND p.stage = i.stage AND p.tree = i.tree AND p.level = i.level AND p.position = i.position
        ORDER BY i.place, p.id";
    let columns = Columns::of(groups);
    let params = columns.params(&deployment);
    let rows = database.query("reading groups", MEMBERS, &params).await?;
    // A group of a run that is over has no row.
    let mut all: Vec<Members> = groups.iter().map(|_| Members::Retired).collect();
    for rows in rows.chunk_by(|one, other| place(one) == place(other)) {
        let known = rows.first().and_then(place);
        if let Some(known) = known.and_then(|place| all.get_mut(place)) {
            *known = group(rows);
        }
    }
    Ok(all)
}

/// Which of the groups of the call a row belongs to.
fn place(row: &Row) -> Option<usize> {
    usize::try_from(row.get::<_, i64>(0) - 1).ok()
}

/// A group by its rows, in the order in which its values were written.
fn group(rows: &[Row]) -> Members {
    let Some(state) = rows
        .first()
        .map(|row| state(row, 1))
        .filter(|state| !state.retired)
    else {
        return Members::Retired;
    };
    let mut values = BTreeMap::new();
    for row in rows {
        let slots: Option<Vec<i32>> = row.get(5);
        let contents: Option<Vec<&[u8]>> = row.get(6);
        let contents = contents.unwrap_or_default();
        for (slot, content) in slots.unwrap_or_default().into_iter().zip(contents) {
            let value = values.entry(slot.cast_unsigned());
            value.or_insert_with(|| Bytes::copy_from_slice(content));
        }
    }
    Members::present(state, values.into_iter().collect())
}

async fn retire(database: &Database, deployment: &str, groups: &[GroupId]) -> Result<Vec<()>> {
    // In the order of their keys, as arrivals lock them.
    const RETIRE: &str = "WITH input AS (
            SELECT DISTINCT r.number AS run, i.stage, i.tree, i.level, i.position
            FROM unnest((SELECT $2), (SELECT $3), (SELECT $4), (SELECT $5), (SELECT $6)) AS i (run, stage, tree, level, position)
            JOIN @.runs r ON r.deployment = $1 AND r.key = i.run AND r.result IS NULL AND NOT r.cancelled
        ), retired AS (
            INSERT INTO @.groups AS g (run, stage, tree, level, position, retired)
            SELECT run, stage, tree, level, position, true FROM input
            ORDER BY run, stage COLLATE \"C\", tree, level, position
            ON CONFLICT (run, stage, tree, level, position) DO UPDATE SET retired = true, written_at = now()
            RETURNING g.run, g.stage, g.tree, g.level, g.position
        )
        DELETE FROM @.partials p USING retired d
        WHERE p.run = d.run AND p.stage = d.stage AND p.tree = d.tree AND p.level = d.level
            AND p.position = d.position";
    let columns = Columns::of(groups);
    let params = columns.params(&deployment);
    database.query("retiring groups", RETIRE, &params).await?;
    Ok(vec![(); groups.len()])
}
