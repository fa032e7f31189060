//! One upstream call for many callers that want the same.
//!
//! The call runs as a task of its own, so that the caller who came first may leave without taking the others' answer along. It
//! lives while anybody waits, and is aborted when nobody does. What ends it without a result, a panic or the end of the
//! runtime, is heard by all who wait: nobody hangs.
//!
//! The call keeps to the deadline of whoever started it; each caller waits no longer than their own. A caller who is told of a
//! failure that was only the other's deadline may join anew.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

/// Why a caller has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The call ended without a result: it panicked, or the runtime ended.
    #[error("the call that was shared ended without a result")]
    Died,
    /// The caller's own deadline came first.
    #[error("the call that was shared takes longer than this caller waits")]
    TooLate,
}

/// What a caller is to a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Their call is the one that is made.
    Leader,
    /// They wait for another's.
    Follower,
}

/// Calls that are being made, by what they ask.
pub struct Flights<K, V> {
    all: Arc<Mutex<HashMap<K, Flight<V>>>>,
}

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Self {
        Self { all: Arc::clone(&self.all) }
    }
}

impl<K, V> std::fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flights").field("calls", &locked(&self.all).len()).finish()
    }
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { all: Arc::default() }
    }
}

struct Flight<V> {
    /// Tells this flight from an earlier one under the same key.
    mark: Arc<()>,
    waiting: usize,
    task: AbortHandle,
    result: watch::Receiver<Option<V>>,
}

/// A caller's place in a flight. Dropped, the caller waits no more.
#[must_use = "a seat that is dropped leaves the flight"]
pub struct Seat<K: Eq + Hash + Clone, V> {
    role: Role,
    result: watch::Receiver<Option<V>>,
    _leave: Leave<K, V>,
}

impl<K, V> Flights<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the call that is being made for `key`, or starts one with `call`. Runs inside a runtime.
    pub fn join<F>(&self, key: K, call: impl FnOnce() -> F) -> Seat<K, V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut all = locked(&self.all);
        match all.entry(key.clone()) {
            // A task that is gone without a result leaves its entry for a moment; nobody new may wait for it.
            Entry::Occupied(mut there) if there.get().is_open() => {
                let flight = there.get_mut();
                flight.waiting += 1;
                self.seat(Role::Follower, key, flight)
            }
            _ => {
                let flight = self.start(key.clone(), call());
                let seat = self.seat(Role::Leader, key.clone(), &flight);
                // What stood here is over; its seats know it by its mark.
                let over = all.insert(key, flight);
                drop(all);
                drop(over);
                seat
            }
        }
    }

    fn start(&self, key: K, call: impl Future<Output = V> + Send + 'static) -> Flight<V> {
        let mark = Arc::new(());
        let (told, result) = watch::channel(None);
        let landing = Landing { all: Arc::clone(&self.all), key, mark: Arc::clone(&mark) };
        let task = tokio::spawn(async move {
            // Removes the entry however this ends; `told` goes with it, and whoever waits hears that.
            let _landing = landing;
            let value = call.await;
            // Nobody may be left to hear it.
            let _ = told.send(Some(value));
        });
        Flight { mark, waiting: 1, task: task.abort_handle(), result }
    }

    fn seat(&self, role: Role, key: K, flight: &Flight<V>) -> Seat<K, V> {
        let leave = Leave { all: Arc::clone(&self.all), key, mark: Arc::clone(&flight.mark) };
        Seat { role, result: flight.result.clone(), _leave: leave }
    }

    /// Calls that are being made.
    #[must_use]
    pub fn len(&self) -> usize {
        locked(&self.all).len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<V> Flight<V> {
    /// Whether it still has, or will have, a result.
    fn is_open(&self) -> bool {
        self.result.borrow().is_some() || self.result.has_changed().is_ok()
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Seat<K, V> {
    /// Whose call it is.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// [`Lost::Died`].
    pub async fn wait(mut self) -> Result<V, Lost> {
        self.result().await
    }

    /// Waits for the result, no longer than until `deadline`.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn wait_until(mut self, deadline: Instant) -> Result<V, Lost> {
        timeout_at(deadline, self.result()).await.unwrap_or(Err(Lost::TooLate))
    }

    async fn result(&mut self) -> Result<V, Lost> {
        let told = self.result.wait_for(Option::is_some).await.map_err(|_| Lost::Died)?;
        told.clone().ok_or(Lost::Died)
    }
}

/// Takes one waiting caller away; the last one ends the call.
struct Leave<K: Eq + Hash + Clone, V> {
    all: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
    mark: Arc<()>,
}

impl<K: Eq + Hash + Clone, V> Drop for Leave<K, V> {
    fn drop(&mut self) {
        let mut all = locked(&self.all);
        let Some(flight) = all.get_mut(&self.key).filter(|flight| Arc::ptr_eq(&flight.mark, &self.mark)) else {
            return;
        };
        flight.waiting -= 1;
        if flight.waiting == 0 {
            let flight = all.remove(&self.key);
            drop(all);
            if let Some(flight) = flight {
                flight.task.abort();
            }
        }
    }
}

/// Takes the flight away when its task ends.
struct Landing<K: Eq + Hash, V> {
    all: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
    mark: Arc<()>,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut all = locked(&self.all);
        if all.get(&self.key).is_some_and(|flight| Arc::ptr_eq(&flight.mark, &self.mark)) {
            let flight = all.remove(&self.key);
            // Its last result may run a destructor of the caller's.
            drop(all);
            drop(flight);
        }
    }
}

/// Nothing that can panic runs under the lock but the hash of a key; the map is whole in any case.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
