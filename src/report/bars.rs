//! Bars side by side, as SVG: a few shares or amounts, each with its name and value.

use svg::node::element::Rectangle;
use svg::{Document, Node};

use super::style::{FAINT, FONT, GRID, INK, PAPER, Stroke, round, text};

/// A bar.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bar {
    /// What it stands for.
    pub name: String,
    /// Its length, of [`Bars::full`].
    pub value: f64,
    /// The value as text.
    pub label: String,
    /// Which of the styles of lines it is coloured as.
    pub style: usize,
}

/// Horizontal bars below each other.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bars {
    /// What they show.
    pub title: String,
    /// What else one has to know, in a line below the title.
    pub note: String,
    /// The value of a bar from end to end.
    pub full: f64,
    /// The bars, from above.
    pub bars: Vec<Bar>,
}

const WIDTH: f64 = 640.0;
const TOP: f64 = 62.0;
const LINE: f64 = 26.0;
const LEFT: f64 = 56.0;
/// Room for names and for values.
const NAMES: f64 = 170.0;
const VALUES: f64 = 110.0;

impl Bars {
    /// The bars as an SVG document.
    pub fn svg(&self) -> String {
        let height = TOP + self.bars.len().max(1) as f64 * LINE + 14.0;
        let mut document = Document::new()
            .set("viewBox", (0, 0, WIDTH, height))
            .set("width", WIDTH)
            .set("height", height)
            .set("role", "img")
            .set("aria-label", self.title.as_str())
            .set("font-family", FONT);
        let box_of = |x: f64, y: f64, width: f64, height: f64| {
            Rectangle::new()
                .set("x", round(x))
                .set("y", round(y))
                .set("width", round(width))
                .set("height", round(height))
        };
        let paper = box_of(0.0, 0.0, WIDTH, height).set("fill", PAPER.0).set("class", PAPER.1);
        document.append(paper);
        document.append(text(LEFT, 24.0, 16.0, INK, "start", &self.title).set("font-weight", 600));
        document.append(text(LEFT, 43.0, 12.0, FAINT, "start", &self.note));
        if self.bars.is_empty() {
            document.append(text(LEFT, TOP + 14.0, 14.0, FAINT, "start", "nothing was measured"));
        }
        let (from, room) = (LEFT + NAMES, WIDTH - LEFT - NAMES - VALUES);
        for (index, bar) in self.bars.iter().enumerate() {
            let y = TOP + index as f64 * LINE;
            let share = if self.full > 0.0 { (bar.value / self.full).clamp(0.0, 1.0) } else { 0.0 };
            document.append(text(from - 10.0, y + 13.0, 12.5, INK, "end", &bar.name));
            let back = box_of(from, y, room, 17.0).set("fill", GRID.0).set("class", "back");
            document.append(back);
            let (_, fill) = Stroke::classes(bar.style);
            let colour = Stroke::of(bar.style).colour;
            document
                .append(box_of(from, y, share * room, 17.0).set("fill", colour).set("class", fill));
            document.append(text(from + room + 10.0, y + 13.0, 12.5, INK, "start", &bar.label));
        }
        document.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |value| Bar { name: "a & b".into(), value, label: "x".into(), style: 1 };
        let bars = Bars {
            title: "t".into(),
            note: String::new(),
            full: 2.0,
            bars: vec![bar(1.0), bar(9.0), bar(0.0)],
        };
        let svg = bars.svg();
        for width in ["width=\"152\"", "width=\"304\"", "width=\"0\""] {
            assert!(svg.contains(width), "{width} in {svg}");
        }
        assert!(svg.contains("a &amp; b"));
        assert!(Bars { bars: vec![], ..bars }.svg().contains("nothing was measured"));
    }
}
