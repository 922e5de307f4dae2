//! Reads the machine from its device tree.
//!
//! One walk over the nodes, parents first, with the buses on the way kept in a stack so that addresses can be
//! translated to the processor's (Devicetree Specification 0.4, sections 2.3 and 3). The bindings read are those of
//! Linux's `Documentation/devicetree/bindings`. A node whose `status` says that it is disabled is skipped with all
//! below it.
#![forbid(unsafe_code)]

use super::machine::{
    AFFINITY, Conduit, Cpu, EnableMethod, Gic, LINEAR_REACH, Limit, MAX_BANKS, MAX_REDISTRIBUTORS, Machine,
    MachineError, Raspberry, Reason, Reserved, Uart, UartKind, Warning, Warnings,
};
use super::properties::{Bus, Common, Interrupts, cell, cells, first_text, is_at, number};
use super::tree::{self, MAX_DEPTH, NodePath};
use crate::arguments;
use crate::mm::address::PhysAddr;
use arrayvec::ArrayVec;
use core::ops::Range;
use fdt::Fdt;
use fdt::node::FdtNode;

const GIC_V2: [&str; 5] =
    ["arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a9-gic", "arm,cortex-a7-gic", "qcom,msm-qgic2"];
/// The binding of the architecture's timer.
const TIMER: [&str; 2] = ["arm,armv8-timer", "arm,armv7-timer"];
/// The virtual timer's place among that binding's interrupts, and its name there.
const VIRTUAL_TIMER: (usize, &[u8]) = (2, b"virt");
const GIC_V3: [&str; 1] = ["arm,gic-v3"];
/// PSCI 0.1 has no fixed function numbers and no `SYSTEM_OFF`.
const PSCI: [&str; 2] = ["arm,psci-1.0", "arm,psci-0.2"];

impl<'t> Machine<'t> {
    /// Checks and reads the device tree that `bytes` begins with, which lies at physical address `at`.
    ///
    /// `bytes` is written to only to remove `FDT_NOP` tokens.
    ///
    /// # Errors
    ///
    /// A malformed tree, or one that contradicts itself about something that is needed; the error names the node.
    pub fn parse(bytes: &'t mut [u8], at: PhysAddr) -> Result<Self, MachineError> {
        let tree = tree::open(bytes)?;
        let mut survey = Survey::new();
        survey.firmware_reservations(&tree.fdt)?;
        if let Some(root) = tree.fdt.all_nodes().next() {
            survey.machine.model = survey.text(root, "model").or(survey.text(root, "compatible")).unwrap_or("");
            survey.node(root)?;
        }
        let end = at.checked_add(tree.used as u64);
        let path = NodePath::default();
        let end = end.ok_or(MachineError::Wraps { node: path, start: at, size: tree.used as u64 })?;
        survey.reserve(path, at..end, Reason::Tree)?;
        survey.finish()
    }
}

/// Names of the nodes from the root to one, the root's left out.
type Names<'t> = ArrayVec<&'t str, MAX_DEPTH>;

/// A BCM2711's peripherals, and the cores' own (BCM2711 ARM Peripherals, 1.2.4): never RAM, whatever a tree says. The firmware ends the
/// RAM of a 4 GB board below them.
const PERIPHERALS: Range<PhysAddr> = PhysAddr(0xfc00_0000)..PhysAddr(0x1_0000_0000);

/// Takes `devices` out of the banks.
fn leave_out(machine: &mut Machine<'_>, devices: Range<PhysAddr>) {
    let banks = core::mem::take(&mut machine.banks);
    for bank in banks {
        let (below, above) = (bank.start..bank.end.min(devices.start), bank.start.max(devices.end)..bank.end);
        let (start, end) = (bank.start.max(devices.start), bank.end.min(devices.end));
        if start < end {
            machine.warnings.push(Warning::RamOfDevices { start, size: end - start });
        }
        // A bank that goes on both sides makes one more. Without room for that, what is above is not used.
        for part in [below, above].into_iter().filter(|part| part.start < part.end) {
            let _ = machine.banks.try_push(part);
        }
    }
}

/// Where in the machine a device's address is kept.
type Place<'t> = for<'a> fn(&'a mut Machine<'t>) -> &'a mut Option<PhysAddr>;

