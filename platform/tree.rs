//! Checks a flattened device tree before anything reads it.
//!
//! The `fdt` crate trusts its input: it unwraps on a truncated token, an offset out of bounds or a missing
//! terminator. So [`open`] first checks everything that the crate takes for granted (Devicetree Specification 0.4,
//! chapter 5), and only then hands the bytes on. It also squeezes `FDT_NOP` tokens out: hypervisors leave them
//! where they delete nodes, and the crate stops at one between two children.
#![forbid(unsafe_code)]

use arrayvec::ArrayString;
use core::fmt::{self, Write};
use core::ops::Range;
use fdt::Fdt;

/// Bytes of the header, version 17.
pub const HEADER_SIZE: usize = 40;
/// The largest tree taken, in bytes: what the Linux arm64 boot protocol allows. A tree may be padded to more.
pub const MAX_SIZE: usize = 2 << 20;
/// Levels of nodes, the root included; the crate has room for 63.
pub const MAX_DEPTH: usize = 16;

const MAGIC: u32 = 0xd00d_feed;
/// The version that all known producers write; version 16 lacks the structure block's size.
const VERSION: u32 = 17;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// Offset of the header's field that holds the tree's size.
const TOTAL_SIZE_FIELD: usize = 4;
/// Offset of the header's field that holds the structure block's size.
const STRUCTURE_SIZE_FIELD: usize = 36;

/// Path of a node, for messages; one that is too long ends in `…`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct NodePath(ArrayString<72>);

impl NodePath {
    /// The path made of the root's descendants' `names`, outermost first; the root's own path is `/`.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut path = ArrayString::new();
        for name in names {
            let room = path.remaining_capacity() - '…'.len_utf8().min(path.remaining_capacity());
            if name.len() + 1 > room {
                let _ = path.try_push('…');
                break;
            }
            let _ = write!(path, "/{name}");
        }
        if path.is_empty() {
            path.push('/');
        }
        Self(path)
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A part of the tree, as the header lays it out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The header itself.
    Header,
    /// The memory reservation block.
    Reservations,
    /// The structure block: nodes and properties.
    Structure,
    /// The strings block: the properties' names.
    Strings,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Reservations => "memory reservation block",
            Self::Structure => "structure block",
            Self::Strings => "strings block",
        })
    }
}

/// What is wrong with a tree as a whole, or in one place of its structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TreeError {
    /// There is none: a null address, or zeros where the magic number belongs.
    Absent,
    /// It does not begin with the magic number.
    Magic(u32),
    /// Fewer bytes than a header, or than the header says.
    Truncated {
        /// Bytes that the tree needs.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// The size in the header is below that of a header.
    Size(usize),
    /// A version that this reader does not know.
    Version {
        /// The tree's version.
        version: u32,
        /// The oldest version that it can be read as.
        compatible: u32,
    },
    /// A part that is misaligned.
    Misaligned {
        /// The part.
        part: Part,
        /// Its offset in the tree.
        offset: usize,
    },
    /// A part that reaches past the end of the tree.
    OutOfBounds {
        /// The part.
        part: Part,
        /// Its offset in the tree.
        offset: usize,
        /// Its size in bytes.
        size: usize,
    },
    /// Two parts that overlap.
    Overlap(Part, Part),
    /// The memory reservation block does not end with a pair of zeros.
    Reservations {
        /// Its offset in the tree.
        offset: usize,
    },
    /// Something in the structure block.
    Structure {
        /// What is wrong.
        fault: Fault,
        /// Where, in bytes from the start of the tree.
        offset: usize,
        /// The innermost open node.
        node: NodePath,
    },
}

