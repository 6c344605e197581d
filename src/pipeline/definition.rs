//! A checked pipeline: its stages in order, types erased, options resolved.

use std::collections::HashSet;
use std::sync::Arc;

use crate::compute::map::MapStep;
use crate::compute::pool::Cpu;
use crate::compute::step::CombineStep;
use crate::core::error::{Error, Result};
use crate::core::name::{self, MAX_QUEUE_NAME, Problem};
use crate::core::type_name::without_paths as short;
use crate::packet::{Message, Work};
use crate::progress::Listener;
use crate::stage::{Execution, Place, Stage, StageOptions};

/// A stage as the builder leaves it.
#[derive(Clone)]
pub(crate) struct DraftStage {
    pub(crate) options: Stage,
    pub(crate) kind: StageKind,
    pub(crate) execution: Execution,
}

#[derive(Clone)]
pub(crate) enum StageKind {
    Map(Arc<MapStep>),
    Reduce(Arc<dyn CombineStep>),
}

/// A stage that can run.
#[derive(Clone)]
pub(crate) struct StageDefinition {
    pub(crate) name: Arc<str>,
    pub(crate) options: StageOptions,
    pub(crate) kind: StageKind,
    pub(crate) execution: Execution,
    /// It works on the array's items: a map stage before the first reduction.
    pub(crate) works_on_items: bool,
}

impl StageDefinition {
    pub(crate) fn is_reduction(&self) -> bool {
        matches!(self.kind, StageKind::Reduce(_))
    }

    /// What a message counts for in the stage's concurrency: its items where an asynchronous function works on those,
    /// else 1.
    pub(crate) fn weight(&self, message: &Message) -> usize {
        if self.execution != Execution::Async || !self.works_on_items {
            return 1;
        }
        // It is refused, and what it declares was not held against what it carries.
        if *message.stage != *self.name {
            return 1;
        }
        match &message.work {
            Work::Map(map) => usize::try_from(map.packet.contains).unwrap_or(1).max(1),
            Work::Reduce(_) | Work::Bundle(_) => 1,
        }
    }
}

/// A pipeline that can run. It has at least one map stage, first, and one reduction.
#[derive(Clone)]
pub(crate) struct Definition {
    stages: Vec<StageDefinition>,
    /// Told how far a run inside the process is.
    pub(crate) listener: Listener,
}

impl Definition {
    pub(crate) fn check(
        deployment: &str,
        drafts: Vec<DraftStage>,
        listener: Listener,
    ) -> Result<Self> {
        check_name("deployment", deployment)?;
        let mut names = HashSet::new();
        let mut stages = Vec::with_capacity(drafts.len());
        let mut reduced = false;
        for (index, draft) in drafts.into_iter().enumerate() {
            let reduction = matches!(draft.kind, StageKind::Reduce(_));
            let name = match draft.options.name() {
                Some(name) => name.to_owned(),
                None if reduction => format!("reduce-{index}"),
                None => format!("map-{index}"),
            };
            check_name("stage", &name)?;
            name::check_length(deployment, &name)
                .map_err(|problem| invalid(format!("stage `{name}`: {problem}")))?;
            if !names.insert(name.clone()) {
                return Err(invalid(format!(
                    "two stages are named `{name}`: each has a queue of its own, so give one of them another name"
                )));
            }
            let place = Place {
                first: index == 0,
                reduction,
                items: !reduction && !reduced,
                asynchronous: draft.execution == Execution::Async && !reduction,
            };
            let options = draft.options.resolve(place);
            let options =
                options.map_err(|problem| invalid(format!("stage `{name}`: {problem}")))?;
            check_label(&name, &draft)?;
            reduced |= reduction;
            let name: Arc<str> = name.into();
            if reduction {
                name_reduction(stages.last_mut(), &name);
            }
            stages.push(StageDefinition {
                name,
                options,
                kind: draft.kind,
                execution: draft.execution,
                works_on_items: place.items,
            });
        }
        Ok(Self { stages, listener })
    }

    pub(crate) fn stages(&self) -> &[StageDefinition] {
        &self.stages
    }

    pub(crate) fn stage(&self, index: usize) -> Option<&StageDefinition> {
        self.stages.get(index)
    }

    /// A pool of `concurrency` threads for the CPU-bound work of all stages; see [`Cpu::new`].
    pub(crate) fn cpu(&self, concurrency: usize, awaited: bool) -> Arc<Cpu> {
        let stages = self.stages.iter();
        let most = stages.map(|stage| stage.options.concurrency);
        Cpu::new(concurrency, most, awaited)
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.stages.iter().position(|stage| &*stage.name == name)
    }

    /// The map stages that items go through before the first reduction.
    pub(crate) fn before_reduction(&self) -> impl Iterator<Item = &StageDefinition> {
        self.stages.iter().take_while(|stage| !stage.is_reduction())
    }

    /// The place of the first reduction at or after this place.
    pub(crate) fn reduction_from(&self, place: usize) -> Option<usize> {
        let mut stages = self.stages.iter().enumerate().skip(place);
        stages
            .find(|(_, stage)| stage.is_reduction())
            .map(|(place, _)| place)
    }

    /// The reductions in order. The leaves of a run arrive at the first one; each later one has a
    /// single leaf.
    pub(crate) fn reductions(&self) -> impl Iterator<Item = &StageDefinition> {
        self.stages.iter().filter(|stage| stage.is_reduction())
    }
}

fn invalid(problem: String) -> Error {
    Error::InvalidPipeline { problem }
}

/// Lets the errors of the stage before a reduction name that reduction.
fn name_reduction(before: Option<&mut StageDefinition>, reduction: &Arc<str>) {
    if let Some(StageKind::Map(step)) = before.map(|stage| &mut stage.kind)
        && let Some(named) = step.before(reduction)
    {
        *step = Arc::new(named);
    }
}

/// The function for labels must take the items of its stage.
fn check_label(stage: &str, draft: &DraftStage) -> Result<()> {
    let (Some(labeller), StageKind::Map(step)) = (draft.options.labeller(), &draft.kind) else {
        return Ok(());
    };
    let (given, wanted) = (labeller.item(), step.item());
    if given == wanted {
        return Ok(());
    }
    let (mut given, mut wanted) = (short(given.name()), short(wanted.name()));
    if given == wanted {
        (given, wanted) = (labeller.item().name().into(), step.item().name().into());
    }
    Err(invalid(format!(
        "stage `{stage}`: `label` is given a function of `{given}`, but the items of this stage are `{wanted}`, as its first function takes them: write `label(|item: &{wanted}| …)`"
    )))
}

fn check_name(what: &str, name: &str) -> Result<()> {
    name::check(name).map_err(|problem| {
        invalid(match problem {
            Problem::Empty => {
                format!("a {what} has an empty name: use ASCII letters, digits, `-` and `_`")
            }
            problem => {
                let name: String = name.chars().take(MAX_QUEUE_NAME).collect();
                format!("{what} `{name}`: {problem}")
            }
        })
    })
}
