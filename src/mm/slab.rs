//! Slabs: the memory manager's own records, in frames.
//!
//! The memory manager keeps the application's allocator alive, so it cannot use one. Records of one type live in
//! chunks, each one frame, and are named by a [`Handle`] of four bytes. A chunk is never given back while its slab
//! lives, and every record in it holds a `T` from the chunk's first moment on: records are *type-stable*. So
//! [`Slab::get`] is safe for any handle; a stale one yields a wrong record, never a wild pointer.
//!
//! A handle's number is a chunk and an index in it; the chunk is found through two levels of directories, each a
//! frame of 512 pointers. The free records form a list through the links beside them.
//!
//! This file uses `unsafe`: it turns frames into records, and pointers in directories into references. Its
//! invariants, which the `SAFETY` comments name:
//!
//! - **published**: every chunk with numbers below `limit` is complete, and so are the directories on the way to
//!   it; `limit` is stored with Release after they are written, and none of the pointers changes again.
//! - **in bounds**: a `Handle<T>` has an index below the number of records in a chunk of `T`.
//! - **shared**: records are reached by shared reference only, except through `&mut Slab`.

use crate::sync::{Rank, Ranked};
use arrayvec::ArrayVec;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, needs_drop, size_of};
use core::num::NonZeroU32;
use core::ptr::{self, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::address::PAGE_SIZE;

/// The memory of one frame, with nothing in it yet.
#[repr(C, align(4096))]
pub struct Chunk([MaybeUninit<u8>; PAGE_SIZE]);

impl Chunk {
    /// A chunk of arbitrary content.
    pub const fn new() -> Self {
        Self([MaybeUninit::uninit(); PAGE_SIZE])
    }
}

impl Default for Chunk {
    fn default() -> Self {
        Self::new()
    }
}

/// Where slabs get their frames.
pub trait FrameSource {
    /// One frame, through the linear map, for good: it belongs to the slab that asked for as long as the slab lives.
    /// `None` when no frame is left. Called with the slab's lock held, so it takes locks of [`Rank::Frames`] only.
    fn chunk(&self) -> Option<&'static mut Chunk>;
}

/// Names a record of a [`Slab<T>`].
pub struct Handle<T> {
    number: NonZeroU32,
    record: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    /// The handle as a number, to be kept where only numbers fit; never 0.
    #[inline]
    pub const fn raw(self) -> u32 {
        self.number.get()
    }

    /// The handle that [`Handle::raw`] gave `raw` for; `None` if no handle of a `T` has that number.
    #[inline]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match NonZeroU32::new(raw) {
            Some(number) if index_of::<T>(raw) < records_per_chunk::<T>() => Some(Self { number, record: PhantomData }),
            _ => None,
        }
    }
}

impl<T> Clone for Handle<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> PartialEq for Handle<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Handle<T> {}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.number)
    }
}

/// A value and its place in the free list.
struct Record<T> {
    /// The number of the next free record, 0 at the end of the list; [`LIVE`] while allocated. Written under the
    /// slab's lock.
    link: AtomicU32,
    value: T,
}

const LIVE: u32 = u32::MAX;

/// Pointers in a directory.
const ENTRIES: usize = 512;
const ENTRY_BITS: u32 = ENTRIES.trailing_zeros();
/// Directories of directories in a slab.
const ROOTS: usize = 16;
/// 2²²: with one record in each, still 4 million records.
const MAX_CHUNKS: u32 = (ROOTS * ENTRIES * ENTRIES) as u32;

struct Directory<P>([AtomicPtr<P>; ENTRIES]);

/// At most 512, so that a number stays below 2³¹.
const fn records_per_chunk<T>() -> u32 {
    const { assert!(size_of::<Record<T>>() <= PAGE_SIZE && align_of::<Record<T>>() <= PAGE_SIZE) }
    let fit = PAGE_SIZE / size_of::<Record<T>>();
    if fit < 512 { fit as u32 } else { 512 }
}

/// Bits of a number that hold the index in the chunk.
const fn index_bits<T>() -> u32 {
    const { records_per_chunk::<T>().next_power_of_two().trailing_zeros() }
}

