//! How much memory a decoder takes: an allocator that counts, for each thread, what is held and what was held at most.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes held and the most held, since [`peak_of`] began. Freeing what an earlier moment took makes it negative.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(change: isize) {
    // A thread that is ending has no counter any more, and nothing to count.
    let _ = HELD.try_with(|held| {
        let now = held.get().0.saturating_add(change);
        held.set((now, held.get().1.max(now)));
    });
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

#[expect(unsafe_code, reason = "an allocator is unsafe by nature; every call goes to the system's unchanged")]
// SAFETY: each function hands its arguments to `System`, which keeps the contract; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be held for a moment: that is what counts.
        count(signed(size));
        // SAFETY: the caller keeps the contract of `realloc`.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        count(-signed(layout.size()));
        moved
    }
}

/// Runs `work` and says how many bytes more than before it held at most.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    HELD.set((0, 0));
    let value = work();
    (value, usize::try_from(HELD.get().1).unwrap_or(0))
}

/// Memory a decoder may take, whatever it is given.
const FIXED_BYTES: usize = 256 << 10;
/// And for each byte of its input: the smallest value of a tree (`0,` in a list, `a.` in a table) is a node of 100 bytes
/// or more.
const BYTES_PER_BYTE: usize = 512;

/// Runs a decoder on `input` bytes and checks that it took no more memory than its input can be worth.
///
/// # Panics
/// When it did.
pub fn bounded<T>(input: usize, work: impl FnOnce() -> T) -> T {
    let (value, peak) = peak_of(work);
    let most = FIXED_BYTES + BYTES_PER_BYTE * input;
    assert!(peak <= most, "{peak} bytes of memory for an input of {input}");
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_seen_although_it_was_freed() {
        let (_, peak) = peak_of(|| drop(vec![0u8; 1 << 20]));
        assert!(peak >= 1 << 20, "{peak}");
        let (_, peak) = peak_of(|| ());
        assert_eq!(peak, 0);
    }

    #[test]
    #[should_panic(expected = "bytes of memory for an input of 1")]
    fn too_much_for_one_byte_is_found() {
        bounded(1, || vec![0u8; FIXED_BYTES + 2 * BYTES_PER_BYTE]);
    }
}
