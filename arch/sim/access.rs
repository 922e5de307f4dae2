//! What the application does: loads, stores and instruction fetches, by virtual address.
#![forbid(unsafe_code)]

use super::SimMachine;
use super::report::{Operation, Rule, Violation};
use crate::mm::address::{PAGE_SIZE, PhysAddr, VirtAddr};
use crate::mm::mmu::{Access, Level};
use alloc::vec;
use alloc::vec::Vec;

/// Faults in a row on one page before an access is given up as stuck.
const PATIENCE: usize = 16;

/// Why an access did not go through, as the syndrome register would say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// No valid descriptor at this level, or an address outside the lower half (level 1).
    Translation(Level),
    /// The leaf at this level does not allow it.
    Permission(Level),
    /// The access flag of the leaf at this level is clear.
    AccessFlag(Level),
}

/// An access that faulted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SimFault {
    /// The first address that faulted.
    pub va: VirtAddr,
    /// What was tried.
    pub access: Access,
    /// Why it failed.
    pub kind: FaultKind,
}

/// An access that its fault handler could not help.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccessError<E> {
    /// The handler's refusal.
    Refused(E),
    /// The handler says that all is well, and the access faults again and again.
    Stuck(SimFault),
}

impl SimMachine {
    /// Loads `bytes` bytes from `va`.
    ///
    /// # Errors
    ///
    /// The fault of the first page that does not allow it.
    pub fn load(&self, va: VirtAddr, bytes: usize) -> Result<Vec<u8>, SimFault> {
        let mut loaded = vec![0; bytes];
        for (offset, length) in pieces(va, bytes) {
            let piece = &mut loaded[offset..offset + length];
            self.access(va + offset as u64, Access::READ, |pa| self.memory.read(pa, piece))?;
        }
        Ok(loaded)
    }

    /// Stores `bytes` to `va`. Pages before the one that faults are written.
    ///
    /// # Errors
    ///
    /// The fault of the first page that does not allow it.
    pub fn store(&self, va: VirtAddr, bytes: &[u8]) -> Result<(), SimFault> {
        pieces(va, bytes.len()).try_for_each(|(offset, length)| {
            let piece = &bytes[offset..offset + length];
            self.access(va + offset as u64, Access::READ_WRITE, |pa| self.memory.write(pa, piece))
        })
    }

    /// Fetches the instruction at `va`.
    ///
    /// # Errors
    ///
    /// The fault, if the page does not allow it.
    pub fn execute(&self, va: VirtAddr) -> Result<(), SimFault> {
        self.access(va, Access::READ_EXECUTE, |_| {})
    }

    /// Repeats `access` until it goes through, with `handler` called for each fault as the exception vector would.
    ///
    /// # Errors
    ///
    /// What `handler` refuses with; [`AccessError::Stuck`] after 16 faults in a row on one page.
    pub fn retry<R, E>(
        &self,
        mut access: impl FnMut(&Self) -> Result<R, SimFault>,
        mut handler: impl FnMut(SimFault) -> Result<(), E>,
    ) -> Result<R, AccessError<E>> {
        let (mut page, mut faults) = (None, 0);
        loop {
            let fault = match access(self) {
                Ok(result) => return Ok(result),
                Err(fault) => fault,
            };
            faults = if page == Some(fault.va.page()) { faults + 1 } else { 0 };
            page = Some(fault.va.page());
            if faults == PATIENCE {
                return Err(AccessError::Stuck(fault));
            }
            handler(fault).map_err(AccessError::Refused)?;
        }
    }

    /// One access within a page: translates and performs it in one step.
    fn access(&self, va: VirtAddr, access: Access, perform: impl FnOnce(PhysAddr)) -> Result<(), SimFault> {
        self.step(|core, state| {
            let result = state.translate(&self.memory, core, va, access);
            state.log.operation(core, Operation::Access { va, access, to: result.ok() });
            let pa = result.map_err(|kind| SimFault { va, access, kind })?;
            if access.execute && state.checker.frames.is_unsynchronized(&self.memory, pa.frame()) {
                let blame = Violation::of_frame(Rule::CodeNotSynchronized, core, pa.frame());
                state.log.violation(Violation { va: Some(va), ..blame });
            }
            if !self.memory.contains(pa.frame(), 1) {
                // Flagged when it was mapped; the bus has nothing there.
                return Ok(());
            }
            if access.write {
                state.checker.frames.note_code(&self.memory, pa.frame(), 1, true);
            }
            perform(pa);
            Ok(())
        })
    }
}

/// `bytes` bytes from `va`, cut at page borders: offset and length of each piece.
fn pieces(va: VirtAddr, bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut offset = 0;
    core::iter::from_fn(move || {
        let length = (PAGE_SIZE - (va + offset as u64).0 as usize % PAGE_SIZE).min(bytes - offset);
        let piece = (offset, length);
        offset += length;
        (length > 0).then_some(piece)
    })
}
