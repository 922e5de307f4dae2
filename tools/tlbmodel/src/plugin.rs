//! QEMU's side: what it calls, and what it is asked for.
//!
//! Only plain callbacks are used. QEMU 10.0 puts a constant in place of the core's number into inline and conditional ones where
//! cores take turns in one thread, and other code with it; in plain ones the number alone is wrong there, so that more
//! than one core with `-icount` is refused.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use qemu_plugin_sys as qemu;
use qemu_plugin_sys::qemu_plugin_cb_flags::{QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_CB_R_REGS};
use qemu_plugin_sys::qemu_plugin_mem_rw::{QEMU_PLUGIN_MEM_R, QEMU_PLUGIN_MEM_W};

use crate::decode::{self, Instruction, Marker, Operation, Register, Scope};
use crate::presets::Geometry;
use crate::report::{self, Count, Counters, Counts};
use crate::tlb::{Access, Checks, Core, Finding, IDLE, Side};
use crate::walk::{Memory, Regime};

/// The version of the interface that this is made for: QEMU reads it before anything else.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = qemu::QEMU_PLUGIN_VERSION as c_int;

// SAFETY: glib's, which QEMU is linked with, and the C library's, as their headers have them.
unsafe extern "C" {
    fn g_byte_array_new() -> *mut qemu::GByteArray;
    fn g_byte_array_set_size(array: *mut qemu::GByteArray, length: c_uint) -> *mut qemu::GByteArray;
    fn g_array_free(array: *mut qemu::GArray, segment: c_int) -> *mut c_char;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// As many cores as a `virt` machine can have.
const CORES: usize = 512;

/// How many instructions each of the other cores may run before a contradiction counts. It takes some thousand from a descriptor's
/// change to its TLBI; but a core's thread may be set aside in between.
const PATIENCE: u64 = 1_000_000;

/// Findings that are written out; all are counted.
const FINDINGS: u32 = 32;

static MODEL: OnceLock<Model> = OnceLock::new();
static SEATS: [AtomicPtr<Seat>; CORES] = [const { AtomicPtr::new(ptr::null_mut()) }; CORES];

/// What all cores share.
struct Model {
    id: qemu::qemu_plugin_id_t,
    /// As many as the machine may have.
    cores: usize,
    geometry: Geometry,
    checks: Checks,
    memory: Physical,
    out: Mutex<Box<dyn Write + Send>>,
    /// Instructions are looked at when they are translated.
    active: AtomicBool,
    /// Counts the starts after which nothing is known of what a core's TLBs hold.
    generation: AtomicU32,
    /// What each core's counters stood at when counting began.
    baseline: Mutex<Vec<Counts>>,
    written: AtomicU32,
}

/// What belongs to one core.
struct Seat {
    index: usize,
    /// Only the thread that runs the core touches it, in callbacks, which don't nest.
    own: UnsafeCell<Own>,
    counters: Arc<Counters>,
    /// The generation that the core is of.
    generation: AtomicU32,
    /// Invalidations of other cores that it has not heard of yet, and whether there are any.
    inbox: Mutex<Vec<Scope>>,
    pending: AtomicBool,
    /// Registers may have changed without an instruction: it was switched on or woke up.
    woken: AtomicBool,
    /// It runs no instructions.
    idle: AtomicBool,
    suspects: AtomicU32,
}

struct Own {
    core: Core,
    registers: Handles,
    buffer: *mut qemu::GByteArray,
}

// SAFETY: `own` is for the core's thread alone; the pointers in it are QEMU's handles and a buffer of its own.
unsafe impl Sync for Seat {}

/// How registers are asked for.
struct Handles {
    pc: *mut qemu::qemu_plugin_register,
    general: [*mut qemu::qemu_plugin_register; 31],
    translation: [*mut qemu::qemu_plugin_register; 4],
}

/// `cpu_physical_memory_rw(addr, buf, len, is_write)`.
type Read = unsafe extern "C" fn(u64, *mut c_void, u64, bool);

/// How the guest's physical memory is read.
enum Physical {
    /// By a function of QEMU's that is no part of the plugin interface, but among the program's symbols.
    Symbol(Read),
    /// Where QEMU has mapped the memory of a `memory-backend-memfd`.
    Map { host: *const u8, guest: u64, length: u64 },
}

// SAFETY: the function takes what locks it needs; the mapping stays for good.
unsafe impl Send for Physical {}
// SAFETY: as above.
unsafe impl Sync for Physical {}

impl Memory for Physical {
    fn read(&self, at: u64) -> Option<u64> {
        match *self {
            Self::Symbol(read) => {
                let mut bytes = [0; 8];
                // SAFETY: it fills the buffer, 8 bytes of it; what is no memory reads as
                // zeros or as a device has it, and only broken tables lead there.
                unsafe { read(at, bytes.as_mut_ptr().cast(), 8, false) };
                Some(u64::from_le_bytes(bytes))
            }
            Self::Map { host, guest, length } => {
                let offset = at.checked_sub(guest).filter(|offset| offset + 8 <= length && offset % 8 == 0)?;
                // SAFETY: an aligned word within the mapping. The guest writes at the same time, so it is volatile.
                Some(unsafe { host.add(offset as usize).cast::<u64>().read_volatile() })
            }
        }
    }
}

impl Physical {
    /// By `how`: `sym`, `map`, or the first of them that is there.
    fn find(how: Option<&str>, guest: u64) -> Result<Self, String> {
        match how {
            Some("sym") => Self::symbol().ok_or_else(|| "QEMU has no symbol cpu_physical_memory_rw".into()),
            Some("map") => Self::map(guest).ok_or_else(|| "QEMU has no memory-backend-memfd mapped".into()),
            None => Self::symbol().or_else(|| Self::map(guest)).ok_or_else(|| {
                "no way to the guest's memory: QEMU has no symbol cpu_physical_memory_rw; phys=map wants -object \
                 memory-backend-memfd,id=ram,size=SIZE,share=on and -M virt,memory-backend=ram"
                    .into()
            }),
            Some(other) => Err(format!("phys={other}: want sym or map")),
        }
    }

    fn symbol() -> Option<Self> {
        // SAFETY: looks a name up in what is loaded; null is RTLD_DEFAULT.
        let found = unsafe { dlsym(ptr::null_mut(), c"cpu_physical_memory_rw".as_ptr()) };
        // SAFETY: QEMU's function of that name has this signature (include/exec/cpu-common.h).
        (!found.is_null()).then(|| Self::Symbol(unsafe { std::mem::transmute::<*mut c_void, Read>(found) }))
    }

    fn map(guest: u64) -> Option<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let range = maps.lines().find(|line| line.contains("/memfd:memory-backend-memfd"))?.split(' ').next()?;
        let (start, end) = range.split_once('-')?;
        let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).ok());
        let host = ptr::with_exposed_provenance(start?);
        Some(Self::Map { host, guest, length: (end? - start?) as u64 })
    }
}

