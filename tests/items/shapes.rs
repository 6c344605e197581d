//! Pipelines that call each item's function once per attempt, by the kind of that function.

use catchment::{BoxError, Context, Emitter, Execution, Map, Pipeline, Stage};

use crate::common::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    TryMap,
    Then,
    /// Three functions in one stage, of which the second one misbehaves and the third one leaves out every third item.
    Chain,
    /// A stage that makes three values of each item, and one that misbehaves at the second of them.
    TwoStages,
    /// A stage of the user's own.
    Own(Execution),
}

pub(crate) const SHAPES: [Shape; 6] = [
    Shape::TryMap,
    Shape::Then,
    Shape::Chain,
    Shape::TwoStages,
    Shape::Own(Execution::Blocking),
    Shape::Own(Execution::Async),
];

impl Shape {
    pub(crate) fn pipeline(self, plan: &Shared, options: Stage) -> Kept {
        let plan = Shared::clone(plan);
        let items = Pipeline::new();
        match self {
            Self::TryMap => items.try_map(move |n: u64| plan.call(n)).with(options),
            Self::Then => items
                .then(move |n: u64| {
                    let plan = Shared::clone(&plan);
                    async move { plan.called(n, || {}).await }
                })
                .with(options),
            Self::Chain => items
                .map(|n: u64| n)
                .try_map(move |n| plan.call(n))
                .filter(|n| !n.is_multiple_of(3))
                .with(options),
            Self::TwoStages => items
                .flat_map(|n: u64| [(n, 0), (n, 1), (n, 2)])
                .with(Stage::named("spread"))
                .try_map(move |(n, value)| match value {
                    1 => plan.call(n).map(|n| 3 * n + 1),
                    value => Ok(3 * n + value),
                })
                .with(options),
            Self::Own(execution) => items.stage(Own { plan, execution }).with(options),
        }
        .collect()
    }

    /// What is left of a good item.
    pub(crate) fn kept(self, item: u64) -> Vec<u64> {
        match self {
            Self::Chain if item.is_multiple_of(3) => Vec::new(),
            Self::TwoStages => (3 * item..3 * item + 3).collect(),
            Self::Own(_) => vec![2 * item, 2 * item + 1],
            _ => vec![item],
        }
    }
}

/// Makes two values of each item, the first of them before it may misbehave.
struct Own {
    plan: Shared,
    execution: Execution,
}

impl Map for Own {
    type Input = u64;
    type Output = u64;

    async fn map(
        &self,
        n: u64,
        _: &Context,
        output: &mut Emitter<'_, u64>,
    ) -> Result<(), BoxError> {
        output.push(2 * n);
        let n = self.plan.called(n, || {}).await?;
        output.push(2 * n + 1);
        Ok(())
    }

    fn execution(&self) -> Execution {
        self.execution
    }
}
