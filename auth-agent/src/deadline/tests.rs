use std::pin::pin;

use tokio::time::{advance, timeout};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_deadline_comes_after_its_time_and_within_two_steps() {
    for millis in [0, 1, 49, 50, 51, 1_000, 30_000, 3_600_000] {
        let (after, start) = (Duration::from_millis(millis), TokioInstant::now());
        Deadline::after(after).await;
        let took = start.elapsed();
        assert!(took >= after && took <= after + 2 * RESOLUTION, "{millis} ms took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn deadlines_come_in_their_order_however_many_there_are() {
    let start = TokioInstant::now();
    let tasks: Vec<_> = (0..1_000_u64)
        .map(|number| {
            let after = Duration::from_millis(number * 37 % 1_000);
            tokio::spawn(async move {
                Deadline::after(after).await;
                (after, start.elapsed())
            })
        })
        .collect();
    for task in tasks {
        let (after, took) = task.await.unwrap();
        assert!(took >= after && took <= after + 2 * RESOLUTION, "{after:?} took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_reset_counts_anew() {
    let mut deadline = pin!(Deadline::after(Duration::from_secs(1)));
    assert!(timeout(Duration::from_millis(900), deadline.as_mut()).await.is_err());
    deadline.reset(Duration::from_secs(1));
    assert!(timeout(Duration::from_millis(900), deadline.as_mut()).await.is_err());
    deadline.as_mut().await;
    assert!(timeout(RESOLUTION, deadline).await.is_ok(), "what has come has come");
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_leaves_its_place_and_wakes_nobody() {
    let list = LIST.with_borrow(Arc::clone);
    for _ in 0..10_000 {
        assert!(timeout(Duration::ZERO, Deadline::after(MINUTE)).await.is_err());
    }
    assert_eq!(list.lock().entries.len(), 0);
    let kept: Vec<_> = (0..10)
        .map(|_| {
            let mut kept = Box::pin(Deadline::after(MINUTE));
            let _ = kept.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            kept
        })
        .collect();
    assert_eq!(list.lock().entries.len(), 10);
    drop(kept);
    assert_eq!(list.lock().entries.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_task_goes_when_there_is_nothing_to_wait_for_and_comes_back() {
    let list = LIST.with_borrow(Arc::clone);
    for _ in 0..2 {
        Deadline::after(RESOLUTION).await;
        assert!(list.lock().is_stepped);
        advance(RESOLUTION * 2 * u32::try_from(IDLE_STEPS).unwrap()).await;
        tokio::time::sleep(RESOLUTION * 30).await;
        assert!(!list.lock().is_stepped);
    }
}

#[test]
fn the_next_runtime_of_a_thread_has_deadlines_when_the_last_one_went_amid_some() {
    for _ in 0..2 {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            tokio::spawn(Deadline::after(MINUTE));
            Deadline::after(RESOLUTION).await;
        });
    }
}

#[test]
fn the_furthest_deadline_is_in_no_past() {
    let mut state = State { step: 7, ..State::default() };
    let index = state.enter(Duration::MAX, Waker::noop());
    assert!(state.advance(u64::MAX - 2).is_empty());
    assert!(state.poll(index, Waker::noop()).is_pending());
}