/// What is wrong at a place in the structure block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The block ends inside a token.
    Cut,
    /// A number that is no token.
    Token(u32),
    /// A node's name without a terminator.
    NodeName,
    /// A node's or property's name with a byte that is not a visible ASCII character.
    NameByte(u8),
    /// The first node is not the root: it has a name.
    NamedRoot,
    /// A property whose value reaches past the block.
    PropertyLength(u32),
    /// A property whose name starts outside the strings block or does not end in it.
    PropertyName(u32),
    /// A property outside of any node.
    StrayProperty,
    /// A property after a child of its node.
    LateProperty,
    /// `#address-cells` or `#size-cells` that is not one cell of 32 bits.
    CellCount(u32),
    /// More than [`MAX_DEPTH`] levels.
    Depth,
    /// An end of a node where none is open.
    StrayEnd,
    /// The tree ends while a node is open, or has no root at all.
    Unclosed,
    /// A second root.
    SecondRoot,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("the structure block ends inside a token"),
            Self::Token(token) => write!(f, "unknown token {token:#x}"),
            Self::NodeName => f.write_str("node name without end"),
            Self::NameByte(byte) => write!(f, "byte {byte:#04x} in a name"),
            Self::NamedRoot => f.write_str("the root node has a name"),
            Self::PropertyLength(length) => write!(f, "property of {length} bytes reaches past the structure block"),
            Self::PropertyName(offset) => write!(f, "property name at {offset:#x} is not inside the strings block"),
            Self::StrayProperty => f.write_str("property outside of any node"),
            Self::LateProperty => f.write_str("property after a child node"),
            Self::CellCount(length) => write!(f, "cell count of {length} bytes instead of 4"),
            Self::Depth => write!(f, "nodes nested deeper than {MAX_DEPTH}"),
            Self::StrayEnd => f.write_str("end of a node that was not begun"),
            Self::Unclosed => f.write_str("end of the tree before the end of its root node"),
            Self::SecondRoot => f.write_str("second root node"),
        }
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("device tree: none was handed over"),
            Self::Magic(found) => write!(f, "device tree: magic number is {found:#010x} instead of {MAGIC:#x}"),
            Self::Truncated { needed, available } => {
                write!(f, "device tree: truncated: {available} bytes of {needed}")
            }
            Self::Size(size) => write!(f, "device tree: {size} bytes are fewer than its header's {HEADER_SIZE}"),
            Self::Version { version, compatible } => {
                write!(f, "device tree: version {version} (compatible with {compatible}) instead of {VERSION}")
            }
            Self::Misaligned { part, offset } => write!(f, "device tree: {part} at {offset:#x} is misaligned"),
            Self::OutOfBounds { part, offset, size } => {
                write!(f, "device tree: {part} at {offset:#x}, {size} bytes, reaches past the end")
            }
            Self::Overlap(one, other) => write!(f, "device tree: {one} and {other} overlap"),
            Self::Reservations { offset } => {
                write!(f, "device tree: memory reservation block at {offset:#x} has no end")
            }
            Self::Structure { fault, offset, node } => write!(f, "device tree: {fault} at {offset:#x} in {node}"),
        }
    }
}

impl core::error::Error for TreeError {}

/// A tree that passed all checks.
#[derive(Clone, Copy)]
pub struct Tree<'t> {
    /// The reader; none of [`fdt::node::FdtNode`]'s methods that `platform` calls can panic on it.
    pub fdt: Fdt<'t>,
    /// Bytes from its start that hold something.
    pub used: usize,
}

/// The tree's size in bytes, from its first bytes: enough of a look to know how much to map. At most [`MAX_SIZE`]: QEMU
/// pads a tree given to it to more than twice its size, and what lies beyond is padding or refused by [`open`].
///
/// # Errors
///
/// What the header alone shows: [`TreeError::Absent`], `Magic`, `Truncated` (below 40 bytes given) and `Size`.
pub fn total_size(header: &[u8]) -> Result<usize, TreeError> {
    match word(header, 0) {
        Some(0) => return Err(TreeError::Absent),
        Some(MAGIC) | None => {}
        Some(other) => return Err(TreeError::Magic(other)),
    }
    if header.len() < HEADER_SIZE {
        return Err(TreeError::Truncated { needed: HEADER_SIZE, available: header.len() });
    }
    let size = field(header, 1);
    if size >= HEADER_SIZE { Ok(size.min(MAX_SIZE)) } else { Err(TreeError::Size(size)) }
}

