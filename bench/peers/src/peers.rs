//! The peers: what each is called, which jobs it does, and how it is made ready.

mod apalis;
mod catchment;
mod flume;
mod futures;
mod jobs;
mod omniqueue;
mod paladin;
mod rayon;
mod renoir;
mod sequential;

use anyhow::Result;

use crate::input::Input;
use crate::job::{Job, Kind};
#[cfg(feature = "signed")]
use jobs::SIGNED;
use jobs::{
    ALL, ALL_AND_STREAM, APART, BUT_SLEEP, CHUNKS, CORES, EACH, EACH_AND_FETCH, ONE_THREAD,
    TWO_HOPS,
};

/// How many items a hand-made chunk has.
const CHUNK: usize = 1_024;
/// How many items wait at once in the jobs `sleep` and `fetch`.
const IN_FLIGHT: usize = 256;

/// One repetition: from the input to the sum.
pub(crate) type Run = Box<dyn FnMut(&mut Input) -> Result<i64>>;

pub(crate) struct Peer {
    /// On the command line.
    pub(crate) name: &'static str,
    /// In a table.
    pub(crate) title: &'static str,
    /// The peer that its time is divided by.
    pub(crate) baseline: &'static str,
    pub(crate) jobs: &'static [Kind],
    /// Starts what is there before the clock starts: runtimes, threads, workers.
    pub(crate) prepare: fn(&Job) -> Result<Run>,
}

/// A row of which the time is divided by rayon's.
const fn peer(
    name: &'static str,
    title: &'static str,
    jobs: &'static [Kind],
    prepare: fn(&Job) -> Result<Run>,
) -> Peer {
    Peer {
        name,
        title,
        baseline: "rayon",
        jobs,
        prepare,
    }
}

