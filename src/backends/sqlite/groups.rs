//! The groups of each run.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};

use super::queue::LARGEST;
use super::scratchpad::{SqliteScratchpad, open_run};
use super::trouble::Trouble;
use crate::core::error::{Error, Oversized, Result};
use crate::scratchpad::{Arrival, GroupId, GroupState, Groups, Members};

#[async_trait]
impl Groups for SqliteScratchpad {
    async fn expect(&self, group: &GroupId, expected: u32, root: bool) -> Result<GroupState> {
        let size = move |db: &Connection, group: &mut Group| {
            group.state.expected = Some(expected);
            group.state.root = root;
            db.prepare_cached("UPDATE tree SET expected = ?2, is_root = ?3 WHERE id = ?1")?
                .execute((group.id, expected, root))
                .map(drop)
        };
        self.change_group("sizing a group", group, size).await
    }

    async fn arrive(&self, arrivals: Vec<Arrival>) -> Result<Vec<GroupState>> {
        if let Some(large) = arrivals
            .iter()
            .find(|arrival| arrival.value.len() > LARGEST)
        {
            let what = format!("the value for slot {} of group {}", large.slot, large.group);
            return Err(Error::too_large(
                Oversized::Value,
                what,
                large.value.len(),
                LARGEST,
            ));
        }
        let scope = self.scope.clone();
        let arrived = self.store.write("storing partial results", move |session| {
            let mut states = Vec::with_capacity(arrivals.len());
            // Neighbours share their look-ups.
            for of_run in arrivals.chunk_by(|a, b| a.group.run == b.group.run) {
                let run = of_run
                    .first()
                    .map(|first| open_run(session.db, &scope, &first.group.run));
                let Some(run) = run.transpose()?.flatten() else {
                    states.extend(of_run.iter().map(|_| GroupState::gone()));
                    continue;
                };
                for of_group in of_run.chunk_by(|a, b| a.group == b.group) {
                    arrive(session.db, run, of_group, &mut states)?;
                }
            }
            Ok(states)
        });
        arrived.await
    }

    async fn members(&self, group: &GroupId) -> Result<Members> {
        let (scope, id) = (self.scope.clone(), group.clone());
        let members = self.store.read("reading a group", move |db| {
            let Some(run) = open_run(db, &scope, &id.run)? else {
                return Ok(Members::Retired);
            };
            let Some(group) = Group::find(db, run, &id)? else {
                return Ok(Members::present(GroupState::default(), Vec::new()));
            };
            if group.state.retired {
                return Ok(Members::Retired);
            }
            let values = db
                .prepare_cached("SELECT slot, value FROM member WHERE tree = ?1 ORDER BY slot")?
                .query_map([group.id], |row| {
                    let value: Vec<u8> = row.get(1)?;
                    Ok((row.get(0)?, Bytes::from(value)))
                })?
                .collect::<Result<_, _>>()?;
            Ok(Members::present(group.state, values))
        });
        members.await
    }

    async fn retire(&self, group: &GroupId) -> Result<()> {
        let retired = self.change_group("retiring a group", group, retire);
        retired.await.map(drop)
    }

    async fn arrived(&self, groups: &[GroupId]) -> Result<Vec<Vec<u32>>> {
        let (scope, groups) = (self.scope.clone(), groups.to_vec());
        let arrived = self.store.read("reading groups", move |db| {
            let arrived = groups
                .iter()
                .map(|id| match open_run(db, &scope, &id.run)? {
                    Some(run) => arrived(db, run, id),
                    None => Ok(Vec::new()),
                });
            arrived.collect()
        });
        arrived.await
    }
}

