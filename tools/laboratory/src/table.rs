//! One table of all systems.

use crate::guest::System;
use crate::output::Output;
use serde::Serialize;
use std::collections::BTreeMap;

/// What Ashlar is compared with.
pub const PEER: &str = "L always";
pub const FIRST: &str = "Ashlar";
/// Rates that differ by less are one.
const SAME: f64 = 0.01;
const LINE: f64 = 64.0;

/// A figure of all systems.
#[derive(Serialize)]
pub struct Row {
    pub figure: String,
    pub unit: String,
    pub values: BTreeMap<&'static str, f64>,
    /// What Linux needs to what Ashlar needs; of shares there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    #[serde(skip)]
    is_rate: bool,
}

/// How many samples are below each bound, by the systems' names.
pub type Histograms = BTreeMap<&'static str, BTreeMap<u64, u64>>;

#[derive(Serialize)]
pub struct Table {
    #[serde(skip)]
    /// Names, and which of them are Linuxes that zero once.
    columns: Vec<(&'static str, bool)>,
    pub rows: Vec<Row>,
    pub histograms: BTreeMap<String, Histograms>,
}

fn ratio(unit: &str, values: &BTreeMap<&'static str, f64>) -> Option<f64> {
    let of = |name| values.get(name).copied().filter(|&value| value > 0.0);
    (unit != "percent").then(|| Some(of(PEER)? / of(FIRST)?)).flatten()
}

impl Table {
    /// A table of `outputs`, one for each of `systems`.
    pub fn new(systems: &[&System], outputs: Vec<Output>) -> Self {
        let mut table = Table {
            columns: systems.iter().map(|system| (system.name, system.is_fair())).collect(),
            rows: Vec::new(),
            histograms: BTreeMap::new(),
        };
        for (&(name, _), output) in table.columns.iter().zip(outputs) {
            let mut place = 0;
            for (figure, value) in output.figures {
                // What only some systems say stands after what it follows there.
                place = match table.rows.iter().position(|row| row.figure == figure) {
                    Some(found) => found,
                    None => {
                        let is_rate = output.tags.values().any(|rate| *rate == figure);
                        let row = Row { figure, unit: value.unit, values: BTreeMap::new(), ratio: None, is_rate };
                        let place = if table.rows.is_empty() { 0 } else { place + 1 };
                        table.rows.insert(place, row);
                        place
                    }
                };
                table.rows[place].values.insert(name, value.value);
            }
            for (figure, histogram) in output.histograms {
                table.histograms.entry(figure).or_default().insert(name, histogram);
            }
        }
        table.rows.iter_mut().for_each(|row| row.ratio = ratio(&row.unit, &row.values));
        table
    }

    /// The systems, in their order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|(name, _)| *name)
    }

    /// What `system` needs for `figure`.
    pub fn value(&self, figure: &str, system: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.figure == figure)?.values.get(system).copied()
    }

    /// What zeroing took Linux, and what was beyond it, from the instructions for each 64 bytes; but where it zeroes otherwise than once.
    pub fn derive_zeroing(&mut self, instructions: u32) {
        let whole = |row: &Row| {
            row.figure.strip_suffix("_zeroing").filter(|whole| !whole.ends_with("_beyond")).map(str::to_owned)
        };
        let Some((at, whole)) = self.rows.iter().enumerate().find_map(|(at, row)| Some((at, whole(row)?))) else {
            return;
        };
        let mib = whole.rsplit('_').next().and_then(|size| size.strip_suffix('m')?.parse::<f64>().ok());
        let Some(bytes) = mib.map(|mib| mib * f64::from(1 << 20)) else { return };
        let touched =
            self.rows.iter().find(|row| row.figure == whole).map(|row| row.values.clone()).unwrap_or_default();
        let zeroing = bytes / LINE * f64::from(instructions);
        for &(name, _) in self.columns.iter().filter(|(_, is_fair)| *is_fair) {
            self.rows[at].values.insert(name, zeroing);
            let beyond = touched.get(name).map_or(0.0, |touched| touched - zeroing);
            if let Some(row) = self.rows.iter_mut().find(|row| row.figure == format!("{whole}_beyond_zeroing")) {
                row.values.insert(name, beyond);
            }
        }
        self.rows.iter_mut().for_each(|row| row.ratio = ratio(&row.unit, &row.values));
    }

    /// Prints it. Rates that are the same everywhere are only named.
    pub fn print(&self) {
        print!("{:<34}", "figure");
        self.columns.iter().for_each(|(name, _)| print!(" {name:>13}"));
        println!(" {:>7}", "ratio");
        let (same, rows): (Vec<&Row>, Vec<&Row>) = self.rows.iter().partition(|row| row.is_the_same());
        for row in rows {
            let percent = if row.unit == "percent" { " %" } else { "" };
            print!("{:<34}", row.figure);
            for (name, _) in &self.columns {
                print!(" {:>13}", row.values.get(name).map_or("–".into(), |value| number(*value) + percent));
            }
            println!(" {:>7}", row.ratio.map_or("–".into(), times));
        }
        if !same.is_empty() {
            let names: Vec<&str> = same.iter().map(|row| row.figure.as_str()).collect();
            println!("the same within {} % on all: {}", SAME * 100.0, names.join(", "));
        }
    }
}

