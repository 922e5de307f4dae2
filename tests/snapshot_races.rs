//! Snapshots while other cores write, move and take away what they show: each is of one instant, and stays as it is.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/cores.rs"]
mod cores;
#[cfg(not(target_os = "none"))]
#[path = "common/race.rs"]
mod race;
#[cfg(not(target_os = "none"))]
#[path = "common/worker.rs"]
mod worker;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::race::{MAKERS, PAGES, START, World, at, block, half, mark, race, race_of_three, race_often, scattered};
    use crate::worker::{after_a_while, background, take_blocks};
    use ashlar::arch::sim::SimMachine;
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE};
    use ashlar::mm::huge::{Enabled, FaultMode, Unit};
    use ashlar::mm::pin::PinRequest;
    use ashlar::mm::{FaultError, MapRequest, MemoryError, Refusal, RemapRequest};
    use std::sync::Arc;

    /// Where a snapshot of the first slots is: at the first free addresses, so many pages after them.
    const SEEN: u64 = (2 << 30) / PAGE_SIZE as u64;
    /// Where the first slot may move.
    const AWAY: u64 = 8 * 512;

    /// Makes a snapshot of the first `slots` slots.
    fn snapshot(world: &World, slots: usize) {
        let seen = world.mm.snapshot(START, slots * BLOCK_SIZE).expect("memory is free");
        assert_eq!(seen, at(SEEN)..at(SEEN + 512 * slots as u64));
    }

    fn end_snapshot(world: &World) {
        world.mm.check();
        world.mm.end_snapshot(at(SEEN)).expect("it is one");
    }

    /// What the snapshot shows of a page; none, if there is no snapshot.
    fn seen(world: &World, page: u64) -> Option<u8> {
        match world.access(|machine| machine.load(at(SEEN + page), 1)) {
            Ok(bytes) => Some(bytes[0]),
            Err(FaultError::NoRegion { .. }) => None,
            Err(error) => panic!("page {page} of the snapshot: {error}"),
        }
    }

    /// The snapshot shows all marks.
    fn assert_seen(world: &World) {
        PAGES.iter().for_each(|&page| assert_eq!(seen(world, page), Some(mark(page)), "page {page} of the snapshot"));
    }

    /// Reads pages of the snapshot for a while.
    fn look(world: &World) {
        for page in [5, 300, 18, 5, 0, 300, 511, 18] {
            assert_eq!(seen(world, page), Some(mark(page)), "page {page} of the snapshot");
        }
    }

    /// Writes to some of the pages.
    fn write(world: &World) {
        for page in [5, 18, 6, 300] {
            world.work(page);
        }
    }

    /// What [`write`] leaves, or the marks.
    fn assert_live(world: &World, first: u64, written: &[u64]) {
        for page in PAGES {
            let expected = if written.contains(&page) { 4 } else { mark(page) };
            assert_eq!(world.get(first + page), expected, "page {page}");
        }
    }

    const WRITTEN: [u64; 4] = [5, 18, 6, 300];

    /// The same, and a snapshot of it.
    fn with_snapshot(world: Arc<World>) -> Arc<World> {
        snapshot(&world, 1);
        world
    }

    const SHARED: [fn(SimMachine) -> Arc<World>; 3] = [
        |machine| with_snapshot(block(machine)),
        |machine| with_snapshot(half(machine)),
        |machine| with_snapshot(scattered(machine)),
    ];

    // A snapshot is made.

    fn two_untouched(machine: SimMachine) -> Arc<World> {
        World::with_two_slots(machine)
    }

    fn two_to_be_filled(machine: SimMachine) -> Arc<World> {
        let world = World::with_two_slots(machine);
        world.mm.policy().set_fault_mode(FaultMode::Eager);
        world
    }

    fn two_blocks(machine: SimMachine) -> Arc<World> {
        let world = two_to_be_filled(machine);
        [0, 512].into_iter().for_each(|page| world.put(page, 0));
        assert!([0, 512].into_iter().all(|page| world.mm.is_huge(at(page))));
        world
    }

    fn two_of_pages(machine: SimMachine) -> Arc<World> {
        let world = World::with_two_slots(machine);
        world.mm.policy().set_enabled(Enabled::Never);
        LOGS.iter().flatten().for_each(|&page| world.put(page, 0));
        world
    }

    const TWO: [fn(SimMachine) -> Arc<World>; 4] = [two_untouched, two_to_be_filled, two_blocks, two_of_pages];

    /// What is written, in this order, by one core each: slots take turns.
    const LOGS: [[u64; 8]; 2] = [[3, 520, 40, 1023, 4, 521, 200, 700], [600, 17, 601, 100, 513, 18, 960, 480]];

    fn log<const CORE: usize>(world: &World) {
        for page in LOGS[CORE] {
            after_a_while(60);
            world.put(page, 1);
        }
    }

    /// How many entries of a log the snapshot shows: none of them comes before one that it does not show.
    fn logged(world: &World, core: usize) -> usize {
        let shown = LOGS[core].map(|page| seen(world, page).expect("there is one") == 1);
        let count = shown.iter().take_while(|&&shown| shown).count();
        assert!(!shown[count..].contains(&true), "it is of two instants: {shown:?}");
        count
    }

    fn assert_logged(world: &World) {
        assert_eq!([0, 1].map(|core| logged(world, core)), [0, 1].map(|core| logged(world, core)));
        end_snapshot(world);
        LOGS.iter().flatten().for_each(|&page| assert_eq!(world.get(page), 1, "a store was lost"));
    }

    /// Makes it at some time, and sees that it does not change.
    fn snapshot_of_logs(world: &World) {
        after_a_while(60);
        snapshot(world, 2);
        let before = [0, 1].map(|core| logged(world, core));
        after_a_while(60);
        assert_eq!([0, 1].map(|core| logged(world, core)), before, "it has changed");
    }

    pub fn it_is_of_one_instant() {
        for make in TWO {
            race_of_three(make, [log::<0>, log::<1>, snapshot_of_logs], assert_logged);
        }
    }

    /// One word after another, over and over, by two cores.
    const FIRST: u64 = 30;
    const THEN: u64 = 540;
    const ROUNDS: u8 = 6;

    fn count<const STEP: u64>(world: &World) {
        for value in 1..=ROUNDS {
            // Who waits for one that is made is no danger to it.
            after_a_while(80);
            world.put(FIRST + STEP, value);
            world.put(THEN + STEP, value);
        }
    }

    fn snapshot_of_counts(world: &World) {
        after_a_while(60);
        snapshot(world, 2);
    }

    fn assert_counted(world: &World) {
        for step in 0..2 {
            let [first, then] = [FIRST, THEN].map(|page| seen(world, page + step).expect("there is one"));
            assert!(first == then || first == then + 1, "{first} was written, and {then} after it");
            assert_eq!((world.get(FIRST + step), world.get(THEN + step)), (ROUNDS, ROUNDS));
        }
        end_snapshot(world);
    }

    pub fn nothing_is_ahead_of_what_was_written_before() {
        for make in TWO {
            race_of_three(make, [count::<0>, count::<1>, snapshot_of_counts], assert_counted);
        }
    }

    /// The first slot is touched first as it is to be closed, or was passed over; the second takes a while.
    fn first_touch_then_another_slot(make: fn(SimMachine) -> Arc<World>) {
        let own = |world: &World| {
            // The first one is shared about then.
            after_a_while(150);
            [3, LAST].into_iter().for_each(|page| world.put(page, 1));
        };
        race_often(300, make, [own, |world| snapshot(world, 3), |_| ()], |world| {
            let [first, then] = [3, LAST].map(|page| seen(world, page).expect("there is one"));
            assert!(first >= then, "the second is there, and the first is not");
            end_snapshot(world);
            assert_eq!((world.get(3), world.get(LAST)), (1, 1));
        });
    }

    /// A page of the third slot.
    const LAST: u64 = 1024 + 50;

    /// The first of three slots was not touched.
    fn three(machine: SimMachine) -> Arc<World> {
        let world = World::with_two_slots(machine);
        world.mm.map(MapRequest::new(BLOCK_SIZE).at(at(1024))).expect("room");
        world.mm.policy().set_enabled(Enabled::Never);
        (0..40).for_each(|index| world.put(512 + 12 * index, 0));
        world.put(LAST, 0);
        world.mm.policy().set_enabled(Enabled::Always);
        world
    }

    pub fn a_slot_that_is_new_is_of_the_same_instant() {
        first_touch_then_another_slot(three);
    }

    /// A block is zeroed, outside of any lock.
    pub fn a_slot_that_is_being_filled_is_of_the_same_instant() {
        first_touch_then_another_slot(|machine| {
            let world = three(machine);
            world.put(3, 0);
            world.mm.release(START, BLOCK_SIZE).expect("mapped");
            world.mm.policy().set_fault_mode(FaultMode::Eager);
            world
        });
    }

    /// A collapse does not open what is closed.
    pub fn a_collapse_as_it_is_made() {
        let collapse = |world: &World| {
            for _ in 0..4 {
                after_a_while(60);
                world.mm.collapse(START, BLOCK_SIZE, || false, |_, _| ()).expect("a sound range");
            }
        };
        race_of_three(two_of_pages, [count::<0>, collapse, snapshot_of_counts], |world| {
            let [first, then] = [FIRST, THEN].map(|page| seen(world, page).expect("there is one"));
            assert!(first == then || first == then + 1, "{first} was written, and {then} after it");
            end_snapshot(world);
        });
    }

    /// What is pinned is copied at once, and as it was at the same instant.
    pub fn pinned_pages_are_of_the_same_instant() {
        fn make<const THEN_TOO: bool>(machine: SimMachine) -> Arc<World> {
            let world = two_of_pages(machine);
            let pages = if THEN_TOO { vec![FIRST, FIRST + 1, THEN, THEN + 1] } else { vec![FIRST, FIRST + 1] };
            for page in pages {
                // Nobody drops it.
                let _ = world.mm.pin(at(page), PAGE_SIZE, PinRequest::new().write()).expect("memory is free");
            }
            world
        }
        for make in [make::<true>, make::<false>] {
            race_of_three(make, [count::<0>, count::<1>, snapshot_of_counts], assert_counted);
        }
    }

    /// A device writes before, meanwhile and after; what it writes after is not shown.
    pub fn pins_against_a_snapshot() {
        const PINNED: u64 = 5;
        let device = |world: &World| {
            let pin = world.mm.pin(at(PINNED), 2 * PAGE_SIZE, PinRequest::new().write()).expect("memory is free");
            let frame = world.mm.extents(&pin).next().expect("an extent").start;
            for value in 101..=105 {
                world.mm.machine().write_physical(frame, &[value]);
                assert_eq!(world.get(PINNED), value, "the device's write was lost");
                world.put(PINNED, value - 50);
                assert_eq!(world.mm.machine().read_physical(frame, 1), [value - 50], "the application's was");
            }
            world.mm.unpin(pin);
        };
        let make = |world: &World| {
            after_a_while(40);
            snapshot(world, 1);
            let before = seen(world, PINNED);
            for _ in 0..3 {
                after_a_while(20);
                assert_eq!(seen(world, PINNED), before, "it has changed");
            }
            assert_eq!(seen(world, PINNED + 1), Some(mark(PINNED + 1)));
        };
        for world in MAKERS {
            race_of_three(world, [device, make, |_| ()], |world| {
                world.put(PINNED, mark(PINNED));
                assert_live(world, 0, &[]);
                end_snapshot(world);
            });
        }
    }

    /// It comes and goes, and so does what it shows.
    pub fn one_snapshot_after_another() {
        let make = |world: &World| {
            for _ in 0..3 {
                snapshot(world, 2);
                let before = [0, 1].map(|core| logged(world, core));
                assert_eq!([0, 1].map(|core| logged(world, core)), before, "it has changed");
                world.mm.end_snapshot(at(SEEN)).expect("it is one");
            }
        };
        for world in TWO {
            race_of_three(world, [log::<0>, log::<1>, make], |world| {
                LOGS.iter().flatten().for_each(|&page| assert_eq!(world.get(page), 1, "a store was lost"));
            });
        }
    }

    /// What the application can do without is taken back, and what was is not shown: but what is shown stays.
    pub fn memory_taken_back_while_it_is_made() {
        fn make(machine: SimMachine) -> Arc<World> {
            let world = block(machine);
            world.mm.map(MapRequest::new(BLOCK_SIZE).at(at(AWAY))).expect("room");
            world.put(AWAY, 1);
            world.mm.mark_free(START, BLOCK_SIZE).expect("mapped");
            world.exhaust();
            world
        }
        let own = |world: &World| (1..5).for_each(|group| _ = world.try_put(AWAY + 16 * group, 8));
        let other = |world: &World| {
            after_a_while(20);
            match world.mm.snapshot(START, BLOCK_SIZE) {
                Ok(range) => assert_eq!(range.start, at(SEEN)),
                Err(MemoryError::NoMemory) => return,
                Err(error) => panic!("{error}"),
            }
            let before = PAGES.map(|page| world.access(|machine| machine.load(at(SEEN + page), 1)).ok());
            after_a_while(20);
            for (page, before) in PAGES.into_iter().zip(before) {
                let Some(before) = before else { continue };
                assert!([0, mark(page)].contains(&before[0]));
                assert_eq!(seen(world, page), Some(before[0]), "page {page} has changed");
            }
            world.mm.end_snapshot(at(SEEN)).expect("it is one");
        };
        race(make, own, other, |_| ());
    }

    // There is a snapshot.

    /// Reads the snapshot, writes to what it shows, and does a third thing.
    fn reads_and_writes_against(third: fn(&World), end: fn(&World)) {
        for make in SHARED {
            race_of_three(make, [look, write, third], end);
        }
    }

    /// The snapshot is as it was, and so is what was not written to.
    fn end_of_all(world: &World) {
        assert_seen(world);
        assert_live(world, 0, &WRITTEN);
        end_snapshot(world);
        assert_live(world, 0, &WRITTEN);
    }

    pub fn writes_of_two_cores() {
        let other = |world: &World| [7, 19, 18 + 16, 301].into_iter().for_each(|page| world.work(page));
        reads_and_writes_against(other, |world| {
            world.put(7, mark(7));
            end_of_all(world);
        });
    }

    pub fn live_pages_migrate() {
        let other = |world: &World| {
            for (page, unit) in
                [(5, Unit::Page), (0, Unit::Group), (18, Unit::Page), (300, Unit::Page), (6, Unit::Page)]
            {
                world.mm.migrate(at(page), unit).expect("present");
            }
        };
        reads_and_writes_against(other, end_of_all);
    }

    pub fn a_home_ends() {
        let other = |world: &World| match world.mm.dissolve(START) {
            Ok(_) | Err(Refusal::NoHome) => {}
            Err(refusal) => panic!("{refusal}"),
        };
        reads_and_writes_against(other, end_of_all);
    }

    fn collapse(world: &World, page: u64) -> Option<Refusal> {
        let mut refusal = None;
        let each = |_, result: Result<_, Refusal>| refusal = result.err();
        world.mm.collapse(at(page), BLOCK_SIZE, || false, each).expect("a sound range");
        refusal
    }

    pub fn a_collapse() {
        let other = |world: &World| {
            assert!(matches!(collapse(world, 0), None | Some(Refusal::Busy)));
            assert!(matches!(collapse(world, SEEN), Some(Refusal::Shared | Refusal::Empty | Refusal::Busy)));
        };
        reads_and_writes_against(other, end_of_all);
    }

    /// It copies as many as it may; and where no block is free, it makes one.
    pub fn the_background() {
        fn make<const SHARED: u16, const BLOCKS: usize>(machine: SimMachine) -> Arc<World> {
            let world = with_snapshot(scattered(machine));
            let policy = world.mm.policy();
            policy.set_max_ptes_none(511);
            policy.set_max_ptes_shared(SHARED);
            policy.set_enabled(Enabled::Always);
            take_blocks(&world, BLOCKS);
            world.mm.reconsider();
            world
        }
        let some = [make::<511, 2>, make::<18, 2>, make::<0, 2>, make::<511, 0>];
        for make in some {
            race_of_three(make, [look, write, background], end_of_all);
        }
    }

    pub fn releases() {
        let own = |world: &World| WRITTEN.into_iter().for_each(|page| world.put(page, 4));
        let other = |world: &World| {
            for (page, pages) in [(4, 2), (0, 20), (300, 1), (0, 512)] {
                world.mm.release(at(page), pages * PAGE_SIZE).expect("mapped");
            }
        };
        for make in SHARED {
            race_of_three(make, [look, own, other], |world| {
                assert_seen(world);
                for page in PAGES {
                    let left = world.get(page);
                    assert!(left == 0 || left == 4 && WRITTEN.contains(&page), "page {page} holds {left}");
                }
                end_snapshot(world);
            });
        }
    }

    pub fn live_pages_are_unmapped() {
        let own = |world: &World| {
            for page in WRITTEN {
                match world.try_put(page, 4) {
                    Ok(()) | Err(FaultError::NoRegion { .. }) => {}
                    Err(error) => panic!("page {page}: {error}"),
                }
            }
        };
        let other = |world: &World| {
            for (page, pages) in [(4, 2), (0, 20), (300, 1), (0, 512)] {
                world.mm.unmap(at(page), pages * PAGE_SIZE).expect("a sound range");
            }
        };
        for make in SHARED {
            race_of_three(make, [look, own, other], |world| {
                assert_seen(world);
                end_snapshot(world);
                assert_eq!(world.mm.usage().region_pages, 0);
            });
        }
    }

    /// It may be read until then, and shows what it did.
    pub fn it_ends() {
        let own = |world: &World| {
            for page in PAGES {
                assert!([None, Some(mark(page))].contains(&seen(world, page)), "page {page} of the snapshot");
            }
        };
        let other = |world: &World| {
            after_a_while(30);
            world.mm.end_snapshot(at(SEEN)).expect("it is one");
        };
        for make in SHARED {
            race_of_three(make, [own, write, other], |world| assert_live(world, 0, &WRITTEN));
        }
    }

    /// Its memory has a snapshot of later by then.
    pub fn an_older_one_ends() {
        const NEWER: u64 = SEEN + 512;
        let make = |machine| {
            let world = with_snapshot(half(machine));
            world.mm.release(START, BLOCK_SIZE).expect("mapped");
            world.put(5, 9);
            assert_eq!(world.mm.snapshot(START, BLOCK_SIZE).expect("memory is free").start, at(NEWER));
            world
        };
        let own = |world: &World| {
            for page in [100, 5, 120, 140, 160] {
                let expected = if page == 5 { mark(5) } else { 0 };
                assert!([None, Some(expected)].contains(&seen(world, page)), "page {page} of the snapshot");
            }
        };
        let other = |world: &World| {
            after_a_while(30);
            world.mm.end_snapshot(at(SEEN)).expect("it is one");
        };
        race_of_three(make, [own, write, other], |world| {
            assert_eq!((world.get(NEWER + 5), world.get(5)), (9, 4));
            world.mm.end_snapshot(at(NEWER)).expect("it is one");
        });
    }

    /// What was given back is touched again, by whole blocks, as the snapshot ends that had them.
    pub fn it_ends_as_a_block_is_filled() {
        let make = |machine| {
            let world = with_snapshot(block(machine));
            world.mm.policy().set_fault_mode(FaultMode::Eager);
            world.mm.release(START, BLOCK_SIZE).expect("mapped");
            world
        };
        let own = |world: &World| [5, 6].into_iter().for_each(|page| world.work(page));
        let other = |world: &World| [300, 301].into_iter().for_each(|page| world.work(page));
        let third = |world: &World| {
            after_a_while(20);
            world.mm.end_snapshot(at(SEEN)).expect("it is one");
        };
        race_of_three(make, [own, other, third], |world| {
            assert_eq!([5, 6, 7, 300, 301].map(|page| world.get(page)), [4, 4, 0, 4, 4]);
        });
    }

    /// There was other memory, of which a block is still being filled.
    pub fn it_is_made_where_a_block_is_filled() {
        let make = |machine| {
            let world = half(machine);
            world.mm.map(MapRequest::new(BLOCK_SIZE).at(at(SEEN))).expect("room");
            world.mm.policy().set_fault_mode(FaultMode::Eager);
            world
        };
        let own = |world: &World| match world.try_put(SEEN + 3, 9) {
            Ok(()) | Err(FaultError::NoRegion { .. } | FaultError::Denied { .. }) => {}
            Err(error) => panic!("{error}"),
        };
        let other = |world: &World| {
            after_a_while(20);
            world.mm.unmap(at(SEEN), BLOCK_SIZE).expect("a sound range");
            snapshot(world, 1);
            assert_seen(world);
        };
        race(make, own, other, |world| {
            assert_seen(world);
            world.work(5);
            assert_seen(world);
            end_snapshot(world);
        });
    }

    pub fn whole_slots_move() {
        let own = |world: &World| {
            for page in WRITTEN {
                let put = |place: u64| world.try_put(place + page, 4);
                while let Err(error) = put(0).or_else(|_| put(AWAY)) {
                    assert!(matches!(error, FaultError::NoRegion { .. }), "{error}");
                    shuttle::thread::yield_now();
                }
            }
        };
        let other = |world: &World| {
            for (from, to) in [(0, AWAY), (AWAY, 0), (0, AWAY)] {
                let request = RemapRequest::new(BLOCK_SIZE).at(at(to));
                world.mm.remap(at(from), BLOCK_SIZE, request).expect("mapped, and room");
            }
        };
        for make in SHARED {
            race_of_three(make, [look, own, other], |world| {
                assert_seen(world);
                assert_live(world, AWAY, &WRITTEN);
                end_snapshot(world);
            });
        }
    }

    /// A device reads what the snapshot shows.
    pub fn pins_of_the_snapshot() {
        let device = |world: &World| {
            let pin = world.mm.pin(at(SEEN + 5), 2 * PAGE_SIZE, PinRequest::new()).expect("memory is free");
            for _ in 0..3 {
                let frames = world.mm.extents(&pin).flat_map(|extent| {
                    (0..extent.end - extent.start).step_by(PAGE_SIZE).map(move |at| extent.start + at)
                });
                let shown: Vec<_> = frames.map(|frame| world.mm.machine().read_physical(frame, 1)[0]).collect();
                assert_eq!(shown, [mark(5), mark(6)]);
                after_a_while(20);
            }
            world.mm.unpin(pin);
        };
        reads_and_writes_against(device, end_of_all);
    }

    /// Who asks after a page of the snapshot waits for nobody who has the live one.
    pub fn places_are_counted() {
        let other = |world: &World| {
            for page in [5, 18, 300, 5] {
                assert!((1..=2).contains(&world.mm.map_count(at(page))));
                assert!(world.mm.map_count(at(SEEN + page)) <= 1);
            }
        };
        reads_and_writes_against(other, end_of_all);
    }

    pub fn it_is_told_what_changed() {
        let other = |world: &World| {
            let mut before = Vec::new();
            for _ in 0..3 {
                let mut changed = Vec::new();
                let visit = |run: std::ops::Range<_>| {
                    let pages = (run.end - run.start) / PAGE_SIZE as u64;
                    changed.extend((0..pages).map(|page| run.start + page * PAGE_SIZE as u64));
                };
                world.mm.changed_since(START, BLOCK_SIZE, at(SEEN), visit).expect("there is one");
                assert!(before.iter().all(|page| changed.contains(page)), "what has changed stays so");
                assert!(changed.iter().all(|&page| WRITTEN.iter().any(|&written| at(written) == page)));
                before = changed;
            }
        };
        reads_and_writes_against(other, end_of_all);
    }

    /// One can't be made where pages were another's that is read now.
    pub fn one_that_fails_beside_another() {
        /// Where that one is.
        const OTHER: u64 = SEEN + 1536;
        let make = |machine| {
            let world = World::with_two_slots(machine);
            world.mm.policy().set_use_zero_page(false);
            world.put(0, 7);
            snapshot(&world, 1);
            // Two slots where the next one would be: the second was seen by a snapshot behind it.
            world.mm.map(MapRequest::new(2 * BLOCK_SIZE).at(at(SEEN + 512))).expect("room");
            world.put(SEEN + 1024, 9);
            let range = world.mm.snapshot(at(SEEN + 1024), BLOCK_SIZE).expect("memory is free");
            assert_eq!(range.start, at(OTHER));
            world.mm.unmap(at(SEEN + 512), 2 * BLOCK_SIZE).expect("mapped");
            world
        };
        let own = |world: &World| {
            for page in 0..20 {
                let expected = if page == 0 { 9 } else { 0 };
                assert_eq!(world.get(OTHER + 20 * page), expected);
            }
        };
        let other = |world: &World| {
            for _ in 0..4 {
                let refused = world.mm.snapshot(START, 2 * BLOCK_SIZE);
                assert_eq!(refused, Err(MemoryError::Shared { address: START }));
            }
        };
        race(make, own, other, |world| {
            assert_eq!((world.get(OTHER), world.get(OTHER + 500)), (9, 0));
            end_snapshot(world);
            world.mm.end_snapshot(at(OTHER)).expect("it is one");
        });
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    it_is_of_one_instant,
    #[cfg(not(target_os = "none"))]
    nothing_is_ahead_of_what_was_written_before,
    #[cfg(not(target_os = "none"))]
    a_slot_that_is_new_is_of_the_same_instant,
    #[cfg(not(target_os = "none"))]
    a_slot_that_is_being_filled_is_of_the_same_instant,
    #[cfg(not(target_os = "none"))]
    a_collapse_as_it_is_made,
    #[cfg(not(target_os = "none"))]
    an_older_one_ends,
    #[cfg(not(target_os = "none"))]
    pinned_pages_are_of_the_same_instant,
    #[cfg(not(target_os = "none"))]
    pins_against_a_snapshot,
    #[cfg(not(target_os = "none"))]
    one_snapshot_after_another,
    #[cfg(not(target_os = "none"))]
    memory_taken_back_while_it_is_made,
    #[cfg(not(target_os = "none"))]
    writes_of_two_cores,
    #[cfg(not(target_os = "none"))]
    live_pages_migrate,
    #[cfg(not(target_os = "none"))]
    a_home_ends,
    #[cfg(not(target_os = "none"))]
    a_collapse,
    #[cfg(not(target_os = "none"))]
    the_background,
    #[cfg(not(target_os = "none"))]
    releases,
    #[cfg(not(target_os = "none"))]
    live_pages_are_unmapped,
    #[cfg(not(target_os = "none"))]
    it_ends,
    #[cfg(not(target_os = "none"))]
    it_ends_as_a_block_is_filled,
    #[cfg(not(target_os = "none"))]
    it_is_made_where_a_block_is_filled,
    #[cfg(not(target_os = "none"))]
    whole_slots_move,
    #[cfg(not(target_os = "none"))]
    pins_of_the_snapshot,
    #[cfg(not(target_os = "none"))]
    places_are_counted,
    #[cfg(not(target_os = "none"))]
    it_is_told_what_changed,
    #[cfg(not(target_os = "none"))]
    one_that_fails_beside_another,
}
