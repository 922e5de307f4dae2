//! Plots, as SVG in the page's own ink: what is black here is whatever colour the page's text has.

use crate::table::precise;
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::collections::BTreeMap;

/// Stands for the page's ink until the text is done.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_TEXT: &str = "#010203";
/// Told apart on white and on black, and by who tells red from green with difficulty.
pub const COLOURS: [RGBColor; 7] = [
    RGBColor(0x2f, 0x7e, 0xd8),
    RGBColor(0xe6, 0x8a, 0x00),
    RGBColor(0x1b, 0x9e, 0x77),
    RGBColor(0xc8, 0x4a, 0x9b),
    RGBColor(0x8c, 0x6b, 0xd6),
    RGBColor(0x9a, 0x9a, 0x30),
    RGBColor(0x80, 0x80, 0x80),
];
const WIDTH: u32 = 880;
const LETTER: i32 = 7;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A bar, in the colour of its number.
pub struct Bar {
    pub label: String,
    pub value: f64,
    pub colour: usize,
}

fn ink(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn svg(height: u32, draw: impl FnOnce(&Area) -> Result<()>) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        draw(&area)?;
        area.present().map_err(|error| anyhow!("{error}"))?;
    }
    Ok(text.replace(INK_TEXT, "currentColor"))
}

/// Names and their colours, in a line at the top.
fn legend(area: &Area, names: &[&str]) -> Result<()> {
    const TOP: i32 = 4;
    let mut x = 8;
    for (name, colour) in names.iter().zip(COLOURS.iter().cycle()) {
        area.draw(&Rectangle::new([(x, TOP), (x + 12, TOP + 12)], colour.filled()))?;
        area.draw(&Text::new((*name).to_owned(), (x + 17, TOP), ink(14)))?;
        x += 40 + LETTER * name.chars().count() as i32;
    }
    Ok(())
}

/// Powers of ten that hold all of `values` between them.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| *value > 0.0) {
        (low, high) = (low.min(value.log10()), high.max(value.log10()));
    }
    if low > high {
        return (0, 1);
    }
    let low = low.floor() as i32;
    (low, (high.ceil() as i32).max(low + 1))
}

/// A power of ten.
fn decade(power: i32) -> String {
    let behind = usize::try_from(-power).unwrap_or(0);
    if behind > 0 { format!("{:.behind$}", 10_f64.powi(power)) } else { precise(10_f64.powi(power)) }
}

/// Horizontal bars from 1 on a logarithmic axis, one below the other; a label that is that of the bar before is not repeated.
pub fn bars(names: &[&str], bars: &[Bar]) -> Result<String> {
    const ROW: i32 = 18;
    const BASE: f64 = 1.0;
    let (top, bottom) = (28, 26);
    let left = bars.iter().map(|bar| bar.label.chars().count()).max().unwrap_or(0) as i32 * LETTER + 14;
    let right = WIDTH as i32 - 80;
    let end = top + ROW * bars.len() as i32;
    svg((end + bottom) as u32, |area| {
        legend(area, names)?;
        let (low, high) = decades(bars.iter().map(|bar| bar.value).chain([BASE]));
        let x = |value: f64| {
            let part = (value.log10() - f64::from(low)) / f64::from(high - low);
            left + (part.clamp(0.0, 1.0) * f64::from(right - left)).round() as i32
        };
        let centred = ink(12).pos(Pos::new(HPos::Center, VPos::Top));
        for power in low..=high {
            let value = 10_f64.powi(power);
            area.draw(&PathElement::new([(x(value), top), (x(value), end)], INK.mix(0.15)))?;
            area.draw(&Text::new(decade(power), (x(value), end + 5), centred.clone()))?;
        }
        let mut before = "";
        for (row, bar) in (0..).zip(bars) {
            let y = top + ROW * row;
            if bar.label != before {
                let style = ink(13).pos(Pos::new(HPos::Right, VPos::Center));
                area.draw(&Text::new(bar.label.clone(), (left - 6, y + ROW / 2), style))?;
            }
            before = &bar.label;
            let (from, to) = (x(BASE).min(x(bar.value)), x(BASE).max(x(bar.value)));
            let colour = COLOURS[bar.colour % COLOURS.len()];
            area.draw(&Rectangle::new([(from, y + 3), (to.max(from + 1), y + ROW - 3)], colour.filled()))?;
            let style = ink(12).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(precise(bar.value), (to + 4, y + ROW / 2), style))?;
        }
        area.draw(&PathElement::new([(x(BASE), top), (x(BASE), end)], INK.mix(0.7)))?;
        Ok(())
    })
}

