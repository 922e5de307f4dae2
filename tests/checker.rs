//! The checker's own tests: each rule has a shortest program that breaks it and must be flagged, and one that keeps it
//! and must pass. A machine's whim is part of both, so each runs on many seeds.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::vec::Vec;
use ashlar::arch::sim::{Rule, SimConfig, SimMachine};
use ashlar::mm::address::{Frame, PhysAddr, VirtAddr};
use ashlar::mm::mmu::{Access, Attributes, Entry, Invalidation, Level, Mmu};

const RAM: PhysAddr = PhysAddr(0x4000_0000);
const ROOT: Frame = Frame(RAM.0 >> 12);
/// The level-2 table.
const MIDDLE: Frame = Frame(ROOT.0 + 1);
/// The level-3 table of slot 0; its pages 0 to 31 are mapped to the frames of `DATA`, 16 to 31 as a contiguous group.
const PAGES: Frame = Frame(ROOT.0 + 2);
/// A second level-3 table, full, linked nowhere: maps the frames of `BLOCK`.
const FULL: Frame = Frame(ROOT.0 + 3);
/// A table that is empty and linked nowhere.
const EMPTY: Frame = Frame(ROOT.0 + 4);
const DATA: Frame = Frame(ROOT.0 + 512);
/// Mapped as a block in slot 1.
const BLOCK: Frame = Frame(ROOT.0 + 1024);
/// Mapped nowhere.
const SPARE: Frame = Frame(ROOT.0 + 1536);

const GROUP: u64 = 16;
/// First page of slot 1.
const SLOT: u64 = 512;
/// Fewer in the guest, where RAM is not zeroed lazily.
const SEEDS: u64 = if cfg!(target_os = "none") { 8 } else { 64 };
const RAM_BYTES: usize = if cfg!(target_os = "none") { 8 << 20 } else { 64 << 20 };

/// A machine that runs a program.
struct Program(SimMachine);

impl Program {
    fn new(seed: u64) -> Self {
        let program = Self(SimMachine::new(SimConfig {
            banks: &[(RAM, RAM_BYTES)],
            seed,
            panics: false,
            ..SimConfig::default()
        }));
        program.write(ROOT, 0, Level::One, Entry::Table(MIDDLE));
        program.write(MIDDLE, 0, Level::Two, Entry::Table(PAGES));
        program.write(MIDDLE, 1, Level::Two, block(BLOCK, Access::READ_WRITE));
        for page in 0..32 {
            program.set(page, leaf(DATA + page, Access::READ_WRITE, page >= GROUP));
        }
        for page in 0..512 {
            program.write(FULL, page as usize, Level::Three, leaf(BLOCK + page, Access::READ_WRITE, false));
        }
        program.0.publish();
        program.0.set_root(ROOT);
        program
    }

    fn write(&self, table: Frame, index: usize, level: Level, entry: Entry) {
        // SAFETY: no Rust reference points into the simulated application's memory.
        unsafe { self.0.write_entry(table, index, level, entry) }
    }

    /// Writes the descriptor of `page` of slot 0.
    fn set(&self, page: u64, entry: Entry) {
        self.write(PAGES, page as usize, Level::Three, entry);
    }

    /// Writes the level-2 descriptor of slot 1.
    fn set_slot(&self, entry: Entry) {
        self.write(MIDDLE, 1, Level::Two, entry);
    }

    fn invalidate(&self, page: u64) {
        self.0.invalidate(&Invalidation::PagesAndTables(page..page + 1));
    }

    fn invalidate_slot(&self) {
        self.0.invalidate(&Invalidation::PagesAndTables(SLOT..SLOT + 512));
    }

    /// Every core loads from `page` a few times; faults are no matter.
    fn touch(&self, page: u64) {
        for turn in 0..16 {
            let _ = self.0.on_core(turn % 2).load(VirtAddr(page << 12), 1);
        }
        self.0.on_core(0);
    }

