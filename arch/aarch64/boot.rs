//! From `boot.s` to the application: the machine is read from its device tree, memory is mapped, the application called.

use super::linear_map::NoMemoryForTables;
use super::memory::{self, StartError};
use super::threads::{self, NoThread, Spec};
use super::{
    allocator, atomics, background, cache, fixed_map, interrupts, layout, linear_map, percore, secondary, stacks, timer,
};
use crate::app;
use crate::arguments::Arguments;
use crate::mm::address::{PAGE_SIZE, PhysAddr, VirtAddr};
use crate::mm::frame::{MemoryMap, MemoryMapFull};
use crate::platform::console::{self as port, KNOWN_BASES, Pl011, REGISTERS_SIZE};
use crate::platform::interrupts::{self as controller, InterruptError};
use crate::platform::machine::{Conduit, Cpu, Machine, MachineError, Reason, UartKind};
use crate::platform::raspberry::mailbox::{Board, Mailbox, Message};
use crate::platform::raspberry::pins;
use crate::platform::tree::{HEADER_SIZE, TreeError, total_size};
use crate::platform::{log_warnings, power, rtc, tree_at};
use crate::report::KERNEL_BUG;
use crate::task::{MAX_CORES, Priority};
use crate::{console, println};
use arrayvec::ArrayVec;
use core::arch::global_asm;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;
use spin::Mutex;

global_asm!(include_str!("boot.s"));
global_asm!(include_str!("string.s"));

/// Bytes of the kernel heap.
const HEAP_SIZE: usize = 256 << 10;

// SAFETY: the application defines it by `ashlar`'s entry macro, or a test by `ashlar_test::tests!`, with this signature.
unsafe extern "C" {
    /// The application, in application mode. Returns its status.
    safe fn ashlar_application() -> i32;
}

/// What the firmware of a Raspberry Pi is asked. The VideoCore does not reach all RAM: an image has to be below 1 GiB.
static MESSAGE: Mutex<Message> = Mutex::new(Message::new());

/// Called by `boot.s` on the boot stack, with the MMU on: where the device tree and the image are, and the exception level that
/// the image was entered at.
#[unsafe(no_mangle)]
extern "C" fn start_kernel(tree: PhysAddr, image: PhysAddr, level: u64) -> ! {
    percore::current().enter_boot_stack();
    threads::enter();
    layout::set_image(image);
    let machine = match read_machine(tree) {
        Ok(machine) => machine,
        Err(error) => give_up(&error),
    };
    let arguments = Arguments::parse(machine.bootargs);
    let watchdog = machine.raspberry.watchdog.and_then(|at| map_registers(at..at + PAGE_SIZE as u64));
    power::configure(machine.psci, watchdog, arguments.semihosting, arguments.reset);
    let board = ask_board(&machine);
    install_console(&machine, board.as_ref());
    if let Some(word) = arguments.begin {
        println!("ashlar: begin {word}");
    }
    install_rtc(&machine);
    console::start_log(arguments.log);
    let arguments = arguments.install();
    log_warnings(&machine, arguments);
    log_banner(&machine, board.as_ref(), level);
    if let Err(error) = prepare_memory(&machine, arguments).and_then(|()| start_threads(&machine, arguments)) {
        give_up(&error);
    }
    threads::idle()
}

/// Says what the image runs on.
fn log_banner(machine: &Machine<'_>, board: Option<&Board>, level: u64) {
    log::info!(
        "ashlar {} on {}: {} MiB of RAM, {} cores in the device tree; entered at EL{level}; the counter goes at {} Hz",
        env!("CARGO_PKG_VERSION"),
        machine.model,
        machine.ram() >> 20,
        machine.cpus.len(),
        timer::frequency(),
    );
    if let Some(board) = board {
        log::info!("{board}");
    }
}

/// Makes the boot core one that runs threads, starts the others, and the application.
fn start_threads(machine: &Machine<'_>, arguments: &Arguments<'_>) -> Result<(), SetupError> {
    let core = percore::current();
    timer::prepare();
    atomics::detect();
    threads::install();
    threads::join(core.stack());
    let cpus = secondary::list(machine, arguments.maxcpus);
    match install_interrupts(machine, &cpus) {
        Ok(()) => secondary::start_all(&cpus),
        Err(why) => log::warn!("{why}: one core runs, and no thread is interrupted"),
    }
    let main = Spec {
        name: threads::MAIN.0,
        priority: Priority::Application,
        start: run_application,
        argument: 0,
        stack: app::stack::main_size(),
        isolated: false,
    };
    threads::spawn(main)?;
    background::start()?;
    Ok(())
}

