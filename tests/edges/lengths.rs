//! Input of every length: nothing, one item, exactly full groups, unknown, and not what it was said
//! to be.

use catchment::{Backend, Error, Pipeline, RunState, Stage};
use futures::stream;

use crate::common::*;

/// Nothing, one, and every power of the fan-in with its neighbours.
pub(crate) fn lengths(fan_in: u64) -> Vec<u64> {
    let mut lengths = vec![0, 1];
    for power in 1..=4 {
        let exactly = fan_in.pow(power);
        lengths.extend([exactly - 1, exactly, exactly + 1]);
    }
    lengths.retain(|length| *length < 300);
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

#[tokio::test(start_paused = true)]
async fn empty_one_and_exactly_full_give_a_result() {
    for fan_in in [2, 3, 4, 16] {
        let numbers = || Pipeline::new().then(ok::<u64>);
        let by = || Stage::new().fan_in(fan_in);
        let sum = numbers().reduce(|| 0, |a, b| a + b).with(by());
        let text = numbers()
            .then(|n| ok(format!("{n} ")))
            .combine(Concat)
            .with(by());
        let all = numbers().collect().with(by());
        let count = numbers().count().with(by());
        for length in lengths(u64::from(fan_in)) {
            assert_eq!(
                soon(sum.run(0..length)).await.unwrap(),
                (0..length).sum::<u64>()
            );
            assert_eq!(soon(text.run(0..length)).await.unwrap(), counting(length));
            assert_eq!(
                soon(all.run(0..length)).await.unwrap(),
                Vec::from_iter(0..length)
            );
            assert_eq!(soon(count.run(0..length)).await.unwrap(), length);
            assert_eq!(soon(numbers().run(0..length)).await.unwrap(), length);
            let stream = soon(text.run_stream(stream::iter(0..length))).await;
            assert_eq!(stream.unwrap(), counting(length));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_groups_are_full_or_not() {
    let pipeline = Pipeline::new()
        .then(|n: u64| ok(format!("{n} ")))
        .with(Stage::new().packet_size(1))
        .combine(Concat)
        .with(Stage::new().fan_in(1_000));
    for length in [999, 1_000, 1_001] {
        assert_eq!(
            soon(pipeline.run(0..length)).await.unwrap(),
            counting(length)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn input_of_unknown_length_is_measured_at_its_end() {
    let pipeline = Pipeline::new().then(ok::<u64>).reduce(|| 0, |a, b| a + b);
    for length in [0, 1, 31, 32, 1_000, 1_001, 5_000] {
        let unknown = (0..length * 2).filter(|n| n % 2 == 0);
        assert_eq!(unknown.size_hint().0, 0);
        let expected: u64 = unknown.clone().sum();
        assert_eq!(soon(pipeline.run(unknown.clone())).await.unwrap(), expected);
        let slow = stream::unfold(unknown, async |mut items| {
            tokio::time::sleep(std::time::Duration::from_millis(7)).await;
            Some((items.next()?, items))
        });
        assert_eq!(soon(pipeline.run_stream(slow)).await.unwrap(), expected);
    }
}

/// An iterator whose length is not what it says.
struct Lying {
    says: usize,
    left: u64,
}

impl Iterator for Lying {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        Some(self.left)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.says, Some(self.says))
    }
}

#[tokio::test(start_paused = true)]
async fn an_iterator_whose_length_is_a_lie_is_an_error_and_never_a_hang() {
    let pipeline = Pipeline::new().then(ok::<u64>).reduce(|| 0, |a, b| a + b);
    for (says, left) in [
        (0, 1),
        (1, 0),
        (1, 2),
        (5, 4),
        (5, 6),
        (9, 11),
        (10, 9),
        (10, 11),
        (20, 40),
        (100, 32),
        (2_000, 1_999),
        (2_000, 2_001),
    ] {
        let items = || Lying { says, left };
        let what = format!("says {says}, has {left}");

        let error = soon(pipeline.run(items())).await.unwrap_err();
        assert!(matches!(error, Error::Submission { .. }), "{what}: {error}");
        let came = if left > says as u64 {
            "more".to_owned()
        } else {
            left.to_string()
        };
        let text = error.to_string();
        assert!(
            text.contains(&format!("{says} items")) && text.contains(&came),
            "{what}: {text}"
        );

        // Under an id of the caller's, a waiter for the run gets the error.
        let deployment = pipeline.deploy("lie", Backend::memory()).unwrap();
        let worker = deployment.worker().start();
        let error = soon(deployment.submit_as("run", items()))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Submission { .. }), "{what}: {error}");
        let run = deployment.attach("run");
        let error = soon(run.result()).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{what}: {error}");
        assert!(
            error.to_string().contains(&format!("{says} items")),
            "{what}: {error}"
        );
        assert_eq!(
            run.status().await.unwrap().state,
            RunState::Failed,
            "{what}"
        );

        // Without an id of the caller's, no caller could complete the run.
        let error = soon(deployment.submit(items())).await.unwrap_err();
        assert!(matches!(error, Error::Submission { .. }), "{what}: {error}");
        drop(worker);
    }
}

/// The failure that is on record goes with the submission that succeeds.
#[tokio::test(start_paused = true)]
async fn a_submission_that_failed_is_completed_by_one_of_the_right_length() {
    let pipeline = Pipeline::new().then(ok::<u64>).reduce(|| 0, |a, b| a + b);
    let deployment = pipeline.deploy("again", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.attach("run");
    for left in [4, 6] {
        let lying = Lying { says: 5, left };
        let error = soon(deployment.submit_as("run", lying)).await.unwrap_err();
        assert!(matches!(error, Error::Submission { .. }), "{error}");
        let status = run.status().await.unwrap();
        assert_eq!(
            (status.state, status.messages_failed),
            (RunState::Failed, 1)
        );
    }
    soon(deployment.submit_as("run", 0..5)).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 10);
    let status = run.status().await.unwrap();
    assert_eq!((status.state, status.messages_failed), (RunState::Done, 0));
    drop(worker);
}

/// A size that is a range is no promise.
#[tokio::test(start_paused = true)]
async fn an_iterator_that_knows_its_length_about_is_no_liar() {
    let pipeline = Pipeline::new().then(ok::<u64>).count();
    let items = (0..100).filter(|_| true).chain(0..50);
    assert_eq!(items.size_hint(), (50, Some(150)));
    assert_eq!(soon(pipeline.run(items)).await.unwrap(), 150);
}
