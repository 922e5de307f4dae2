//! Between any two locks of an operation another core does something else, from beginning to end: every pair of operations, and
//! every such moment of the first. What both leave behind is sound, and what neither gave back is there.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
mod common;
#[cfg(not(target_os = "none"))]
mod world;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::common::{set_core, with_interlude};
    use crate::world::{MIB, World};
    use ashlar::mm::address::{BLOCK_SIZE, Block, Frame, PAGE_SIZE, VirtAddr};
    use ashlar::mm::frame::Class;
    use ashlar::mm::huge::{Defrag, Enabled, FaultMode, Rest, Unit};
    use ashlar::mm::mmu::Access;
    use ashlar::mm::pin::{PinId, PinRequest};
    use ashlar::mm::{FaultError, MapRequest};
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;
    use std::ops::Range;
    use std::rc::Rc;

    const START: VirtAddr = VirtAddr(3 << 30);
    /// Slots that one region covers: the first is a block that was dissolved, with a hole; the second has pages in that
    /// hole; the third is a block; the last was never touched.
    const SLOTS: u64 = 4;
    const HOLE: Range<u64> = 128..192;
    const STRANGERS: Range<u64> = 512..552;
    /// A page of the second slot that is alone in its block.
    const LONER: u64 = 900;
    /// What time moves by between two steps in the background, in nanoseconds: no sample takes as long.
    const TICK: u64 = 30_000_000;

    struct Scene {
        world: World,
        /// The background's.
        clock: Cell<u64>,
        /// Pins, with their first pages.
        pins: RefCell<Vec<(u64, PinId)>>,
    }

    struct Operation {
        name: &'static str,
        run: fn(&Scene),
        /// What it gives back.
        clears: Range<u64>,
        /// Others that are kept off by the same wait until it has ended, and cannot come between.
        keeps_off: Option<KeepsOff>,
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum KeepsOff {
        /// The space's lock.
        Space,
        /// A slot that is being filled.
        Filling,
    }

    fn page(index: u64) -> VirtAddr {
        START + index * PAGE_SIZE as u64
    }

    fn bytes(pages: &Range<u64>) -> usize {
        (pages.end - pages.start) as usize * PAGE_SIZE
    }

    /// Pages that hold their number and one from the start.
    fn written() -> impl Iterator<Item = u64> {
        let firsts = |pages: Range<u64>| pages.step_by(16);
        firsts(0..512).filter(|page| !HOLE.contains(page)).chain(STRANGERS).chain([LONER]).chain(firsts(1024..1536))
    }

    impl Scene {
        fn new() -> Rc<Self> {
            set_core(0);
            let world = World::new(16 * MIB, 2, 1);
            let scene = Scene { world, clock: Cell::new(0), pins: RefCell::default() };
            let mm = &scene.world.mm;
            mm.map(MapRequest::new(SLOTS as usize * BLOCK_SIZE).at(START)).expect("room");
            (0..512).chain(1024..1536).step_by(16).for_each(|index| scene.touch(index));
            scene.release(HOLE);
            mm.dissolve(START).expect("nothing is pinned");
            mm.policy().set_enabled(Enabled::Never);
            STRANGERS.for_each(|index| scene.touch(index));
            let block = |index| mm.machine().translate(page(index)).expect("present").frame().block();
            assert!(STRANGERS.filter(|&index| block(index) == block(0)).count() > 10);
            // While the frames that are left there are somebody's.
            let room: Vec<Frame> = core::iter::from_fn(|| mm.frames().allocate_partial(0)).collect();
            scene.touch(LONER);
            room.into_iter().for_each(|frame| mm.frames().free(frame, 0));
            assert_ne!(block(LONER), block(0));
            mm.policy().set_enabled(Enabled::Always);
            assert!(mm.is_huge(page(1024)));
            // Low memory is said from here on.
            assert_eq!(mm.background_step(0), Rest::Wait);
            Rc::new(scene)
        }

        fn touch(&self, index: u64) {
            match self.world.store(page(index), &(index + 1).to_le_bytes()) {
                Ok(()) | Err(FaultError::NoRegion { .. } | FaultError::Denied { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }

        fn release(&self, pages: Range<u64>) {
            // Perhaps not all of it is mapped.
            let _ = self.world.mm.release(page(pages.start), bytes(&pages));
        }

        fn unmap(&self, pages: Range<u64>) {
            self.world.mm.unmap(page(pages.start), bytes(&pages)).expect("there is memory");
        }

        fn protect(&self, pages: Range<u64>, access: Access) {
            let _ = self.world.mm.protect(page(pages.start), bytes(&pages), access);
        }

        fn collapse(&self, slot: u64) {
            let start = page(512 * slot);
            self.world.mm.collapse(start, BLOCK_SIZE, || false, |_, _| ()).expect("a sound range");
        }

        fn pin(&self, pages: Range<u64>, request: PinRequest) {
            if let Ok(pin) = self.world.mm.pin(page(pages.start), bytes(&pages), request) {
                self.pins.borrow_mut().push((pages.start, pin));
            }
        }

        fn unpin(&self) {
            // Not held while the pin is dropped: what comes between may pin.
            let pin = self.pins.borrow_mut().pop();
            if let Some((_, pin)) = pin {
                self.world.mm.unpin(pin);
            }
        }

        /// Lets the background do one thing.
        fn step(&self) -> Rest {
            self.clock.set(self.clock.get() + TICK);
            self.world.mm.background_step(self.clock.get())
        }

        /// Makes every slot a candidate, and lets the background work a few steps.
        fn background(&self, steps: usize) {
            self.world.mm.reconsider();
            let _ = (0..steps).find(|_| self.step() == Rest::Wait);
        }

        /// Lets the background work until nothing is left to do.
        fn rest(&self) {
            while self.step() != Rest::Wait {}
        }

        /// Runs `operation` while no block is free. Samples that it began end.
        fn without_blocks(&self, operation: impl FnOnce()) {
            let frames = self.world.mm.frames();
            let taken: Vec<Block> = core::iter::from_fn(|| frames.allocate_block()).collect();
            operation();
            taken.into_iter().for_each(|block| frames.free_block(block));
            self.rest();
        }

        /// As that, while hardly a frame is free.
        fn without_frames(&self, operation: impl FnOnce()) {
            let frames = self.world.mm.frames();
            let take = |order| core::iter::from_fn(move || Some((frames.allocate(order, Class::Movable)?, order)));
            let give = |(frame, order)| frames.free(frame, order);
            self.without_blocks(|| {
                let mut taken: Vec<(Frame, u32)> = (0..9).rev().flat_map(take).collect();
                taken.pop().into_iter().for_each(give);
                operation();
                taken.into_iter().for_each(give);
            });
        }

        /// All is sound and, apart from what was given back, all there.
        fn check(&self, cleared: &[&Range<u64>]) {
            self.world.check();
            let (mm, machine) = (&self.world.mm, self.world.mm.machine());
            let is_cleared = |index: u64| cleared.iter().any(|range| range.contains(&index));
            for mapping in machine.mappings() {
                let (_, region) = mm.region(mapping.va).expect("what is mapped is in a region");
                let allowed = if mapping.accessed { mapping.access } else { Access::NONE };
                assert_eq!(allowed, region.access, "{:?}", mapping.va);
            }
            for (first, pin) in &*self.pins.borrow() {
                let frames = mm.extents(pin).flat_map(|extent| extent.start.frame().0..extent.end.frame().0);
                for (index, frame) in (*first..).zip(frames) {
                    let found = machine.translate(page(index));
                    let stays = found == Some(Frame(frame).start());
                    assert!(stays || is_cleared(index), "page {index} is pinned, and left its frame");
                    if !stays {
                        machine.write_physical(Frame(frame).start(), &[0xDE; PAGE_SIZE]);
                    }
                }
            }
            let written: BTreeSet<u64> = written().collect();
            for &index in &written {
                assert!(is_cleared(index) || machine.translate(page(index)).is_some(), "page {index} is gone");
            }
            for (index, pa) in (0..512 * SLOTS).filter_map(|index| Some((index, machine.translate(page(index))?))) {
                let found = machine.read_physical(pa, PAGE_SIZE);
                let (word, rest) = found.split_at(8);
                let is_zero = word == [0; 8];
                assert!(is_zero || word == (index + 1).to_le_bytes(), "page {index}: {word:?}");
                assert!(!is_zero || is_cleared(index) || !written.contains(&index), "page {index}");
                assert!(rest == [0; PAGE_SIZE - 8], "page {index}");
            }
        }
    }

    const PIN: PinRequest = PinRequest::new();

    const OPERATIONS: [Operation; 29] = [
        Operation { name: "collapse", run: |scene| scene.collapse(0), clears: 0..0, keeps_off: None },
        Operation {
            name: "collapse of the second slot",
            run: |scene| scene.collapse(1),
            clears: 0..0,
            keeps_off: None,
        },
        Operation {
            name: "collapse of both, given up",
            run: |scene| {
                let moved = || scene.world.mm.counters().migrate_pages.get();
                let until = moved() + 30;
                scene.world.mm.collapse(START, 2 * BLOCK_SIZE, || moved() >= until, |_, _| ()).expect("a sound range");
            },
            clears: 0..0,
            keeps_off: None,
        },
        Operation {
            name: "protect a part",
            run: |scene| scene.protect(0..100, Access::READ),
            clears: 0..0,
            keeps_off: Some(KeepsOff::Space),
        },
        Operation {
            name: "protect a slot",
            run: |scene| scene.protect(0..512, Access::READ),
            clears: 0..0,
            keeps_off: Some(KeepsOff::Space),
        },
        Operation {
            name: "protect all",
            run: |scene| scene.protect(0..2048, Access::NONE),
            clears: 0..0,
            keeps_off: Some(KeepsOff::Space),
        },
        Operation {
            name: "make code",
            run: |scene| scene.protect(512..1536, Access::READ_EXECUTE),
            clears: 0..0,
            keeps_off: Some(KeepsOff::Space),
        },
        Operation {
            name: "unmap a part",
            run: |scene| scene.unmap(64..96),
            clears: 64..96,
            keeps_off: Some(KeepsOff::Space),
        },
        Operation {
            name: "unmap all",
            run: |scene| scene.unmap(0..2048),
            clears: 0..2048,
            keeps_off: Some(KeepsOff::Space),
        },
        Operation {
            name: "map anew",
            run: |scene| {
                scene.unmap(0..512);
                let request = MapRequest::new(BLOCK_SIZE).at(START).access(Access::READ);
                // Unless another core was faster.
                let _ = scene.world.mm.map(request);
            },
            clears: 0..512,
            keeps_off: Some(KeepsOff::Space),
        },
        Operation {
            name: "release",
            run: |scene| scene.release(0..40),
            clears: 0..40,
            keeps_off: Some(KeepsOff::Space),
        },
        Operation {
            name: "release strangers",
            run: |scene| scene.release(512..540),
            clears: 512..540,
            keeps_off: Some(KeepsOff::Space),
        },
        Operation {
            name: "touch",
            run: |scene| [130, 600, 1030].iter().for_each(|&index| scene.touch(index)),
            clears: 0..0,
            keeps_off: None,
        },
        Operation {
            name: "touch eagerly",
            run: |scene| {
                scene.world.mm.policy().set_fault_mode(FaultMode::Eager);
                scene.touch(1600);
            },
            clears: 0..0,
            keeps_off: Some(KeepsOff::Filling),
        },
        Operation { name: "pin", run: |scene| scene.pin(14..20, PIN.write()), clears: 0..0, keeps_off: None },
        Operation { name: "pin strangers", run: |scene| scene.pin(515..545, PIN), clears: 0..0, keeps_off: None },
        Operation {
            name: "pin a hole",
            run: |scene| scene.pin(1020..1050, PIN.write()),
            clears: 0..0,
            keeps_off: None,
        },
        Operation { name: "pin for long", run: |scene| scene.pin(30..50, PIN.long()), clears: 0..0, keeps_off: None },
        Operation {
            name: "pin a block for long, and unpin",
            run: |scene| {
                scene.pin(1024..1060, PIN.long());
                scene.unpin();
            },
            clears: 0..0,
            keeps_off: None,
        },
        Operation {
            name: "migrate",
            run: |scene| {
                for (index, unit) in [(5, Unit::Page), (16, Unit::Group), (520, Unit::Page), (1024, Unit::Group)] {
                    let _ = scene.world.mm.migrate(page(index), unit);
                }
            },
            clears: 0..0,
            keeps_off: None,
        },
        Operation { name: "dissolve", run: |scene| _ = scene.world.mm.dissolve(START), clears: 0..0, keeps_off: None },
        Operation {
            name: "dissolve a block",
            run: |scene| _ = scene.world.mm.dissolve(page(1024)),
            clears: 0..0,
            keeps_off: None,
        },
        Operation {
            name: "idle",
            run: |scene| (0..8).for_each(|_| _ = scene.world.mm.idle_step()),
            clears: 0..0,
            keeps_off: None,
        },
        Operation { name: "background", run: |scene| scene.background(6), clears: 0..0, keeps_off: None },
        Operation {
            name: "background without a block",
            run: |scene| scene.without_blocks(|| scene.background(10)),
            clears: 0..0,
            keeps_off: None,
        },
        Operation {
            name: "block emptied for later",
            run: |scene| {
                scene.world.mm.policy().set_defrag(Defrag::Defer);
                scene.without_blocks(|| {
                    scene.touch(1600);
                    (0..4).for_each(|_| _ = scene.step());
                });
            },
            clears: 0..0,
            keeps_off: Some(KeepsOff::Filling),
        },
        Operation {
            name: "touch that waits for a block",
            run: |scene| {
                scene.world.mm.policy().set_defrag(Defrag::Always);
                scene.without_blocks(|| scene.touch(1600));
            },
            clears: 0..0,
            keeps_off: Some(KeepsOff::Filling),
        },
        Operation {
            name: "low memory given back",
            run: |scene| scene.without_frames(|| _ = scene.step()),
            clears: 0..0,
            keeps_off: None,
        },
        Operation {
            name: "walk",
            run: |scene| {
                let mut next = 0;
                scene.world.mm.walk(START.page().0..page(2048).page().0, |leaf| {
                    assert!(leaf.page.0 >= next, "a page is seen twice");
                    next = leaf.page.0 + leaf.pages as u64;
                });
            },
            clears: 0..0,
            keeps_off: None,
        },
    ];

    fn pairs(chosen: impl Fn(usize) -> bool) {
        let mut moments = 0;
        for own in OPERATIONS.iter().enumerate().filter(|(number, _)| chosen(*number)).map(|(_, own)| own) {
            for other in OPERATIONS.iter().filter(|other| own.keeps_off.is_none() || own.keeps_off != other.keeps_off) {
                for after in 0.. {
                    let tell = Tell(own.name, other.name, after);
                    let scene = Scene::new();
                    let between = scene.clone();
                    let interlude = move || {
                        between.world.mm.machine().check_settled();
                        between.world.mm.machine().on_core(1);
                        set_core(1);
                        (other.run)(&between);
                        between.world.mm.machine().on_core(0);
                        set_core(0);
                    };
                    let came = with_interlude(after, interlude, || (own.run)(&scene));
                    scene.check(&[&own.clears, &other.clears]);
                    while !scene.pins.borrow().is_empty() {
                        scene.unpin();
                    }
                    scene.unmap(0..2048);
                    // No candidate was lost on the way.
                    scene.rest();
                    assert_eq!(scene.world.mm.candidates(), 0);
                    scene.world.check();
                    let left = scene.world.mm.frames().statistics();
                    assert_eq!((left.homes, left.movable, left.pinned, left.orphans), (0, 0, 0, 0));
                    core::mem::forget(tell);
                    if !came {
                        break;
                    }
                    moments += 1;
                }
            }
        }
        println!("{moments} moments");
    }

    /// What may be read may be pinned for that, at any moment of a protection.
    pub fn a_pin_for_reading_is_not_denied_what_it_does_not_need() {
        for pages in [HOLE, STRANGERS, 1600..1610] {
            for after in 0.. {
                let scene = Scene::new();
                let between = scene.clone();
                let interlude = move || between.protect(0..2048, Access::READ);
                if !with_interlude(after, interlude, || scene.pin(pages.clone(), PIN)) {
                    break;
                }
                assert_eq!(scene.pins.borrow().len(), 1, "{pages:?} after {after} times");
                scene.check(&[]);
                scene.unpin();
            }
        }
    }

    /// Says in what case a test failed.
    struct Tell(&'static str, &'static str, usize);

    impl Drop for Tell {
        fn drop(&mut self) {
            println!("{}, and after {} times: {}", self.0, self.2, self.1);
        }
    }

    /// Operations of which all or most is done in the background, or instead.
    const BACKGROUND: [&str; 5] = [
        "background",
        "background without a block",
        "block emptied for later",
        "touch that waits for a block",
        "low memory given back",
    ];

    /// Uninterrupted, they come to what others are to come between.
    pub fn what_is_done_in_the_background_is_what_it_says() {
        let alone = |name| {
            let scene = Scene::new();
            let own = OPERATIONS.iter().find(|own| own.name == name).expect("its name");
            (own.run)(&scene);
            scene.check(&[]);
            let counters = scene.world.mm.counters();
            let homes = counters.thp_collapse_alloc.get() + counters.collapse_adopt.get();
            let blocks = (homes, counters.compact_blocks.get());
            (blocks, counters.heat_samples.get(), counters.compact_success.get(), counters.kswapd_steal.get())
        };
        let [background, lacking, later, waiting, low] = BACKGROUND.map(alone);
        assert_eq!(background, ((2, 0), 0, 0, 0));
        assert!(matches!(lacking, ((1, 0), 5.., 0, 0)), "{lacking:?}");
        assert_eq!(later, ((0, 1), 0, 0, 0));
        assert_eq!(waiting, ((0, 1), 0, 1, 0));
        assert_eq!(low, ((0, 0), 0, 0, 1));
    }

    pub fn collapses_are_interrupted() {
        pairs(|number| number < 3);
    }

    pub fn background_collapses_are_interrupted() {
        pairs(|number| BACKGROUND[..2].contains(&OPERATIONS[number].name));
    }

    pub fn what_makes_room_is_interrupted() {
        pairs(|number| BACKGROUND[2..].contains(&OPERATIONS[number].name));
    }

    pub fn other_operations_are_interrupted() {
        pairs(|number| number >= 3 && !BACKGROUND.contains(&OPERATIONS[number].name));
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    collapses_are_interrupted,
    #[cfg(not(target_os = "none"))]
    what_is_done_in_the_background_is_what_it_says,
    #[cfg(not(target_os = "none"))]
    background_collapses_are_interrupted,
    #[cfg(not(target_os = "none"))]
    what_makes_room_is_interrupted,
    #[cfg(not(target_os = "none"))]
    other_operations_are_interrupted,
    #[cfg(not(target_os = "none"))]
    a_pin_for_reading_is_not_denied_what_it_does_not_need,
}
