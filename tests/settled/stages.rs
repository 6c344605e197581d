//! Where a message of a failed run may still be: at any map stage, in any group, at any reduction.

use super::*;

/// Where a run fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    First,
    Second,
    Sum,
    Between,
    Last,
}

const ALL: [At; 5] = [At::First, At::Second, At::Sum, At::Between, At::Last];

async fn visit(here: At, failing: At, is_it: bool) -> Result<(), catchment::BoxError> {
    if here == failing && is_it {
        return Err(permanent(format!("{here:?}")).into());
    }
    // Everything takes its time, so that there is something under way everywhere.
    sleep(MINUTE).await;
    Ok(())
}

struct Adds(At, At);

impl catchment::Combine for Adds {
    type Input = u64;
    type Output = u64;

    fn identity(&self) -> u64 {
        0
    }

    async fn fold(
        &self,
        items: catchment::Items<'_, u64>,
        _: &catchment::Context,
    ) -> Result<u64, catchment::BoxError> {
        Ok(items.sum())
    }

    async fn combine(
        &self,
        group: Vec<u64>,
        _: &catchment::Context,
    ) -> Result<u64, catchment::BoxError> {
        // Groups on the first level are small; in the second reduction there is one.
        visit(self.0, self.1, group.contains(&4)).await?;
        Ok(group.into_iter().sum())
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_a_message_fails_the_run_is_settled_when_the_others_are_done() {
    for failing in ALL {
        let pipeline = Pipeline::new()
            .then(move |n: u64| async move {
                visit(At::First, failing, n == 4).await?;
                Ok::<_, catchment::BoxError>(n)
            })
            .with(Stage::named("first").packet_size(1).concurrency(2))
            .then(move |n: u64| async move {
                visit(At::Second, failing, n == 4).await?;
                Ok::<_, catchment::BoxError>(n)
            })
            .with(Stage::named("second").concurrency(2))
            .combine(Adds(At::Sum, failing))
            .with(Stage::named("sum").fan_in(2).concurrency(1))
            .then(move |sum: u64| async move {
                visit(At::Between, failing, true).await?;
                Ok::<_, catchment::BoxError>(vec![sum, 4])
            })
            .with(Stage::named("between"))
            .flat_map(|values: Vec<u64>| values)
            .with(Stage::named("flat"))
            .combine(Adds(At::Sum, At::Last))
            .with(Stage::named("again"))
            .then(move |sum: u64| async move {
                visit(At::Last, failing, true).await?;
                Ok::<_, catchment::BoxError>(sum)
            })
            .with(Stage::named("last"));
        let store = Store::new();
        let deployment = pipeline.deploy("stages", store.backend()).unwrap();
        let worker = deployment.worker().start();
        let run = deployment.submit(0..9).await.unwrap();
        let status = soon(run.settled()).await.unwrap();
        assert!(status.settled, "{failing:?}");
        assert_eq!(status.state, RunState::Failed, "{failing:?}");
        assert_eq!(status.messages_failed, 1, "{failing:?}");
        let done = 9 - u64::from(matches!(failing, At::First | At::Second));
        assert_eq!(status.items_done, done, "{failing:?}");
        sleep(SECOND).await;
        let depth = store.depth(&deployment).await;
        assert_eq!(
            (depth.ready, depth.in_flight, depth.delayed),
            (0, 0, 0),
            "{failing:?}"
        );
        drop(worker);
    }
}