/// A UART.
struct Candidate<'t> {
    kind: UartKind,
    names: Names<'t>,
    base: PhysAddr,
    clock_phandle: Option<u32>,
}

/// A clock of fixed frequency.
struct Clock {
    phandle: u32,
    hertz: u32,
}

struct Survey<'b, 't> {
    machine: Machine<'t>,
    /// The node being read.
    names: Names<'t>,
    /// The nodes above it as buses, the root first.
    buses: ArrayVec<Bus<'t>, MAX_DEPTH>,
    /// RAM, ascending.
    banks: ArrayVec<Range<PhysAddr>, MAX_BANKS>,
    /// What may be the console: the first few.
    uarts: ArrayVec<Candidate<'t>, 8>,
    /// What may feed it.
    clocks: ArrayVec<Clock, 8>,
    /// The architecture's timer.
    timer: Option<(NodePath, Interrupts<'t>)>,
    /// Cells of one of the interrupt controller's interrupts.
    interrupt_cells: Option<u32>,
    /// `/chosen/stdout-path`: a path or an alias.
    stdout: Option<&'t str>,
    aliases: Option<FdtNode<'b, 't>>,
}

impl<'b, 't> Survey<'b, 't> {
    fn new() -> Self {
        Self {
            machine: Machine {
                model: "",
                bootargs: "",
                banks: ArrayVec::new(),
                reserved: ArrayVec::new(),
                initrd: None,
                console: None,
                gic: None,
                psci: None,
                cpus: ArrayVec::new(),
                timer: None,
                rtc: None,
                raspberry: Raspberry::default(),
                warnings: Warnings::default(),
            },
            names: ArrayVec::new(),
            buses: ArrayVec::new(),
            banks: ArrayVec::new(),
            uarts: ArrayVec::new(),
            clocks: ArrayVec::new(),
            timer: None,
            interrupt_cells: None,
            stdout: None,
            aliases: None,
        }
    }

    fn path(&self) -> NodePath {
        NodePath::new(self.names.iter().copied())
    }

    fn firmware_reservations(&mut self, fdt: &Fdt<'_>) -> Result<(), MachineError> {
        let node = NodePath::new(["memreserve/"]);
        for entry in fdt.memory_reservations() {
            let (start, size) = (PhysAddr(entry.address().addr() as u64), entry.size() as u64);
            let end = start.checked_add(size).ok_or(MachineError::Wraps { node, start, size })?;
            self.reserve(node, start..end, Reason::Firmware)?;
        }
        Ok(())
    }

    /// Reads `node` and all below it.
    fn node(&mut self, node: FdtNode<'b, 't>) -> Result<(), MachineError> {
        let common = Common::of(node);
        if self.names.len() == 2 && self.names[0] == "cpus" {
            return if common.is_a("cpu") { self.cpu(node) } else { Ok(()) };
        }
        if !common.is_enabled() {
            return Ok(());
        }
        self.device(node, &common)?;
        self.buses.push(common.bus());
        for child in node.children() {
            self.names.push(child.name);
            self.node(child)?;
            self.names.pop();
        }
        self.buses.pop();
        Ok(())
    }

    fn device(&mut self, node: FdtNode<'b, 't>, common: &Common<'t>) -> Result<(), MachineError> {
        match self.names[..] {
            ["chosen"] => return self.chosen(node),
            ["aliases"] => self.aliases = Some(node),
            ["reserved-memory", _] => return self.reserved_memory(node),
            _ => {}
        }
        if common.is_a("memory") {
            self.memory(node)
        } else if common.is_compatible(&["arm,pl011"]) {
            self.uart(node, UartKind::Pl011)
        } else if common.is_compatible(&["brcm,bcm2835-aux-uart"]) {
            self.uart(node, UartKind::Mini)
        } else if common.is_compatible(&["fixed-clock"]) {
            self.clock(node);
            Ok(())
        } else if common.is_compatible(&GIC_V2) {
            self.gic(node, false)
        } else if common.is_compatible(&GIC_V3) {
            self.gic(node, true)
        } else if common.is_compatible(&PSCI) {
            self.psci(node);
            Ok(())
        } else if common.is_compatible(&TIMER) {
            let path = self.path();
            self.timer.get_or_insert_with(|| (path, Interrupts::of(node)));
            Ok(())
        } else if common.is_compatible(&["arm,pl031"]) {
            self.registers(node, |machine| &mut machine.rtc);
            Ok(())
        } else if common.is_compatible(&["brcm,bcm2835-mbox"]) {
            self.registers(node, |machine| &mut machine.raspberry.mailbox);
            Ok(())
        } else if common.is_compatible(&["brcm,bcm2711-pm"]) {
            self.registers(node, |machine| &mut machine.raspberry.watchdog);
            Ok(())
        } else if common.is_compatible(&["brcm,bcm2711-gpio"]) {
            self.registers(node, |machine| &mut machine.raspberry.pins);
            Ok(())
        } else {
            Ok(())
        }
    }