/// How many samples are below each power of two: a group of bars for each, on a logarithmic axis.
pub fn histogram(series: &[(&str, &BTreeMap<u64, u64>)]) -> Result<String> {
    const HEIGHT: i32 = 300;
    let (top, bottom, left, right) = (30, HEIGHT - 42, 60, WIDTH as i32 - 10);
    let mut bounds: Vec<u64> = series.iter().flat_map(|(_, buckets)| buckets.keys().copied()).collect();
    bounds.sort_unstable();
    bounds.dedup();
    let most = series.iter().flat_map(|(_, buckets)| buckets.values().copied()).max().unwrap_or(1);
    svg(HEIGHT as u32, |area| {
        legend(area, &series.iter().map(|(name, _)| *name).collect::<Vec<_>>())?;
        let (_, high) = decades([most as f64, 1.0].into_iter());
        // A single sample is to be seen, too.
        let y = |count: f64| {
            let part = (count.log10() + 0.15) / (f64::from(high) + 0.15);
            bottom - (part * f64::from(bottom - top)) as i32
        };
        for power in 0..=high {
            let value = 10_f64.powi(power);
            area.draw(&PathElement::new([(left, y(value)), (right, y(value))], INK.mix(0.15)))?;
            let style = ink(12).pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Text::new(decade(power), (left - 6, y(value)), style))?;
        }
        let group = (right - left) / bounds.len().max(1) as i32;
        let width = ((group - 6) / series.len().max(1) as i32).max(1);
        let centred = ink(12).pos(Pos::new(HPos::Center, VPos::Top));
        for (place, bound) in (0..).zip(&bounds) {
            let from = left + place * group;
            area.draw(&Text::new(power_of_two(*bound), (from + group / 2, bottom + 5), centred.clone()))?;
            for (index, ((_, buckets), colour)) in (0..).zip(series.iter().zip(COLOURS.iter().cycle())) {
                if let Some(count) = buckets.get(bound) {
                    let x = from + 3 + index * width;
                    area.draw(&Rectangle::new([(x, y(*count as f64)), (x + width - 1, bottom)], colour.filled()))?;
                }
            }
        }
        area.draw(&PathElement::new([(left, bottom), (right, bottom)], INK.mix(0.7)))?;
        area.draw(&Text::new(
            "pages whose first touch took fewer instructions than".to_owned(),
            ((left + right) / 2, bottom + 22),
            centred,
        ))?;
        Ok(())
    })
}

fn power_of_two(bound: u64) -> String {
    match bound {
        mega if mega >= 1 << 20 => format!("{}M", mega >> 20),
        kilo if kilo >= 1 << 10 => format!("{}K", kilo >> 10),
        few => few.to_string(),
    }
}

/// Lines from one core to four: `series` says how many times the rate of one.
pub fn speedups(series: &[(&str, [f64; 2])]) -> Result<String> {
    const HEIGHT: i32 = 260;
    let (top, bottom, left, right) = (30, HEIGHT - 30, 40, 420);
    let most = series.iter().flat_map(|(_, times)| *times).fold(4.0, f64::max);
    svg(HEIGHT as u32, |area| {
        legend(area, &series.iter().map(|(name, _)| *name).collect::<Vec<_>>())?;
        let at = |cores: f64, times: f64| {
            let x = left + ((cores - 1.0) / 3.0 * f64::from(right - left)) as i32;
            (x, bottom - (times / most * f64::from(bottom - top)) as i32)
        };
        for cores in [1.0, 2.0, 4.0] {
            area.draw(&PathElement::new([at(1.0, cores), at(4.0, cores)], INK.mix(0.15)))?;
            let (x, y) = at(1.0, cores);
            area.draw(&Text::new(format!("×{cores}"), (x - 6, y), ink(12).pos(Pos::new(HPos::Right, VPos::Center))))?;
            let (x, y) = at(cores, 0.0);
            let style = ink(12).pos(Pos::new(HPos::Center, VPos::Top));
            area.draw(&Text::new(cores.to_string(), (x, y + 5), style))?;
        }
        for ((_, [two, four]), colour) in series.iter().zip(COLOURS.iter().cycle()) {
            let points = [at(1.0, 1.0), at(2.0, *two), at(4.0, *four)];
            area.draw(&PathElement::new(points, colour.stroke_width(2)))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_the_pages_ink() {
        let bar = |label: &str, value| Bar { label: label.into(), value, colour: 0 };
        let text = bars(&["a"], &[bar("one", 2.0), bar("two & three", 0.0), bar("four", 1e6)]).unwrap();
        assert!(text.starts_with("<svg") && text.contains("currentColor") && !text.contains(INK_TEXT), "{text}");
        assert!(text.contains("two &amp; three") && !text.contains("NaN"));
        let buckets = BTreeMap::from([(4, 200), (4096, 1)]);
        let text = histogram(&[("a", &buckets)]).unwrap();
        assert!(text.contains(">\n4K\n<"), "{text}");
        assert!(histogram(&[]).is_ok());
        assert!(bars(&[], &[]).is_ok() && speedups(&[("a", [1.9, 3.0])]).is_ok());
    }
}