fn model() -> &'static Model {
    MODEL.get().expect("callbacks are registered after it is made")
}

fn seat(core: c_uint) -> Option<&'static Seat> {
    let seat = SEATS.get(core as usize)?.load(Ordering::Acquire);
    // SAFETY: null, or a seat that was leaked.
    unsafe { seat.as_ref() }
}

fn seats() -> impl Iterator<Item = &'static Seat> {
    (0..model().cores as c_uint).filter_map(seat)
}

impl Seat {
    /// What is the core's own.
    ///
    /// # Safety
    /// Called by the core's thread, and nothing of an earlier call is still held.
    #[expect(clippy::mut_from_ref, reason = "it is the thread that makes it unique")]
    unsafe fn own(&self) -> &mut Own {
        // SAFETY: as the caller promises.
        unsafe { &mut *self.own.get() }
    }

    /// What other cores have invalidated takes effect.
    fn hear(&self, own: &mut Own) {
        if self.pending.swap(false, Ordering::Acquire) {
            let heard = std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
            heard.into_iter().for_each(|scope| own.core.invalidate(scope, false));
            self.tell_suspects(own);
        }
    }

    fn access(&self, own: &mut Own, access: Access) {
        own.core.access(access, &model().memory);
        if own.core.has_findings() {
            for finding in own.core.take_findings() {
                model().write_finding(self.index, &finding);
            }
        }
    }

    /// How far it has run, for the others.
    fn clock(&self) -> u64 {
        let ran = self.generation.load(Ordering::Relaxed) != 0;
        if ran && !self.idle.load(Ordering::Relaxed) { self.counters.get(Count::Instructions) } else { IDLE }
    }