    fn chosen(&mut self, node: FdtNode<'b, 't>) -> Result<(), MachineError> {
        self.machine.bootargs = self.text(node, "bootargs").unwrap_or("");
        // The part after the colon configures the line: "/pl011@9000000:115200n8".
        self.stdout = self.text(node, "stdout-path").and_then(|path| path.split(':').next());
        let initrd = [node.property("linux,initrd-start"), node.property("linux,initrd-end")];
        if initrd.iter().all(Option::is_none) {
            return Ok(());
        }
        let [start, end] = initrd.map(|end| end.and_then(|end| number(end.value)).map(PhysAddr));
        self.machine.initrd = start.zip(end).filter(|(start, end)| start < end).map(|(start, end)| start..end);
        match self.machine.initrd.clone() {
            Some(range) => self.reserve(self.path(), range, Reason::Initrd),
            None => {
                self.machine.warnings.push(Warning::Initrd);
                Ok(())
            }
        }
    }

    fn memory(&mut self, node: FdtNode<'b, 't>) -> Result<(), MachineError> {
        let path = self.path();
        for entry in self.reg(node)? {
            let (start, size) = entry?;
            let range =
                self.translate(start, size)?.ok_or(MachineError::Untranslated { node: path, address: start })?;
            if size == 0 {
                self.machine.warnings.push(Warning::EmptyBank { node: path });
                continue;
            }
            if range.end > LINEAR_REACH {
                let start = range.start.max(LINEAR_REACH);
                self.machine.warnings.push(Warning::BeyondReach { node: path, start, size: range.end - start });
            }
            let range = range.start..range.end.min(LINEAR_REACH);
            let place = self.banks.iter().position(|bank| bank.start > range.start).unwrap_or(self.banks.len());
            if range.start < range.end && self.banks.try_insert(place, range).is_err() {
                self.machine.warnings.push(Warning::Ignored { node: path, what: Limit::Banks });
                break;
            }
        }
        Ok(())
    }

    /// A child of `/reserved-memory`. One without `reg` asks its system to choose a place for a driver that Ashlar does
    /// not have.
    fn reserved_memory(&mut self, node: FdtNode<'b, 't>) -> Result<(), MachineError> {
        if node.property("reg").is_none() {
            return Ok(());
        }
        let (path, no_map) = (self.path(), node.property("no-map").is_some());
        for entry in self.reg(node)? {
            let (start, size) = entry?;
            let range =
                self.translate(start, size)?.ok_or(MachineError::Untranslated { node: path, address: start })?;
            self.reserve(path, range, Reason::Node { no_map })?;
        }
        Ok(())
    }

    fn uart(&mut self, node: FdtNode<'b, 't>, kind: UartKind) -> Result<(), MachineError> {
        let (address, size) = self.first_reg(node)?;
        let Some(range) = self.translate(address, size)? else { return Ok(()) };
        let clock_phandle = node.property("clocks").and_then(|clocks| cell(clocks.value, 0));
        // A machine with more of them than are kept has its console among the first.
        let _ = self.uarts.try_push(Candidate { kind, names: self.names.clone(), base: range.start, clock_phandle });
        Ok(())
    }

