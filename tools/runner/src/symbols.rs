//! Names and lines for the code addresses in a crash report.
#![forbid(unsafe_code)]

use std::path::{Component, Path, PathBuf};

use addr2line::Loader;

/// The symbols and line tables of one ELF file.
pub struct Symbols {
    loader: Loader,
    directory: PathBuf,
}

/// What an address in the report stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Address {
    /// The instruction itself.
    Exact(u64),
    /// The instruction after a call.
    Return(u64),
}

impl Symbols {
    /// Reads the file's debugging information; `None` if it has none that can be read. File names below
    /// `directory` are shown relative to it.
    pub fn load(elf: &Path, directory: &Path) -> Option<Self> {
        Some(Self { loader: Loader::new(elf).ok()?, directory: directory.into() })
    }

    /// `symbol+0xoffset at file:line` for a line of a crash report that has a code address.
    pub fn describe(&self, line: &str) -> Option<String> {
        let address = code_address(line)?;
        // A call may be the last instruction of its function: what follows it belongs to another one.
        let probe = match address {
            Address::Exact(address) => address,
            Address::Return(address) => address.checked_sub(1)?,
        };
        let symbol = self.loader.find_symbol_info(probe)?;
        let outer = demangle(symbol.name());
        let offset = match address {
            Address::Exact(address) | Address::Return(address) => address - symbol.address(),
        };
        let mut text = format!("{outer}+{offset:#x}");
        let mut frames = self.loader.find_frames(probe).ok()?;
        // The first frame is the innermost of those inlined at the address.
        let Ok(Some(frame)) = frames.next() else { return Some(text) };
        let inner = frame.function.as_ref().and_then(|function| function.raw_name().ok().map(|name| demangle(&name)));
        if let Some(inner) = inner.filter(|inner| *inner != outer) {
            text = format!("{inner}, inlined in {text}");
        }
        if let Some((file, line)) = frame.location.and_then(|location| location.file.zip(location.line)) {
            let file = without_detours(Path::new(file));
            let file = file.strip_prefix(&self.directory).unwrap_or(&file);
            text = format!("{text} at {}:{line}", file.display());
        }
        Some(text)
    }
}

fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// `a/b/../c` as `a/c`: a module mounted from outside of its parent's directory has such a name.
fn without_detours(path: &Path) -> PathBuf {
    let mut straight = PathBuf::new();
    for component in path.components() {
        if component != Component::ParentDir || !straight.pop() {
            straight.push(component);
        }
    }
    straight
}

/// The address of `    #N 0x…`, a return address, or of `pc 0x…`, wherever it stands in the line.
fn code_address(line: &str) -> Option<Address> {
    if let Some(frame) = line.trim_start().strip_prefix('#') {
        let (number, address) = frame.split_once(' ')?;
        number.parse::<u32>().ok()?;
        return hexadecimal(address.trim_start()).map(Address::Return);
    }
    let (before, address) = line.split_once("pc 0x").map(|(before, _)| (before, &line[before.len() + 3..]))?;
    if before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
        return None;
    }
    hexadecimal(address).map(Address::Exact)
}

fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    let end = digits.find(|letter: char| !letter.is_ascii_hexdigit()).unwrap_or(digits.len());
    u64::from_str_radix(&digits[..end], 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_where_reports_have_them() {
        let address = 0xffff_ffff_c000_1234;
        assert_eq!(code_address("    #0 0xffffffffc0001234"), Some(Address::Return(address)));
        assert_eq!(code_address("#12 0x0000000000000010 more"), Some(Address::Return(16)));
        assert_eq!(code_address("  pc 0xffffffffc0001234  sp 0x10"), Some(Address::Exact(address)));
        assert_eq!(code_address("wild read of 0x8 at pc 0x40"), Some(Address::Exact(0x40)));
    }

    #[test]
    fn other_lines_have_none() {
        for line in ["", "test split ... ok", "x1 0x10", "spc 0x10", "pc none", "# 0x10", "#x 0x10", "#1 10", "pc 0x"] {
            assert_eq!(code_address(line), None, "{line}");
        }
    }

    #[test]
    fn file_names_go_straight() {
        assert_eq!(without_detours(Path::new("/a/src/../arch/b.rs")), Path::new("/a/arch/b.rs"));
        assert_eq!(without_detours(Path::new("../b/../c.rs")), Path::new("../c.rs"));
    }

    #[inline(never)]
    fn somewhere() {
        std::hint::black_box(());
    }

    #[test]
    fn a_function_of_this_program_is_found_by_name_and_line() {
        let program = std::env::current_exe().unwrap();
        let symbols = Symbols::load(&program, Path::new("/")).unwrap();
        // The program may be loaded anywhere; its symbol table has the addresses it was linked to.
        let elf = std::fs::read(&program).unwrap();
        let file = object::read::elf::ElfFile64::<object::Endianness>::parse(&*elf).unwrap();
        let name = "somewhere";
        let linked = object::Object::symbols(&file)
            .find(|symbol| object::ObjectSymbol::name(symbol).is_ok_and(|found| demangle(found).ends_with(name)))
            .map(|symbol| object::ObjectSymbol::address(&symbol))
            .unwrap();
        // Keeps the function, whatever the optimizer thinks of it.
        std::hint::black_box(somewhere as fn())();
        let text = symbols.describe(&format!("    pc {linked:#018x}")).unwrap();
        assert!(text.contains("symbols::tests::somewhere+0x0 at "), "{text}");
        assert!(text.contains("src/symbols.rs:"), "{text}");
    }
}
