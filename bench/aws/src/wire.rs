//! Throughput on the wire: the library's runs beside bare loops of the SDK's client, in the same process, on the same
//! emulators, one after the other and again.
//!
//! A message is one that went through a queue: a packet, or the request to reduce a group.

mod bare;
mod library;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::emulators;
use crate::table::{Table, thousands};
use bare::Bare;
use library::Library;

/// The least share of the bare loops' throughput.
const TARGET: f64 = 0.8;
/// Messages that wait on the queue at most: each request to ministack takes the longer the longer its queue is, so that
/// whoever sends faster would have the slower service. Both sides hold back at the same length.
const MOST_WAITING: u64 = 500;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Arrays, and how they are cut: items and items a packet.
    #[arg(long, value_delimiter = ',', default_values = ["5000:1", "1000000:1000"], value_name = "ITEMS:PACKET")]
    arrays: Vec<String>,
    /// Workers of the library, and loops beside them.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16])]
    loops: Vec<usize>,
    /// How often each is measured. The median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// An array as it travels.
#[derive(Clone, Copy)]
pub(crate) struct Array {
    pub(crate) items: u64,
    pub(crate) packet_size: u32,
}

impl Array {
    fn parse(text: &str) -> Result<Self> {
        let parsed = || {
            let (items, packet_size) = text.split_once(':')?;
            Some(Self {
                items: items.parse().ok()?,
                packet_size: packet_size.parse().ok()?,
            })
        };
        parsed().with_context(|| format!("`{text}` is not ITEMS:PACKET, such as 5000:1"))
    }

    pub(crate) fn packets(self) -> u64 {
        self.items.div_ceil(u64::from(self.packet_size))
    }

    pub(crate) fn groups(self) -> u64 {
        crate::floor::groups(self.packets())
    }

    pub(crate) fn messages(self) -> u64 {
        self.packets() + self.groups()
    }
}

pub(crate) async fn run(options: &Options) -> Result<(String, Vec<String>)> {
    let mut table = Table::new(&[
        "items, items a packet",
        "loops",
        "messages",
        "library: messages/s",
        "bare: messages/s",
        "ratio",
        "library: requests",
        "bare: requests",
        "result seen after its write",
    ]);
    let mut missed = Vec::new();
    let config = emulators::plain().await?;
    for array in &options.arrays {
        let array = Array::parse(array)?;
        let name = format!("{}, {}", thousands(array.items), array.packet_size);
        // To be found out once, which warms all up.
        let sample = Library::new(array, &config).await?.sample(&config).await?;
        let bare = Bare::new(array, sample, &config).await?;
        for &loops in &options.loops {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            let (mut our_requests, mut their_requests) = (0, 0);
            let mut late = Vec::new();
            for _ in 0..options.rounds {
                eprintln!("{name}, {loops} loops ...");
                let run = Library::new(array, &config).await?.run(loops).await?;
                our_requests = run.requests.values().sum();
                let (took, requests) = bare.run(&run.requests, loops).await?;
                their_requests = requests;
                ours.push(run.took);
                theirs.push(took);
                late.push(run.returned.saturating_sub(run.took));
            }
            let messages = array.messages() as f64;
            let [ours, theirs] = [ours, theirs].map(|took| messages / median(took).as_secs_f64());
            let ratio = ours / theirs;
            if ratio < TARGET {
                missed.push(format!(
                    "{name}, {loops} loops: a ratio of {ratio:.2}, less than {TARGET}"
                ));
            }
            table.row([
                name.clone(),
                loops.to_string(),
                thousands(array.messages()),
                thousands(ours.round() as u64),
                thousands(theirs.round() as u64),
                format!("{ratio:.2}"),
                thousands(our_requests),
                thousands(their_requests),
                format!("{:.2} s", median(late).as_secs_f64()),
            ]);
        }
        bare.remove().await?;
    }
    Ok((table.markdown(), missed))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