    fn clock(&mut self, node: FdtNode<'b, 't>) {
        let value = |property| node.property(property).and_then(|property| cell(property.value, 0));
        if let Some((phandle, hertz)) = value("phandle").zip(value("clock-frequency")).filter(|(_, hertz)| *hertz != 0)
        {
            // One that is not kept is unknown, as most clocks are.
            let _ = self.clocks.try_push(Clock { phandle, hertz });
        }
    }

    /// The UART that the boot argument `console=` names; else the PL011 that `stdout-path` names, or the first one: on a
    /// Raspberry Pi it names the mini UART, whose rate is bound to the VideoCore's clock.
    fn console(&mut self) -> Option<Uart> {
        let wanted = arguments::value(self.machine.bootargs, "console").filter(|path| !path.is_empty());
        if let Some(path) = wanted.filter(|path| self.uart_at(path).is_none()) {
            let node = NodePath::new(path.split('/').skip(usize::from(path.starts_with('/'))));
            self.machine.warnings.push(Warning::Console { node });
        }
        let chosen = wanted.and_then(|path| self.uart_at(path));
        let is_pl011 = |uart: &&Candidate<'_>| uart.kind == UartKind::Pl011;
        let named = || self.stdout.and_then(|path| self.uart_at(path)).filter(is_pl011);
        let uart = chosen.or_else(named).or_else(|| self.uarts.iter().find(is_pl011))?;
        let clock = self.clocks.iter().find(|clock| Some(clock.phandle) == uart.clock_phandle);
        Some(Uart { kind: uart.kind, base: uart.base, clock: clock.map(|clock| clock.hertz) })
    }

    /// The UART at `path`, which may be an alias, or one of Linux's names: the firmware puts those in the place of aliases. What follows a
    /// comma says how the line is set up; it is set up in one way.
    fn uart_at(&self, path: &str) -> Option<&Candidate<'t>> {
        let path = path.split(',').next()?;
        let kind = match path {
            "ttyAMA0" => Some(UartKind::Pl011),
            "ttyS0" | "ttyS1" => Some(UartKind::Mini),
            _ => None,
        };
        if kind.is_some() {
            return self.uarts.iter().find(|uart| Some(uart.kind) == kind);
        }
        let alias = || first_text(self.aliases?.property(path)?.value).ok();
        let path = if path.starts_with('/') { path } else { alias()? };
        self.uarts.iter().find(|uart| is_at(&uart.names, path))
    }

    fn gic(&mut self, node: FdtNode<'b, 't>, is_v3: bool) -> Result<(), MachineError> {
        if self.machine.gic.is_some() {
            return Ok(());
        }
        let path = self.path();
        let length = node.property("reg").map_or(0, |reg| reg.value.len());
        let regions = node.property("#redistributor-regions").and_then(|regions| cell(regions.value, 0)).unwrap_or(1);
        let mut ranges = ArrayVec::<_, MAX_REDISTRIBUTORS>::new();
        let mut distributor = None;
        let wanted = if is_v3 { 1 + regions as usize } else { 2 };
        for entry in self.reg(node)?.take(wanted) {
            let (address, size) = entry?;
            let Some(range) = self.translate(address, size)? else { return Ok(()) };
            if distributor.is_none() {
                distributor = Some(range);
            } else if ranges.try_push(range).is_err() {
                self.machine.warnings.push(Warning::Ignored { node: path, what: Limit::Redistributors });
                break;
            }
        }
        let incomplete = MachineError::Reg { node: path, length };
        let (distributor, first) = distributor.zip(ranges.first().cloned()).ok_or(incomplete)?;
        self.interrupt_cells = node.property("#interrupt-cells").and_then(|count| cell(count.value, 0));
        self.machine.gic = Some(if is_v3 {
            Gic::V3 { distributor, redistributors: ranges }
        } else {
            Gic::V2 { distributor, cpu_interface: first }
        });
        Ok(())
    }

    /// The INTID of the virtual timer. A GIC's interrupt is a kind (0: SPI, 1: PPI), a number among them and flags, with a
    /// fourth cell for those of some GICv3s.
    fn timer(&mut self) -> Option<u32> {
        let Some((node, interrupts)) = &self.timer else {
            self.machine.warnings.push(Warning::NoTimer);
            return None;
        };
        let (third, name) = VIRTUAL_TIMER;
        let width = self.interrupt_cells.filter(|count| matches!(count, 3 | 4));
        let found = width.and_then(|width| interrupts.find(width as usize, third, name));
        let intid = match found.map(|interrupt| (cell(interrupt, 0), cell(interrupt, 1))) {
            Some((Some(1), Some(ppi @ 0..16))) => Some(16 + ppi),
            _ => None,
        };
        if intid.is_none() {
            self.machine.warnings.push(Warning::Timer { node: *node });
        }
        intid
    }