    fn tell_suspects(&self, own: &Own) {
        self.suspects.store(own.core.suspects() as u32, Ordering::Relaxed);
    }
}

impl Own {
    /// A register's value. In callbacks that may read registers.
    fn read(&mut self, handle: *mut qemu::qemu_plugin_register) -> u64 {
        if handle.is_null() {
            return 0;
        }
        // SAFETY: the handle is QEMU's, the buffer glib's; the value is appended to it.
        let bytes = unsafe {
            g_byte_array_set_size(self.buffer, 0);
            qemu::qemu_plugin_read_register(handle, self.buffer);
            slice::from_raw_parts((*self.buffer).data, (*self.buffer).len as usize)
        };
        bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }

    fn general(&mut self, number: u8) -> u64 {
        let handle = self.registers.general.get(usize::from(number)).copied();
        handle.map_or(0, |handle| self.read(handle))
    }

    fn regime(&mut self) -> Regime {
        let [sctlr, tcr, ttbr0, ttbr1] = self.registers.translation.map(|handle| self.read(handle));
        Regime { sctlr, tcr, ttbr0, ttbr1 }
    }
}

impl Model {
    fn write(&self, line: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody is there to be told that it can't be written.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    fn write_finding(&self, core: usize, finding: &Finding) {
        if self.written.fetch_add(1, Ordering::Relaxed) >= FINDINGS {
            return;
        }
        let Finding { access, contradiction, held, tables } = finding;
        let name = contradiction.map_or("walk_fail", |contradiction| contradiction.name());
        let access_kind = match (access.side, access.write) {
            (Side::Fetch, _) => "fetch",
            (Side::Data, false) => "read",
            (Side::Data, true) => "write",
        };
        let address = |value: &Option<u64>| value.map_or("null".into(), |value| format!("\"{value:#x}\""));
        self.write(&format!(
            "{{\"finding\":\"{name}\",\"core\":{core},\"access\":\"{access_kind}\",\"va\":\"{:#x}\",\"pc\":\"{:#x}\",\"held\":{},\
             \"tables\":{}}}",
            access.va,
            access.pc,
            address(held),
            address(tables)
        ));
    }

    fn counted(&self) -> Counts {
        let baseline = self.baseline.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = Counts::default();
        for seat in seats() {
            let before = baseline.get(seat.index).copied().unwrap_or_default();
            counts.add_between(&before, &seat.counters.now());
        }
        counts
    }

    fn zero(&self) {
        let now = |core| seat(core).map_or_else(Counts::default, |seat| seat.counters.now());
        let now = (0..self.cores as c_uint).map(now).collect();
        *self.baseline.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn report(&self, tag: &str) {
        let suspects: u32 = seats().map(|seat| seat.suspects.load(Ordering::Relaxed)).sum();
        let cores = seats().filter(|seat| seat.generation.load(Ordering::Relaxed) != 0).count();
        self.write(&self.counted().line(tag, cores, suspects as usize, &self.geometry));
    }
}

/// A number and an address in one word: an address's bits from 49 up repeat bit 48.
fn pack(number: usize, address: u64) -> *mut c_void {
    ptr::without_provenance_mut((number << 49) | (address as usize & ((1 << 49) - 1)))
}

fn unpack(word: *mut c_void) -> (u64, u64) {
    let word = word.addr() as u64;
    (word >> 49, ((word << 15) as i64 >> 15) as u64)
}

/// What QEMU calls first.
///
/// # Safety
/// As QEMU does it: `argv` has `argc` strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: qemu::qemu_plugin_id_t,
    info: *const qemu::qemu_info_t,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: as the caller promises.
    let words: Vec<_> = unsafe {
        (0..argc as usize).map(|index| CStr::from_ptr(*argv.add(index)).to_string_lossy().into_owned()).collect()
    };
    // SAFETY: QEMU's own description of itself.
    let (target, cores) = unsafe { (CStr::from_ptr((*info).target_name), (*info).__bindgen_anon_1.system.max_vcpus) };
    if target != c"aarch64" {
        eprintln!("tlbmodel: it is for aarch64");
        return 1;
    }
    match make(id, &words, cores) {
        Ok(model) => {
            if MODEL.set(model).is_err() {
                eprintln!("tlbmodel: it can be loaded once");
                return 1;
            }
            register();
            0
        }
        Err(why) => {
            eprintln!("tlbmodel: {why}");
            1
        }
    }
}