impl SqliteScratchpad {
    /// Changes a group of a run that is not over.
    async fn change_group(
        &self,
        operation: &str,
        group: &GroupId,
        change: impl Fn(&Connection, &mut Group) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<GroupState> {
        let (scope, id) = (self.scope.clone(), group.clone());
        let changed = self.store.write(operation, move |session| {
            let Some(run) = open_run(session.db, &scope, &id.run)? else {
                return Ok(GroupState::gone());
            };
            let mut group = Group::open(session.db, run, &id)?;
            change(session.db, &mut group)?;
            Ok(group.state)
        });
        changed.await
    }
}

/// A group's row.
struct Group {
    id: i64,
    state: GroupState,
}

impl Group {
    fn find(db: &Connection, run: i64, id: &GroupId) -> rusqlite::Result<Option<Self>> {
        db.prepare_cached(
            "SELECT id, arrived, expected, is_root, is_retired FROM tree
             WHERE run = ?1 AND stage = ?2 AND part = ?3 AND level = ?4 AND place = ?5",
        )?
        .query_row(key(run, id), Self::read)
        .optional()
    }

    /// The group, whose row is made if it is missing.
    fn open(db: &Connection, run: i64, id: &GroupId) -> rusqlite::Result<Self> {
        if let Some(group) = Self::find(db, run, id)? {
            return Ok(group);
        }
        db.prepare_cached(
            "INSERT INTO tree (run, stage, part, level, place) VALUES (?1, ?2, ?3, ?4, ?5)
             RETURNING id, arrived, expected, is_root, is_retired",
        )?
        .query_row(key(run, id), Self::read)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let mut state = GroupState::new(row.get(1)?);
        state.expected = row.get(2)?;
        state.root = row.get(3)?;
        state.retired = row.get(4)?;
        Ok(Self {
            id: row.get(0)?,
            state,
        })
    }
}

/// SQLite's numbers are signed: the same bits, in another order.
fn key(run: i64, id: &GroupId) -> (i64, &str, u32, u32, i64) {
    (run, &id.stage, id.partition, id.level, id.index as i64)
}

/// Stores values for one group. Each is answered with the group's state after all of them.
fn arrive(
    db: &Connection,
    run: i64,
    arrivals: &[Arrival],
    states: &mut Vec<GroupState>,
) -> Result<(), Trouble> {
    let Some(first) = arrivals.first() else {
        return Ok(());
    };
    let mut group = Group::open(db, run, &first.group)?;
    if !group.state.retired {
        let mut insert = db.prepare_cached(
            "INSERT INTO member (tree, slot, value) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?;
        let mut new = 0;
        for arrival in arrivals {
            new += insert.execute((group.id, arrival.slot, &arrival.value[..]))? as u32;
        }
        if new > 0 {
            group.state.arrived += new;
            db.prepare_cached("UPDATE tree SET arrived = ?2 WHERE id = ?1")?
                .execute((group.id, group.state.arrived))?;
        }
    }
    states.extend(arrivals.iter().map(|_| group.state));
    Ok(())
}

fn retire(db: &Connection, group: &mut Group) -> rusqlite::Result<()> {
    if group.state.retired {
        return Ok(());
    }
    group.state.retired = true;
    let slots = slots(db, group.id)?;
    let is_plain = slots.iter().copied().eq(0..slots.len() as u32);
    let slots = (!is_plain).then(|| serde_json::Value::from(slots).to_string());
    db.prepare_cached("UPDATE tree SET is_retired = 1, slots = ?2 WHERE id = ?1")?
        .execute((group.id, slots))?;
    db.prepare_cached("DELETE FROM member WHERE tree = ?1")?
        .execute([group.id])
        .map(drop)
}

fn slots(db: &Connection, group: i64) -> rusqlite::Result<Vec<u32>> {
    db.prepare_cached("SELECT slot FROM member WHERE tree = ?1 ORDER BY slot")?
        .query_map([group], |row| row.get(0))?
        .collect()
}

fn arrived(db: &Connection, run: i64, id: &GroupId) -> Result<Vec<u32>, Trouble> {
    let Some(group) = Group::find(db, run, id)? else {
        return Ok(Vec::new());
    };
    if !group.state.retired {
        return Ok(slots(db, group.id)?);
    }
    let slots: Option<String> = db
        .prepare_cached("SELECT slots FROM tree WHERE id = ?1")?
        .query_row([group.id], |row| row.get(0))?;
    match slots {
        None => Ok((0..group.state.arrived).collect()),
        Some(text) => {
            let slots = serde_json::from_str(&text);
            Ok(slots.map_err(|source| Error::decode("the slots of a retired group", source))?)
        }
    }
}
