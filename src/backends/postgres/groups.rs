//! Groups of the reduction tree.
//!
//! The row of a group has the set of slots that have arrived. Whoever writes to it holds its lock until the statement has
//! committed, so that of the arrivals that fill a group the last one sees it full. The values are in rows of their own, one
//! for all that a statement brings to a group, and are written after the lock was taken: their ids have the order of the
//! arrivals, and a slot's value is the first.

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::runs::LARGEST_VALUE;
use super::scratchpad::PostgresScratchpad;
use crate::core::error::{Error, Oversized, Result};
use crate::scratchpad::{Arrival, GroupId, GroupState, Groups, Members};

/// Bytes of values in a statement, unless a single one has more.
const MOST_BYTES: usize = 8 * 1024 * 1024;
const MOST_ARRIVALS: usize = 1_000;

/// The columns of groups, as arrays of parameters.
#[derive(Default)]
pub(super) struct Columns<'a> {
    runs: Vec<String>,
    stages: Vec<&'a str>,
    trees: Vec<i64>,
    levels: Vec<i64>,
    positions: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, group: &'a GroupId) {
        self.runs.push(group.run.to_string());
        self.stages.push(&group.stage);
        self.trees.push(i64::from(group.partition));
        self.levels.push(i64::from(group.level));
        self.positions.push(position(group));
    }

    pub(super) fn of(groups: impl IntoIterator<Item = &'a GroupId>) -> Self {
        let mut columns = Self::default();
        for group in groups {
            columns.push(group);
        }
        columns
    }

    /// The deployment, and these.
    pub(super) fn params<'b>(&'b self, deployment: &'b &'b str) -> Vec<super::database::Param<'b>> {
        vec![
            (deployment as _, Type::TEXT),
            (&self.runs as _, Type::TEXT_ARRAY),
            (&self.stages as _, Type::TEXT_ARRAY),
            (&self.trees as _, Type::INT8_ARRAY),
            (&self.levels as _, Type::INT8_ARRAY),
            (&self.positions as _, Type::INT8_ARRAY),
        ]
    }
}

/// Bit for bit.
fn position(group: &GroupId) -> i64 {
    group.index.cast_signed()
}

fn unsigned(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The answer to a call about one group.
fn only<T>(answers: Vec<Result<T>>) -> Result<T> {
    answers.into_iter().next().unwrap_or_else(|| {
        let problem = "a call about one group has no answer: please report this";
        Err(Error::refused(
            super::errors::SERVICE,
            "a call about a group",
            problem,
        ))
    })
}

/// The state in four columns.
pub(super) fn state(row: &Row, from: usize) -> GroupState {
    let mut state = GroupState::new(unsigned(row.get(from)));
    state.expected = row.get::<_, Option<i64>>(from + 1).map(unsigned);
    state.root = row.get(from + 2);
    state.retired = row.get(from + 3);
    state
}

impl PostgresScratchpad {
    /// Arrivals that fit into one statement.
    async fn arrive_some(&self, arrivals: &[Arrival]) -> Result<Vec<GroupState>> {
        // In the order of their keys, so that two statements that meet in several groups lock them in the same order. Slots
        // that were taken when the statement began bring no value.
        const ARRIVE: &str = "WITH input AS (
                SELECT r.number AS run, i.stage, i.tree, i.level, i.position, i.slot, i.content, i.place
                FROM unnest((SELECT $2), (SELECT $3), (SELECT $4), (SELECT $5), (SELECT $6), (SELECT $7), (SELECT $8))
                    WITH ORDINALITY
                    AS i (run, stage, tree, level, position, slot, content, place)
                JOIN @.runs r ON r.deployment = $1 AND r.key = i.run AND r.result IS NULL AND NOT r.cancelled
            ), gathered AS MATERIALIZED (
                SELECT run, stage, tree, level, position,
                    array_agg(DISTINCT slot) AS distinct_slots,
                    array_agg(slot ORDER BY place) AS slots, array_agg(content ORDER BY place) AS contents
                FROM input GROUP BY run, stage, tree, level, position
            ), arrived AS (
                INSERT INTO @.groups AS g (run, stage, tree, level, position, arrived)
                SELECT run, stage, tree, level, position, distinct_slots FROM gathered
                ORDER BY run, stage COLLATE \"C\", tree, level, position
                ON CONFLICT (run, stage, tree, level, position) DO UPDATE SET
                    arrived = CASE WHEN g.retired OR g.arrived @> excluded.arrived THEN g.arrived ELSE
                        ARRAY (SELECT DISTINCT slot FROM unnest(g.arrived || excluded.arrived) AS s (slot) ORDER BY slot)
                    END,
                    written_at = now()
                RETURNING g.run, g.stage, g.tree, g.level, g.position, cardinality(g.arrived)::int8 AS arrived,
                    g.expected, g.root, g.retired
            ), kept AS (
                INSERT INTO @.partials (run, stage, tree, level, position, slots, contents)
                SELECT n.run, n.stage, n.tree, n.level, n.position, n.slots, n.contents
                FROM arrived a JOIN gathered n USING (run, stage, tree, level, position)
                LEFT JOIN @.groups old USING (run, stage, tree, level, position)
                WHERE NOT a.retired AND NOT coalesce(old.arrived @> n.slots, false)
            )
            SELECT i.place, a.arrived, a.expected, a.root, a.retired
            FROM input i JOIN arrived a USING (run, stage, tree, level, position)";
        let columns = Columns::of(arrivals.iter().map(|arrival| &arrival.group));
        let slots: Vec<i32> = arrivals
            .iter()
            .map(|arrival| arrival.slot.cast_signed())
            .collect();
        let contents: Vec<&[u8]> = arrivals.iter().map(|arrival| &arrival.value[..]).collect();
        let deployment = &*self.deployment;
        let mut params = columns.params(&deployment);
        params.push((&slots as _, Type::INT4_ARRAY));
        params.push((&contents as _, Type::BYTEA_ARRAY));
        let rows = self
            .database()
            .query("storing partial results", ARRIVE, &params)
            .await?;
        let mut states = vec![GroupState::gone(); arrivals.len()];
        for row in rows {
            let place: i64 = row.get(0);
            let place = usize::try_from(place - 1).ok();
            if let Some(known) = place.and_then(|place| states.get_mut(place)) {
                *known = state(&row, 1);
            }
        }
        Ok(states)
    }
}