/// Checks the tree that `bytes` begins with, removes its `FDT_NOP` tokens and the padding behind it, and opens it.
///
/// # Errors
///
/// The first thing found that is wrong.
pub fn open(bytes: &mut [u8]) -> Result<Tree<'_>, TreeError> {
    let layout = Layout::read(bytes)?;
    if layout.check_structure(bytes)? {
        layout.squeeze(bytes);
    }
    let used = layout.used();
    bytes[TOTAL_SIZE_FIELD..][..4].copy_from_slice(&(used as u32).to_be_bytes());
    let fdt = Fdt::new(&bytes[..used]).map_err(|error| match error {
        fdt::FdtError::BadMagic => TreeError::Magic(field(bytes, 0) as u32),
        fdt::FdtError::BadPtr => TreeError::Absent,
        fdt::FdtError::BufferTooSmall => TreeError::Truncated { needed: used, available: bytes.len() },
    })?;
    Ok(Tree { fdt, used })
}

/// Where the parts lie, in bytes from the start of the tree; all of them inside it and apart from each other.
struct Layout {
    reservations: Range<usize>,
    structure: Range<usize>,
    strings: Range<usize>,
}

impl Layout {
    fn read(bytes: &[u8]) -> Result<Self, TreeError> {
        let size = total_size(bytes)?;
        if bytes.len() < size {
            return Err(TreeError::Truncated { needed: size, available: bytes.len() });
        }
        let bytes = &bytes[..size];
        let (version, compatible) = (field(bytes, 5) as u32, field(bytes, 6) as u32);
        if version < VERSION || compatible > VERSION {
            return Err(TreeError::Version { version, compatible });
        }
        let part = |part, offset: usize, size: usize, align: usize| {
            let end = offset.checked_add(size).filter(|&end| end <= bytes.len());
            match end {
                None => Err(TreeError::OutOfBounds { part, offset, size }),
                Some(_) if !offset.is_multiple_of(align) => Err(TreeError::Misaligned { part, offset }),
                Some(end) => Ok(offset..end),
            }
        };
        let structure = part(Part::Structure, field(bytes, 2), field(bytes, 9), 4)?;
        let strings = part(Part::Strings, field(bytes, 3), field(bytes, 8), 1)?;
        let first = part(Part::Reservations, field(bytes, 4), 16, 8)?.start;
        let pairs = bytes[first..].chunks_exact(16).position(|pair| pair.iter().all(|&byte| byte == 0));
        let reservations = match pairs {
            Some(pairs) => first..first + (pairs + 1) * 16,
            None => return Err(TreeError::Reservations { offset: first }),
        };
        let layout = Self { reservations, structure, strings };
        layout.check_overlaps()?;
        Ok(layout)
    }

    fn parts(&self) -> [(Part, Range<usize>); 4] {
        [
            (Part::Header, 0..HEADER_SIZE),
            (Part::Reservations, self.reservations.clone()),
            (Part::Structure, self.structure.clone()),
            (Part::Strings, self.strings.clone()),
        ]
    }

    /// Squeezing writes to the structure block: no other part may share its bytes.
    fn check_overlaps(&self) -> Result<(), TreeError> {
        let parts = self.parts();
        for (index, (one, range)) in parts.iter().enumerate() {
            for (other, second) in &parts[index + 1..] {
                if range.start.max(second.start) < range.end.min(second.end) {
                    return Err(TreeError::Overlap(*one, *other));
                }
            }
        }
        Ok(())
    }

    fn used(&self) -> usize {
        self.parts().into_iter().fold(0, |used, (_, range)| used.max(range.end))
    }

