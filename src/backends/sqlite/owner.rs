//! Who holds messages: each open handle on the file, with the process that it is in. What a process held when it was killed
//! is handed back as soon as another one notices, long before its visibility timeout.

use rusqlite::Connection;

use super::job::Session;

/// Enters this handle. Returns its number.
pub(super) fn enter(db: &Connection) -> rusqlite::Result<i64> {
    let process = Process::own().map_or_else(String::new, |process| process.to_string());
    let insert = "INSERT INTO owner (process) VALUES (?1) RETURNING id";
    db.query_row(insert, [process], |row| row.get(0))
}

/// Handles whose process has ended without closing them.
pub(super) fn dead(db: &Connection) -> rusqlite::Result<Vec<i64>> {
    let Some(own) = Process::own() else {
        return Ok(Vec::new());
    };
    let mut owners = db.prepare_cached("SELECT id, process FROM owner")?;
    let owners = owners.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let mut dead = Vec::new();
    for owner in owners {
        let (id, process) = owner?;
        if Process::read(&process).is_some_and(|process| process.is_dead(&own)) {
            dead.push(id);
        }
    }
    Ok(dead)
}

/// Hands back what dead handles held.
pub(super) fn bury(session: &Session<'_>, dead: &[i64]) -> rusqlite::Result<()> {
    dead.iter().try_for_each(|owner| leave(session, *owner))
}

/// Hands back what a handle holds, and removes it.
pub(super) fn leave(session: &Session<'_>, owner: i64) -> rusqlite::Result<()> {
    let db = session.db;
    // Through the index: messages that wait are not looked at.
    let held = "UPDATE message SET visible_at = 0, is_held = 0, owner = NULL WHERE id IN (
        SELECT message.id FROM queue CROSS JOIN message
        ON message.queue = queue.id AND message.visible_at > 0 AND message.is_held AND message.owner = ?1)";
    db.prepare_cached(held)?.execute([owner])?;
    db.prepare_cached("DELETE FROM owner WHERE id = ?1")?
        .execute([owner])
        .map(drop)
}

/// A process of this machine, or of an earlier boot of it.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    boot: String,
    /// The set of process numbers that `number` belongs to: containers have their own.
    namespace: String,
    number: u32,
    started: String,
}

impl Process {
    /// This process; `None` where the system does not tell as Linux does. Then only the visibility timeout hands back.
    fn own() -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
        let number = std::process::id();
        Some(Self {
            boot: boot.trim().to_owned(),
            namespace: namespace.to_str()?.to_owned(),
            number,
            started: started(number)?,
        })
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(' ').map(str::to_owned);
        Some(Self {
            boot: parts.next().filter(|boot| !boot.is_empty())?,
            namespace: parts.next()?,
            number: parts.next()?.parse().ok()?,
            started: parts.next()?,
        })
    }

    /// Whether it has ended. A process of another container may be alive.
    fn is_dead(&self, own: &Self) -> bool {
        if self.boot != own.boot {
            return true;
        }
        self.namespace == own.namespace && started(self.number).as_ref() != Some(&self.started)
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            boot,
            namespace,
            number,
            started,
        } = self;
        write!(formatter, "{boot} {namespace} {number} {started}")
    }
}

/// When a process has started, in ticks since the boot; `None` if it has ended.
fn started(number: u32) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name of the program stands in parentheses, and may have any characters.
    let (_, fields) = status.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    // A process that has ended and that nobody has asked about.
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18).map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let Some(own) = Process::own() else { return };
        let read = Process::read(&own.to_string()).unwrap();
        assert_eq!(read, own);
        assert!(!read.is_dead(&own));
        let earlier = Process {
            started: "1".to_owned(),
            ..Process::read(&own.to_string()).unwrap()
        };
        assert!(
            earlier.is_dead(&own),
            "its number has been given to this one"
        );
        let rebooted = Process {
            boot: "another".to_owned(),
            ..Process::read(&own.to_string()).unwrap()
        };
        assert!(rebooted.is_dead(&own));
        let elsewhere = Process {
            namespace: "pid:[1]".to_owned(),
            ..earlier
        };
        assert!(!elsewhere.is_dead(&own), "nothing is known of it");
        assert!(Process::read("").is_none());
    }

    #[test]
    fn a_process_that_was_killed_is_dead() {
        let Some(own) = Process::own() else { return };
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let other = Process {
            number: child.id(),
            started: started(child.id()).unwrap(),
            ..Process::own().unwrap()
        };
        assert!(!other.is_dead(&own));
        child.kill().unwrap();
        while !other.is_dead(&own) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(other.is_dead(&own));
    }
}