const fn index_of<T>(number: u32) -> u32 {
    number & ((1 << index_bits::<T>()) - 1)
}

/// Guarded by the slab's lock.
struct State {
    /// First free record, 0 if none.
    free: u32,
    /// Length of the free list.
    spare: usize,
    /// How many of the free records are promised to [`Reservation`]s; at most `spare`.
    reserved: usize,
    live: usize,
    chunks: u32,
    frames: usize,
}

/// Records of one type, in frames of their own. See the [module](self).
///
/// A record that is allocated holds what its last user left, or `T::default()`: who allocates it, initialises it,
/// through the interior mutability of `T`. Values are never dropped, so `T` may not need it.
pub struct Slab<T> {
    roots: [AtomicPtr<Directory<Directory<Record<T>>>>; ROOTS],
    /// Numbers from here on have no record.
    limit: AtomicU32,
    state: Ranked<State>,
    /// The slab is `Send` and `Sync` if `T` is.
    records: PhantomData<T>,
}

impl<T> Slab<T> {
    /// A slab without records.
    pub const fn new() -> Self {
        Self {
            roots: [const { AtomicPtr::new(null_mut()) }; ROOTS],
            limit: AtomicU32::new(0),
            state: Ranked::new(Rank::Slab, State { free: 0, spare: 0, reserved: 0, live: 0, chunks: 0, frames: 0 }),
            records: PhantomData,
        }
    }

    /// The record of `handle`.
    ///
    /// # Panics
    ///
    /// If this slab never had such a record; in debug builds, also if the record is free.
    #[inline]
    pub fn get(&self, handle: Handle<T>) -> &T {
        let record = self.record(handle);
        debug_assert!(record.is_live(), "record {handle:?} used after it was freed");
        &record.value
    }

    /// The record that `handle` names or named: it may be free, or another's by now. `None` if this slab never had it.
    #[inline]
    pub fn find(&self, handle: Handle<T>) -> Option<&T> {
        (handle.raw() < self.limit.load(Ordering::Acquire)).then(|| &self.record(handle).value)
    }

    /// The record of `handle`, by the slab's only user.
    ///
    /// # Panics
    ///
    /// As [`Slab::get`].
    #[inline]
    pub fn get_mut(&mut self, handle: Handle<T>) -> &mut T {
        let record = self.pointer(handle);
        // SAFETY: `pointer` gives a complete record in this slab's frames; `&mut self` makes this the only
        // reference to it (shared).
        let record = unsafe { &mut *record };
        debug_assert!(record.is_live(), "record {handle:?} used after it was freed");
        &mut record.value
    }

    /// Two different records at once.
    ///
    /// # Panics
    ///
    /// As [`Slab::get`], and if the two are one.
    pub fn pair_mut(&mut self, one: Handle<T>, other: Handle<T>) -> (&mut T, &mut T) {
        assert!(one != other, "record {one:?} borrowed twice");
        let (one, other) = (self.pointer(one), self.pointer(other));
        // SAFETY: `pointer` gives complete records, different numbers are different records, and `&mut self` makes
        // these the only references to them (shared).
        let (one, other) = unsafe { (&mut *one, &mut *other) };
        debug_assert!(one.is_live() && other.is_live(), "record used after it was freed");
        (&mut one.value, &mut other.value)
    }

    /// Frees the record of `handle`. Whoever still has a reference to it may use it, and finds another's data.
    ///
    /// # Panics
    ///
    /// If the record is not allocated.
    pub fn free(&self, handle: Handle<T>) {
        let record = self.record(handle);
        let mut state = self.state.lock();
        assert!(record.is_live(), "record {handle:?} freed twice");
        record.link.store(state.free, Ordering::Relaxed);
        state.free = handle.raw();
        state.spare += 1;
        state.live -= 1;
    }

    /// Records allocated now.
    pub fn len(&self) -> usize {
        self.state.lock().live
    }

    /// Whether no record is allocated.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frames taken so far, directories included.
    pub fn frames(&self) -> usize {
        self.state.lock().frames
    }

