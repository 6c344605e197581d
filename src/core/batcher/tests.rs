use super::*;
use crate::core::error::describe;

const SECOND: Duration = Duration::from_secs(1);

fn values(answers: Answers<u32>) -> Vec<u32> {
    answers.into_iter().map(Result::unwrap).collect()
}

/// Doubles after a second, and notes when it was called with how many.
fn doubling(calls: &Arc<Mutex<Vec<(u64, usize)>>>) -> Batcher<u32, u32> {
    let calls = Arc::clone(calls);
    let begin = tokio::time::Instant::now();
    Batcher::new(move |entries: Arc<Vec<u32>>| {
        let at = begin.elapsed().as_secs();
        calls.lock().unwrap().push((at, entries.len()));
        async move {
            tokio::time::sleep(SECOND).await;
            Ok(entries.iter().map(|n| n * 2).collect())
        }
        .boxed()
    })
}

#[tokio::test(start_paused = true)]
async fn what_comes_during_a_call_goes_with_the_next() {
    let calls = Arc::default();
    let batcher = doubling(&calls);
    let first = batcher.submit(vec![0]);
    let rest = async {
        tokio::task::yield_now().await;
        let rest = (1..300).map(|n| batcher.submit(vec![n]));
        let rest = futures::future::join_all(rest).await;
        rest.into_iter().flat_map(values).collect::<Vec<_>>()
    };
    let (first, rest) = futures::join!(first, rest);
    assert_eq!(values(first), [0]);
    assert_eq!(rest, (1..300).map(|n| n * 2).collect::<Vec<_>>());
    assert_eq!(*calls.lock().unwrap(), [(0, 1), (1, 256), (2, 43)]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_not_full_waits_a_moment() {
    let calls = Arc::default();
    let linger = Linger {
        full: 10,
        at_most: 5 * SECOND,
        while_expected: false,
    };
    let batcher = doubling(&calls).lingering(Some(linger));
    // Three wait for five seconds; twelve go at once; what comes when there is no time left,
    // too.
    let few = batcher.submit(vec![1, 2, 3]).await;
    assert_eq!(values(few), [2, 4, 6]);
    let many = (0..12).map(|n| batcher.submit(vec![n]));
    futures::future::join_all(many).await;
    batcher.hurry();
    batcher.submit(vec![7]).await;
    let calls = calls.lock().unwrap();
    assert_eq!(calls.iter().map(|(_, count)| count).sum::<usize>(), 16);
    assert_eq!(calls.first(), Some(&(5, 3)));
    assert_eq!(calls.get(1), Some(&(6, 12)));
    assert_eq!(calls.last(), Some(&(7, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_only_while_more_may_come() {
    let calls = Arc::default();
    let linger = Linger {
        full: 10,
        at_most: 5 * SECOND,
        while_expected: true,
    };
    let batcher = doubling(&calls).lingering(Some(linger));
    batcher.submit(vec![1]).await;
    batcher.expect(3);
    let others = async {
        tokio::time::sleep(SECOND).await;
        let second = batcher.submit(vec![2]);
        batcher.expect_no_longer(1);
        let none = async {
            tokio::time::sleep(SECOND).await;
            batcher.expect_no_longer(2);
        };
        futures::join!(second, none);
    };
    futures::join!(batcher.submit(vec![3]), others);
    assert_eq!(*calls.lock().unwrap(), [(0, 1), (3, 2)]);
}

#[tokio::test]
async fn a_bad_entry_fails_alone_with_its_own_error() {
    let batcher = Batcher::new(|entries: Arc<Vec<u32>>| {
        let bad = entries.contains(&3);
        async move {
            match bad {
                true => Err(Error::Backend {
                    service: "the store",
                    operation: "Put".to_owned(),
                    retryable: true,
                    source: "too odd".into(),
                }),
                false => Ok(entries.to_vec()),
            }
        }
        .boxed()
    });
    let answers = batcher.submit((0..6).collect()).await;
    for (n, answer) in answers.into_iter().enumerate() {
        match n {
            3 => {
                let error = answer.unwrap_err();
                assert!(error.is_retryable());
                assert_eq!(describe(&error), "the store: Put failed: too odd");
            }
            n => assert_eq!(answer.unwrap(), n as u32),
        }
    }
}

/// Panics at its first calls, at once or while it waits.
fn panicking(first: usize, waits: bool) -> Batcher<u32, u32> {
    let calls = AtomicUsize::new(0);
    Batcher::new(move |entries: Arc<Vec<u32>>| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        assert!(waits || call >= first, "a fault of the backend");
        async move {
            tokio::task::yield_now().await;
            assert!(call >= first, "a fault of the backend");
            Ok(entries.to_vec())
        }
        .boxed()
    })
}

#[tokio::test]
async fn a_call_that_panics_is_made_once_more_for_each_of_its_entries() {
    for waits in [true, false] {
        let answers = panicking(1, waits).submit(vec![1, 2]).await;
        assert_eq!(values(answers), [1, 2]);
        let answers = panicking(1, waits).submit(vec![3]).await;
        assert_eq!(values(answers), [3]);
    }
}

#[tokio::test]
async fn a_call_that_panics_is_not_the_last() {
    for waits in [true, false] {
        let batcher = panicking(3, waits);
        for answer in batcher.submit(vec![1, 2]).await {
            let error = answer.unwrap_err();
            assert!(error.is_retryable());
            let text = describe(&error);
            assert!(
                text.ends_with("the call panicked: a fault of the backend"),
                "{text}"
            );
        }
        assert_eq!(values(batcher.submit(vec![3]).await), [3]);
    }
}

#[tokio::test]
async fn a_call_that_answers_too_little_is_an_error() {
    let batcher = Batcher::<u32, u32>::new(|_| async { Ok(vec![7]) }.boxed());
    assert_eq!(values(batcher.submit(vec![1]).await), [7]);
    let batcher = Batcher::<u32, u32>::new(|_| async { Ok(Vec::new()) }.boxed());
    for answer in batcher.submit(vec![1, 2]).await {
        let text = describe(&answer.unwrap_err());
        assert!(
            text.ends_with("a call for 1 entries had 0 answers"),
            "{text}"
        );
    }
}

/// The task of a flush ends with its runtime; a handler may outlive that.
#[test]
fn a_flush_that_ends_with_its_runtime_is_not_the_last() {
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().unwrap()
    };
    let calls = AtomicUsize::new(0);
    let batcher = Batcher::<u32, u32>::new(move |entries: Arc<Vec<u32>>| {
        let is_first = calls.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if is_first {
                std::future::pending::<()>().await;
            }
            Ok(entries.to_vec())
        }
        .boxed()
    });
    let first = runtime();
    first.block_on(async {
        let mut hangs = std::pin::pin!(batcher.submit(vec![1]));
        let mut waits = std::pin::pin!(batcher.submit(vec![2]));
        assert!(futures::poll!(hangs.as_mut()).is_pending());
        assert!(futures::poll!(waits.as_mut()).is_pending());
    });
    drop(first);
    assert_eq!(values(runtime().block_on(batcher.submit(vec![3]))), [3]);
}
