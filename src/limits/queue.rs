//! A short fair queue for when every fitting deployment is at its limit.
//!
//! Who goes next: the more urgent priority first, where waiting makes every waiter more urgent (none starves); within
//! a priority tenants in turn, by a tag given on arrival; then whoever came first. A waiter that cannot go yet keeps
//! its candidates from those behind it, so that a large request is not overtaken for ever by small ones.
//!
//! There is no task of its own: whoever changes something ([`Queue::serve`]) hands out what became free, and every
//! waiter sleeps until the earliest time at which a limit refills. Nothing of a dropped waiter stays behind.

use parking_lot::Mutex;
use std::cmp::Reverse;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Between two tries for the same reason: what was promised as free may be a guess.
const AGAIN: Duration = Duration::from_millis(1);

/// How the queue is bounded.
#[derive(Clone, Copy, Debug)]
pub struct QueueSettings {
    /// Waiters at once.
    pub length: usize,
    /// After waiting so long a waiter counts as one priority more urgent.
    pub age: Duration,
}

impl Default for QueueSettings {
    fn default() -> Self {
        QueueSettings { length: 256, age: Duration::from_secs(1) }
    }
}

/// Who waits.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Smaller is more urgent; see [`priority`].
    pub priority: u8,
    /// The key or session among which places go in turn.
    pub tenant: String,
    pub deadline: Instant,
}

/// `high`, `normal`, `low`, or a number from 0 (most urgent) to 9.
pub fn priority(text: &str) -> Option<u8> {
    match text.trim() {
        "high" => Some(0),
        "normal" => Some(1),
        "low" => Some(2),
        number => number.parse().ok().filter(|number| *number < 10),
    }
}

/// When a candidate without a place may have one.
#[derive(Clone, Copy, Debug)]
pub enum Later {
    /// At that time.
    Time(Instant),
    /// When somebody gives one back; probably by then.
    Event(Instant),
}

/// Why a waiter got no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full of others who go first, or nothing can be free before the deadline.
    #[error("all deployments are at their limits, and so is the queue")]
    Full { retry_after: Duration },
    /// The deadline passed.
    #[error("no deployment had room in time")]
    Late,
}

/// The queue; `P` is a place.
pub struct Queue<P> {
    settings: QueueSettings,
    /// Locked for one pass over the waiters, never across an await. Taken before any gate's lock.
    line: Mutex<Line<P>>,
    length: AtomicUsize,
    /// Waiters by candidate.
    claims: Vec<AtomicU32>,
    /// The earliest next time became earlier.
    sooner: Notify,
}

struct Line<P> {
    waiters: Vec<Waiter<P>>,
    arrived: u64,
    /// The tag of the last one served.
    turn: u64,
    /// When something may be free without anybody giving it back; and with that, probably.
    next: Option<Instant>,
    likely: Option<Instant>,
    /// When the last one was served, while others waited; and the usual time between two.
    served: Option<Instant>,
    interval_s: f64,
}

struct Waiter<P> {
    number: u64,
    tag: u64,
    ticket: Ticket,
    since: Instant,
    tokens: u64,
    candidates: Box<[usize]>,
    give: oneshot::Sender<Result<P, Refused>>,
}

impl<P> Waiter<P> {
    /// Smaller goes first.
    fn rank(&self, now: Instant, age: Duration) -> (i64, u64, u64) {
        let older = now.duration_since(self.since).as_nanos() / age.as_nanos().max(1);
        (i64::from(self.ticket.priority) - older as i64, self.tag, self.number)
    }
}

/// A waiter's place in the queue, left when dropped.
pub struct Waiting<'a, P> {
    queue: &'a Queue<P>,
    number: u64,
    pub got: oneshot::Receiver<Result<P, Refused>>,
}

impl<P> Drop for Waiting<'_, P> {
    fn drop(&mut self) {
        let mut line = self.queue.line.lock();
        if let Some(at) = line.waiters.iter().position(|waiter| waiter.number == self.number) {
            self.queue.remove(&mut line, at);
        }
    }
}

impl<P> Queue<P> {
    /// A queue for places at `candidates` deployments.
    pub fn new(settings: QueueSettings, candidates: usize) -> Self {
        let line =
            Line { waiters: Vec::new(), arrived: 0, turn: 0, next: None, likely: None, served: None, interval_s: 0.0 };
        Queue {
            settings,
            line: Mutex::new(line),
            length: AtomicUsize::new(0),
            claims: (0..candidates).map(|_| AtomicU32::new(0)).collect(),
            sooner: Notify::new(),
        }
    }

