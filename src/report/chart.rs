//! Lines over two axes, as SVG. Lines carry their names at their ends, and differ in dashes as well as
//! in colour, so that print without colour can be read.

use svg::node::element::{Circle, Group, Line, Polyline, Rectangle, Text};
use svg::{Document, Node};

use super::axis::Axis;

/// A line.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Series {
    /// Its name, which stands at its end.
    pub name: String,
    /// Points from left to right. What is not a number leaves a gap.
    pub points: Vec<(f64, f64)>,
    /// Which of the styles: 0 is the main one, the others are for comparison.
    pub style: usize,
}

impl Series {
    /// The line that the chart is about.
    pub fn main(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), points, style: 0 }
    }

    /// A line to compare with; `style` from 1.
    pub fn reference(name: &str, style: usize, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), points, style }
    }
}

/// A chart of lines.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What else one has to know, in a line below the title.
    pub note: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Lines; later ones are drawn below earlier ones.
    pub series: Vec<Series>,
}

/// Colour (of a palette that colour-blind people can tell apart), width and dashes of a style.
const STYLES: [(&str, f64, &str); 5] = [
    ("#0064a8", 2.6, "none"),
    ("#c84c00", 1.7, "7 4"),
    ("#00805c", 1.7, "2 3"),
    ("#6b7280", 1.7, "9 3 2 3"),
    ("#a3397f", 1.7, "4 2"),
];

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 380.0;
/// Margins around the plot: top, right (for names of lines), bottom, left.
const MARGIN: (f64, f64, f64, f64) = (78.0, 116.0, 52.0, 56.0);
const FONT: &str = "Inter, 'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";
const INK: &str = "#1f2937";
const FAINT: &str = "#5b6472";
const GRID: &str = "#e4e7eb";
/// Least distance between names of lines.
const NAME_GAP: f64 = 15.0;

fn text(x: f64, y: f64, size: f64, fill: &str, anchor: &str, content: &str) -> Text {
    Text::new(content)
        .set("x", round(x))
        .set("y", round(y))
        .set("font-size", size)
        .set("fill", fill)
        .set("text-anchor", anchor)
}

/// Tenths of a pixel are enough, and keep files small.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

impl Chart {
    /// The chart as an SVG document.
    pub fn svg(&self) -> String {
        let mut document = Document::new()
            .set("viewBox", (0, 0, WIDTH, HEIGHT))
            .set("width", WIDTH)
            .set("height", HEIGHT)
            .set("role", "img")
            .set("aria-label", self.title.as_str())
            .set("font-family", FONT);
        document.append(
            Rectangle::new().set("width", WIDTH).set("height", HEIGHT).set("fill", "#ffffff"),
        );
        let left = MARGIN.3;
        document.append(text(left, 24.0, 16.0, INK, "start", &self.title).set("font-weight", 600));
        document.append(text(left, 43.0, 12.0, FAINT, "start", &self.note));
        document.append(self.grid());
        for series in self.series.iter().rev() {
            document.append(self.line(series));
        }
        document.append(self.names());
        document.to_string()
    }

    fn x_at(&self, value: f64) -> f64 {
        MARGIN.3 + self.x.place(value) * (WIDTH - MARGIN.1 - MARGIN.3)
    }

    fn y_at(&self, value: f64) -> f64 {
        let height = HEIGHT - MARGIN.0 - MARGIN.2;
        MARGIN.0 + (1.0 - self.y.place(value)) * height
    }

    /// Axes, ticks and the lines that lead from them.
    fn grid(&self) -> Group {
        let (top, bottom) = (MARGIN.0, HEIGHT - MARGIN.2);
        let (left, right) = (MARGIN.3, WIDTH - MARGIN.1);
        let rule = |x1: f64, y1: f64, x2: f64, y2: f64, colour: &str| {
            Line::new()
                .set("x1", round(x1))
                .set("y1", round(y1))
                .set("x2", round(x2))
                .set("y2", round(y2))
                .set("stroke", colour)
        };
        let mut group = Group::new();
        for (value, label) in &self.y.ticks {
            let y = self.y_at(*value);
            group.append(rule(left, y, right, y, GRID));
            group.append(text(left - 8.0, y + 4.0, 11.5, FAINT, "end", label));
        }
        for (value, label) in &self.x.ticks {
            let x = self.x_at(*value);
            group.append(rule(x, bottom, x, bottom + 5.0, FAINT));
            group.append(text(x, bottom + 19.0, 11.5, FAINT, "middle", label));
        }
        group.append(rule(left, bottom, right, bottom, FAINT));
        group.append(
            text(left, top - 10.0, 11.5, FAINT, "start", &self.y.label).set("font-style", "italic"),
        );
        let middle = (left + right) / 2.0;
        group.append(
            text(middle, bottom + 39.0, 11.5, FAINT, "middle", &self.x.label)
                .set("font-style", "italic"),
        );
        group
    }

