//! The simulated machine as a machine: RAM, faults, accesses across page borders, the walker's listing.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::vec::Vec;
use ashlar::arch::sim::{AccessError, FaultKind, Mapping, SimConfig, SimMachine};
use ashlar::mm::address::{BLOCK_SIZE, Frame, PAGE_SIZE, PhysAddr, VirtAddr};
use ashlar::mm::mmu::{Access, Attributes, Entry, Level, Mmu};

const RAM: PhysAddr = PhysAddr(0x4000_0000);
const ROOT: Frame = Frame(RAM.0 >> 12);
const MIDDLE: Frame = Frame(ROOT.0 + 1);
const PAGES: Frame = Frame(ROOT.0 + 2);
/// Bytes of a large bank: on the host, more than anybody would zero.
const BANK: usize = if cfg!(target_os = "none") { 16 << 20 } else { 2 << 30 };
const RAM_BYTES: usize = 3 * BLOCK_SIZE;
const DATA: Frame = Frame(ROOT.0 + 512);

fn write(machine: &SimMachine, table: Frame, index: usize, level: Level, entry: Entry) {
    // SAFETY: no Rust reference points into the simulated application's memory.
    unsafe { machine.write_entry(table, index, level, entry) }
}

/// A machine with a root, one level-2 and one level-3 table, all else invalid.
fn machine() -> SimMachine {
    let machine = SimMachine::new(SimConfig { banks: &[(RAM, RAM_BYTES)], ..SimConfig::default() });
    write(&machine, ROOT, 0, Level::One, Entry::Table(MIDDLE));
    write(&machine, MIDDLE, 0, Level::Two, Entry::Table(PAGES));
    machine.publish();
    machine.set_root(ROOT);
    machine
}

fn page(frame: Frame, access: Access) -> Entry {
    Entry::Page { frame, attributes: Attributes::new(access), contiguous: false }
}

fn banks_are_zero_and_stay_where_they_are() {
    let far = PhysAddr(0x10_0000_1000);
    let machine = SimMachine::new(SimConfig { banks: &[(RAM, BLOCK_SIZE), (far, BANK)], ..Default::default() });
    let (near, last) = (machine.linear(RAM), machine.linear(far + (BANK as u64 - 1)));
    assert!(near.addr().is_multiple_of(BLOCK_SIZE), "linear addresses keep the alignment of physical ones");
    // SAFETY: both point into RAM, which nothing else uses.
    unsafe { (near.write(1), last.write(2)) };
    assert_eq!(machine.read_physical(RAM, 2), [1, 0]);
    assert_eq!(machine.read_physical(far + (BANK as u64 - 2), 2), [0, 2]);
    assert!(!machine.is_zero(RAM.frame()) && machine.is_zero(RAM.frame() + 1));
}

fn accesses_cross_page_borders() {
    let machine = machine();
    write(&machine, PAGES, 1, Level::Three, page(DATA + 7, Access::READ_WRITE));
    write(&machine, PAGES, 2, Level::Three, page(DATA, Access::READ_WRITE));
    machine.publish();
    let bytes: Vec<u8> = (1..=100).collect();
    let va = VirtAddr(2 * PAGE_SIZE as u64 - 50);
    machine.store(va, &bytes).expect("both pages are writable");
    assert_eq!(machine.load(va, 100).expect("and readable"), bytes);
    assert_eq!(machine.read_physical((DATA + 8).start() + (PAGE_SIZE as u64 - 50), 0), []);
    assert_eq!(machine.read_physical((DATA + 7).start() + (PAGE_SIZE as u64 - 50), 50), bytes[..50]);
    assert_eq!(machine.read_physical(DATA.start(), 50), bytes[50..]);
    assert_eq!(machine.translate(va + 50), Some(DATA.start()));
}

fn faults_say_level_and_cause() {
    let machine = machine();
    let old = Attributes { access: Access::READ, accessed: false };
    write(&machine, PAGES, 1, Level::Three, page(DATA, Access::READ));
    write(&machine, PAGES, 2, Level::Three, Entry::Page { frame: DATA, attributes: old, contiguous: false });
    write(&machine, PAGES, 3, Level::Three, page(DATA, Access::NONE));
    write(&machine, PAGES, 4, Level::Three, page(DATA, Access::READ_EXECUTE));
    machine.publish();
    let load = |va: u64| machine.load(VirtAddr(va), 1).map_err(|fault| fault.kind);
    assert_eq!(load(0), Err(FaultKind::Translation(Level::Three)));
    assert_eq!(load(BLOCK_SIZE as u64), Err(FaultKind::Translation(Level::Two)));
    assert_eq!(load(1 << 30), Err(FaultKind::Translation(Level::One)));
    assert_eq!(load(1 << 39), Err(FaultKind::Translation(Level::One)));
    assert_eq!(load(0x1000), Ok(alloc::vec![0]));
    assert_eq!(load(0x2000), Err(FaultKind::AccessFlag(Level::Three)));
    assert_eq!(load(0x3000), Err(FaultKind::AccessFlag(Level::Three)));
    let fault = machine.store(VirtAddr(0x1ffc), &[1; 8]).expect_err("read-only");
    assert_eq!((fault.va, fault.kind), (VirtAddr(0x1ffc), FaultKind::Permission(Level::Three)));
    assert_eq!(fault.access, Access::READ_WRITE);
    assert_eq!(machine.execute(VirtAddr(0x1000)).map_err(|f| f.kind), Err(FaultKind::Permission(Level::Three)));
    machine.execute(VirtAddr(0x4000)).expect("executable");
}

fn a_fault_handler_is_called_until_it_helps() {
    let machine = machine();
    let mut calls = 0;
    let loaded = machine.retry(
        |machine| machine.load(VirtAddr(0x5000), 4),
        |fault| {
            calls += 1;
            write(&machine, PAGES, fault.va.page().index(), Level::Three, page(DATA, Access::READ));
            machine.publish();
            Ok::<(), ()>(())
        },
    );
    assert_eq!((loaded, calls), (Ok(alloc::vec![0; 4]), 1));
    let stuck = machine.retry(|machine| machine.load(VirtAddr(0x6000), 4), |_| Ok::<(), ()>(()));
    assert!(matches!(stuck, Err(AccessError::Stuck(fault)) if fault.va == VirtAddr(0x6000)));
    let refused = machine.retry(|machine| machine.load(VirtAddr(0x6000), 4), |_| Err("wild"));
    assert_eq!(refused, Err(AccessError::Refused("wild")));
}

fn the_walker_lists_every_leaf() {
    let machine = machine();
    let block = DATA + 512;
    write(&machine, PAGES, 511, Level::Three, page(DATA + 3, Access::READ_EXECUTE));
    let attributes = Attributes::new(Access::READ_WRITE);
    write(&machine, MIDDLE, 511, Level::Two, Entry::Block { frame: block, attributes });
    machine.publish();
    let expected = [
        Mapping {
            va: VirtAddr(511 << 12),
            bytes: PAGE_SIZE,
            pa: (DATA + 3).start(),
            access: Access::READ_EXECUTE,
            accessed: true,
            contiguous: false,
        },
        Mapping {
            va: VirtAddr(511 << 21),
            bytes: BLOCK_SIZE,
            pa: block.start(),
            access: Access::READ_WRITE,
            accessed: true,
            contiguous: false,
        },
    ];
    assert_eq!(machine.mappings(), expected);
}

ashlar_test::tests! {
    banks_are_zero_and_stay_where_they_are, accesses_cross_page_borders, faults_say_level_and_cause,
    a_fault_handler_is_called_until_it_helps, the_walker_lists_every_leaf,
}
