//! Lock protocols around break-before-make, under a scheduler that may switch cores at every operation of the machine
//! and every access.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/cores.rs"]
mod cores;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::cores::{self, Outcome};
    use ashlar::arch::sim::{AccessError, Rule, SimFault, SimMachine};
    use ashlar::mm::address::{Frame, VirtAddr};
    use ashlar::mm::mmu::{Access, Attributes, Entry, Invalidation, Level, Mmu};
    use ashlar::sync::{Rank, Ranked};
    use std::sync::Arc;

    const ROOT: Frame = Frame(0x4_0000);
    const MIDDLE: Frame = Frame(ROOT.0 + 1);
    const PAGES: Frame = Frame(ROOT.0 + 2);
    /// Where page 3 is at first.
    const HERE: Frame = Frame(ROOT.0 + 16);
    /// Where it can be moved to; one frame for each core.
    const THERE: Frame = Frame(ROOT.0 + 32);
    const PAGE: VirtAddr = VirtAddr(0x3000);
    const SCHEDULES: usize = 2000;

    /// How a core takes part in the protocol.
    #[derive(Clone, Copy, PartialEq)]
    enum Manners {
        /// The slot's lock is held from the break to the make, and by who looks at an entry.
        Locked,
        /// It is not.
        Careless,
    }

    /// A page, and the lock of its slot.
    struct Slot {
        machine: SimMachine,
        lock: Ranked<()>,
    }

    fn leaf(frame: Frame) -> Entry {
        Entry::Page { frame, attributes: Attributes::new(Access::READ_WRITE), contiguous: false }
    }

    impl Slot {
        fn new(machine: SimMachine) -> Arc<Self> {
            let slot = Self { machine, lock: Ranked::new(Rank::Slot, ()) };
            slot.write(ROOT, 0, Level::One, Entry::Table(MIDDLE));
            slot.write(MIDDLE, 0, Level::Two, Entry::Table(PAGES));
            slot.set(leaf(HERE));
            slot.machine.publish();
            slot.machine.set_root(ROOT);
            Arc::new(slot)
        }

        fn write(&self, table: Frame, index: usize, level: Level, entry: Entry) {
            // SAFETY: no Rust reference points into the simulated application's memory.
            unsafe { self.machine.write_entry(table, index, level, entry) }
        }

        fn set(&self, entry: Entry) {
            self.write(PAGES, PAGE.page().index(), Level::Three, entry);
        }

        fn entry(&self) -> Entry {
            self.machine.read_entry(PAGES, PAGE.page().index(), Level::Three)
        }

        /// Moves the page to `to`, if it is there.
        fn migrate(&self, to: Frame, manners: Manners) {
            let held = (manners == Manners::Locked).then(|| self.lock.lock());
            if let Some((from, _)) = self.entry().leaf() {
                self.set(Entry::Invalid);
                self.machine.invalidate(&Invalidation::Pages(PAGE.page().0..PAGE.page().0 + 1));
                self.machine.copy(from, to, 1);
                self.machine.publish();
                self.set(leaf(to));
                self.machine.publish();
                self.machine.check_settled();
            }
            drop(held);
        }

        /// Decides about a fault: whether the access may be tried again.
        fn fault(&self, fault: SimFault, manners: Manners) -> Result<(), SimFault> {
            let _held = (manners == Manners::Locked).then(|| self.lock.lock());
            match self.entry().leaf() {
                Some((_, attributes)) if attributes.permits(fault.access) => Ok(()),
                _ => Err(fault),
            }
        }

        /// Stores a few values, one after another, each read back.
        fn work(&self, manners: Manners) -> Result<(), AccessError<SimFault>> {
            for value in 1..=4 {
                self.machine.retry(|machine| machine.store(PAGE, &[value]), |fault| self.fault(fault, manners))?;
                let loaded = self.machine.retry(|machine| machine.load(PAGE, 1), |fault| self.fault(fault, manners))?;
                assert_eq!(loaded, [value], "a store was lost");
            }
            Ok(())
        }
    }

    pub fn good_migration_under_accesses() {
        let outcome = cores::interleave(SCHEDULES, |machine| {
            let slot = Slot::new(machine);
            let other = slot.clone();
            let core = cores::start(1, move || other.migrate(THERE, Manners::Locked));
            slot.work(Manners::Locked).expect("the page is there all the time");
            core.join().expect("the migration ends");
            let frame = slot.entry().leaf().map(|(frame, _)| frame);
            assert_eq!(frame, Some(THERE));
            assert_eq!(slot.machine.read_physical(THERE.start(), 1), [4]);
            slot.machine.violations()
        });
        assert_eq!(outcome, Outcome::default());
    }

    pub fn good_two_migrations_of_one_page() {
        let outcome = cores::interleave(SCHEDULES, |machine| two_migrations(machine, Manners::Locked));
        assert_eq!(outcome, Outcome::default());
    }

    pub fn bad_two_migrations_without_a_lock() {
        let outcome = cores::interleave(SCHEDULES, |machine| two_migrations(machine, Manners::Careless));
        assert!(outcome.flagged(Rule::MissingBreak), "{outcome:?}");
    }

    fn two_migrations(machine: SimMachine, manners: Manners) -> Vec<ashlar::arch::sim::Violation> {
        let slot = Slot::new(machine);
        let other = slot.clone();
        let core = cores::start(1, move || other.migrate(THERE + 1, manners));
        slot.migrate(THERE, manners);
        core.join().expect("the migration ends");
        slot.machine.violations()
    }

    pub fn bad_fault_decided_without_the_lock() {
        let outcome = cores::interleave(SCHEDULES, |machine| {
            let slot = Slot::new(machine);
            let other = slot.clone();
            let core = cores::start(1, move || other.migrate(THERE, Manners::Locked));
            let worked = slot.work(Manners::Careless);
            core.join().expect("the migration ends");
            cores::note(worked.is_err());
            slot.machine.violations()
        });
        assert!(outcome.noted > 0, "no schedule took the window for a wild access: {outcome:?}");
        assert!(outcome.rules.is_empty(), "{outcome:?}");
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    good_migration_under_accesses,
    #[cfg(not(target_os = "none"))]
    good_two_migrations_of_one_page,
    #[cfg(not(target_os = "none"))]
    bad_two_migrations_without_a_lock,
    #[cfg(not(target_os = "none"))]
    bad_fault_decided_without_the_lock,
}
