//! Scales and ticks.

/// How values become distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Scale {
    /// Equal differences are equal distances.
    Linear,
    /// Equal ratios are equal distances. Values must be above 0.
    Log,
}

/// One axis: a range, and ticks with labels in it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Axis {
    /// What is on it, with the unit.
    pub label: String,
    /// Scale.
    pub scale: Scale,
    /// Least and largest value.
    pub range: (f64, f64),
    /// Values that are marked, and how.
    pub ticks: Vec<(f64, String)>,
}

/// Steps between ticks, times a power of ten.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];
/// Ticks of a linear axis at most.
const TICKS_MAX: f64 = 6.0;

impl Axis {
    /// A linear axis with ticks at round values. The range grows to the next tick at its upper end.
    pub fn linear(label: &str, from: f64, to: f64) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        let rough = (to - from) / TICKS_MAX;
        let decade = 10f64.powf(rough.log10().floor());
        let factor = STEPS.into_iter().find(|step| step * decade >= rough).unwrap_or(10.0);
        let step = factor * decade;
        let (first, last) = ((from / step).ceil() as i64, (to / step - 1e-9).ceil() as i64);
        let ticks = (first..=last).map(|i| i as f64 * step).map(|value| (value, number(value)));
        Self {
            label: label.to_owned(),
            scale: Scale::Linear,
            range: (from, last as f64 * step),
            ticks: ticks.collect(),
        }
    }

    /// A logarithmic axis with ticks at 1, 2 and 5 times the powers of ten, of which the range grows
    /// to the next.
    pub fn log(label: &str, from: f64, to: f64) -> Self {
        let from = if from > 0.0 { from } else { 1.0 };
        let to = if to > from { to } else { 2.0 * from };
        let decades = from.log10().floor() as i32..=to.log10().ceil() as i32;
        let all: Vec<f64> =
            decades.flat_map(|decade| STEPS.map(|step| step * 10f64.powi(decade))).collect();
        let low = all.iter().rev().copied().find(|&tick| tick <= from * 1.001).unwrap_or(from);
        let high = all.iter().copied().find(|&tick| tick >= to * 0.999).unwrap_or(to);
        let inside = all.into_iter().filter(|tick| (low..=high).contains(tick));
        Self {
            label: label.to_owned(),
            scale: Scale::Log,
            range: (low, high),
            ticks: inside.map(|value| (value, number(value))).collect(),
        }
    }

    /// The same with other ticks.
    #[must_use]
    pub fn with_ticks(mut self, ticks: Vec<(f64, String)>) -> Self {
        self.ticks = ticks;
        self
    }

    /// Where a value lies between the ends of the axis, 0 to 1; what is beyond them is at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (from, to) = self.range;
        let part = match self.scale {
            Scale::Linear => (value - from) / (to - from),
            Scale::Log => (value / from).ln() / (to / from).ln(),
        };
        if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) }
    }
}

/// A number as short as it can be: without zeros at the end, large ones with a unit prefix.
pub(super) fn number(value: f64) -> String {
    let (scaled, prefix) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.3}");
    format!("{}{prefix}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        let axis = Axis::linear("", 0.0, 8.3);
        assert_eq!(labels(&axis), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(axis.range, (0.0, 10.0));
        assert_eq!(
            labels(&Axis::linear("", 0.0, 100_000.0)),
            ["0", "20k", "40k", "60k", "80k", "100k"]
        );
        assert_eq!(labels(&Axis::log("", 1.0, 17.0)), ["1", "2", "5", "10", "20"]);
        assert_eq!(labels(&Axis::log("", 0.94, 1.6)), ["0.5", "1", "2"]);
    }

    #[test]
    fn empty_ranges_are_widened() {
        assert_eq!(Axis::linear("", 3.0, 3.0).place(3.0), 0.0);
        assert_eq!(Axis::log("", 0.0, 0.0).range, (1.0, 2.0));
    }

    #[test]
    fn places_follow_the_scale() {
        let linear = Axis::linear("", 0.0, 10.0);
        assert_eq!(
            [0.0, 5.0, 10.0, 99.0, f64::NAN].map(|v| linear.place(v)),
            [0.0, 0.5, 1.0, 1.0, 0.0]
        );
        let log = Axis::log("", 1.0, 100.0);
        assert!((log.place(10.0) - 0.5).abs() < 1e-12);
    }
}
