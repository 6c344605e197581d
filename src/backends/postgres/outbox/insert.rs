//! The statement that an application runs inside its own transaction.

use std::fmt;

use super::super::database::Database;
use crate::outbox::Part;

/// One `INSERT` into the outbox of a deployment: its text, and its parameters, which are all texts. Any client in any language
/// can run it, inside any transaction of the same database. The run exists if and only if that transaction commits.
///
/// Running the same statement again changes nothing as long as its submission has not been taken up, and is the same run
/// after that. [`Deployment::outbox`](crate::Deployment::outbox) makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is written before the statement is run"]
pub struct OutboxInsert {
    /// With `@.` for the schema.
    statement: &'static str,
    schema: String,
    text: String,
    params: Vec<String>,
}

/// A part of a submission that is to be written.
pub(crate) struct NewPart<'a> {
    pub(crate) run: &'a str,
    /// A UUID that all parts of the submission have in common.
    pub(crate) submission: &'a str,
    /// Counted from 0.
    pub(crate) number: u32,
    pub(crate) is_last: bool,
    pub(crate) items: &'a Part,
    /// How many items it has.
    pub(crate) count: usize,
}

impl OutboxInsert {
    pub(super) fn new(database: &Database, deployment: &str, part: NewPart<'_>) -> Self {
        // Each cast is from a text, so that clients which ask for the types of parameters find texts.
        const JSON: &str = "INSERT INTO @.outbox (deployment, id, submission, part, last, items) VALUES ($1::text, $2::text, $3::text::uuid, $4::text::integer, $5::text::boolean, $6::text::json) ON CONFLICT DO NOTHING";
        const COMPACT: &str = "INSERT INTO @.outbox (deployment, id, submission, part, last, compact, compact_items) VALUES ($1::text, $2::text, $3::text::uuid, $4::text::integer, $5::text::boolean, decode($6::text, 'hex'), $7::text::integer) ON CONFLICT DO NOTHING";
        let mut params = vec![
            deployment.to_owned(),
            part.run.to_owned(),
            part.submission.to_owned(),
            part.number.to_string(),
            part.is_last.to_string(),
        ];
        let statement = match part.items {
            Part::Json(items) => {
                params.push(String::from_utf8_lossy(items).into_owned());
                JSON
            }
            Part::Compact(items) => {
                params.push(hex(items));
                params.push(part.count.to_string());
                COMPACT
            }
        };
        Self {
            statement,
            schema: database.text("@."),
            text: database.text(statement),
            params,
        }
    }

    /// The statement, with `$1`, `$2` and so on for its parameters. All statements of a deployment have the same text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The values of the parameters, in order.
    pub fn params(&self) -> &[String] {
        &self.params
    }
}

/// The statement with its values in it, for a client without parameters, such as `psql`. Every value is a quoted literal.
impl fmt::Display for OutboxInsert {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The parameters stand in the statement in their order, and a type follows each.
        let mut fragments = self.statement.split('$');
        let first = fragments.next().unwrap_or_default();
        formatter.write_str(&first.replace("@.", &self.schema))?;
        for (fragment, value) in fragments.zip(&self.params) {
            write_literal(formatter, value)?;
            formatter.write_str(fragment.trim_start_matches(|c: char| c.is_ascii_digit()))?;
        }
        Ok(())
    }
}

/// As a literal that means the same whatever `standard_conforming_strings` is.
fn write_literal(formatter: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    let quoted = value.replace('\'', "''");
    match quoted.contains('\\') {
        true => write!(formatter, "E'{}'", quoted.replace('\\', "\\\\")),
        false => write!(formatter, "'{quoted}'"),
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.collect()
}