    /// Waiters now.
    pub fn length(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    /// Somebody waits for this deployment.
    pub fn is_claimed(&self, candidate: usize) -> bool {
        self.claims[candidate].load(Ordering::SeqCst) > 0
    }

    /// When a waiter should look again.
    pub fn next(&self) -> Option<Instant> {
        self.line.lock().next
    }

    /// Resolves when [`Queue::next`] became earlier.
    pub fn sooner(&self) -> tokio::sync::futures::Notified<'_> {
        self.sooner.notified()
    }

    /// When somebody who finds no place may ask again: after those who wait, at the pace they are served.
    pub fn retry_after(&self, now: Instant) -> Duration {
        let line = self.line.lock();
        let served = Duration::from_secs_f64((line.interval_s * line.waiters.len() as f64).min(3_600.0));
        line.likely.map_or(Duration::ZERO, |next| next.saturating_duration_since(now)).max(served)
    }

    /// Joins. Of a queue that is over its length, whoever would go last leaves with [`Refused::Full`].
    pub fn join(&self, now: Instant, candidates: &[usize], tokens: u64, ticket: Ticket) -> Waiting<'_, P> {
        let (give, got) = oneshot::channel();
        let mut line = self.line.lock();
        let own = line.waiters.iter().filter(|waiter| waiter.ticket.tenant == ticket.tenant);
        let tag = own.map(|waiter| waiter.tag).fold(line.turn, u64::max) + 1;
        line.arrived += 1;
        let number = line.arrived;
        candidates.iter().for_each(|candidate| {
            self.claims[*candidate].fetch_add(1, Ordering::SeqCst);
        });
        line.waiters.push(Waiter { number, tag, ticket, since: now, tokens, candidates: candidates.into(), give });
        self.length.store(line.waiters.len(), Ordering::SeqCst);
        let last = (0..line.waiters.len()).max_by_key(|at| line.waiters[*at].rank(now, self.settings.age));
        let refused = last.filter(|_| line.waiters.len() > self.settings.length).map(|at| self.remove(&mut line, at));
        drop(line);
        if let Some(waiter) = refused {
            let _gone_already = waiter.give.send(Err(Refused::Full { retry_after: self.retry_after(now) }));
        }
        Waiting { queue: self, number, got }
    }

    /// Hands out what `take(candidate, tokens)` yields, in order.
    pub fn serve(&self, now: Instant, mut take: impl FnMut(usize, u64) -> Result<P, Later>) {
        if self.length() == 0 {
            return;
        }
        let mut unwanted = Vec::new();
        let mut line = self.line.lock();
        let before = line.next;
        (line.next, line.likely) = (None, None);
        let mut kept = vec![false; self.claims.len()];
        let mut order: Vec<_> =
            line.waiters.iter().map(|w| (Reverse(w.rank(now, self.settings.age)), w.number)).collect();
        order.sort_unstable();
        while let Some((_, number)) = order.pop() {
            let Some(at) = line.waiters.iter().position(|waiter| waiter.number == number) else { continue };
            match self.place(&mut line, at, now, &kept, &mut take) {
                Some(place) => {
                    line.turn = line.turn.max(line.waiters[at].tag);
                    let waiter = self.remove(&mut line, at);
                    line.was_served(now);
                    unwanted.extend(waiter.give.send(Ok(place)).err());
                }
                None => line.waiters[at].candidates.iter().for_each(|candidate| kept[*candidate] = true),
            }
        }
        let sooner = line.next.is_some_and(|next| before.is_none_or(|before| next < before));
        drop(line);
        if sooner {
            self.sooner.notify_waiters();
        }
        drop(unwanted); // gives places back, which locks anew
    }

    /// A place at the first candidate of a waiter that has one and is not kept for somebody before it.
    fn place(
        &self,
        line: &mut Line<P>,
        at: usize,
        now: Instant,
        kept: &[bool],
        take: &mut impl FnMut(usize, u64) -> Result<P, Later>,
    ) -> Option<P> {
        let waiter = &line.waiters[at];
        for candidate in waiter.candidates.iter().filter(|candidate| !kept[**candidate]) {
            match take(*candidate, waiter.tokens) {
                Ok(place) => return Some(place),
                Err(Later::Time(at)) => {
                    line.next = earlier(line.next, at.max(now + AGAIN));
                    line.likely = earlier(line.likely, at);
                }
                Err(Later::Event(likely)) => line.likely = earlier(line.likely, likely),
            }
        }
        None
    }

    fn remove(&self, line: &mut Line<P>, at: usize) -> Waiter<P> {
        let waiter = line.waiters.remove(at);
        waiter.candidates.iter().for_each(|candidate| {
            self.claims[*candidate].fetch_sub(1, Ordering::SeqCst);
        });
        self.length.store(line.waiters.len(), Ordering::SeqCst);
        waiter
    }
}