pub(crate) const PEERS: &[Peer] = &[
    peer(
        "sequential",
        "an iterator, one thread",
        ONE_THREAD,
        sequential::prepare,
    ),
    peer("rayon", "rayon", ALL, |job| rayon::prepare(job, None)),
    peer("futures", "futures, one each", EACH_AND_FETCH, |job| {
        futures::prepare(job, 1)
    }),
    peer("futures-chunks", "futures, chunks", CHUNKS, |job| {
        futures::prepare(job, CHUNK)
    }),
    peer("flume-json", "flume, JSON, one each", EACH, |job| {
        flume::prepare(job, flume::Pool::new(flume::Codec::Json, 1, 1))
    }),
    peer("flume-json-chunks", "flume, JSON, chunks", CHUNKS, |job| {
        flume::prepare(job, flume::Pool::new(flume::Codec::Json, CHUNK, 1))
    }),
    peer(
        "flume-postcard",
        "flume, postcard, one each",
        BUT_SLEEP,
        |job| flume::prepare(job, flume::Pool::new(flume::Codec::Postcard, 1, 1)),
    ),
    peer(
        "flume-postcard-chunks",
        "flume, postcard, chunks",
        CHUNKS,
        |job| flume::prepare(job, flume::Pool::new(flume::Codec::Postcard, CHUNK, 1)),
    ),
    peer(
        "flume-json-2",
        "flume, JSON, one each, two hops",
        TWO_HOPS,
        |job| flume::prepare(job, flume::Pool::new(flume::Codec::Json, 1, 2)),
    ),
    peer(
        "flume-json-2-chunks",
        "flume, JSON, chunks, two hops",
        CHUNKS,
        |job| flume::prepare(job, flume::Pool::new(flume::Codec::Json, CHUNK, 2)),
    ),
    peer(
        "flume-postcard-2",
        "flume, postcard, one each, two hops",
        TWO_HOPS,
        |job| flume::prepare(job, flume::Pool::new(flume::Codec::Postcard, 1, 2)),
    ),
    peer(
        "flume-postcard-2-chunks",
        "flume, postcard, chunks, two hops",
        CHUNKS,
        |job| flume::prepare(job, flume::Pool::new(flume::Codec::Postcard, CHUNK, 2)),
    ),
    peer("renoir", "renoir, in place", EACH, renoir::in_place),
    peer(
        "renoir-shuffle",
        "renoir, exchanged",
        BUT_SLEEP,
        renoir::exchanged,
    ),
    peer("paladin", "paladin, one each", EACH, |job| {
        paladin::prepare(job, 1)
    }),
    peer("paladin-chunks", "paladin, chunks", CHUNKS, |job| {
        paladin::prepare(job, CHUNK)
    }),
    peer("apalis", "apalis, one each", EACH_AND_FETCH, |job| {
        apalis::prepare(job, 1)
    }),
    peer("apalis-chunks", "apalis, chunks", CHUNKS, |job| {
        apalis::prepare(job, CHUNK)
    }),
    peer("omniqueue", "omniqueue, one each", EACH, |job| {
        omniqueue::prepare(job, 1)
    }),
    peer("omniqueue-chunks", "omniqueue, chunks", CHUNKS, |job| {
        omniqueue::prepare(job, CHUNK)
    }),
    peer("catchment", "catchment", ALL_AND_STREAM, |job| {
        catchment::embedded(job, catchment::Travel::Json, None)
    }),
    peer("catchment-deployed", "catchment, deployed", ALL, |job| {
        catchment::deployed(job, catchment::Travel::Json, None)
    }),
    #[cfg(feature = "compact")]
    peer(
        "catchment-postcard",
        "catchment, postcard",
        ALL_AND_STREAM,
        |job| catchment::embedded(job, catchment::Travel::Postcard, None),
    ),
    #[cfg(feature = "compact")]
    peer(
        "catchment-postcard-deployed",
        "catchment, postcard, deployed",
        ALL,
        |job| catchment::deployed(job, catchment::Travel::Postcard, None),
    ),
    #[cfg(feature = "signed")]
    peer(
        "catchment-signed-deployed",
        "catchment, deployed, signed",
        SIGNED,
        |job| catchment::signed(job, catchment::Travel::Json),
    ),
    #[cfg(all(feature = "signed", feature = "compact"))]
    peer(
        "catchment-postcard-signed-deployed",
        "catchment, postcard, deployed, signed",
        SIGNED,
        |job| catchment::signed(job, catchment::Travel::Postcard),
    ),
    peer("rayon-1", "rayon, 1 thread", CORES, |job| {
        rayon::prepare(job, Some(1))
    }),
    Peer {
        baseline: "rayon-1",
        ..peer("rayon-2", "rayon, 2 threads", CORES, |job| {
            rayon::prepare(job, Some(2))
        })
    },
    peer("catchment-1", "catchment, concurrency 1", CORES, |job| {
        catchment::embedded(job, catchment::Travel::Json, Some(1))
    }),
    Peer {
        baseline: "catchment-1",
        ..peer("catchment-2", "catchment, concurrency 2", CORES, |job| {
            catchment::embedded(job, catchment::Travel::Json, Some(2))
        })
    },
    peer(
        "catchment-deployed-1",
        "catchment, deployed, concurrency 1",
        CORES,
        |job| catchment::deployed(job, catchment::Travel::Json, Some(1)),
    ),
    Peer {
        baseline: "catchment-deployed-1",
        ..peer(
            "catchment-deployed-2",
            "catchment, deployed, concurrency 2",
            CORES,
            |job| catchment::deployed(job, catchment::Travel::Json, Some(2)),
        )
    },
    peer("one", "catchment, one stage", APART, |job| {
        catchment::embedded(job, catchment::Travel::Json, None)
    }),
    Peer {
        baseline: "one",
        ..peer("apart", "catchment, two stages", APART, |_| {
            catchment::embedded_apart(catchment::Travel::Json)
        })
    },
    peer(
        "one-deployed",
        "catchment, deployed, one stage",
        APART,
        |job| catchment::deployed(job, catchment::Travel::Json, None),
    ),
    Peer {
        baseline: "one-deployed",
        ..peer(
            "apart-deployed",
            "catchment, deployed, two stages",
            APART,
            |_| catchment::deployed_apart(catchment::Travel::Json),
        )
    },
    #[cfg(feature = "compact")]
    peer(
        "one-postcard-deployed",
        "catchment, postcard, deployed, one stage",
        APART,
        |job| catchment::deployed(job, catchment::Travel::Postcard, None),
    ),
    #[cfg(feature = "compact")]
    Peer {
        baseline: "one-postcard-deployed",
        ..peer(
            "apart-postcard-deployed",
            "catchment, postcard, deployed, two stages",
            APART,
            |_| catchment::deployed_apart(catchment::Travel::Postcard),
        )
    },
];

pub(crate) fn find(name: &str) -> Option<&'static Peer> {
    PEERS.iter().find(|peer| peer.name == name)
}

/// Evaluates an expression with the job's task for `$task`: each task is a type of its own.
macro_rules! with_task {
    ($job:expr, |$task:ident| $run:expr) => {{
        use crate::job::Kind;
        use crate::task::{Chain, Double, Fetch, Nap, Records, Words, Work};
        match $job.kind {
            Kind::Double | Kind::Single | Kind::Apart | Kind::Latency | Kind::Stream => {
                let $task = Double;
                $run
            }
            Kind::Work | Kind::Cores => {
                let $task = Work {
                    rounds: $job.rounds,
                };
                $run
            }
            Kind::Sleep => {
                let $task = Nap;
                $run
            }
            Kind::Words => {
                let $task = Words;
                $run
            }
            Kind::Records => {
                let $task = Records;
                $run
            }
            Kind::Chain => {
                let $task = Chain;
                $run
            }
            Kind::Fetch => {
                let $task = Fetch;
                $run
            }
        }
    }};
}
use with_task;

/// The items in vectors of so many; the last may have fewer.
fn chunks<I: Iterator>(mut items: I, size: usize) -> impl Iterator<Item = Vec<I::Item>> {
    std::iter::from_fn(move || {
        let chunk: Vec<_> = items.by_ref().take(size).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// As `#[tokio::main]` makes it.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}