    fn line(&self, series: &Series) -> Group {
        let (colour, width, dashes) = STYLES[series.style % STYLES.len()];
        let mut group = Group::new();
        for part in series.points.split(|point| !point.1.is_finite()) {
            let places: Vec<(f64, f64)> =
                part.iter().map(|&(x, y)| (round(self.x_at(x)), round(self.y_at(y)))).collect();
            match places[..] {
                [] => {}
                [(x, y)] => {
                    group.append(
                        Circle::new().set("cx", x).set("cy", y).set("r", width).set("fill", colour),
                    );
                }
                _ => {
                    let points: Vec<String> =
                        places.iter().map(|(x, y)| format!("{x},{y}")).collect();
                    let line = Polyline::new()
                        .set("points", points.join(" "))
                        .set("fill", "none")
                        .set("stroke", colour)
                        .set("stroke-width", width)
                        .set("stroke-dasharray", dashes)
                        .set("stroke-linejoin", "round");
                    group.append(line);
                }
            }
        }
        group
    }

    /// The names of the lines beside their ends, moved apart where they would meet.
    fn names(&self) -> Group {
        let mut names: Vec<(f64, &Series)> = self
            .series
            .iter()
            .filter_map(|series| {
                let last = series.points.iter().rev().find(|point| point.1.is_finite())?;
                Some((self.y_at(last.1) + 4.0, series))
            })
            .collect();
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut places: Vec<f64> = names.iter().map(|name| name.0).collect();
        move_apart(&mut places, HEIGHT - MARGIN.2 + 4.0);
        let mut group = Group::new();
        for (&(_, series), y) in names.iter().zip(places) {
            let (colour, _, _) = STYLES[series.style % STYLES.len()];
            let weight = if series.style == 0 { 700 } else { 400 };
            let x = WIDTH - MARGIN.1 + 8.0;
            group
                .append(text(x, y, 12.5, colour, "start", &series.name).set("font-weight", weight));
        }
        group
    }
}

/// Moves rising places down until they are apart, and then up as far as the lowest must.
fn move_apart(places: &mut [f64], lowest: f64) {
    for i in 1..places.len() {
        places[i] = places[i].max(places[i - 1] + NAME_GAP);
    }
    let mut limit = lowest;
    for place in places.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - NAME_GAP;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(series: Vec<Series>) -> Chart {
        Chart {
            title: "A < B & C".into(),
            note: String::new(),
            x: Axis::linear("x", 0.0, 10.0),
            y: Axis::log("y", 1.0, 100.0),
            series,
        }
    }

    #[test]
    fn names_stay_apart_and_inside() {
        let mut places = [100.0, 101.0, 102.0, 300.0];
        move_apart(&mut places, 310.0);
        assert_eq!(places, [100.0, 115.0, 130.0, 300.0]);
        let mut places = [300.0, 302.0, 309.0];
        move_apart(&mut places, 310.0);
        assert_eq!(places, [280.0, 295.0, 310.0]);
    }

    #[test]
    fn what_is_not_a_number_leaves_a_gap() {
        let points = vec![(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 4.0), (4.0, 9.0)];
        let svg = chart(vec![Series::main("ours", points)]).svg();
        assert_eq!(svg.matches("<polyline").count(), 2, "{svg}");
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn text_is_escaped_and_points_lie_where_the_axes_say() {
        let svg = chart(vec![Series::main("ours", vec![(0.0, 1.0), (10.0, 100.0)])]).svg();
        assert!(svg.contains("A &lt; B &amp; C"), "{svg}");
        assert!(svg.contains("points=\"56,328 524,78\""), "{svg}");
    }
}
