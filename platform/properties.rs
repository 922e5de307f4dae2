//! Properties of a device tree's nodes (Devicetree Specification 0.4, sections 2.2 to 2.4).
#![forbid(unsafe_code)]

use fdt::node::FdtNode;

/// The properties that every node is asked for, found in one pass.
#[derive(Default)]
pub struct Common<'t> {
    pub status: Option<&'t [u8]>,
    pub device_type: Option<&'t [u8]>,
    pub compatible: Option<&'t [u8]>,
    pub ranges: Option<&'t [u8]>,
    pub address_cells: Option<u32>,
    pub size_cells: Option<u32>,
}

impl<'t> Common<'t> {
    pub fn of(node: FdtNode<'_, 't>) -> Self {
        let mut common = Self::default();
        for property in node.properties() {
            let value = property.value;
            match property.name {
                "status" => common.status = Some(value),
                "device_type" => common.device_type = Some(value),
                "compatible" => common.compatible = Some(value),
                "ranges" => common.ranges = Some(value),
                "#address-cells" => common.address_cells = cell(value, 0),
                "#size-cells" => common.size_cells = cell(value, 0),
                _ => {}
            }
        }
        common
    }

    /// `status` is absent, "okay" or (older trees) "ok".
    pub fn is_enabled(&self) -> bool {
        self.status.is_none_or(|status| matches!(first_text(status), Ok("okay" | "ok")))
    }

    pub fn is_a(&self, device_type: &str) -> bool {
        self.device_type.is_some_and(|found| first_text(found) == Ok(device_type))
    }

    pub fn is_compatible(&self, names: &[&str]) -> bool {
        let mut compatible = self.compatible.unwrap_or_default().split(|&byte| byte == 0);
        compatible.any(|found| names.iter().any(|name| found == name.as_bytes()))
    }

    /// The node as a bus. Without the properties, the specification's defaults hold.
    pub fn bus(&self) -> Bus<'t> {
        Bus {
            address_cells: self.address_cells.unwrap_or(2) as usize,
            size_cells: self.size_cells.unwrap_or(1) as usize,
            ranges: self.ranges,
        }
    }
}

/// A bus on the way from the root to the node being read.
pub struct Bus<'t> {
    pub address_cells: usize,
    pub size_cells: usize,
    /// How its addresses map to its parent's; `None` if they do not.
    pub ranges: Option<&'t [u8]>,
}

/// The interrupts of a device.
pub struct Interrupts<'t> {
    interrupts: &'t [u8],
    names: Option<&'t [u8]>,
}

impl<'t> Interrupts<'t> {
    pub fn of(node: FdtNode<'_, 't>) -> Self {
        let value = |property| node.property(property).map(|property| property.value);
        Self { interrupts: value("interrupts").unwrap_or_default(), names: value("interrupt-names") }
    }

    /// The interrupt called `name` or, where they have no names, number `index`. Each is `width` cells.
    pub fn find(&self, width: usize, index: usize, name: &[u8]) -> Option<&'t [u8]> {
        if !self.interrupts.len().is_multiple_of(width * 4) {
            return None;
        }
        let index = match self.names {
            None => index,
            Some(names) => names.split(|&byte| byte == 0).position(|found| found == name)?,
        };
        self.interrupts.chunks_exact(width * 4).nth(index)
    }
}

/// Whether `path` names the node that `names` lead to. A path may leave out unit addresses.
pub fn is_at(names: &[&str], path: &str) -> bool {
    let mut wanted = path.split('/').skip(1);
    let mut is_next =
        |name: &str| wanted.next().is_some_and(|part| part == name || Some(part) == name.split('@').next());
    names.iter().all(|name| is_next(name)) && wanted.next().is_none()
}

/// The text before the first zero byte.
pub fn first_text(value: &[u8]) -> Result<&str, core::str::Utf8Error> {
    core::str::from_utf8(value.split(|&byte| byte == 0).next().unwrap_or_default())
}

/// A number of one or two cells, by the property's length.
pub fn number(value: &[u8]) -> Option<u64> {
    match value.len() {
        4 => cells(value, 0, 1),
        8 => cells(value, 0, 2),
        _ => None,
    }
}

/// The number in `count` cells (one or two) from cell `index` on.
pub fn cells(value: &[u8], index: usize, count: usize) -> Option<u64> {
    let first = cell(value, index)?.into();
    if count == 1 { Some(first) } else { Some(first << 32 | u64::from(cell(value, index + 1)?)) }
}

/// Cell `index` of a property.
pub fn cell(value: &[u8], index: usize) -> Option<u32> {
    let bytes = value.get(index * 4..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}