fn make(id: qemu::qemu_plugin_id_t, words: &[String], cores: c_int) -> Result<Model, String> {
    let mut geometry = Geometry::default();
    let mut checks = Checks { hits: false, patience: (cores > 1).then_some(PATIENCE) };
    let (mut phys, mut ram, mut active, mut out) = (None, 0x4000_0000, false, None);
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("`{word}`: want key=value"))?;
        let wrong = || format!("`{word}` is not known");
        match (key, value) {
            ("preset", name) => geometry = Geometry::preset(name).ok_or_else(wrong)?,
            ("check", "0" | "1") => checks.hits = value == "1",
            ("patience", number) => checks.patience = Some(number.parse().map_err(|_| wrong())?),
            ("start", "boot" | "hint") => active = value == "boot",
            ("phys", _) => phys = Some(value),
            ("ram", number) => {
                ram = u64::from_str_radix(number.trim_start_matches("0x"), 16).map_err(|_| wrong())?;
            }
            ("out", path) => out = Some(PathBuf::from(path)),
            _ => geometry.set(key, value).ok_or_else(wrong)?,
        }
    }
    let memory = Physical::find(phys, ram)?;
    let out: Box<dyn Write + Send> = match out {
        Some(path) => Box::new(File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?),
        None => Box::new(std::io::stderr()),
    };
    Ok(Model {
        id,
        cores: (cores.max(1) as usize).min(CORES),
        geometry,
        checks,
        memory,
        out: Mutex::new(out),
        active: AtomicBool::new(active),
        generation: AtomicU32::new(1),
        baseline: Mutex::default(),
        written: AtomicU32::new(0),
    })
}

fn register() {
    let id = model().id;
    // SAFETY: the callbacks have the types that QEMU calls them with.
    unsafe {
        qemu::qemu_plugin_register_vcpu_init_cb(id, Some(core_made));
        qemu::qemu_plugin_register_vcpu_resume_cb(id, Some(core_woken));
        qemu::qemu_plugin_register_vcpu_idle_cb(id, Some(core_idles));
        qemu::qemu_plugin_register_vcpu_tb_trans_cb(id, Some(translated));
        qemu::qemu_plugin_register_atexit_cb(id, Some(ended), ptr::null_mut());
    }
}

unsafe extern "C" fn again(_: qemu::qemu_plugin_id_t) {
    register();
}

unsafe extern "C" fn ended(_: qemu::qemu_plugin_id_t, _: *mut c_void) {
    if model().active.load(Ordering::Relaxed) {
        model().report("exit");
    }
}

unsafe extern "C" fn core_made(_: qemu::qemu_plugin_id_t, core: c_uint) {
    let index = core as usize;
    if index >= CORES || seat(core).is_some() {
        return;
    }
    let mut handles =
        Handles { pc: ptr::null_mut(), general: [ptr::null_mut(); 31], translation: [ptr::null_mut(); 4] };
    // SAFETY: QEMU hands out an array of descriptors, which is freed here; what they point to stays.
    unsafe {
        let array = qemu::qemu_plugin_get_registers();
        let found = (*array).data.cast::<qemu::qemu_plugin_reg_descriptor>();
        for descriptor in slice::from_raw_parts(found, (*array).len as usize) {
            let name = CStr::from_ptr(descriptor.name).to_str().unwrap_or_default();
            match name {
                "pc" => handles.pc = descriptor.handle,
                "SCTLR" | "SCTLR_EL1" => handles.translation[Register::Sctlr as usize] = descriptor.handle,
                "TCR_EL1" => handles.translation[Register::Tcr as usize] = descriptor.handle,
                "TTBR0_EL1" => handles.translation[Register::Ttbr0 as usize] = descriptor.handle,
                "TTBR1_EL1" => handles.translation[Register::Ttbr1 as usize] = descriptor.handle,
                _ => {
                    let number = name.strip_prefix('x').and_then(|number| number.parse::<usize>().ok());
                    if let Some(general) = number.and_then(|number| handles.general.get_mut(number)) {
                        *general = descriptor.handle;
                    }
                }
            }
        }
        g_array_free(array, 1);
    }
    if handles.pc.is_null() || handles.translation.iter().any(|handle| handle.is_null()) {
        eprintln!("tlbmodel: QEMU does not show the registers of translation; counts will be empty");
    }
    let counters = Arc::new(Counters::default());
    let clocks = Box::new(move || {
        let others = (0..model().cores).filter(|&other| other != index);
        others.map(|other| seat(other as c_uint).map_or(IDLE, Seat::clock)).collect()
    });
    let core = Core::new(model().geometry.clone(), model().checks, clocks, counters.clone());
    // SAFETY: makes an empty array.
    let buffer = unsafe { g_byte_array_new() };
    let seat = Box::new(Seat {
        index,
        own: UnsafeCell::new(Own { core, registers: handles, buffer }),
        counters,
        generation: AtomicU32::new(0),
        inbox: Mutex::default(),
        pending: AtomicBool::new(false),
        woken: AtomicBool::new(false),
        idle: AtomicBool::new(false),
        suspects: AtomicU32::new(0),
    });
    SEATS[index].store(Box::into_raw(seat), Ordering::Release);
}