#[async_trait]
impl Groups for PostgresScratchpad {
    async fn expect(&self, group: &GroupId, expected: u32, root: bool) -> Result<GroupState> {
        const EXPECT: &str =
            "INSERT INTO @.groups AS g (run, stage, tree, level, position, expected, root)
            SELECT number, $3, $4, $5, $6, $7, $8 FROM @.runs
            WHERE deployment = $1 AND key = $2 AND result IS NULL AND NOT cancelled
            ON CONFLICT (run, stage, tree, level, position) DO UPDATE
                SET expected = excluded.expected, root = excluded.root, written_at = now()
            RETURNING cardinality(g.arrived)::int8, g.expected, g.root, g.retired";
        let key = Key::of(group);
        let deployment = &*self.deployment;
        let expected = i64::from(expected);
        let mut params = key.params(&deployment);
        params.push((&expected as _, Type::INT8));
        params.push((&root as _, Type::BOOL));
        let row = self
            .database()
            .query_opt("recording a group's size", EXPECT, &params)
            .await?;
        Ok(row.map_or_else(GroupState::gone, |row| state(&row, 0)))
    }

    async fn arrive(&self, arrivals: Vec<Arrival>) -> Result<Vec<GroupState>> {
        if let Some(large) = arrivals
            .iter()
            .find(|arrival| arrival.value.len() > LARGEST_VALUE)
        {
            let what = format!("a partial result of group {}", large.group);
            let size = large.value.len();
            return Err(Error::too_large(
                Oversized::Value,
                what,
                size,
                LARGEST_VALUE,
            ));
        }
        let mut states = Vec::with_capacity(arrivals.len());
        let mut rest = arrivals.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest.iter().take(MOST_ARRIVALS).take_while(|arrival| {
                let is_first = bytes == 0;
                bytes += arrival.value.len().max(1);
                is_first || bytes <= MOST_BYTES
            });
            let (some, others) = rest.split_at(fitting.count());
            states.extend(self.arrive_some(some).await?);
            rest = others;
        }
        Ok(states)
    }

    /// Concurrent calls share a statement.
    async fn members(&self, group: &GroupId) -> Result<Members> {
        let read = self.shared_calls.members.submit(vec![group.clone()]);
        only(read.await)
    }

    /// Concurrent calls share a statement.
    async fn retire(&self, group: &GroupId) -> Result<()> {
        let retired = self.shared_calls.retire.submit(vec![group.clone()]);
        only(retired.await)
    }

    async fn arrived(&self, groups: &[GroupId]) -> Result<Vec<Vec<u32>>> {
        const ARRIVED: &str = "SELECT i.place, g.arrived
            FROM unnest((SELECT $2), (SELECT $3), (SELECT $4), (SELECT $5), (SELECT $6)) WITH ORDINALITY AS i (run, stage, tree, level, position, place)
            JOIN @.runs r ON r.deployment = $1 AND r.key = i.run AND r.result IS NULL AND NOT r.cancelled
            JOIN @.groups g ON g.run = r.number AND g.stage = i.stage AND g.tree = i.tree AND g.level = i.level
                AND g.position = i.position";
        let mut slots = vec![Vec::new(); groups.len()];
        if groups.is_empty() {
            return Ok(slots);
        }
        let columns = Columns::of(groups);
        let deployment = &*self.deployment;
        let params = columns.params(&deployment);
        let rows = self
            .database()
            .query("reading slots", ARRIVED, &params)
            .await?;
        for row in rows {
            let place = usize::try_from(row.get::<_, i64>(0) - 1).ok();
            if let Some(known) = place.and_then(|place| slots.get_mut(place)) {
                let arrived: Vec<i32> = row.get(1);
                *known = arrived.into_iter().map(i32::cast_unsigned).collect();
            }
        }
        Ok(slots)
    }
}

/// The columns of one group.
struct Key<'a> {
    run: String,
    stage: &'a str,
    tree: i64,
    level: i64,
    position: i64,
}

impl<'a> Key<'a> {
    fn of(group: &'a GroupId) -> Self {
        Self {
            run: group.run.to_string(),
            stage: &group.stage,
            tree: i64::from(group.partition),
            level: i64::from(group.level),
            position: position(group),
        }
    }

    /// The deployment, and these.
    fn params<'b>(&'b self, deployment: &'b &'b str) -> Vec<super::database::Param<'b>> {
        vec![
            (deployment as _, Type::TEXT),
            (&self.run as _, Type::TEXT),
            (&self.stage as _, Type::TEXT),
            (&self.tree as _, Type::INT8),
            (&self.level as _, Type::INT8),
            (&self.position as _, Type::INT8),
        ]
    }
}