impl<P> Line<P> {
    fn was_served(&mut self, now: Instant) {
        if let Some(served) = self.served {
            self.interval_s += 0.2 * (now.duration_since(served).as_secs_f64() - self.interval_s);
        }
        self.served = (!self.waiters.is_empty()).then_some(now);
    }
}

fn earlier(one: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(one.map_or(other, |one| one.min(other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: Duration = Duration::from_secs(1);

    fn ticket(priority: u8, tenant: &str, now: Instant) -> Ticket {
        Ticket { priority, tenant: tenant.into(), deadline: now + 100 * S }
    }

    fn queue(length: usize) -> Queue<usize> {
        Queue::new(QueueSettings { length, age: S }, 3)
    }

    /// Serves one place; the index of who got it.
    fn one(queue: &Queue<usize>, now: Instant, waiting: &mut [Waiting<'_, usize>]) -> Option<usize> {
        let mut free = true;
        queue.serve(now, |at, _| if std::mem::take(&mut free) { Ok(at) } else { Err(Later::Time(now + S)) });
        waiting.iter_mut().position(|waiting| matches!(waiting.got.try_recv(), Ok(Ok(_))))
    }

    #[test]
    fn urgent_first_tenants_in_turn_and_the_old_before_all() {
        let now = Instant::now();
        let queue = queue(10);
        let who = [(2, "old", 0), (1, "a", 1), (1, "a", 1), (1, "b", 1), (0, "c", 1), (0, "c", 4)];
        let mut waiting: Vec<_> =
            who.map(|(priority, tenant, s)| queue.join(now + s * S, &[0], 1, ticket(priority, tenant, now))).into();
        let order: Vec<_> = (0..6).filter_map(|_| one(&queue, now + 4 * S, &mut waiting)).collect();
        assert_eq!(order, [4, 0, 1, 3, 2, 5]);
        assert_eq!(queue.length(), 0);
    }

    #[test]
    fn a_full_queue_refuses_who_would_go_last() {
        let now = Instant::now();
        let queue = queue(2);
        let mut low = queue.join(now, &[0], 1, ticket(2, "a", now));
        let mut first = queue.join(now, &[0], 1, ticket(1, "a", now));
        let _second = queue.join(now, &[0], 1, ticket(1, "b", now));
        assert!(matches!(low.got.try_recv(), Ok(Err(Refused::Full { .. }))));
        let mut flood = queue.join(now, &[0], 1, ticket(1, "a", now));
        assert!(matches!(flood.got.try_recv(), Ok(Err(Refused::Full { .. }))));
        assert!(first.got.try_recv().is_err(), "still waits");
    }

    #[test]
    fn small_requests_do_not_overtake_a_large_one_but_go_elsewhere() {
        let now = Instant::now();
        let queue = queue(9);
        let mut large = queue.join(now, &[0], 100, ticket(1, "a", now));
        let mut small = queue.join(now, &[0, 1], 1, ticket(1, "b", now));
        queue.serve(now, |at, tokens| if tokens < 50 { Ok(at) } else { Err(Later::Time(now + S)) });
        assert!(large.got.try_recv().is_err());
        assert_eq!(small.got.try_recv(), Ok(Ok(1)));
        assert_eq!(queue.next(), Some(now + S));
        drop(large);
        assert!(queue.length() == 0 && !queue.is_claimed(0));
    }

    proptest! {
        /// However urgent the others that keep coming: a waiter goes before any that came `priority` ages later.
        #[test]
        fn nobody_starves(own in 0_u8..10, others in prop::collection::vec(0_u8..10, 40)) {
            let now = Instant::now();
            let queue = queue(1_000);
            let mut waiting = vec![queue.join(now, &[0], 1, ticket(own, "own", now))];
            let mut turn = None;
            for (round, priority) in others.iter().enumerate() {
                let now = now + round as u32 * S / 2;
                waiting.push(queue.join(now, &[0], 1, ticket(*priority, &format!("t{round}"), now)));
                waiting.push(queue.join(now, &[0], 1, ticket(*priority, &format!("u{round}"), now)));
                let served = one(&queue, now, &mut waiting);
                if served == Some(0) {
                    turn = Some(round);
                    break;
                }
            }
            // All that came within its priority times one age may go first: two a round, two rounds an age.
            prop_assert!(turn.is_some_and(|turn| turn <= 2 + 4 * usize::from(own)), "{:?}", turn);
        }
    }
}