    /// Turns the block of slot 1 into pages, as it should be done.
    fn split(&self) {
        self.set_slot(Entry::Invalid);
        self.invalidate(SLOT);
        self.set_slot(Entry::Table(FULL));
        self.0.publish();
    }
}

fn leaf(frame: Frame, access: Access, contiguous: bool) -> Entry {
    Entry::Page { frame, attributes: Attributes::new(access), contiguous }
}

fn page(frame: Frame) -> Entry {
    leaf(frame, Access::READ_WRITE, false)
}

fn block(frame: Frame, access: Access) -> Entry {
    Entry::Block { frame, attributes: Attributes::new(access) }
}

fn rules(seed: u64, program: fn(&Program)) -> Vec<Rule> {
    let machine = Program::new(seed);
    program(&machine);
    machine.0.check_settled();
    let mut rules: Vec<Rule> = machine.0.violations().iter().map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

/// `program` keeps the rules, whatever the machine does.
fn passes(program: fn(&Program)) {
    for seed in 0..SEEDS {
        assert_eq!(rules(seed, program), [], "seed {seed}");
    }
}

/// `program` breaks `rule` first, and is caught on every seed.
fn is_flagged(rule: Rule, program: fn(&Program)) {
    for seed in 0..SEEDS {
        assert_eq!(rules(seed, program).first(), Some(&rule), "seed {seed}");
    }
}

/// `program` breaks `rule` and nothing else, and is caught on one seed of four at least.
fn is_flagged_at_whim(rule: Rule, program: fn(&Program)) {
    let all: Vec<_> = (0..SEEDS).map(|seed| rules(seed, program)).collect();
    let caught = all.iter().filter(|rules| !rules.is_empty()).count() as u64;
    assert!(caught >= SEEDS / 4, "caught on {caught} seeds of {SEEDS}");
    assert!(all.iter().flatten().all(|flagged| *flagged == rule), "{all:?}");
}

fn good_idle() {
    passes(|program| (0..32).for_each(|page| program.touch(page)));
}

// Break before make.

fn good_break_before_make() {
    passes(|program| {
        program.touch(3);
        program.set(3, Entry::Invalid);
        program.invalidate(3);
        program.set(3, page(SPARE));
        program.0.publish();
        program.touch(3);
    });
}

fn good_last_level_invalidation_of_a_page() {
    passes(|program| {
        program.set(3, Entry::Invalid);
        program.0.invalidate(&Invalidation::Pages(3..4));
        program.set(3, page(SPARE));
        program.0.publish();
        program.touch(3);
    });
}

fn bad_output_changed_in_place() {
    is_flagged(Rule::MissingBreak, |program| {
        program.set(3, page(SPARE));
        program.invalidate(3);
    });
}

fn bad_memory_type_changed_in_place() {
    is_flagged(Rule::MissingBreak, |program| {
        // Valid, page, attribute index 1, inner shareable, accessed, not global.
        program.0.write_descriptor(PAGES, 3, Level::Three, (DATA + 3).start().0 | 0b1111 << 8 | 1 << 2 | 0b11);
        program.invalidate(3);
    });
}

fn bad_block_replaced_by_table_in_place() {
    is_flagged(Rule::MissingBreak, |program| {
        program.set_slot(Entry::Table(FULL));
        program.invalidate_slot();
    });
}

fn bad_table_replaced_by_block_in_place() {
    is_flagged(Rule::MissingBreak, |program| {
        program.split();
        program.set_slot(block(BLOCK, Access::READ_WRITE));
        program.invalidate_slot();
    });
}

fn bad_contiguous_bit_changed_in_place() {
    is_flagged(Rule::MissingBreak, |program| {
        (0..GROUP).for_each(|page| program.set(page, leaf(DATA + page, Access::READ_WRITE, true)));
        program.0.invalidate(&Invalidation::Pages(0..GROUP));
    });
}

// Unclean descriptors.

fn bad_make_without_invalidation() {
    is_flagged(Rule::WriteToUnclean, |program| {
        program.set(3, Entry::Invalid);
        program.0.publish();
        program.set(3, page(SPARE));
        program.invalidate(3);
    });
}

fn bad_invalidation_of_another_page() {
    is_flagged(Rule::WriteToUnclean, |program| {
        program.set(3, Entry::Invalid);
        program.invalidate(4);
        program.set(3, page(SPARE));
        program.invalidate(3);
    });
}

fn good_split_invalidates_one_address() {
    passes(|program| {
        program.touch(SLOT + 7);
        program.split();
        program.touch(SLOT + 7);
    });
}

fn good_promotion_invalidates_512_addresses() {
    passes(|program| {
        program.split();
        program.touch(SLOT + 7);
        program.set_slot(Entry::Invalid);
        program.invalidate_slot();
        program.set_slot(block(BLOCK, Access::READ_WRITE));
        program.0.publish();
        program.touch(SLOT + 7);
    });
}

fn good_promotion_invalidates_the_asid() {
    passes(|program| {
        program.split();
        program.set_slot(Entry::Invalid);
        program.0.invalidate(&Invalidation::All);
        program.set_slot(block(BLOCK, Access::READ_WRITE));
        program.0.publish();
        program.touch(SLOT + 7);
    });
}

fn bad_promotion_invalidates_one_address() {
    is_flagged(Rule::WriteToUnclean, |program| {
        program.split();
        program.set_slot(Entry::Invalid);
        program.invalidate(SLOT);
        program.set_slot(block(BLOCK, Access::READ_WRITE));
        program.invalidate_slot();
    });
}

fn bad_promotion_invalidates_last_level_only() {
    is_flagged(Rule::WriteToUnclean, |program| {
        program.split();
        program.set_slot(Entry::Invalid);
        program.0.invalidate(&Invalidation::Pages(SLOT..SLOT + 512));
        program.set_slot(block(BLOCK, Access::READ_WRITE));
        program.invalidate_slot();
    });
}

// Stale translations.

fn bad_access_after_break_without_invalidation() {
    is_flagged_at_whim(Rule::StaleAccess, |program| {
        program.touch(3);
        program.set(3, Entry::Invalid);
        program.0.publish();
        program.touch(3);
        program.invalidate(3);
    });
}

fn bad_walk_cache_left_after_last_level_invalidation() {
    is_flagged_at_whim(Rule::StaleAccess, |program| {
        program.split();
        program.touch(SLOT + 3);
        program.set_slot(Entry::Invalid);
        program.0.invalidate(&Invalidation::Pages(SLOT..SLOT + 512));
        program.touch(SLOT + 3);
        program.invalidate_slot();
    });
}

fn bad_global_translation_left_after_invalidation_of_the_asid() {
    is_flagged_at_whim(Rule::StaleAccess, |program| {
        // Valid, page, inner shareable, accessed; not of the ASID.
        program.0.write_descriptor(PAGES, 100, Level::Three, SPARE.start().0 | 0b111 << 8 | 0b11);
        program.0.publish();
        program.touch(100);
        program.set(100, Entry::Invalid);
        program.0.invalidate(&Invalidation::All);
        program.touch(100);
    });
}

fn good_permissions_changed_in_place() {
    passes(|program| {
        program.touch(3);
        program.set(3, leaf(DATA + 3, Access::READ, false));
        program.0.invalidate(&Invalidation::Pages(3..4));
        assert!((0..8).all(|_| program.0.store(VirtAddr(0x3000), &[1]).is_err()));
        program.set(3, page(DATA + 3));
        program.0.invalidate(&Invalidation::Pages(3..4));
        assert!((0..8).all(|_| program.0.store(VirtAddr(0x3000), &[1]).is_ok()));
    });
}

fn bad_store_after_protect_without_invalidation() {
    is_flagged_at_whim(Rule::StaleAccess, |program| {
        program.touch(3);
        program.set(3, leaf(DATA + 3, Access::READ, false));
        program.0.publish();
        for core in [0, 1] {
            let _ = program.0.on_core(core).store(VirtAddr(0x3000), &[1]);
        }
        program.invalidate(3);
    });
}

fn bad_load_after_access_was_taken_without_invalidation() {
    is_flagged_at_whim(Rule::StaleAccess, |program| {
        program.touch(3);
        program.set(3, leaf(DATA + 3, Access::NONE, false));
        program.0.publish();
        program.touch(3);
        program.invalidate(3);
    });
}

fn good_access_flag_cleared_and_set_without_invalidation() {
    passes(|program| {
        program.touch(3);
        let aged = Attributes { access: Access::READ_WRITE, accessed: false };
        program.set(3, Entry::Page { frame: DATA + 3, attributes: aged, contiguous: false });
        program.0.publish();
        program.touch(3);
        program.set(3, page(DATA + 3));
        program.0.publish();
        program.touch(3);
    });
}

fn bad_make_after_the_access_flag_was_cleared() {
    is_flagged(Rule::WriteToUnclean, |program| {
        let aged = Attributes { access: Access::READ_WRITE, accessed: false };
        program.set(3, Entry::Page { frame: DATA + 3, attributes: aged, contiguous: false });
        program.0.publish();
        program.set(3, Entry::Invalid);
        program.0.publish();
        program.set(3, page(SPARE));
        program.invalidate(3);
    });
}

// Sizes.

fn bad_translations_of_two_sizes() {
    for seed in 0..SEEDS {
        let flagged = rules(seed, |program| {
            program.touch(SLOT + 3);
            program.set_slot(Entry::Table(FULL));
            program.0.publish();
            (0..32).for_each(|page| program.touch(SLOT + page));
            program.invalidate_slot();
        });
        if flagged.contains(&Rule::TlbConflict) {
            return;
        }
    }
    panic!("no conflict on any of {SEEDS} seeds");
}

// The contiguous bit.

fn good_group_made_and_broken() {
    passes(|program| {
        program.touch(GROUP + 1);
        (GROUP..2 * GROUP).for_each(|page| program.set(page, Entry::Invalid));
        program.0.invalidate(&Invalidation::Pages(GROUP..2 * GROUP));
        (0..GROUP).for_each(|page| program.set(GROUP + page, leaf(SPARE + page, Access::READ_WRITE, true)));
        program.0.publish();
        program.touch(GROUP + 1);
    });
}

fn good_group_protected_as_a_whole() {
    passes(|program| {
        program.touch(GROUP + 1);
        (GROUP..2 * GROUP).for_each(|page| program.set(page, leaf(DATA + page, Access::READ, true)));
        program.0.invalidate(&Invalidation::Pages(GROUP..2 * GROUP));
        program.touch(GROUP + 1);
    });
}

fn bad_one_page_of_a_group_unmapped() {
    is_flagged(Rule::ContiguousMisprogrammed, |program| {
        program.set(GROUP + 3, Entry::Invalid);
        program.invalidate(GROUP + 3);
    });
}

fn bad_one_page_of_a_group_protected() {
    is_flagged(Rule::ContiguousMisprogrammed, |program| {
        program.set(GROUP + 3, leaf(DATA + GROUP + 3, Access::READ, true));
        program.invalidate(GROUP + 3);
    });
}

fn bad_group_on_scattered_frames() {
    is_flagged(Rule::ContiguousMisprogrammed, |program| {
        let group = |page| leaf(SPARE + 2 * page, Access::READ_WRITE, true);
        (0..GROUP).for_each(|page| program.write(EMPTY, page as usize, Level::Three, group(page)));
        program.0.publish();
        program.write(MIDDLE, 2, Level::Two, Entry::Table(EMPTY));
        program.0.publish();
    });
}

fn bad_group_misaligned() {
    is_flagged(Rule::ContiguousMisprogrammed, |program| {
        let group = |page| leaf(SPARE + 1 + page, Access::READ_WRITE, true);
        (0..GROUP).for_each(|page| program.write(EMPTY, page as usize, Level::Three, group(page)));
        program.0.publish();
        program.write(MIDDLE, 2, Level::Two, Entry::Table(EMPTY));
        program.0.publish();
    });
}

// Frames and tables that go away.

fn good_free_after_invalidation() {
    passes(|program| {
        program.touch(3);
        program.set(3, Entry::Invalid);
        program.invalidate(3);
        program.0.note_freed(DATA + 3, 1);
        program.touch(3);
    });
}

fn good_table_freed_after_invalidation() {
    passes(|program| {
        program.split();
        program.touch(SLOT + 3);
        program.set_slot(Entry::Invalid);
        program.invalidate_slot();
        program.0.note_freed(FULL, 1);
        program.0.note_freed(BLOCK, 512);
    });
}

fn bad_mapped_frame_freed() {
    is_flagged(Rule::FreedWhileMapped, |program| program.0.note_freed(DATA + 3, 1));
}

fn bad_frame_of_a_mapped_block_freed() {
    is_flagged(Rule::FreedWhileMapped, |program| program.0.note_freed(BLOCK + 100, 1));
}

fn bad_linked_table_freed() {
    is_flagged(Rule::FreedWhileMapped, |program| program.0.note_freed(PAGES, 1));
}

fn bad_frame_freed_before_invalidation() {
    is_flagged(Rule::FreedWhileCached, |program| {
        program.set(3, Entry::Invalid);
        program.0.publish();
        program.0.note_freed(DATA + 3, 1);
        program.invalidate(3);
    });
}

fn bad_table_freed_after_last_level_invalidation() {
    is_flagged(Rule::TableFreedWhileCached, |program| {
        program.write(MIDDLE, 2, Level::Two, Entry::Table(EMPTY));
        program.0.publish();
        program.write(MIDDLE, 2, Level::Two, Entry::Invalid);
        program.0.invalidate(&Invalidation::Pages(1024..1536));
        program.0.note_freed(EMPTY, 1);
        program.invalidate(1024);
    });
}

fn bad_table_filled_before_invalidation() {
    is_flagged(Rule::TableOverwritten, |program| {
        program.split();
        program.set_slot(Entry::Invalid);
        program.0.publish();
        program.write(FULL, 0, Level::Three, page(SPARE));
        program.invalidate_slot();
    });
}

fn bad_linked_table_zeroed() {
    is_flagged(Rule::TableOverwritten, |program| program.0.zero(PAGES, 1));
}

fn bad_frame_zeroed_before_invalidation() {
    is_flagged(Rule::WrittenWhileCached, |program| {
        program.set(3, Entry::Invalid);
        program.0.publish();
        program.0.zero(DATA + 3, 1);
        program.invalidate(3);
    });
}

fn good_copy_after_the_break() {
    passes(|program| {
        program.touch(3);
        program.set(3, Entry::Invalid);
        program.invalidate(3);
        program.0.copy(DATA + 3, SPARE, 1);
        program.0.publish();
        program.set(3, page(SPARE));
        program.0.publish();
        program.touch(3);
    });
}

fn bad_copy_before_the_break() {
    is_flagged(Rule::CopiedWhileWritable, |program| {
        program.0.copy(DATA + 3, SPARE, 1);
        program.set(3, Entry::Invalid);
        program.invalidate(3);
    });
}

fn bad_copy_before_the_invalidation() {
    is_flagged(Rule::CopiedWhileWritable, |program| {
        program.set(3, Entry::Invalid);
        program.0.publish();
        program.0.copy(DATA + 3, SPARE, 1);
        program.invalidate(3);
    });
}

// Publication.

fn good_fill_then_publish_then_link() {
    passes(|program| {
        program.0.zero(SPARE, 1);
        program.0.zero(EMPTY, 1);
        program.write(EMPTY, 0, Level::Three, page(SPARE));
        program.0.publish();
        program.write(MIDDLE, 2, Level::Two, Entry::Table(EMPTY));
        program.0.publish();
        assert_eq!(program.0.load(VirtAddr(1024 << 12), 1).as_deref(), Ok(&[0][..]));
    });
}

fn bad_use_before_publication() {
    is_flagged(Rule::Unpublished, |program| {
        program.set(100, page(SPARE));
        program.touch(100);
        program.0.publish();
    });
}

fn bad_end_without_publication() {
    is_flagged(Rule::Unsettled, |program| program.set(100, page(SPARE)));
}

fn bad_end_without_invalidation() {
    is_flagged(Rule::Unsettled, |program| {
        program.set(3, leaf(DATA + 3, Access::READ, false));
        program.0.publish();
    });
}

fn bad_table_linked_before_its_entries_are_published() {
    is_flagged(Rule::LinkedUnpublished, |program| {
        program.write(EMPTY, 0, Level::Three, page(SPARE));
        program.write(MIDDLE, 2, Level::Two, Entry::Table(EMPTY));
        program.0.publish();
    });
}

fn bad_frame_mapped_before_its_zeros_are_published() {
    is_flagged(Rule::LinkedUnpublished, |program| {
        program.0.zero(SPARE, 16);
        program.set(100, page(SPARE + 7));
        program.0.publish();
    });
}

// Code.

fn good_code_synchronized() {
    passes(|program| {
        program.0.copy(SPARE, SPARE + 1, 1);
        program.0.sync_code(SPARE + 1, 1);
        program.0.publish();
        program.set(100, leaf(SPARE + 1, Access::READ_EXECUTE, false));
        program.0.publish();
        program.0.execute(VirtAddr(100 << 12)).expect("executable");
    });
}

fn bad_copied_code_not_synchronized() {
    is_flagged(Rule::CodeNotSynchronized, |program| {
        program.0.copy(SPARE, SPARE + 1, 1);
        program.0.publish();
        program.set(100, leaf(SPARE + 1, Access::READ_EXECUTE, false));
        program.0.publish();
        program.0.execute(VirtAddr(100 << 12)).expect("executable");
    });
}

fn bad_stored_code_not_synchronized() {
    is_flagged(Rule::CodeNotSynchronized, |program| {
        program.0.store(VirtAddr(0x3000), &[1]).expect("writable");
        program.set(3, leaf(DATA + 3, Access::READ_EXECUTE, false));
        program.invalidate(3);
        program.0.execute(VirtAddr(0x3000)).expect("executable");
    });
}

// Places.

fn good_change_beside_what_is_protected() {
    passes(|program| {
        program.0.protect_range(4..5);
        program.set(3, Entry::Invalid);
        program.invalidate(3);
    });
}

fn bad_protected_page_broken() {
    is_flagged(Rule::ProtectedBroken, |program| {
        program.0.protect_range(3..4);
        program.set(3, Entry::Invalid);
        program.invalidate(3);
    });
}

fn bad_protected_page_broken_with_its_block() {
    is_flagged(Rule::ProtectedBroken, |program| {
        program.0.protect_range(SLOT + 3..SLOT + 4);
        program.split();
    });
}

fn bad_table_outside_ram() {
    is_flagged(Rule::OutsideRam, |program| program.write(Frame(1), 0, Level::Three, page(SPARE)));
}

fn bad_output_outside_ram() {
    is_flagged(Rule::OutsideRam, |program| {
        program.set(100, page(Frame(1)));
        program.0.publish();
    });
}

fn bad_table_of_tables_linked_twice() {
    is_flagged(Rule::TableMisplaced, |program| {
        program.write(ROOT, 2, Level::One, Entry::Table(MIDDLE));
        program.0.publish();
    });
}

/// Page 3 is mapped in slot 2 as well.
fn link_twice(program: &Program) {
    program.write(MIDDLE, 2, Level::Two, Entry::Table(PAGES));
    program.0.publish();
    program.touch(3);
    program.touch(2 * SLOT + 3);
}

fn good_break_at_both_places() {
    passes(|program| {
        link_twice(program);
        program.set(3, Entry::Invalid);
        program.invalidate(3);
        program.invalidate(2 * SLOT + 3);
        program.set(3, page(SPARE));
        program.0.publish();
        program.touch(2 * SLOT + 3);
    });
}

fn bad_invalidation_at_one_of_two_places() {
    is_flagged(Rule::WriteToUnclean, |program| {
        link_twice(program);
        program.set(3, Entry::Invalid);
        program.invalidate(3);
        program.set(3, page(SPARE));
        program.invalidate(2 * SLOT + 3);
    });
}

fn bad_free_of_a_table_that_is_linked_still() {
    is_flagged(Rule::FreedWhileMapped, |program| {
        link_twice(program);
        program.write(MIDDLE, 0, Level::Two, Entry::Invalid);
        program.0.publish();
        program.0.invalidate(&Invalidation::All);
        program.0.note_freed(PAGES, 1);
        program.write(MIDDLE, 2, Level::Two, Entry::Invalid);
        program.0.publish();
        program.0.invalidate(&Invalidation::All);
    });
}

fn bad_table_written_as_of_another_level() {
    is_flagged(Rule::TableMisplaced, |program| {
        program.write(MIDDLE, 2, Level::Three, page(SPARE));
        program.0.publish();
    });
}

ashlar_test::tests! {
    good_idle,
    good_break_before_make,
    good_last_level_invalidation_of_a_page,
    bad_output_changed_in_place,
    bad_memory_type_changed_in_place,
    bad_block_replaced_by_table_in_place,
    bad_table_replaced_by_block_in_place,
    bad_contiguous_bit_changed_in_place,
    bad_make_without_invalidation,
    bad_invalidation_of_another_page,
    good_split_invalidates_one_address,
    good_promotion_invalidates_512_addresses,
    good_promotion_invalidates_the_asid,
    bad_promotion_invalidates_one_address,
    bad_promotion_invalidates_last_level_only,
    bad_access_after_break_without_invalidation,
    bad_walk_cache_left_after_last_level_invalidation,
    bad_global_translation_left_after_invalidation_of_the_asid,
    good_permissions_changed_in_place,
    bad_store_after_protect_without_invalidation,
    bad_load_after_access_was_taken_without_invalidation,
    good_access_flag_cleared_and_set_without_invalidation,
    bad_make_after_the_access_flag_was_cleared,
    bad_translations_of_two_sizes,
    good_group_made_and_broken,
    good_group_protected_as_a_whole,
    bad_one_page_of_a_group_unmapped,
    bad_one_page_of_a_group_protected,
    bad_group_on_scattered_frames,
    bad_group_misaligned,
    good_free_after_invalidation,
    good_table_freed_after_invalidation,
    bad_mapped_frame_freed,
    bad_frame_of_a_mapped_block_freed,
    bad_linked_table_freed,
    bad_frame_freed_before_invalidation,
    bad_table_freed_after_last_level_invalidation,
    bad_table_filled_before_invalidation,
    bad_linked_table_zeroed,
    bad_frame_zeroed_before_invalidation,
    good_copy_after_the_break,
    bad_copy_before_the_break,
    bad_copy_before_the_invalidation,
    good_fill_then_publish_then_link,
    bad_use_before_publication,
    bad_end_without_publication,
    bad_end_without_invalidation,
    bad_table_linked_before_its_entries_are_published,
    bad_frame_mapped_before_its_zeros_are_published,
    good_code_synchronized,
    bad_copied_code_not_synchronized,
    bad_stored_code_not_synchronized,
    good_change_beside_what_is_protected,
    bad_protected_page_broken,
    bad_protected_page_broken_with_its_block,
    bad_table_outside_ram,
    bad_output_outside_ram,
    bad_table_of_tables_linked_twice,
    good_break_at_both_places,
    bad_invalidation_at_one_of_two_places,
    bad_free_of_a_table_that_is_linked_still,
    bad_table_written_as_of_another_level,
}
