//! Pins that are dropped, under no lock, while the frame is freed, its home ends, or another pin is taken; under a scheduler
//! that may switch before every change of a frame's pins and between them and the counts.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/cores.rs"]
mod cores;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::cores::{self, note};
    use ashlar::arch::sim::SimMachine;
    use ashlar::mm::Refusal;
    use ashlar::mm::address::{Block, Frame, PhysAddr};
    use ashlar::mm::bits::Bits512;
    use ashlar::mm::frame::{CacheLimits, Class, Frames, MemoryMap, Occupant, Owner};
    use ashlar::sync::relax;
    use std::sync::Arc;

    const RAM: PhysAddr = PhysAddr(0x4000_0000);
    const SCHEDULES: usize = 1000;

    fn owner() -> Owner {
        Owner::new(1).expect("not zero")
    }

    fn frames(machine: &SimMachine) -> Frames {
        let mut map = MemoryMap::new();
        map.add(RAM..RAM + (16 << 20)).expect("one bank");
        // SAFETY: the bank is the simulated machine's default RAM, and nobody else uses it.
        let frames = unsafe { Frames::new(machine, &mut map) }.expect("room for the records");
        frames.set_cache_limits(CacheLimits::NONE);
        frames
    }

    fn home(frames: &Frames) -> Block {
        frames.allocate_home(owner(), 412).expect("a free block").block
    }

    fn pages() -> Bits512 {
        let mut pages = Bits512::EMPTY;
        pages.set_range(0..100);
        pages
    }

    /// Core 0, which holds the slot's lock, pins what `take` takes: the frame twice, the next one once. It does `own` while others
    /// drop these pins, after `lag` steps; `end` sees what came of it and gives back what is left. Then all is as it was, on every
    /// schedule; on some, but not on all, `own` says that it met a pin.
    fn race<T: Clone + 'static>(
        lag: usize,
        take: fn(&Frames) -> (Frame, T),
        own: fn(&Frames, Frame, T) -> bool,
        end: fn(&Frames, Frame, T),
    ) {
        let outcome = cores::interleave(SCHEDULES, move |machine| {
            let frames = Arc::new(frames(&machine));
            let before = frames.statistics();
            let (frame, taken) = take(&frames);
            frames.pin_run(frame, 2);
            frames.pin(frame);
            let unpin = |core, count| {
                let frames = frames.clone();
                cores::start(core, move || {
                    (0..lag).for_each(|_| relax());
                    frames.unpin_run(frame, count)
                })
            };
            let others = [unpin(1, 2), unpin(2, 1)];
            note(own(&frames, frame, taken.clone()));
            others.into_iter().for_each(|core| core.join().expect("the other core ends"));
            frames.check();
            end(&frames, frame, taken);
            frames.check();
            assert_eq!(frames.statistics(), before);
            machine.violations()
        });
        assert!(outcome.rules.is_empty());
        assert!((1..SCHEDULES).contains(&outcome.noted), "{} schedules met a pin", outcome.noted);
    }

    fn is_orphan(frames: &Frames, frame: Frame) -> bool {
        frames.occupant(frame) == Occupant::Fixed
    }

    pub fn unpin_against_free() {
        let take = |frames: &Frames| (frames.allocate(4, Class::Movable).expect("free frames"), ());
        let own = |frames: &Frames, frame, ()| {
            frames.free(frame, 4);
            is_orphan(frames, frame)
        };
        race(0, take, own, |_, _, ()| ());
    }

    fn take_home(frames: &Frames) -> (Frame, Block) {
        let block = home(frames);
        (block.frame(99), block)
    }

    pub fn unpin_against_the_end_of_a_home() {
        let own = |frames: &Frames, frame, block| {
            frames.end_home(block);
            is_orphan(frames, frame)
        };
        race(0, take_home, own, |_, _, _| ());
    }

    /// The block, the only one that is free, has its next user before whoever dropped the last pin has counted that.
    pub fn unpin_against_the_next_use() {
        let take = |frames: &Frames| {
            let block = home(frames);
            let others: Vec<Block> = std::iter::from_fn(|| frames.allocate_block()).collect();
            (block.frame(99), (block, others))
        };
        let own = |frames: &Frames, frame, (block, _): (Block, _)| {
            frames.end_home(block);
            let met = is_orphan(frames, frame);
            let Some(next) = frames.allocate_block() else { return met };
            assert_eq!(next, block);
            frames.put_zeroed(next);
            assert_eq!(frames.allocate_zeroed_home(owner()), Some(block));
            frames.pin_run(frame, 2);
            frames.unpin_run(frame, 2);
            frames.end_home(block);
            met
        };
        let end = |frames: &Frames, _, (_, others): (Block, Vec<Block>)| {
            others.into_iter().for_each(|block| frames.free_block(block));
        };
        race(0, take, own, end);
    }

    /// One of the pinned frames holds a page, the other is absent.
    pub fn unpin_against_dissolve() {
        let own = |frames: &Frames, _, block| match frames.dissolve(block, &pages()) {
            Ok(freed) => {
                assert!((411..=412).contains(&freed));
                false
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Pinned);
                true
            }
        };
        let end = |frames: &Frames, _, block| {
            if frames.home_owner(block).is_some() {
                assert_eq!(frames.dissolve(block, &pages()), Ok(412));
            }
            pages().iter().for_each(|index| frames.free(block.frame(index), 0));
        };
        race(0, take_home, own, end);
    }

    /// Both are absent.
    pub fn unpin_against_dissolve_of_orphans() {
        let take = |frames: &Frames| {
            let block = home(frames);
            (block.frame(200), block)
        };
        let own = |frames: &Frames, _, block| {
            let freed = frames.dissolve(block, &pages()).expect("no page is pinned");
            assert!((410..=412).contains(&freed));
            freed < 412
        };
        let end = |frames: &Frames, _, block: Block| {
            pages().iter().for_each(|index| frames.free(block.frame(index), 0));
        };
        race(0, take, own, end);
    }

    pub fn unpin_against_adopt() {
        let take = |frames: &Frames| {
            let block = home(frames);
            frames.dissolve(block, &pages()).expect("nothing is pinned");
            assert!(frames.isolate(block));
            (block.frame(98), block)
        };
        let own = |frames: &Frames, frame, block| {
            frames.drain_caches();
            assert_eq!(frames.adopt(block, owner()), Some(pages()));
            frames.pins(frame) > 0
        };
        // That drains all caches first.
        race(16, take, own, |frames, _, block| frames.end_home(block));
    }

    pub fn unpin_against_pin() {
        let own = |frames: &Frames, frame, _| {
            frames.pin_run(frame, 2);
            let met = frames.pins(frame) > 1;
            frames.unpin(frame + 1);
            met
        };
        let end = |frames: &Frames, frame, block| {
            assert_eq!((frames.pins(frame), frames.pins(frame + 1)), (1, 0));
            assert_eq!(frames.statistics().pinned, 1);
            frames.unpin(frame);
            frames.end_home(block);
        };
        race(0, take_home, own, end);
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    unpin_against_free,
    #[cfg(not(target_os = "none"))]
    unpin_against_the_end_of_a_home,
    #[cfg(not(target_os = "none"))]
    unpin_against_the_next_use,
    #[cfg(not(target_os = "none"))]
    unpin_against_dissolve,
    #[cfg(not(target_os = "none"))]
    unpin_against_dissolve_of_orphans,
    #[cfg(not(target_os = "none"))]
    unpin_against_adopt,
    #[cfg(not(target_os = "none"))]
    unpin_against_pin,
}