    /// The records allocated, in the order of their numbers. Those allocated or freed meanwhile may be missed.
    pub fn handles(&self) -> impl Iterator<Item = Handle<T>> {
        (1..self.limit.load(Ordering::Acquire))
            .filter_map(Handle::from_raw)
            .filter(|&handle| self.record(handle).is_live())
    }

    #[inline]
    fn record(&self, handle: Handle<T>) -> &Record<T> {
        // SAFETY: `pointer` gives a complete record in a frame that lives as long as `self` (published); nobody has
        // a `&mut` to it while `&self` lives (shared).
        unsafe { &*self.pointer(handle) }
    }

    #[inline]
    fn pointer(&self, handle: Handle<T>) -> *mut Record<T> {
        let number = handle.raw();
        if number >= self.limit.load(Ordering::Acquire) {
            no_record(number);
        }
        let (root, directory, entry) = place(number >> index_bits::<T>());
        // SAFETY: the number is below the limit, so the directories and the chunk are complete and their pointers
        // final (published), which the Acquire above makes visible; the index is less than the number of records in
        // the chunk (in bounds).
        unsafe {
            let directories = &*self.roots[root].load(Ordering::Relaxed);
            let chunks = &*directories.0[directory].load(Ordering::Relaxed);
            chunks.0[entry].load(Ordering::Relaxed).add(index_of::<T>(number) as usize)
        }
    }

    /// Takes the first free record.
    fn pop(&self, state: &mut State) -> Handle<T> {
        self.pop_record(state).0
    }

    #[inline]
    fn pop_record(&self, state: &mut State) -> (Handle<T>, &T) {
        let handle = Handle::from_raw(state.free).expect("the free list is as long as counted");
        let record = self.record(handle);
        state.free = record.link.swap(LIVE, Ordering::Relaxed);
        state.spare -= 1;
        state.live += 1;
        (handle, &record.value)
    }
}

impl<T: Default + Send> Slab<T> {
    /// Allocates a record; `None` when a frame is needed and `source` has none.
    pub fn allocate(&self, source: &dyn FrameSource) -> Option<Handle<T>> {
        self.allocate_record(source).map(|(handle, _)| handle)
    }

    /// As [`Slab::allocate`], with the record.
    #[inline]
    pub fn allocate_record(&self, source: &dyn FrameSource) -> Option<(Handle<T>, &T)> {
        let mut state = self.state.lock();
        self.extend(&mut state, source, 1).then(|| self.pop_record(&mut state))
    }

    /// Allocates records until `out` is full, or for as long as none needs a frame more: at least one, unless `source` has no
    /// frame for it.
    pub fn allocate_into<const N: usize>(&self, source: &dyn FrameSource, out: &mut ArrayVec<Handle<T>, N>) {
        self.pop_into(&mut self.state.lock(), source, out)
    }

    /// As [`Slab::allocate_into`], or nothing if another has the slab's lock.
    pub fn try_allocate_into<const N: usize>(&self, source: &dyn FrameSource, out: &mut ArrayVec<Handle<T>, N>) {
        if let Some(mut state) = self.state.try_lock() {
            self.pop_into(&mut state, source, out)
        }
    }

    fn pop_into<const N: usize>(&self, state: &mut State, source: &dyn FrameSource, out: &mut ArrayVec<Handle<T>, N>) {
        if self.extend(state, source, 1) {
            while !out.is_full() && state.spare > state.reserved {
                out.push(self.pop(state));
            }
        }
    }