impl Row {
    pub fn is_the_same(&self) -> bool {
        let mut values: Vec<f64> = self.values.values().copied().collect();
        values.sort_unstable_by(f64::total_cmp);
        self.is_rate && values.len() > 1 && values[values.len() - 1] <= values[0] * (1.0 + SAME)
    }
}

pub fn times(ratio: f64) -> String {
    if ratio < 0.01 { format!("{ratio:.4}×") } else { format!("{ratio:.2}×") }
}

/// As [`number`], with as many digits behind the point as a small one needs.
pub fn precise(value: f64) -> String {
    let zeros = -value.abs().log10().floor();
    if value == 0.0 || zeros < 2.0 { number(value) } else { format!("{value:.*}", zeros as usize + 1) }
}

/// `value` with its thousands apart, and digits behind the point where there are few before it.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        least if least < 100.0 && value.fract() != 0.0 => 2,
        less if less < 1000.0 && value.fract() != 0.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((&text[..], ""), |(whole, rest)| (whole, rest));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    if rest.is_empty() { grouped } else { format!("{grouped}.{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::SYSTEMS;

    fn table(texts: [&str; 2]) -> Table {
        let systems: Vec<&System> = SYSTEMS.iter().filter(|system| [FIRST, PEER].contains(&system.name)).collect();
        Table::new(&systems, texts.map(|text| Output::read(text, false)).into())
    }

    #[test]
    fn figures_of_both_are_in_one_row() {
        let table = table([
            "figure a 10 ns\nfigure a_only 3 ns\nfigure b 50.0 percent\nmarker 1 c\nfigure c 5 ns",
            "figure a 25 ns\nfigure b 10 percent\nfigure l 7 ns\nmarker 1 c\nfigure c 5.01 ns",
        ]);
        let names: Vec<&str> = table.rows.iter().map(|row| row.figure.as_str()).collect();
        assert_eq!(names, ["a", "a_only", "b", "l", "c"]);
        assert_eq!(
            table.rows.iter().map(|row| row.ratio).collect::<Vec<_>>(),
            [Some(2.5), None, None, None, Some(1.002)]
        );
        assert_eq!(table.rows.iter().map(Row::is_the_same).collect::<Vec<_>>(), [false, false, false, false, true]);
    }

    #[test]
    fn what_linux_zeroes_is_derived() {
        let mut table = table([
            "figure populate_1m 50000 i\nfigure populate_1m_zeroing 34000 i\nfigure populate_1m_beyond_zeroing 16000 i",
            "figure populate_1m 100000 i",
        ]);
        table.derive_zeroing(4);
        assert_eq!(table.rows[1].values[PEER], 65536.0);
        assert_eq!(table.rows[2].values[PEER], 34464.0);
        assert_eq!(table.rows[2].ratio, Some(34464.0 / 16000.0));
    }

    #[test]
    fn numbers_are_read_easily() {
        assert_eq!(
            [7.0, 1234567.0, 12.345, 100.25, 1234.5, -1234.0, 0.5].map(number),
            ["7", "1\u{202f}234\u{202f}567", "12.35", "100.2", "1\u{202f}234", "-1\u{202f}234", "0.50"]
        );
        assert_eq!([0.0, 0.00124, 0.01, 0.0001, 3.0].map(precise), ["0", "0.0012", "0.010", "0.00010", "3"]);
    }
}
