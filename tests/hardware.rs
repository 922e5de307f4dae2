//! The memory manager's machine, on the hardware: what it does to frames, entries and interrupts.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run", "run cpu=max", "output test result: ok");

#[cfg(target_os = "none")]
mod guest {
    use aarch64_cpu::registers::{DAIF, ID_AA64ISAR0_EL1, Readable};
    use ashlar::arch::aarch64::{atomics, gate, memory};
    use ashlar::mm::MapRequest;
    use ashlar::mm::address::{Frame, PAGE_SIZE};
    use ashlar::mm::frame::Class;
    use ashlar::mm::mmu::{Access, Attributes, Entry, Level, Mmu};
    use core::sync::atomic::{AtomicU64, Ordering};

    /// Runs `test` in kernel mode on 16 frames of its own, filled with 0xa5.
    fn with_frames(test: fn(Frame)) {
        gate::call(move || {
            let frames = memory::manager().frames();
            let first = frames.allocate(4, Class::Unmovable).unwrap();
            bytes(first, 16).fill(0xa5);
            test(first);
            frames.free(first, 4);
        });
    }

    fn bytes(first: Frame, count: usize) -> &'static mut [u8] {
        let start = memory::manager().machine().linear(first.start());
        // SAFETY: the frames are this test's, and it uses one such slice at a time.
        unsafe { core::slice::from_raw_parts_mut(start, count * PAGE_SIZE) }
    }

    fn is_filled_with(first: Frame, count: usize, byte: u8) -> bool {
        bytes(first, count).iter().all(|&found| found == byte)
    }

    pub fn zero_clears_the_frames_and_nothing_else() {
        with_frames(|first| {
            memory::manager().machine().zero(first + 1, 1);
            assert!(is_filled_with(first, 1, 0xa5) && is_filled_with(first + 1, 1, 0));
            memory::manager().machine().zero(first + 3, 12);
            assert!(is_filled_with(first + 2, 1, 0xa5) && is_filled_with(first + 3, 12, 0));
            assert!(is_filled_with(first + 15, 1, 0xa5));
        });
    }

    pub fn copy_takes_every_byte_and_touches_nothing_else() {
        with_frames(|first| {
            for (index, byte) in bytes(first + 1, 2).iter_mut().enumerate() {
                *byte = (index % 251) as u8;
            }
            memory::manager().machine().copy(first + 1, first + 8, 2);
            for frame in [first + 1, first + 8] {
                assert!(bytes(frame, 2).iter().enumerate().all(|(index, &byte)| byte == (index % 251) as u8));
            }
            assert!(is_filled_with(first, 1, 0xa5) && is_filled_with(first + 3, 5, 0xa5));
            assert!(is_filled_with(first + 10, 6, 0xa5));
        });
    }

    pub fn is_zero_sees_every_byte() {
        with_frames(|first| {
            let machine = memory::manager().machine();
            machine.zero(first + 1, 1);
            assert!(machine.is_zero(first + 1), "the neighbours do not count");
            for index in 0..PAGE_SIZE {
                bytes(first + 1, 1)[index] = 0x80;
                assert!(!machine.is_zero(first + 1), "byte {index}");
                bytes(first + 1, 1)[index] = 0;
            }
        });
    }

    pub fn entries_read_as_written() {
        with_frames(|table| {
            let machine = memory::manager().machine();
            machine.zero(table, 1);
            let attributes = Attributes::new(Access::READ_WRITE);
            let entries = [
                (Level::Three, Entry::Page { frame: Frame(0x12345), attributes, contiguous: true }),
                (Level::Two, Entry::Block { frame: Frame(0x12200), attributes: Attributes::new(Access::READ_EXECUTE) }),
                (Level::One, Entry::Table(Frame(0x54321))),
                (Level::Three, Entry::Invalid),
            ];
            for (level, entry) in entries {
                // SAFETY: no walk reaches this table.
                unsafe { machine.write_entry(table, 511, level, entry) };
                assert_eq!(machine.read_entry(table, 511, level), entry);
                assert_eq!(machine.read_entry(table, 510, level), Entry::Invalid);
            }
        });
    }

    pub fn interrupts_are_masked_and_then_as_before() {
        let (before, (inside, nested, after)) = (
            DAIF.get(),
            gate::call(|| {
                let machine = memory::manager().machine();
                let inside = machine.without_interrupts(|| (DAIF.get(), machine.without_interrupts(|| DAIF.get())));
                (inside.0, inside.1, DAIF.get())
            }),
        );
        assert_eq!((inside, nested), (0b1111 << 6, 0b1111 << 6));
        assert_eq!(after, before | 1 << 7, "kernel mode is not interrupted");
        assert_eq!(DAIF.get(), before);
        assert_eq!(before & (0b11 << 7), 0, "SErrors and interrupts are heard in application mode");
    }

    /// The operations of FEAT_LSE do what those of the language do, and are used where the processor has them alone.
    pub fn atomic_operations_are_those_of_the_processor() {
        let has_lse = ID_AA64ISAR0_EL1.get() >> 20 & 0xf >= 2;
        assert_eq!(atomics::has_lse(), has_lse);
        if !has_lse {
            return;
        }
        let word = AtomicU64::new(7);
        assert_eq!((atomics::swap(&word, 0x0f0f), word.load(Ordering::Relaxed)), (7, 0x0f0f));
        assert_eq!((atomics::fetch_or(&word, 0xf0), word.load(Ordering::Relaxed)), (0x0f0f, 0x0fff));
        assert_eq!((atomics::fetch_clear(&word, 0xff), word.load(Ordering::Relaxed)), (0x0fff, 0x0f00));
        assert_eq!((atomics::fetch_add(&word, u64::MAX), word.load(Ordering::Relaxed)), (0x0f00, 0x0eff));
        assert_eq!((atomics::compare_exchange(&word, 1, 2), word.load(Ordering::Relaxed)), (0x0eff, 0x0eff));
        assert_eq!((atomics::compare_exchange(&word, 0x0eff, 2), word.load(Ordering::Relaxed)), (0x0eff, 2));
    }

    /// Written as data, protected, then run: caches and TLBs have to follow.
    pub fn code_that_was_just_written_runs() {
        let page = gate::call(|| memory::manager().map(MapRequest::new(PAGE_SIZE))).unwrap().start;
        let code = core::ptr::with_exposed_provenance_mut::<u32>(page.0 as usize);
        for result in 1..=3_u32 {
            let (load, back) = (0x5280_0000 | result << 5, 0xd65f_03c0); // mov w0, #result; ret
            // SAFETY: the page was just mapped, for reading and writing, and is this test's.
            unsafe { (code.write_volatile(load), code.add(1).write_volatile(back)) };
            gate::call(move || memory::manager().protect(page, PAGE_SIZE, Access::READ_EXECUTE)).unwrap();
            // SAFETY: these are the instructions of a function of that type.
            let function: extern "C" fn() -> u32 = unsafe { core::mem::transmute(code) };
            assert_eq!(function(), result);
            gate::call(move || memory::manager().protect(page, PAGE_SIZE, Access::READ_WRITE)).unwrap();
        }
    }

    /// Every register is as before after a fault that was resolved.
    pub fn faults_leave_registers_alone() {
        let page = gate::call(|| memory::manager().map(MapRequest::new(PAGE_SIZE))).unwrap().start;
        let wrong: u64;
        // SAFETY: a load from a page just mapped. What is put into registers is declared.
        unsafe {
            core::arch::asm!(
                "mov x1, #1", "mov x7, #7", "mov x9, #9", "mov x15, #15", "mov x17, #17", "mov x20, #20", "mov x28, #28",
                "movi v0.16b, #1", "movi v7.16b, #7", "movi v8.16b, #8", "movi v31.16b, #31",
                "cmp x1, x1",
                "ldr x2, [x0]",
                "cset x3, ne",
                "eor x1, x1, #1", "orr x3, x3, x1", "orr x3, x3, x2",
                "sub x7, x7, #7", "orr x3, x3, x7", "sub x9, x9, #9", "orr x3, x3, x9",
                "sub x15, x15, #15", "orr x3, x3, x15", "sub x17, x17, #17", "orr x3, x3, x17",
                "sub x20, x20, #20", "orr x3, x3, x20", "sub x28, x28, #28", "orr x3, x3, x28",
                "movi v1.16b, #1", "eor v0.16b, v0.16b, v1.16b",
                "movi v1.16b, #7", "eor v7.16b, v7.16b, v1.16b", "orr v0.16b, v0.16b, v7.16b",
                "movi v1.16b, #8", "eor v8.16b, v8.16b, v1.16b", "orr v0.16b, v0.16b, v8.16b",
                "movi v1.16b, #31", "eor v31.16b, v31.16b, v1.16b", "orr v0.16b, v0.16b, v31.16b",
                "umaxv b0, v0.16b", "umov w1, v0.b[0]", "orr x3, x3, x1",
                inout("x0") page.0 => _, out("x1") _, out("x2") _, out("x3") wrong, out("x7") _, out("x9") _,
                out("x15") _, out("x17") _, out("x20") _, out("x28") _,
                out("v0") _, out("v1") _, out("v7") _, out("v8") _, out("v31") _, options(nostack)
            );
        }
        assert_eq!(wrong, 0);
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    zero_clears_the_frames_and_nothing_else,
    #[cfg(target_os = "none")]
    copy_takes_every_byte_and_touches_nothing_else,
    #[cfg(target_os = "none")]
    is_zero_sees_every_byte,
    #[cfg(target_os = "none")]
    entries_read_as_written,
    #[cfg(target_os = "none")]
    interrupts_are_masked_and_then_as_before,
    #[cfg(target_os = "none")]
    atomic_operations_are_those_of_the_processor,
    #[cfg(target_os = "none")]
    code_that_was_just_written_runs,
    #[cfg(target_os = "none")]
    faults_leave_registers_alone,
}