    /// Promises `count` records to the caller, for an operation that must not fail half-way; `None` when `source`
    /// has too few frames for that.
    pub fn reserve(&self, source: &dyn FrameSource, count: usize) -> Option<Reservation<'_, T>> {
        let mut state = self.state.lock();
        if !self.extend(&mut state, source, count) {
            return None;
        }
        state.reserved += count;
        Some(Reservation { slab: self, count })
    }

    /// Whether the next `count` calls of [`Slab::take`] are sure to succeed, by the slab's only user; gets the frames
    /// for them from `source`.
    pub fn prepare(&mut self, source: &dyn FrameSource, count: usize) -> bool {
        self.extend(&mut self.state.lock(), source, count)
    }

    /// Allocates a record that [`Slab::prepare`] has provided for.
    ///
    /// # Panics
    ///
    /// If no record is free.
    pub fn take(&mut self) -> Handle<T> {
        let mut state = self.state.lock();
        assert!(state.spare > state.reserved, "a record is taken that was not provided for");
        self.pop(&mut state)
    }

    /// Sees to it that `count` records are free and not promised.
    fn extend(&self, state: &mut State, source: &dyn FrameSource, count: usize) -> bool {
        while state.spare - state.reserved < count {
            if self.grow(state, source).is_none() {
                return false;
            }
        }
        true
    }

    /// Adds a chunk. A directory installed on the way stays when the chunk itself cannot be had.
    fn grow(&self, state: &mut State, source: &dyn FrameSource) -> Option<()> {
        const { assert!(!needs_drop::<T>(), "records are never dropped") }
        if state.chunks == MAX_CHUNKS {
            return None;
        }
        let (root, directory, entry) = place(state.chunks);
        let directories = install(&self.roots[root], source, &mut state.frames)?;
        let chunks = install(&directories.0[directory], source, &mut state.frames)?;
        let chunk = ptr::from_mut(source.chunk()?).cast::<Record<T>>();
        state.frames += 1;

        let first = state.chunks << index_bits::<T>();
        for index in (0..records_per_chunk::<T>()).rev() {
            let number = first + index;
            let record = Record { link: AtomicU32::new(state.free), value: T::default() };
            // SAFETY: the chunk is a frame of ours alone, aligned beyond what a record asks; `index` is below the
            // number of records that fit.
            unsafe { chunk.add(index as usize).write(record) };
            // Record 0 is never handed out: a handle is not 0.
            if number != 0 {
                state.free = number;
                state.spare += 1;
            }
        }
        chunks.0[entry].store(chunk, Ordering::Relaxed);
        state.chunks += 1;
        self.limit.store(state.chunks << index_bits::<T>(), Ordering::Release);
        Some(())
    }
}

impl<T> Record<T> {
    fn is_live(&self) -> bool {
        self.link.load(Ordering::Relaxed) == LIVE
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cold]
#[inline(never)]
fn no_record(number: u32) -> ! {
    panic!("no record #{number} in this slab")
}

/// Where the pointer to a chunk is: which of the roots, and the entries in both directories.
#[inline]
const fn place(chunk: u32) -> (usize, usize, usize) {
    let chunk = chunk as usize;
    (chunk >> (2 * ENTRY_BITS) & (ROOTS - 1), chunk >> ENTRY_BITS & (ENTRIES - 1), chunk & (ENTRIES - 1))
}

/// The directory that `slot` points to, made first if there is none. Called under the slab's lock, which is the only
/// way a slot changes.
fn install<'a, P>(
    slot: &'a AtomicPtr<Directory<P>>,
    source: &dyn FrameSource,
    frames: &mut usize,
) -> Option<&'a Directory<P>> {
    const { assert!(size_of::<Directory<P>>() == size_of::<Chunk>()) }
    let mut directory = slot.load(Ordering::Relaxed);
    if directory.is_null() {
        let chunk = source.chunk()?;
        chunk.0.fill(MaybeUninit::new(0));
        directory = ptr::from_mut(chunk).cast();
        slot.store(directory, Ordering::Relaxed);
        *frames += 1;
    }
    // SAFETY: the frame is as large as a directory, aligned beyond what it asks, and was zeroed, which makes all its
    // pointers null; it stays as long as the slab that holds the slot.
    Some(unsafe { &*directory })
}

/// Records of a slab that nobody else can have. What is left when it is dropped becomes free for all.
#[must_use]
pub struct Reservation<'a, T> {
    slab: &'a Slab<T>,
    count: usize,
}

impl<T> Reservation<'_, T> {
    /// Allocates one of the promised records.
    ///
    /// # Panics
    ///
    /// If all of them have been allocated.
    pub fn allocate(&mut self) -> Handle<T> {
        assert!(self.count > 0, "more records are taken than were reserved");
        self.count -= 1;
        let mut state = self.slab.state.lock();
        state.reserved -= 1;
        self.slab.pop(&mut state)
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<T> Drop for Reservation<'_, T> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.slab.state.lock().reserved -= self.count;
        }
    }
}
