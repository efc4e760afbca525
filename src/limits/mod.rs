//! Limits: which deployments may be asked now, and who waits for them.
//!
//! Every deployment and every provider has a gate (`gate.rs`) with a rate (`rate.rs`, fed by what `headers.rs` reads),
//! a circuit breaker (`breaker.rs`) and places for requests in flight (`concurrency.rs`). Ranking asks [`Limits::held`];
//! forwarding takes a [`Pass`] from [`Limits::admit`], and where none is to be had waits in the queue (`queue.rs`).

mod breaker;
mod concurrency;
mod gate;
mod headers;
mod pass;
mod queue;
mod rate;
#[cfg(test)]
mod tests;

pub use gate::{Failed, GateSettings, Held, Why};
pub use pass::Pass;
pub use queue::{QueueSettings, Refused, Ticket, priority};

use gate::{Gate, State};
use queue::{Later, Queue};
use serde::Serialize;
use std::pin::pin;
use std::sync::Arc;
use tokio::time::Instant;
use utoipa::ToSchema;

/// For how long an upstream asks to be left alone: seconds, milliseconds or a date. `header` looks one up by its
/// lower-case name.
pub fn retry_after(header: impl Fn(&str) -> Option<String>) -> Option<std::time::Duration> {
    headers::read(header, jiff::Timestamp::now()).retry_after
}

/// Places that a deployment without any limit is taken to have, where it is compared with those that have one.
const UNLIMITED: u32 = 64;

/// A deployment and its limits.
#[derive(Clone, Debug)]
pub struct DeploymentLimits {
    pub name: String,
    pub provider: String,
    pub limits: GateSettings,
}

/// A provider and the limits all its deployments share.
#[derive(Clone, Debug)]
pub struct ProviderLimits {
    pub name: String,
    pub limits: GateSettings,
}

/// The book of all gates. Deployments are known by their place in the list it was made from.
pub struct Limits {
    deployments: Vec<Deployment>,
    providers: Vec<Provider>,
    queue: Queue<Pass>,
}

struct Deployment {
    name: String,
    provider: usize,
    gate: Gate,
}

struct Provider {
    name: String,
    gate: Gate,
}

impl Limits {
    /// A book of these deployments; a provider that is not listed has no limits of its own.
    pub fn new(deployments: &[DeploymentLimits], providers: &[ProviderLimits], queue: QueueSettings) -> Arc<Self> {
        let now = Instant::now();
        let provider = |name: &str, limits| Provider { name: name.into(), gate: Gate::new(limits, now) };
        let mut known: Vec<Provider> = providers.iter().map(|listed| provider(&listed.name, listed.limits)).collect();
        let mut owner = |name: &str| {
            known.iter().position(|provider| provider.name == name).unwrap_or_else(|| {
                known.push(provider(name, GateSettings::default()));
                known.len() - 1
            })
        };
        let deployments: Vec<Deployment> = deployments
            .iter()
            .map(|listed| Deployment {
                name: listed.name.clone(),
                provider: owner(&listed.provider),
                gate: Gate::new(listed.limits, now),
            })
            .collect();
        let queue = Queue::new(queue, deployments.len());
        Arc::new(Limits { deployments, providers: known, queue })
    }

    /// What would hold a request of `tokens` (prompt and expected answer) to a deployment; `None` where it may go.
    /// Takes no lock of a gate where nothing is limited.
    pub fn held(&self, index: usize, tokens: u64, now: Instant) -> Option<Held> {
        let [own, shared] = self.gates(index);
        let held = |gate: &Gate| if gate.is_calm() { None } else { gate.read(|state| state.held(tokens, now)) };
        let held = [own, shared].into_iter().filter_map(held).max_by_key(|held| held.until);
        held.or_else(|| self.queued(index, now))
    }

    /// A pass for a deployment: its place is taken and its tokens are reserved.
    ///
    /// # Errors
    /// What holds it, which may be that others wait.
    pub fn admit(self: &Arc<Self>, index: usize, tokens: u64) -> Result<Pass, Held> {
        let now = Instant::now();
        self.queued(index, now).map_or_else(|| self.take(index, tokens, now), Err)
    }

    /// Waits for a pass to whichever of `candidates` has a place first; in their order where several have.
    /// Dropping the future leaves nothing behind.
    ///
    /// # Errors
    /// [`Refused::Full`] where the queue is, or where nothing can be free before the deadline; [`Refused::Late`] after it.
    pub async fn wait(self: &Arc<Self>, candidates: &[usize], tokens: u64, ticket: Ticket) -> Result<Pass, Refused> {
        let deadline = ticket.deadline;
        // Declared first, so that it is dropped last: when this waiter no longer keeps its candidates from others.
        let _offers = Offers(self);
        let mut waiting = self.queue.join(Instant::now(), candidates, tokens, ticket);
        self.serve();
        if let Ok(got) = waiting.got.try_recv() {
            return got;
        }
        self.refuse_if_vain(candidates, tokens, deadline)?;
        loop {
            let mut sooner = pin!(self.queue.sooner());
            sooner.as_mut().enable();
            let wake = self.queue.next().map_or(deadline, |next| next.min(deadline));
            tokio::select! {
                biased;
                got = &mut waiting.got => return got.unwrap_or(Err(Refused::Late)),
                () = tokio::time::sleep_until(wake) => {}
                () = &mut sooner => continue,
            }
            let now = Instant::now();
            // Of all that wake for the same time, the first serves everybody.
            if self.queue.next().is_none_or(|next| next <= now) {
                self.serve();
            }
            if now >= deadline {
                return waiting.got.try_recv().unwrap_or(Err(Refused::Late));
            }
        }
    }

