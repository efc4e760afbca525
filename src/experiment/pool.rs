//! Work beside the requests: a bounded queue, so many at once, and whatever finds it full is dropped and counted.

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use utoipa::ToSchema;

/// How many jobs came, were dropped for want of room, and are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Counts {
    pub taken: u64,
    pub dropped: u64,
    pub done: u64,
}

/// The queue. Jobs handed over before [`Pool::run`] wait in it.
pub struct Pool<J> {
    to: Sender<J>,
    /// Taken by the first `run`.
    from: Mutex<Option<Receiver<J>>>,
    taken: AtomicU64,
    dropped: AtomicU64,
    done: Arc<AtomicU64>,
}

impl<J: Send + 'static> Pool<J> {
    /// Room for `queue` jobs that wait.
    pub fn new(queue: usize) -> Self {
        let (to, from) = channel(queue);
        Pool {
            to,
            from: Mutex::new(Some(from)),
            taken: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            done: Arc::default(),
        }
    }

    /// Hands a job over; never waits.
    pub fn give(&self, job: J) {
        let counter = if self.to.try_send(job).is_ok() { &self.taken } else { &self.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts `at_once` tasks that work the queue off until the pool is dropped. Only the first call does so.
    pub fn run(&self, at_once: usize, work: impl Fn(J) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        let Some(from) = self.from.lock().take() else { return };
        let (from, work) = (Arc::new(tokio::sync::Mutex::new(from)), Arc::new(work));
        for _ in 0..at_once {
            let (from, work, done) = (from.clone(), work.clone(), self.done.clone());
            tokio::spawn(async move {
                // The lock is held while waiting for a job, and let go before it is done.
                loop {
                    let job = from.lock().await.recv().await;
                    let Some(job) = job else { return };
                    // A task of its own, so that a panic in one job is not the end of all.
                    let _ = tokio::spawn(work(job)).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }

    /// How many there were so far.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { taken: read(&self.taken), dropped: read(&self.dropped), done: read(&self.done) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    #[tokio::test]
    async fn so_many_at_once_and_no_more_waiting_than_there_is_room_for() {
        let pool = Pool::new(4);
        (0..10).for_each(|job| pool.give(job));
        assert_eq!(pool.counts(), Counts { taken: 4, dropped: 6, done: 0 });
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = most.clone();
        pool.run(2, move |job: usize| {
            let (now, most) = (now.clone(), most.clone());
            Box::pin(async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                assert_ne!(job, 1, "a job that panics costs itself alone");
            })
        });
        tokio::time::timeout(Duration::from_secs(5), async {
            while pool.counts().done < 4 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("all are done");
        assert_eq!(seen.load(Ordering::SeqCst), 2);
    }
}