    /// Walks the whole structure block; whether it holds `FDT_NOP` tokens.
    fn check_structure(&self, bytes: &[u8]) -> Result<bool, TreeError> {
        let mut names = arrayvec::ArrayVec::<&str, MAX_DEPTH>::new();
        let mut offset = self.structure.start;
        let mut has_nops = false;
        let mut has_root = false;
        // Whether the innermost node may still get properties.
        let mut open_for_properties = false;
        loop {
            let failed =
                |fault| TreeError::Structure { fault, offset, node: NodePath::new(names.iter().skip(1).copied()) };
            let (token, next) = self.token(bytes, offset).map_err(failed)?;
            match token {
                Token::BeginNode(name) => {
                    match (names.is_empty(), has_root) {
                        (true, true) => return Err(failed(Fault::SecondRoot)),
                        (true, false) if !name.is_empty() => return Err(failed(Fault::NamedRoot)),
                        _ => has_root = true,
                    }
                    if names.is_full() {
                        return Err(failed(Fault::Depth));
                    }
                    names.push(name);
                    open_for_properties = true;
                }
                Token::EndNode if names.is_empty() => return Err(failed(Fault::StrayEnd)),
                Token::EndNode => {
                    names.pop();
                    open_for_properties = false;
                }
                Token::Property { .. } if names.is_empty() => return Err(failed(Fault::StrayProperty)),
                Token::Property { .. } if !open_for_properties => return Err(failed(Fault::LateProperty)),
                Token::Property { name: "#address-cells" | "#size-cells", length } if length != 4 => {
                    return Err(failed(Fault::CellCount(length)));
                }
                Token::Property { .. } => {}
                Token::Nop => has_nops = true,
                Token::End if has_root && names.is_empty() => return Ok(has_nops),
                Token::End => return Err(failed(Fault::Unclosed)),
            }
            offset = next;
        }
    }

    /// The token at `offset` and the offset after it.
    fn token<'t>(&self, bytes: &'t [u8], offset: usize) -> Result<(Token<'t>, usize), Fault> {
        let block = &bytes[..self.structure.end];
        let body = offset + 4;
        let token = match word(block, offset).ok_or(Fault::Cut)? {
            BEGIN_NODE => {
                let name = terminated(&block[body..]).ok_or(Fault::NodeName)?;
                return Ok((Token::BeginNode(text(name)?), (body + name.len() + 1).next_multiple_of(4)));
            }
            PROPERTY => {
                let length = word(block, body).ok_or(Fault::Cut)?;
                let name_offset = word(block, body + 4).ok_or(Fault::Cut)?;
                let value = body + 8;
                let end = value.saturating_add(length as usize);
                if end > block.len() {
                    return Err(Fault::PropertyLength(length));
                }
                let name = bytes[self.strings.clone()].get(name_offset as usize..).and_then(terminated);
                let name = text(name.ok_or(Fault::PropertyName(name_offset))?)?;
                return Ok((Token::Property { name, length }, end.next_multiple_of(4)));
            }
            END_NODE => Token::EndNode,
            NOP => Token::Nop,
            END => Token::End,
            other => return Err(Fault::Token(other)),
        };
        Ok((token, body))
    }

    /// Moves the tokens of a checked structure block together, over its `FDT_NOP`s.
    fn squeeze(&self, bytes: &mut [u8]) {
        let (mut from, mut to) = (self.structure.start, self.structure.start);
        while let Ok((token, next)) = self.token(bytes, from) {
            let (is_nop, is_end) = (matches!(token, Token::Nop), matches!(token, Token::End));
            if !is_nop {
                bytes.copy_within(from..next, to);
                to += next - from;
            }
            if is_end {
                break;
            }
            from = next;
        }
        let size = (to - self.structure.start) as u32;
        bytes[STRUCTURE_SIZE_FIELD..][..4].copy_from_slice(&size.to_be_bytes());
    }
}

enum Token<'t> {
    BeginNode(&'t str),
    EndNode,
    Property { name: &'t str, length: u32 },
    Nop,
    End,
}

/// The big-endian word at `offset`.
fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// Word `index` of a header of which all bytes are there.
fn field(bytes: &[u8], index: usize) -> usize {
    word(bytes, index * 4).unwrap_or(0) as usize
}

/// The bytes before the first zero.
fn terminated(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some(&bytes[..end])
}

fn text(name: &[u8]) -> Result<&str, Fault> {
    match name.iter().find(|byte| !byte.is_ascii_graphic()) {
        Some(&byte) => Err(Fault::NameByte(byte)),
        None => Ok(core::str::from_utf8(name).unwrap_or_default()),
    }
}