    /// Nobody waits for what is certain to come too late.
    fn refuse_if_vain(&self, candidates: &[usize], tokens: u64, deadline: Instant) -> Result<(), Refused> {
        let now = Instant::now();
        let until = |index: &usize| match self.held_by(*index, tokens, now) {
            Some(Held { why: Why::Rate | Why::ToldByProvider | Why::Breaker, until }) => until,
            _ => now,
        };
        let first = candidates.iter().map(until).min().unwrap_or(deadline);
        let vain = first > deadline || candidates.is_empty();
        if vain { Err(Refused::Full { retry_after: first.saturating_duration_since(now) }) } else { Ok(()) }
    }

    /// Hands what is free to those who wait.
    fn serve(self: &Arc<Self>) {
        let now = Instant::now();
        self.queue.serve(now, |index, tokens| {
            self.take(index, tokens, now).map_err(|held| match held.why {
                // Whoever gives a place back says so.
                Why::Concurrency => Later::Event(held.until),
                _ => Later::Time(held.until),
            })
        });
    }

    fn take(self: &Arc<Self>, index: usize, tokens: u64, now: Instant) -> Result<Pass, Held> {
        let [own, shared] = self.gates(index);
        let probes = own.change(now, |own| {
            shared.change(now, |shared| match longest(own, shared, tokens, now) {
                Some(held) => Err(held),
                None => Ok([own.take(tokens, now), shared.take(tokens, now)]),
            })
        })?;
        Ok(Pass { limits: self.clone(), index, tokens, taken: now, probes, began: false, used: None, sent: true })
    }

    fn held_by(&self, index: usize, tokens: u64, now: Instant) -> Option<Held> {
        let [own, shared] = self.gates(index);
        own.read(|own| shared.read(|shared| longest(own, shared, tokens, now)))
    }

    fn queued(&self, index: usize, now: Instant) -> Option<Held> {
        let until = || self.queue.next().unwrap_or(now).max(now);
        self.queue.is_claimed(index).then(|| Held { why: Why::Queue, until: until() })
    }

    /// A deployment's gate, and its provider's.
    fn gates(&self, index: usize) -> [&Gate; 2] {
        let deployment = &self.deployments[index];
        [&deployment.gate, &self.providers[deployment.provider].gate]
    }

    /// The gate that what a deployment's headers tell is about.
    fn told_gate(&self, index: usize) -> &Gate {
        &self.deployments[index].gate
    }

    /// Why a request of `tokens` to a deployment is held, in words with numbers; `None` where it may go.
    pub fn explain(&self, index: usize, tokens: u64) -> Option<String> {
        let now = Instant::now();
        let held = self.held(index, tokens, now)?;
        let [own, shared] = self.gates(index);
        let owner = &self.providers[self.deployments[index].provider].name;
        let is_owners = shared.read(|state| state.held(tokens, now) == Some(held));
        let (gate, of) = if is_owners { (shared, format!(" (all of {owner})")) } else { (own, String::new()) };
        Some(gate.read(|state| state.words(held, tokens, now)) + &of)
    }

    /// Requests that may be in flight at a deployment at once, by its own limit or the one learned; many where there is
    /// none.
    pub fn room(&self, index: usize) -> f64 {
        let limit = self.deployments[index].gate.read(|state| state.room.limit());
        f64::from(limit.unwrap_or(UNLIMITED))
    }

    /// All gates and the queue, for the metrics and `/explain`.
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let deployments = self.deployments.iter().map(|deployment| view(&deployment.name, &deployment.gate, now));
        let providers = self.providers.iter().map(|provider| view(&provider.name, &provider.gate, now));
        Snapshot { deployments: deployments.collect(), providers: providers.collect(), waiting: self.queue.length() }
    }
}

/// What holds longer: of a deployment, or of its provider.
fn longest(own: &State, shared: &State, tokens: u64, now: Instant) -> Option<Held> {
    [own, shared].into_iter().filter_map(|state| state.held(tokens, now)).max_by_key(|held| held.until)
}

/// Offers what is free to others when a waiter leaves.
struct Offers<'a>(&'a Arc<Limits>);

impl Drop for Offers<'_> {
    fn drop(&mut self) {
        self.0.serve();
    }
}

/// All gates at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    pub deployments: Vec<GateView>,
    pub providers: Vec<GateView>,
    /// Requests in the queue.
    pub waiting: usize,
}

/// One gate at one moment.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GateView {
    pub name: String,
    pub in_flight: u32,
    /// Requests that may be in flight; none is no limit.
    pub limit: Option<u32>,
    /// `closed`, `open` or `half-open`.
    pub breaker: &'static str,
    pub why: Option<Why>,
    /// For how long the smallest request is held.
    pub held_ms: Option<f64>,
    /// Why, in words.
    pub held: Option<String>,
}

fn view(name: &str, gate: &Gate, now: Instant) -> GateView {
    gate.read(|state| {
        let held = state.held(1, now);
        GateView {
            name: name.into(),
            in_flight: state.room.in_flight(),
            limit: state.room.limit(),
            breaker: state.breaker.name(),
            why: held.map(|held| held.why),
            held_ms: held.map(|held| held.until.saturating_duration_since(now).as_secs_f64() * 1e3),
            held: held.map(|held| state.words(held, 1, now)),
        }
    })
}
