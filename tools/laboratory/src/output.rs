//! What a run says.

use std::collections::BTreeMap;

/// A figure's value and unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub value: f64,
    pub unit: String,
}

/// The lines of a run that are for a table.
#[derive(Debug, Default)]
pub struct Output {
    /// In their order.
    pub figures: Vec<(String, Value)>,
    /// By their bounds: how many are below each, and not below the one before.
    pub histograms: BTreeMap<String, BTreeMap<u64, u64>>,
    /// Figures that are the middle of several rounds, by the tags under which an observer reports them.
    pub tags: BTreeMap<String, String>,
}

impl Output {
    /// Reads `text`. With `least`, a figure of which several samples were taken is the least of them.
    pub fn read(text: &str, least: bool) -> Self {
        let mut output = Output::default();
        let mut minimum: Option<(String, f64)> = None;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["figure", name, value, unit] => {
                    let Ok(mut value) = value.parse() else { continue };
                    if let Some((of, minimum)) = &minimum
                        && of == name
                        && least
                    {
                        value = *minimum;
                    }
                    output.figures.push((name.into(), Value { value, unit: unit.into() }));
                }
                ["histogram", name, ref buckets @ ..] => {
                    let bucket = |text: &&str| {
                        let (bound, count) = text.split_once('=')?;
                        Some((bound.parse().ok()?, count.parse().ok()?))
                    };
                    output.histograms.insert(name.into(), buckets.iter().filter_map(bucket).collect());
                }
                ["marker", tag, name] => {
                    output.tags.insert(tag.into(), name.into());
                }
                [name, _, "samples,", "min", value, ..] => {
                    let name = name.trim_end_matches(':').to_owned();
                    // Of single touches the middle one says more than the least.
                    minimum = value
                        .trim_end_matches(',')
                        .parse()
                        .ok()
                        .filter(|_| output.tags.values().any(|rate| *rate == name))
                        .map(|value| (name, value));
                }
                _ => {}
            }
        }
        output
    }

    /// Takes each time of `other`'s that is less; shares stay.
    pub fn lower_to(&mut self, other: &Self) {
        for (name, value) in &mut self.figures {
            let found = other.figures.iter().find(|(other, _)| other == name);
            if let Some((_, other)) = found
                && value.unit != "percent"
            {
                value.value = value.value.min(other.value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Linux says something\nfigure boot_to_app 12 ns\nmarker 3 gups_1m\n  gups_1m: 5 samples, min 1.5, p99 3.0, max 9\n\
                        figure gups_1m 2.5 ns\n  latency_1m: 256 samples, min 1, p99 2, max 3\nfigure latency_1m 2 ns\n\
                        histogram latency_1m 4=200 16=56\n";

    #[test]
    fn lines_are_told_apart() {
        let value = |value| Value { value, unit: "ns".into() };
        let read = |least| Output::read(TEXT, least);
        assert_eq!(
            read(false).figures,
            [("boot_to_app".into(), value(12.0)), ("gups_1m".into(), value(2.5)), ("latency_1m".into(), value(2.0))]
        );
        assert_eq!(read(true).figures[1..], [("gups_1m".into(), value(1.5)), ("latency_1m".into(), value(2.0))]);
        assert_eq!(read(true).histograms["latency_1m"], BTreeMap::from([(4, 200), (16, 56)]));
        assert_eq!(read(true).tags, BTreeMap::from([("3".into(), "gups_1m".into())]));
    }

    #[test]
    fn the_lesser_time_counts() {
        let mut output = Output::read("figure a 3 ns\nfigure b 50 percent\nfigure c 4 ns", true);
        output.lower_to(&Output::read("figure a 2 ns\nfigure b 10 percent\nfigure c 5 ns", true));
        assert_eq!(output.figures.iter().map(|(_, value)| value.value).collect::<Vec<_>>(), [2.0, 50.0, 4.0]);
    }
}