unsafe extern "C" fn core_woken(_: qemu::qemu_plugin_id_t, core: c_uint) {
    if let Some(seat) = seat(core) {
        seat.woken.store(true, Ordering::Relaxed);
        seat.idle.store(false, Ordering::Relaxed);
    }
}

unsafe extern "C" fn core_idles(_: qemu::qemu_plugin_id_t, core: c_uint) {
    if let Some(seat) = seat(core) {
        seat.idle.store(true, Ordering::Relaxed);
    }
}

/// Instructions are translated: says what is to be called when they run.
unsafe extern "C" fn translated(_: qemu::qemu_plugin_id_t, block: *mut qemu::qemu_plugin_tb) {
    let active = model().active.load(Ordering::Relaxed);
    // SAFETY: the block and its instructions are QEMU's for the time of the call; the callbacks have the types that they
    // are registered for.
    unsafe {
        let count = qemu::qemu_plugin_tb_n_insns(block);
        if active {
            let word = pack(count, qemu::qemu_plugin_tb_vaddr(block));
            qemu::qemu_plugin_register_vcpu_tb_exec_cb(block, Some(block_runs), QEMU_PLUGIN_CB_R_REGS, word);
        }
        for index in 0..count {
            let instruction = qemu::qemu_plugin_tb_get_insn(block, index);
            let mut bytes = [0_u8; 4];
            qemu::qemu_plugin_insn_data(instruction, bytes.as_mut_ptr().cast(), 4);
            let word = u32::from_le_bytes(bytes);
            let decoded = decode::decode(word);
            if active || matches!(decoded, Some(Instruction::Marker(_))) {
                if decoded.is_some() {
                    let word = ptr::without_provenance_mut(word as usize);
                    let callback = Some(instruction_runs as unsafe extern "C" fn(_, _));
                    qemu::qemu_plugin_register_vcpu_insn_exec_cb(instruction, callback, QEMU_PLUGIN_CB_R_REGS, word);
                }
                if active {
                    let at = ptr::without_provenance_mut(qemu::qemu_plugin_insn_vaddr(instruction) as usize);
                    let no_registers = QEMU_PLUGIN_CB_NO_REGS;
                    qemu::qemu_plugin_register_vcpu_mem_cb(
                        instruction,
                        Some(reads),
                        no_registers,
                        QEMU_PLUGIN_MEM_R,
                        at,
                    );
                    qemu::qemu_plugin_register_vcpu_mem_cb(
                        instruction,
                        Some(writes),
                        no_registers,
                        QEMU_PLUGIN_MEM_W,
                        at,
                    );
                }
            }
        }
    }
}

/// A block of instructions begins to run: it is fetched.
unsafe extern "C" fn block_runs(core: c_uint, word: *mut c_void) {
    let Some(seat) = seat(core) else { return };
    // SAFETY: this is the core's thread, and the reference ends with this call.
    let own = unsafe { seat.own() };
    let generation = model().generation.load(Ordering::Relaxed);
    if seat.generation.load(Ordering::Relaxed) != generation {
        // From here on others' invalidations are kept for it; what they did before, it has nothing of.
        seat.generation.store(generation, Ordering::SeqCst);
        let regime = own.regime();
        own.core.reset(regime);
    }
    if seat.woken.swap(false, Ordering::Relaxed) {
        let regime = own.regime();
        own.core.set_regime(regime);
    }
    seat.hear(own);
    let (count, mut va) = unpack(word);
    seat.counters.add(Count::Instructions, count);
    // The same code may have been translated at another of its addresses.
    if !own.core.has_fetched(va) {
        va = own.read(own.registers.pc);
    }
    let access = Access { va, side: Side::Fetch, write: false, tentative: false, pc: va };
    seat.access(own, access);
    let last = va + (count - 1) * 4;
    if (last ^ va) >> 12 != 0 {
        // It may be left before.
        seat.access(own, Access { va: last, tentative: true, ..access });
    }
    if model().checks.patience.is_some() {
        seat.tell_suspects(own);
    }
}

