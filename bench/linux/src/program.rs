use crate::system::{self, Errno};
use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};
use core::ops::{Deref, DerefMut, Range};
use core::panic::PanicInfo;
use workloads::{KEYS, OutOfMemory, Plan, Platform, Usage, machine, run};

const PAGES: &str = "/sys/kernel/mm/transparent_hugepage";

/// A line on its way out; what does not fit is cut off.
struct Line {
    bytes: [u8; 2048],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.length..];
        let count = text.len().min(room.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.length += count;
        Ok(())
    }
}

fn print(line: fmt::Arguments<'_>) {
    let mut out = Line { bytes: [0; 2048], length: 0 };
    let _ = writeln!(out, "{line}");
    system::print(&out.bytes[..out.length]);
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    end(format_args!("{info}"))
}

fn end(why: fmt::Arguments<'_>) -> ! {
    print(format_args!("ended: {why}"));
    system::power_off()
}

/// Memory of `mmap`'s.
struct Memory {
    start: *mut u8,
    length: usize,
}

impl Deref for Memory {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: mapped, readable, and this is the only way to it.
        unsafe { core::slice::from_raw_parts(self.start, self.length) }
    }
}

impl DerefMut for Memory {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; writable, and borrowed for nobody else.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.length) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was mapped, and nobody borrows it.
        unsafe { system::unmap(self.start, self.length) }.expect("it was mapped as a whole");
    }
}

struct Linux {
    /// Memory is advised to be in huge pages.
    advises: bool,
}

impl Platform for Linux {
    type Memory = Memory;

    fn map(&self, bytes: usize) -> Result<Memory, OutOfMemory> {
        let start = system::map(bytes).map_err(|_| OutOfMemory)?;
        let mut memory = Memory { start, length: bytes };
        if self.advises {
            system::advise(&mut memory, system::HUGE_PAGE).map_err(|_| OutOfMemory)?;
        }
        Ok(memory)
    }

    fn release(&self, memory: &mut Memory, range: Range<usize>) {
        system::advise(&mut memory[range], system::DONT_NEED).expect("whole pages");
    }

    fn usage(&self) -> Usage {
        let mut buffer = [0; 4096];
        let text = system::read(c"/proc/self/smaps_rollup", &mut buffer).expect("proc is mounted");
        let text = core::str::from_utf8(text).unwrap_or("");
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<usize>().ok()
        };
        let of = |name| kib(name).expect("smaps_rollup has it") << 10;
        Usage { resident: of("Rss:"), in_blocks: of("AnonHugePages:") }
    }

    fn sleep(&self, seconds: u64) {
        system::sleep(seconds);
    }

    fn zeroing(&self, _bytes: usize) -> Option<u64> {
        None
    }

    fn line(&self, line: fmt::Arguments<'_>) {
        print(line);
    }

    #[inline]
    fn now(&self) -> u64 {
        machine::counter()
    }

    fn frequency(&self) -> u64 {
        machine::frequency()
    }
}

/// Sets `file` of those for huge pages.
fn set(file: impl fmt::Display, value: &str) -> Result<(), Errno> {
    let mut path = Line { bytes: [0; 2048], length: 0 };
    let _ = write!(path, "{PAGES}/{file}\0");
    let path = CStr::from_bytes_with_nul(&path.bytes[..path.length]).expect("no other zero");
    system::set(path, value.as_bytes())
}

/// Where the kernel enters, with how many arguments there are on the stack; those come next, and the environment.
pub unsafe extern "C" fn start(stack: *const usize) -> ! {
    let start = machine::counter();
    // SAFETY: what the kernel has put there.
    let environment = unsafe { stack.add(stack.read() + 2) }.cast::<*const c_char>();
    let variables = (0..).map_while(|number| {
        // SAFETY: pointers up to one that is null.
        let variable = unsafe { environment.add(number).read() };
        // SAFETY: each to a string.
        (!variable.is_null()).then(|| unsafe { CStr::from_ptr(variable) })
    });
    for (kind, at) in [(c"proc", c"/proc"), (c"sysfs", c"/sys")] {
        if let Err(error) = system::mount(kind, at) {
            end(format_args!("{kind:?}: {error:?}"));
        }
    }

    let (mut plan, mut system, mut settle) = (Plan::default(), Linux { advises: false }, 0);
    for (key, value) in variables.filter_map(|variable| variable.to_str().ok()?.split_once('=')) {
        let result = match key {
            "thp" => {
                system.advises = value == "madvise";
                set("enabled", value)
            }
            "use_zero_page" => set(key, value),
            "mthp" => set(format_args!("hugepages-{value}kB/enabled"), "always"),
            "settle" => {
                settle = value.parse().unwrap_or(0);
                Ok(())
            }
            key if KEYS.contains(&key) => {
                plan.word(key, value).unwrap_or_else(|error| end(format_args!("{error}")));
                Ok(())
            }
            // The kernel's own, and others'.
            _ => Ok(()),
        };
        if let Err(error) = result {
            end(format_args!("{key}={value}: {error:?}"));
        }
    }
    system::sleep(settle);
    match run(&system, &plan, start) {
        Ok(()) => end(format_args!("all is right")),
        Err(failure) => end(format_args!("{failure}")),
    }
}