/// Sets the interrupt controller up for `cpus`, and on the boot core.
fn install_interrupts(machine: &Machine<'_>, cpus: &[Cpu]) -> Result<(), NoInterrupts> {
    let gic = machine.gic.as_ref().ok_or(NoInterrupts::Missing)?;
    let affinities: ArrayVec<u64, MAX_CORES> = cpus.iter().map(|cpu| cpu.mpidr).collect();
    let timer = machine.timer.unwrap_or(timer::DEFAULT_INTERRUPT);
    let map = |range| fixed_map::map_device(range).ok();
    // SAFETY: the device tree says that its registers are there; each is mapped once, and for good.
    unsafe { controller::install(gic, timer, &map, &affinities) }.map_err(NoInterrupts::Controller)?;
    controller::start_core(0);
    interrupts::set_installed();
    Ok(())
}

/// Why no interrupts come.
enum NoInterrupts {
    Missing,
    Controller(InterruptError),
}

impl fmt::Display for NoInterrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the device tree names no interrupt controller"),
            Self::Controller(error) => error.fmt(f),
        }
    }
}

/// The main thread. The machine ends with it.
extern "C" fn run_application(_: usize) {
    allocator::set_application_allocator(&app::heap::HEAP);
    extern "C" fn entry(_: usize) -> i32 {
        ashlar_application()
    }
    let status = threads::run_in_application_mode(entry, 0);
    // Other threads may be printing: what is said of the end is said last.
    interrupts::stop_others();
    console::seize();
    // What does not fit is no success.
    power::exit(u8::try_from(status).unwrap_or(u8::MAX))
}

/// Maps the device tree and reads it.
fn read_machine(tree: PhysAddr) -> Result<Machine<'static>, MachineError> {
    let tree = match tree {
        PhysAddr(0) => tree_of_virt().ok_or(TreeError::Absent)?,
        tree => tree,
    };
    let (start, mapped) = fixed_map::map_tree(tree, HEADER_SIZE);
    // SAFETY: just mapped; a header has no more bytes.
    let header = unsafe { core::slice::from_raw_parts(start, HEADER_SIZE.min(mapped)) };
    let (start, mapped) = fixed_map::map_tree(tree, total_size(header)?);
    // SAFETY: mapped for good, and reserved when memory is given out.
    let bytes = unsafe { tree_at(start, mapped) }?;
    Machine::parse(bytes, tree)
}

/// Where QEMU's virt has its device tree when it says nothing in x0, as to an ELF file (QEMU documentation, "virt", "Hardware configuration
/// information for bare-metal programming"). `None` on what is not that machine.
fn tree_of_virt() -> Option<PhysAddr> {
    let base = KNOWN_BASES[0];
    let registers = map_registers(base..base + REGISTERS_SIZE as u64)?;
    // SAFETY: mapped as device memory for good, and only looked at.
    unsafe { Pl011::is_at(registers) }.then_some(PhysAddr(0x4000_0000))
}

/// Maps registers for good. `None` without room for them.
fn map_registers<T>(range: Range<PhysAddr>) -> Option<NonNull<T>> {
    let at = fixed_map::map_device(range).ok()?;
    NonNull::new(core::ptr::with_exposed_provenance_mut(at.0 as usize))
}

/// Asks the firmware of a Raspberry Pi what the board is. `None` on other machines, and if it does not answer.
fn ask_board(machine: &Machine<'_>) -> Option<Board> {
    let at = machine.raspberry.mailbox?;
    let registers = map_registers(at..at + PAGE_SIZE as u64)?;
    // SAFETY: the device tree says that a mailbox is there; it was mapped for good, and nobody else uses it.
    let mut mailbox = unsafe { Mailbox::new(registers) };
    let mut message = MESSAGE.lock();
    message.ask();
    let bytes = (&raw mut *message).cast::<u8>();
    let place = layout::image_physical(VirtAddr(bytes.addr() as u64));
    // SAFETY: the message's lines are its own. The firmware changes it between the two, which to the compiler the second does.
    let is_answered = unsafe {
        cache::clean_and_invalidate(bytes, size_of::<Message>());
        let is_answered = mailbox.call(place);
        cache::clean_and_invalidate(bytes, size_of::<Message>());
        is_answered
    };
    is_answered.then(|| message.answer()).flatten()
}

fn install_console(machine: &Machine<'_>, board: Option<&Board>) {
    let Some(uart) = &machine.console else { return };
    let has_place = uart.kind == UartKind::Mini || uart.base == pins::UART_0;
    if let Some(at) = machine.raspberry.pins.filter(|_| has_place)
        && let Some(registers) = map_registers(at..at + PAGE_SIZE as u64)
    {
        // SAFETY: the device tree says that the pins' registers are there; they were mapped for good, and nobody else uses them.
        unsafe { pins::put_on_header(registers, uart.kind) };
    }
    let clock = uart.clock.or_else(|| match uart.kind {
        UartKind::Pl011 => board?.uart_clock(),
        UartKind::Mini => board?.core_clock(),
    });
    if let Some(registers) = map_registers(port::registers(uart)) {
        // SAFETY: the device tree says that such a UART is there; it was mapped for good, and once.
        unsafe { console::install(uart.kind, registers, clock) };
    }
}

