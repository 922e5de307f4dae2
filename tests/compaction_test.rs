//! `compaction_test`'s idea: most of RAM is scattered over all blocks, part of that is given back, and then blocks are asked for. They
//! can be had only where what is left moves out of the way.
#![cfg_attr(target_os = "none", no_std, no_main)]

// One core: others would zero blocks in their idle time, and give them out when there should be none.
ashlar_test::expect!("run memory=256M cores=1", "output test result: ok");

#[cfg(target_os = "none")]
#[path = "common/backing.rs"]
mod backing;

#[cfg(target_os = "none")]
mod guest {
    use super::backing::{assert_filled, fill, frames, huge};
    use ashlar::arch::aarch64::{gate, memory::manager};
    use ashlar::memory::{self, counter, set_policy};
    use ashlar::mm::address::{BLOCK_SIZE, PAGES_PER_SLOT};
    use ashlar::println;
    use ashlar_test::fragment::{Fragments, State, fragment};

    fn fragments(state: State) -> Fragments {
        gate::call(move || fragment(manager(), state))
    }

    /// Linux's test asks for a third of memory; here it is four fifths of what is free.
    fn blocks_are_made_of(state: State) {
        set_policy("defrag", "always").expect("it is a policy");
        let fragments = fragments(state);
        let before = frames();
        let slots = before.unused / PAGES_PER_SLOT * 4 / 5;
        assert!(before.free_blocks * 10 < slots, "{} blocks are free already", before.free_blocks);
        let mut mapping = memory::map(slots * BLOCK_SIZE).expect("the limit is lifted");
        fill(&mut mapping, 0..slots * PAGES_PER_SLOT);
        let (made, success, stalls) = (huge(&mapping), counter("compact_success"), counter("compact_stall"));
        println!("{state:?}: {made} blocks of {slots}, {success:?} of {stalls:?} compactions");
        assert_eq!(made, slots);
        assert_filled(&mapping);
        drop(mapping);
        gate::call(move || fragments.give_back(manager()));
        set_policy("defrag", "never").expect("it is a policy");
    }

    pub fn one_page_in_each_block() {
        blocks_are_made_of(State::Held);
    }

    pub fn a_third_at_random() {
        blocks_are_made_of(State::Random(33));
    }

    /// What cannot move is left alone, and the application gets pages at once.
    pub fn pinned_pages_stay() {
        set_policy("defrag", "always").expect("it is a policy");
        let fragments = fragments(State::Pinned);
        let failed = counter("compact_fail");
        let mut mapping = memory::map(2 * BLOCK_SIZE).expect("the limit is lifted");
        fill(&mut mapping, 0..2 * PAGES_PER_SLOT);
        assert_eq!(huge(&mapping), 0);
        assert!(counter("compact_fail") > failed);
        assert_filled(&mapping);
        drop(mapping);
        gate::call(move || fragments.give_back(manager()));
        set_policy("defrag", "never").expect("it is a policy");
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    one_page_in_each_block,
    #[cfg(target_os = "none")]
    a_third_at_random,
    #[cfg(target_os = "none")]
    pinned_pages_stay,
}