unsafe extern "C" fn reads(core: c_uint, info: qemu::qemu_plugin_meminfo_t, va: u64, pc: *mut c_void) {
    data(core, info, va, pc.addr() as u64, false);
}

unsafe extern "C" fn writes(core: c_uint, info: qemu::qemu_plugin_meminfo_t, va: u64, pc: *mut c_void) {
    data(core, info, va, pc.addr() as u64, true);
}

#[inline]
fn data(core: c_uint, info: qemu::qemu_plugin_meminfo_t, va: u64, pc: u64, write: bool) {
    let Some(seat) = seat(core) else { return };
    // SAFETY: this is the core's thread, and the reference ends with this call.
    let own = unsafe { seat.own() };
    if seat.pending.load(Ordering::Relaxed) {
        seat.hear(own);
    }
    let access = Access { va, side: Side::Data, write, tentative: false, pc };
    seat.access(own, access);
    if va & 0xfff > 0xff0 {
        // SAFETY: asks for the size in what was handed over.
        let bytes = 1 << unsafe { qemu::qemu_plugin_mem_size_shift(info) };
        let last = va + bytes - 1;
        if (last ^ va) >> 12 != 0 {
            seat.access(own, Access { va: last, ..access });
        }
    }
}

/// An instruction that has to do with translation is about to run.
unsafe extern "C" fn instruction_runs(core: c_uint, word: *mut c_void) {
    let Some(seat) = seat(core) else { return };
    // SAFETY: this is the core's thread, and the reference ends with this call.
    let own = unsafe { seat.own() };
    match decode::decode(word.addr() as u32) {
        Some(Instruction::Write { register, from }) => {
            let value = own.general(from);
            own.core.write_register(register, value);
        }
        Some(Instruction::Invalidate { operation, from }) => {
            let operand = own.general(from);
            invalidate(seat, own, operation, operand);
        }
        Some(Instruction::Line { zeroes, from }) => {
            seat.hear(own);
            let va = own.general(from);
            let pc = own.read(own.registers.pc);
            seat.access(own, Access { va, side: Side::Data, write: zeroes, tentative: true, pc });
            seat.counters.add(Count::ZeroedLines, u64::from(zeroes));
        }
        Some(Instruction::Marker(marker)) => {
            let tag = report::tag(own.general(0));
            mark(marker, &tag);
        }
        None => {}
    }
}

fn invalidate(seat: &Seat, own: &mut Own, operation: Operation, operand: u64) {
    let scope = operation.scope(operand);
    own.core.invalidate(scope, true);
    seat.tell_suspects(own);
    if operation.broadcast {
        let generation = model().generation.load(Ordering::Relaxed);
        let others = seats().filter(|other| other.index != seat.index);
        for other in others.filter(|other| other.generation.load(Ordering::SeqCst) == generation) {
            other.inbox.lock().unwrap_or_else(PoisonError::into_inner).push(scope);
            other.pending.store(true, Ordering::Release);
        }
    }
}

fn mark(marker: Marker, tag: &str) {
    let model = model();
    match marker {
        Marker::Start => {
            model.zero();
            if !model.active.swap(true, Ordering::Relaxed) {
                model.generation.fetch_add(1, Ordering::Relaxed);
                // SAFETY: QEMU forgets what it has translated, and calls back when nothing of it runs any more.
                unsafe { qemu::qemu_plugin_reset(model.id, Some(again)) };
            }
        }
        Marker::Report => model.report(tag),
        Marker::Stop => {
            if model.active.swap(false, Ordering::Relaxed) {
                // SAFETY: as above.
                unsafe { qemu::qemu_plugin_reset(model.id, Some(again)) };
            }
        }
    }
}