fn install_rtc(machine: &Machine<'_>) {
    let Some(base) = machine.rtc else { return };
    let Some(registers) = map_registers(base..base + rtc::REGISTERS_SIZE as u64) else { return };
    // SAFETY: the device tree says that a PL031 is there; it was mapped for good, and once.
    unsafe { rtc::install(registers) };
    app::time::read_clock();
}

/// Without a console, looks for one where it is likely to be: for the line that says what went wrong before there was one.
pub(super) fn ensure_console() {
    if console::is_installed() {
        return;
    }
    for base in KNOWN_BASES {
        let Some(registers) = map_registers(base..base + REGISTERS_SIZE as u64) else { continue };
        // SAFETY: mapped as device memory for good, and once.
        if unsafe { Pl011::probe(registers) }.is_some() {
            // SAFETY: as above; the probe's own handle is gone.
            unsafe { console::install(UartKind::Pl011, registers.cast(), None) };
            if base == KNOWN_BASES[0] && !power::is_configured() {
                // QEMU's virt machine answers PSCI calls itself, by HVC unless it has an EL2.
                power::configure(Some(Conduit::Hvc), None, false, false);
            }
            return;
        }
    }
}

/// Ends the machine with a line that says why it cannot be used.
fn give_up(why: &dyn fmt::Display) -> ! {
    ensure_console();
    println!("ashlar: {why}");
    power::exit(KERNEL_BUG)
}

/// Why the kernel could not be set up.
enum SetupError {
    Map(MemoryMapFull),
    Linear(NoMemoryForTables),
    Start(StartError),
    Thread(NoThread),
    /// Not even the kernel's heap and stacks fit.
    TooSmall {
        free: u64,
    },
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => error.fmt(f),
            Self::Linear(error) => error.fmt(f),
            Self::Start(error) => error.fmt(f),
            Self::Thread(error) => error.fmt(f),
            Self::TooSmall { free } => write!(f, "too little memory: {free:#x} bytes are free"),
        }
    }
}

impl From<MemoryMapFull> for SetupError {
    fn from(error: MemoryMapFull) -> Self {
        Self::Map(error)
    }
}

impl From<NoMemoryForTables> for SetupError {
    fn from(error: NoMemoryForTables) -> Self {
        Self::Linear(error)
    }
}

impl From<NoThread> for SetupError {
    fn from(error: NoThread) -> Self {
        Self::Thread(error)
    }
}

/// Builds the linear map, the kernel heap and the area for kernel stacks, and starts the memory manager.
fn prepare_memory(machine: &Machine<'_>, arguments: &Arguments<'_>) -> Result<(), SetupError> {
    let image = |start: VirtAddr, end: VirtAddr| layout::image_physical(start)..layout::image_physical(end);
    let whole_image = image(layout::IMAGE, layout::__image_end.address());
    // RAM beyond the limit is not even mapped: it may be somebody else's.
    let mut mapped = machine.ram_within(arguments.mem, whole_image.clone())?;
    let mut free = mapped.clone();
    for reserved in &machine.reserved {
        match reserved.reason {
            Reason::Initrd => free.hold(reserved.range.clone())?,
            _ => free.remove(reserved.range.clone())?,
        }
        if let Reason::Node { no_map: true } = reserved.reason {
            mapped.remove(reserved.range.clone())?;
        }
    }
    free.remove(whole_image)?;
    // What may not be written has no writable alias.
    mapped.remove(image(layout::__text_start.address(), layout::__rodata_end.address()))?;
    linear_map::build(&mapped, &mut free)?;

    let too_small = |free: &MemoryMap| SetupError::TooSmall { free: free.total() };
    stacks::prepare(&mut free).ok_or_else(|| too_small(&free))?;
    let heap = free.carve(HEAP_SIZE, PAGE_SIZE).map(layout::linear).ok_or_else(|| too_small(&free))?;
    // SAFETY: carved from free memory, which the linear map maps.
    unsafe { allocator::add_to_kernel_heap(heap..heap + HEAP_SIZE as u64) };
    // SAFETY: the banks of RAM, mapped, less what is reserved or was carved from them; the initrd is held back for `input`.
    unsafe { memory::start(&mut free, arguments) }.map_err(SetupError::Start)?;
    if let Some(initrd) = &machine.initrd {
        // SAFETY: held back.
        unsafe { app::input::install(initrd.clone()) };
    }
    Ok(())
}
