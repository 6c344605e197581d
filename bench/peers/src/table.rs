//! A table in Markdown, aligned, so that it reads well in a terminal too.

use std::fmt;

pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<'a>(head: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            head: head.into_iter().map(str::to_owned).collect(),
            rows: Vec::new(),
        }
    }

    /// A row; cells it does not have are empty.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        let widths = cells
            .chain(self.head.get(column))
            .map(|cell| cell.chars().count());
        widths.max().unwrap_or(0).max(4)
    }
}

impl fmt::Display for Table {
    /// The first column to the left, the others to the right.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| self.width(column))
            .collect();
        let line = |formatter: &mut fmt::Formatter<'_>, row: &[String]| {
            for (column, &width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                match column {
                    0 => write!(formatter, "| {cell:<width$} |")?,
                    _ => write!(formatter, " {cell:>width$} |")?,
                }
            }
            writeln!(formatter)
        };
        line(formatter, &self.head)?;
        for (column, &width) in widths.iter().enumerate() {
            match column {
                0 => write!(formatter, "| {} |", "-".repeat(width))?,
                _ => write!(formatter, " {}: |", "-".repeat(width - 1))?,
            }
        }
        writeln!(formatter)?;
        self.rows.iter().try_for_each(|row| line(formatter, row))
    }
}
