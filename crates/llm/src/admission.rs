//! Who may ask a tier with few slots next: a bounded queue by priority, in which waiting makes more important.
//!
//! A model on this machine answers two requests at once and queues the others by itself, blindly: behind two long answers
//! a request would spend its whole deadline inside. So the queue is here. What can't make its deadline is told at once and
//! goes to the next tier; a client that goes away leaves the queue; a full queue gives up its least important request for a
//! more important one. Ageing lifts a waiting request by one priority every while, up to just below the highest: a P0 comes
//! through in the end, and a P9 never waits behind anybody but other P9s, so for one slot at most.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::failure::Kind;
use crate::request::HIGHEST_PRIORITY;

/// Its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Requests at once.
    pub slots: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// Time in which a waiting request gains one priority.
    pub ageing: Duration,
}

/// The door of one tier.
#[derive(Debug)]
pub struct Gate {
    settings: Settings,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    free: usize,
    next_number: u64,
    waiting: Vec<Waiter>,
    /// How long a slot is held, weighted to the last ones; zero before the first.
    held: Duration,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    priority: u8,
    since: Instant,
    until: Instant,
    tell: oneshot::Sender<Result<Slot, Kind>>,
}

/// The right to be one of those that are asked at once; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    gate: Option<Arc<Gate>>,
    since: Instant,
}

/// Leaves the queue when whoever waits goes away.
struct Place<'a> {
    gate: &'a Gate,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gate.inner().waiting.retain(|waiter| waiter.number != self.number);
    }
}

impl Gate {
    /// A door with free slots.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        let inner = Inner { free: settings.slots, next_number: 0, waiting: Vec::new(), held: Duration::ZERO };
        Self { settings, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot, until `until` at most: the moment at which asking would be too late.
    ///
    /// # Errors
    /// [`Kind::QueueFull`], [`Kind::QueueTooLong`], or what [`Gate::turn_away`] said.
    pub async fn enter(self: &Arc<Self>, priority: u8, until: Instant) -> Result<Slot, Kind> {
        let now = Instant::now();
        let (number, told) = {
            let mut inner = self.inner();
            if inner.free > 0 {
                inner.free -= 1;
                return Ok(Slot { gate: Some(Arc::clone(self)), since: now });
            }
            let before = inner.waiting.iter().filter(|w| self.rank(w, now) >= rank_of(priority)).count();
            let wait =
                inner.held.saturating_mul(u32::try_from(before / self.settings.slots.max(1) + 1).unwrap_or(u32::MAX));
            if now.checked_add(wait).is_none_or(|turn| turn > until) {
                return Err(Kind::QueueTooLong);
            }
            if inner.waiting.len() >= self.settings.queue && !self.make_room(&mut inner, priority, now) {
                return Err(Kind::QueueFull);
            }
            let number = inner.next_number;
            inner.next_number += 1;
            let (tell, told) = oneshot::channel();
            inner.waiting.push(Waiter { number, priority, since: now, until, tell });
            (number, told)
        };
        let _place = Place { gate: self, number };
        match timeout_at(until, told).await {
            Ok(Ok(verdict)) => verdict,
            // The gate lives as long as this call, so its word can only be missing by a fault of ours.
            Ok(Err(_)) => Err(Kind::QueueFull),
            Err(_) => Err(Kind::QueueTooLong),
        }
    }

    /// Evicts the least important waiter when it is less important than `priority`.
    fn make_room(&self, inner: &mut Inner, priority: u8, now: Instant) -> bool {
        let least =
            inner.waiting.iter().enumerate().min_by_key(|(_, w)| (self.rank(w, now), std::cmp::Reverse(w.number)));
        let Some((at, waiter)) = least else { return false };
        if self.rank(waiter, now) >= rank_of(priority) {
            return false;
        }
        // Whoever stopped listening has left already.
        let _ = inner.waiting.swap_remove(at).tell.send(Err(Kind::QueueFull));
        true
    }

    /// Priority with what waiting added, in thousandths.
    fn rank(&self, waiter: &Waiter, now: Instant) -> u64 {
        let most = rank_of(HIGHEST_PRIORITY) - 1;
        let own = rank_of(waiter.priority);
        if own > most {
            return own;
        }
        let waited = now.saturating_duration_since(waiter.since).as_millis();
        let gained = waited.saturating_mul(1_000) / self.settings.ageing.as_millis().max(1);
        own.saturating_add(u64::try_from(gained).unwrap_or(u64::MAX)).min(most)
    }

    /// Tells everybody who waits that there is nothing to wait for.
    pub fn turn_away(&self, why: Kind) {
        for waiter in std::mem::take(&mut self.inner().waiting) {
            let _ = waiter.tell.send(Err(why));
        }
    }

    /// How many wait, how many are being asked.
    #[must_use]
    pub fn depth(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.waiting.len(), self.settings.slots - inner.free)
    }

    /// How long a slot is usually held.
    #[must_use]
    pub fn usually_held(&self) -> Duration {
        self.inner().held
    }

    /// Gives the slot to the most important waiter that can still make it, or keeps it free.
    fn pass_on(self: &Arc<Self>, held: Duration) {
        let now = Instant::now();
        loop {
            let next = {
                let mut inner = self.inner();
                if !held.is_zero() {
                    inner.held = if inner.held.is_zero() { held } else { (inner.held * 7 + held) / 8 };
                }
                let best = inner
                    .waiting
                    .iter()
                    .enumerate()
                    .max_by_key(|(_, w)| (self.rank(w, now), std::cmp::Reverse(w.number)));
                match best.map(|(at, _)| at) {
                    Some(at) => inner.waiting.swap_remove(at),
                    None => {
                        inner.free += 1;
                        return;
                    }
                }
            };
            if next.until <= now {
                let _ = next.tell.send(Err(Kind::QueueTooLong));
                continue;
            }
            let slot = Slot { gate: Some(Arc::clone(self)), since: now };
            match next.tell.send(Ok(slot)) {
                Ok(()) => return,
                // It went away between; the slot goes to the next, and not through its own drop, which would come back here.
                Err(Ok(mut unused)) => unused.gate = None,
                Err(Err(_)) => {}
            }
        }
    }
}

const fn rank_of(priority: u8) -> u64 {
    priority as u64 * 1_000
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.pass_on(Instant::now().saturating_duration_since(self.since));
        }
    }
}

#[cfg(test)]
mod tests;