    /// Notes where the registers of a device are that is not needed, the first of its kind.
    fn registers(&mut self, node: FdtNode<'b, 't>, place: Place<'t>) {
        if place(&mut self.machine).is_some() {
            return;
        }
        match self.first_reg(node).and_then(|(address, size)| self.translate(address, size)) {
            Ok(registers) => *place(&mut self.machine) = registers.map(|registers| registers.start),
            Err(_) => self.machine.warnings.push(Warning::Device { node: self.path() }),
        }
    }

    fn psci(&mut self, node: FdtNode<'b, 't>) {
        match node.property("method").map(|method| first_text(method.value)) {
            Some(Ok("hvc")) => self.machine.psci = Some(Conduit::Hvc),
            Some(Ok("smc")) => self.machine.psci = Some(Conduit::Smc),
            _ => self.machine.warnings.push(Warning::PsciMethod { node: self.path() }),
        }
    }

    /// A child of `/cpus`. One that is "disabled" only waits to be started; one that failed is left out.
    fn cpu(&mut self, node: FdtNode<'b, 't>) -> Result<(), MachineError> {
        let is = |property: &str, wanted: &str| {
            node.property(property).is_some_and(|property| first_text(property.value) == Ok(wanted))
        };
        let has_failed = node.property("status").is_some_and(|status| status.value.starts_with(b"fail"));
        if has_failed {
            return Ok(());
        }
        let value = node.property("reg").map_or(&[][..], |reg| reg.value);
        let address_cells = self.buses.last().map_or(0, |cpus| cpus.address_cells);
        let mpidr = match address_cells {
            1 | 2 => cells(value, 0, address_cells).ok_or(MachineError::Reg { node: self.path(), length: value.len() }),
            _ => Err(MachineError::Cells { node: self.path(), address: address_cells, size: 0 }),
        }?;
        if mpidr & !AFFINITY != 0 {
            self.machine.warnings.push(Warning::Mpidr { node: self.path(), mpidr });
            return Ok(());
        }
        if self.machine.cpus.iter().any(|cpu| cpu.mpidr == mpidr) {
            self.machine.warnings.push(Warning::SecondCpu { node: self.path(), mpidr });
            return Ok(());
        }
        let release = node.property("cpu-release-addr").and_then(|release| number(release.value));
        let release = release.filter(|release| release.is_multiple_of(8));
        let enable = match release {
            _ if is("enable-method", "psci") => EnableMethod::Psci,
            Some(release) if is("enable-method", "spin-table") => {
                EnableMethod::SpinTable { release: PhysAddr(release) }
            }
            _ => EnableMethod::Unknown,
        };
        if enable == EnableMethod::Unknown && node.property("enable-method").is_some() {
            self.machine.warnings.push(Warning::EnableMethod { node: self.path() });
        }
        if self.machine.cpus.try_push(Cpu { mpidr, enable }).is_err() {
            self.machine.warnings.push(Warning::Ignored { node: self.path(), what: Limit::Cpus });
        }
        Ok(())
    }

    fn reserve(&mut self, node: NodePath, range: Range<PhysAddr>, reason: Reason) -> Result<(), MachineError> {
        if range.is_empty() {
            return Ok(());
        }
        let kept = self.machine.reserved.try_push(Reserved { range, reason });
        kept.map_err(|_| MachineError::TooManyReserved { node })
    }

