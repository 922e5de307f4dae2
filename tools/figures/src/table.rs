//! The figures, their bounds and their peers.

use serde::Serialize;

/// What is known of a figure before it is measured.
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    /// The value that is good enough: at most this.
    pub bound: Option<f64>,
    /// The value that is good enough: at least this, where more is better.
    pub least: Option<f64>,
    /// What Linux needs for the same.
    pub peer: Option<f64>,
}

const fn figure(name: &'static str, unit: &'static str, bound: Option<f64>, peer: Option<f64>) -> Figure {
    Figure { name, unit, bound, least: None, peer }
}

const fn at_least(name: &'static str, unit: &'static str, least: f64) -> Figure {
    Figure { name, unit, bound: None, least: Some(least), peer: None }
}

/// In the order of the table.
pub const FIGURES: [Figure; 40] = [
    figure("boot_to_app", "instructions", Some(3e6), Some(459e6)),
    figure("fault_slot_eager", "instructions", Some(76_000.0), Some(161_700.0)),
    figure("fault_slot_eager_beyond_zeroing", "instructions", Some(2_000.0), Some(30_000.0)),
    figure("fault_slot_pool", "instructions", Some(2_000.0), None),
    figure("fault_group", "instructions", Some(4_000.0), Some(10_100.0)),
    figure("zero_read_slot", "instructions", Some(1_500.0), None),
    figure("fill_slot", "instructions", Some(120_000.0), None),
    figure("fault_page", "instructions", Some(1_000.0), Some(2_691.0)),
    figure("split_release", "instructions", Some(4_000.0), Some(29_700.0)),
    figure("split_protect", "instructions", Some(4_000.0), Some(35_800.0)),
    figure("munmap_4k", "instructions", Some(5_000.0), Some(38_300.0)),
    figure("promote", "instructions", Some(3_000.0), None),
    figure("collapse_slot", "instructions", Some(400_000.0), Some(1_563_000.0)),
    // There the whole collapse holds up who touches the memory.
    figure("collapse_stall", "instructions", Some(20_000.0), Some(1_563_000.0)),
    // By default it looks at 4096 pages every ten seconds.
    figure("recovery_idle_s_per_gib", "seconds", Some(1.0), Some(640.0)),
    figure("recovery_budget_s_per_gib", "seconds", Some(10.0), Some(640.0)),
    figure("recovery_slowdown_pct", "percent", Some(8.0), None),
    at_least("movable_coverage_pct", "percent", 95.0),
    figure("bloat_pct", "percent", Some(1.0), None),
    figure("worst_fault", "instructions", Some(12_000.0), None),
    figure("pin_page", "instructions", Some(500.0), None),
    figure("dissolve", "instructions", Some(6_000.0), None),
    figure("remap_slot", "instructions", Some(3_000.0), None),
    figure("protect_slot", "instructions", Some(3_000.0), Some(9_225.0)),
    figure("snapshot_512m", "instructions", Some(300_000.0), None),
    figure("snapshot_write", "instructions", Some(6_000.0), None),
    figure("lock_waits_per_fault", "waits", Some(0.0), None),
    figure("retries_per_fault", "retries", Some(0.0), None),
    figure("context_switch", "instructions", Some(600.0), None),
    figure("spawn_join", "instructions", Some(15_000.0), None),
    figure("mutex_uncontended", "instructions", Some(60.0), None),
    figure("hello_min_ram_mib", "MiB", Some(16.0), Some(46.0)),
    figure("hello_image_kib", "KiB", Some(256.0), Some(30_166.0)),
    figure("boot_8g_ms", "ms", None, None),
    figure("boot_8g_tables_kib", "KiB", None, None),
    figure("boot_8g_records_kib", "KiB", None, None),
    figure("boot_64g_ms", "ms", Some(25.0), None),
    figure("boot_64g_tables_kib", "KiB", None, None),
    figure("boot_64g_records_kib", "KiB", None, None),
    figure("region_lookup_100k", "instructions", None, None),
];

/// A measured figure.
#[derive(Serialize)]
pub struct Row {
    name: &'static str,
    value: f64,
    unit: &'static str,
    bound: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    least: Option<f64>,
    peer: Option<f64>,
}

impl Row {
    pub fn new(figure: &Figure, value: f64) -> Row {
        let Figure { name, unit, bound, least, peer } = *figure;
        Row { name, value, unit, bound, least, peer }
    }

    /// Whether it is good enough; `None` where nobody has said what is.
    fn is_met(&self) -> Option<bool> {
        match (self.bound, self.least) {
            (Some(bound), _) => Some(self.value <= bound),
            (None, Some(least)) => Some(self.value >= least),
            (None, None) => None,
        }
    }
}

/// Prints the table.
pub fn print(rows: &[Row]) {
    let number = |value: Option<f64>| value.map_or("–".into(), grouped);
    println!("{:<32} {:>12} {:<12} {:>12} {:>12} {:>9}  met", "figure", "value", "unit", "bound", "Linux", "ratio");
    for row in rows {
        let ratio = row.peer.map_or("–".into(), |peer| format!("{:.1}×", peer / row.value));
        let met = match row.is_met() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "–",
        };
        let bound = row.least.map_or_else(|| number(row.bound), |least| format!("≥ {}", grouped(least)));
        println!(
            "{:<32} {:>12} {:<12} {:>12} {:>12} {:>9}  {met}",
            row.name,
            number(Some(row.value)),
            row.unit,
            bound,
            number(row.peer),
            ratio
        );
    }
}

/// `value` with its thousands apart.
fn grouped(value: f64) -> String {
    if value.fract() != 0.0 {
        return if value < 1.0 { format!("{value:.4}") } else { format!("{value:.1}") };
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Row, at_least, figure, grouped};

    #[test]
    fn bounds_are_upper_or_lower_ones() {
        let met = |figure, value| Row::new(&figure, value).is_met();
        assert_eq!(met(figure("a", "s", Some(1.0), None), 1.0), Some(true));
        assert_eq!(met(figure("a", "s", Some(1.0), None), 1.1), Some(false));
        assert_eq!(met(at_least("a", "s", 1.0), 0.9), Some(false));
        assert_eq!(met(at_least("a", "s", 1.0), 1.0), Some(true));
        assert_eq!(met(figure("a", "s", None, None), 1.0), None);
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(grouped(7.0), "7");
        assert_eq!(grouped(1234567.0), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(12.34), "12.3");
        assert_eq!(grouped(0.00123), "0.0012");
    }
}
