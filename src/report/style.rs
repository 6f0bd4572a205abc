//! Colours and type, alike in charts and pages.
//!
//! Charts carry the colours of light paper as attributes, which is what print and PNG show; a page
//! overrides them by class on a dark screen.

use core::fmt::Write;

use svg::node::element::Text;

pub(super) const FONT: &str =
    "Inter, 'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

/// A colour on light paper, and the class by which a page changes it.
pub(super) type Colour = (&'static str, &'static str);

pub(super) const INK: Colour = ("#1f2937", "ink");
pub(super) const FAINT: Colour = ("#5b6472", "faint");
pub(super) const GRID: Colour = ("#e4e7eb", "grid");
pub(super) const PAPER: Colour = ("#ffffff", "paper");

/// How a line looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stroke {
    pub(super) colour: &'static str,
    pub(super) width: f64,
    pub(super) dashes: &'static str,
}

const fn stroke(colour: &'static str, width: f64, dashes: &'static str) -> Stroke {
    Stroke { colour, width, dashes }
}

/// Of a palette that colour-blind people can tell apart; dashes for print without colour.
const STROKES: [Stroke; 8] = [
    stroke("#0064a8", 2.6, "none"),
    stroke("#c84c00", 1.7, "7 4"),
    stroke("#00805c", 1.7, "2 3"),
    stroke("#6b7280", 1.7, "9 3 2 3"),
    stroke("#a3397f", 1.7, "4 2"),
    stroke("#8a6a00", 1.7, "12 4"),
    stroke("#5648c4", 1.7, "1 2"),
    stroke("#007a8a", 1.7, "6 2 1 2"),
];

/// The same on a dark screen.
const DARK: [&str; 8] =
    ["#5fb4f2", "#ff9b55", "#41c99c", "#a9b1be", "#e783c4", "#d8b646", "#a59cff", "#52c8d8"];

impl Stroke {
    /// The stroke of a style; styles beyond the last begin again.
    pub(super) const fn of(style: usize) -> Self {
        STROKES[style % STROKES.len()]
    }

    /// The classes of its lines and of what is filled with its colour.
    pub(super) fn classes(style: usize) -> (String, String) {
        let style = style % STROKES.len();
        (format!("l{style}"), format!("t{style}"))
    }
}

/// Rules that give charts the colours of a dark screen.
pub(super) fn dark_rules() -> String {
    let mut rules = String::from(
        "svg .paper { fill: #161b22; } svg .ink { fill: #e6e9ee; } svg .faint { fill: #a2abb8; }\n\
         svg .grid-line { stroke: #2c343f; } svg .faint-line { stroke: #7d8896; }\n",
    );
    for (style, colour) in DARK.iter().enumerate() {
        // Writing into a string does not fail.
        let _ = writeln!(
            rules,
            "svg .l{style} {{ stroke: {colour}; }} svg .t{style} {{ fill: {colour}; }}"
        );
    }
    rules
}

pub(super) fn text(x: f64, y: f64, size: f64, colour: Colour, anchor: &str, content: &str) -> Text {
    Text::new(content)
        .set("x", round(x))
        .set("y", round(y))
        .set("font-size", size)
        .set("fill", colour.0)
        .set("class", colour.1)
        .set("text-anchor", anchor)
}

/// Tenths of a pixel are enough, and keep files small.
pub(super) fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