    /// Merges the banks that touch or overlap, and checks what depends on them.
    fn finish(mut self) -> Result<Machine<'t>, MachineError> {
        self.machine.console = self.console();
        self.machine.timer = self.timer();
        let machine = &mut self.machine;
        for bank in self.banks {
            match machine.banks.last_mut() {
                Some(last) if bank.start <= last.end => {
                    let size = last.end.min(bank.end) - bank.start;
                    if size != 0 {
                        machine.warnings.push(Warning::OverlappingBanks { start: bank.start, size });
                    }
                    last.end = last.end.max(bank.end);
                }
                _ => machine.banks.push(bank),
            }
        }
        if machine.raspberry != Raspberry::default() {
            leave_out(machine, PERIPHERALS);
        }
        if machine.banks.is_empty() {
            return Err(MachineError::NoMemory);
        }
        let is_in_ram =
            |range: &Range<PhysAddr>| machine.banks.iter().any(|b| b.start <= range.start && range.end <= b.end);
        if machine.initrd.as_ref().is_some_and(|initrd| !is_in_ram(initrd)) {
            machine.initrd = None;
            machine.reserved.retain(|reserved| reserved.reason != Reason::Initrd);
            machine.warnings.push(Warning::Initrd);
        }
        Ok(self.machine)
    }

    /// Entries of `node`'s `reg`: address and size on its parent's bus.
    fn reg(
        &self,
        node: FdtNode<'b, 't>,
    ) -> Result<impl Iterator<Item = Result<(u64, u64), MachineError>> + use<'b, 't>, MachineError> {
        let path = self.path();
        let (address, size) = self.buses.last().map_or((0, 0), |bus| (bus.address_cells, bus.size_cells));
        if !(1..=2).contains(&address) || !(1..=2).contains(&size) {
            return Err(MachineError::Cells { node: path, address, size });
        }
        let value = node.property("reg").map_or(&[][..], |reg| reg.value);
        let malformed = MachineError::Reg { node: path, length: value.len() };
        let entry = (address + size) * 4;
        if value.is_empty() || !value.len().is_multiple_of(entry) {
            return Err(malformed);
        }
        Ok(value
            .chunks_exact(entry)
            .map(move |entry| cells(entry, 0, address).zip(cells(entry, address, size)).ok_or(malformed)))
    }

    fn first_reg(&self, node: FdtNode<'b, 't>) -> Result<(u64, u64), MachineError> {
        let missing = MachineError::Reg { node: self.path(), length: 0 };
        self.reg(node)?.next().unwrap_or(Err(missing))
    }

    /// The processor's addresses of `size` bytes at `address` on the bus of the node being read; `None` if a bus on the
    /// way has no `ranges`, so that the processor cannot address it at all.
    fn translate(&self, mut address: u64, size: u64) -> Result<Option<Range<PhysAddr>>, MachineError> {
        let node = self.path();
        for pair in self.buses.windows(2).rev() {
            let [parent, bus] = pair else { continue };
            let Some(ranges) = bus.ranges else { return Ok(None) };
            if ranges.is_empty() {
                continue;
            }
            let widths = [bus.address_cells, parent.address_cells, bus.size_cells];
            if !widths.iter().all(|width| (1..=2).contains(width)) {
                return Err(MachineError::Cells { node, address: bus.address_cells, size: bus.size_cells });
            }
            let [child_cells, parent_cells, size_cells] = widths;
            let entry = (child_cells + parent_cells + size_cells) * 4;
            if !ranges.len().is_multiple_of(entry) {
                return Err(MachineError::Ranges { node, length: ranges.len() });
            }
            let translated = ranges.chunks_exact(entry).find_map(|entry| {
                let from = cells(entry, 0, child_cells)?;
                let to = cells(entry, child_cells, parent_cells)?;
                let length = cells(entry, child_cells + parent_cells, size_cells)?;
                let offset = address.checked_sub(from)?;
                if offset.checked_add(size)? <= length { to.checked_add(offset) } else { None }
            });
            address = translated.ok_or(MachineError::Untranslated { node, address })?;
        }
        let start = PhysAddr(address);
        let end = start.checked_add(size).ok_or(MachineError::Wraps { node, start, size })?;
        Ok(Some(start..end))
    }

    /// The first string of a property; a warning if it is not text.
    fn text(&mut self, node: FdtNode<'b, 't>, property: &'static str) -> Option<&'t str> {
        let text = first_text(node.property(property)?.value);
        if text.is_err() {
            self.machine.warnings.push(Warning::Text { node: self.path(), property });
        }
        text.ok()
    }
}
