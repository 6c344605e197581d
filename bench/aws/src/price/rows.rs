//! What is measured, and what it is held to.

use std::time::Duration;

use anyhow::Result;

use super::Options;
use crate::bill::Bill;
use crate::floor::floor;
use crate::handbook;
use crate::workload::{self, Setting, Values};

/// The most requests an item with the library's own packet size, at a million items.
const DEFAULT_PACKETS: f64 = 0.004;
/// The most requests an item with one item a packet, however slow the user's function.
const ONE_ITEM: f64 = 1.2;

enum Subject {
    Library {
        values: Values,
        packet_size: Option<u32>,
    },
    Handbook {
        together: i32,
    },
}

pub(super) struct Row {
    subject: Subject,
    pub(super) items: u64,
    /// The most requests an item.
    pub(super) target: Option<f64>,
}

pub(super) fn rows(options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |values, packet_size, items, target| {
        let subject = Subject::Library {
            values,
            packet_size,
        };
        rows.push(Row {
            subject,
            items,
            target,
        });
    };
    for items in [1_000, 10_000, 100_000, 1_000_000] {
        let target = (items == 1_000_000).then_some(DEFAULT_PACKETS);
        add(Values::Tiny, None, items, target);
    }
    for items in [1_000, 10_000, 100_000, 1_000_000] {
        if items < 1_000_000 || options.million {
            add(Values::Tiny, Some(1), items, Some(ONE_ITEM));
        }
    }
    for time in [1, 20].map(Duration::from_millis) {
        for values in [Values::Waiting(time), Values::Blocking(time)] {
            add(values, Some(1), 2_000, Some(ONE_ITEM));
        }
    }
    for packet_size in [None, Some(1)] {
        for items in [1_000, 10_000, 100_000] {
            if items <= options.large {
                add(Values::Large, packet_size, items, None);
            }
        }
    }
    if options.handbook > 0 {
        for together in [1, 10] {
            rows.push(Row {
                subject: Subject::Handbook { together },
                items: options.handbook,
                target: None,
            });
        }
    }
    rows
}

impl Row {
    pub(super) fn name(&self) -> String {
        match self.subject {
            Subject::Library {
                values,
                packet_size: None,
            } => format!("{values}, default packets"),
            Subject::Library {
                values,
                packet_size: Some(_),
            } => format!("{values}, one item a packet"),
            Subject::Handbook { together: 1 } => "handbook, numbers, one by one".to_owned(),
            Subject::Handbook { together } => {
                format!("handbook, numbers, {together} a receive and delete")
            }
        }
    }

    pub(super) async fn measure(&self, setting: Setting) -> Result<Bill> {
        match self.subject {
            Subject::Library {
                values,
                packet_size,
            } => workload::run(values, self.items, packet_size, setting).await,
            Subject::Handbook { together } => {
                handbook::run(self.items, together, setting.far).await
            }
        }
    }

    /// With packets of the same size.
    pub(super) fn floor(&self) -> Bill {
        let (values, packet_size) = match self.subject {
            Subject::Library {
                values,
                packet_size,
            } => (values, packet_size),
            Subject::Handbook { .. } => (Values::Tiny, Some(1)),
        };
        let packet_size = packet_size.map_or_else(|| default_size(self.items), u64::from);
        floor(self.items, packet_size, values.bytes())
    }
}

/// Items a packet, as the library's README has it: one up to a thousand items, then a thousand packets, of at most 1,024.
fn default_size(items: u64) -> u64 {
    items.div_ceil(1_000).clamp(1, 1_024)
}
