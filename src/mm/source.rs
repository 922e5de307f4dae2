//! Frames for the slabs.

use super::MemoryManager;
use super::frame::{Class, Frames};
use super::huge::Shortage;
use super::mmu::Mmu;
use super::slab::{Chunk, FrameSource};

/// Gives slabs unmovable frames through the linear map.
pub struct Source<'m, M> {
    machine: &'m M,
    frames: &'m Frames,
}

impl<M: Mmu> FrameSource for Source<'_, M> {
    fn chunk(&self) -> Option<&'static mut Chunk> {
        let frame = self.frames.allocate(0, Class::Unmovable)?;
        let chunk = self.machine.linear(frame.start()).cast::<Chunk>();
        // SAFETY: the frame was free and is never given back, so nothing else refers to its 4 KiB, which the linear map
        // shows at a multiple of 4 KiB for as long as the machine lives; a chunk may hold any bytes.
        Some(unsafe { &mut *chunk })
    }
}

impl<M: Mmu> MemoryManager<M> {
    /// Where slabs of the kernel's get their frames.
    pub fn source(&self) -> Source<'_, M> {
        Source { machine: &self.machine, frames: &self.frames }
    }

    /// Repeats `allocate` while it gives nothing and memory can be taken back for it. Called without a lock.
    pub fn with_reclaim<R>(&self, allocate: impl Fn() -> Option<R>) -> Option<R> {
        allocate().or_else(|| self.reclaim_for(allocate))
    }

    #[cold]
    #[inline(never)]
    fn reclaim_for<R>(&self, allocate: impl Fn() -> Option<R>) -> Option<R> {
        let mut shortage = Shortage::new();
        while self.ease(&mut shortage) {
            let allocated = allocate();
            if allocated.is_some() {
                return allocated;
            }
        }
        None
    }
}
