//! Lines over two axes, as SVG. Lines carry their names at their ends, and differ in dashes as well as
//! in colour, so that print without colour can be read.

use svg::node::element::{Circle, Group, Line, Polyline, Rectangle};
use svg::{Document, Node};

use super::axis::Axis;
use super::style::{Colour, FAINT, FONT, GRID, INK, PAPER, Stroke, round, text};

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

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 380.0;
/// Margins around the plot: top, right (for names of lines, at least), bottom, left (at least).
const MARGIN: (f64, f64, f64, f64) = (78.0, 116.0, 52.0, 56.0);
/// Room for names of lines at most.
const NAMES_MAX: f64 = 200.0;
/// Width of a character of a name, about; long enough for most.
const NAME_CHAR: f64 = 6.9;
/// The piece of its line in front of a name, and the blanks around it.
const SAMPLE: f64 = 18.0;
/// Least distance between names of lines.
const NAME_GAP: f64 = 15.0;
/// Width of a character of a tick, about, and the least distance between ticks.
const TICK_CHAR: f64 = 6.3;
const TICK_GAP: f64 = 9.0;
/// Least distance between ticks of the vertical axis.
const TICK_LINE: f64 = 13.0;

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
            Rectangle::new()
                .set("width", WIDTH)
                .set("height", HEIGHT)
                .set("fill", PAPER.0)
                .set("class", PAPER.1),
        );
        let left = self.left();
        document.append(text(left, 24.0, 16.0, INK, "start", &self.title).set("font-weight", 600));
        document.append(text(left, 43.0, 12.0, FAINT, "start", &self.note));
        document.append(self.grid());
        for series in self.series.iter().rev() {
            document.append(self.line(series));
        }
        if self.is_empty() {
            let (x, y) = ((left + self.right()) / 2.0, (MARGIN.0 + HEIGHT - MARGIN.2) / 2.0);
            document.append(text(x, y, 14.0, FAINT, "middle", "nothing was measured"));
        }
        document.append(self.names());
        document.to_string()
    }

    /// Whether there is no point to draw.
    pub fn is_empty(&self) -> bool {
        let points = || self.series.iter().flat_map(|series| &series.points);
        !points().any(|point| point.1.is_finite())
    }

    /// Where the plot begins, behind the labels of the vertical axis.
    fn left(&self) -> f64 {
        let longest = self.y.ticks.iter().map(|tick| tick.1.chars().count()).max().unwrap_or(0);
        MARGIN.3.max(longest as f64 * TICK_CHAR + 16.0)
    }

    /// Where the plot ends and the names of the lines begin.
    fn right(&self) -> f64 {
        let longest = self.series.iter().map(|series| series.name.chars().count()).max();
        let needed = longest.unwrap_or(0) as f64 * NAME_CHAR + SAMPLE + 18.0;
        WIDTH - needed.clamp(MARGIN.1, NAMES_MAX)
    }

    fn x_at(&self, value: f64) -> f64 {
        self.left() + self.x.place(value) * (self.right() - self.left())
    }

    fn y_at(&self, value: f64) -> f64 {
        let height = HEIGHT - MARGIN.0 - MARGIN.2;
        MARGIN.0 + (1.0 - self.y.place(value)) * height
    }

    /// Axes, ticks and the lines that lead from them.
    fn grid(&self) -> Group {
        let (top, bottom) = (MARGIN.0, HEIGHT - MARGIN.2);
        let (left, right) = (self.left(), self.right());
        let rule = |x1: f64, y1: f64, x2: f64, y2: f64, colour: Colour| {
            Line::new()
                .set("x1", round(x1))
                .set("y1", round(y1))
                .set("x2", round(x2))
                .set("y2", round(y2))
                .set("stroke", colour.0)
                .set("class", format!("{}-line", colour.1))
        };
        let mut group = Group::new();
        let mut lowest = f64::MAX;
        for (value, label) in &self.y.ticks {
            let y = self.y_at(*value);
            group.append(rule(left, y, right, y, GRID));
            // Labels that would meet are left out, their lines are not.
            if lowest - y >= TICK_LINE {
                group.append(text(left - 8.0, y + 4.0, 11.5, FAINT, "end", label));
                lowest = y;
            }
        }
        let mut taken = f64::MIN;
        for (value, label) in &self.x.ticks {
            let x = self.x_at(*value);
            group.append(rule(x, bottom, x, bottom + 5.0, FAINT));
            let half = label.chars().count() as f64 * TICK_CHAR / 2.0;
            if x - half >= taken + TICK_GAP {
                group.append(text(x, bottom + 19.0, 11.5, FAINT, "middle", label));
                taken = x + half;
            }
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
        let Stroke { colour, width, dashes } = Stroke::of(series.style);
        let (line_class, fill_class) = Stroke::classes(series.style);
        let mut group = Group::new();
        for part in series.points.split(|point| !point.1.is_finite()) {
            let places: Vec<(f64, f64)> =
                part.iter().map(|&(x, y)| (round(self.x_at(x)), round(self.y_at(y)))).collect();
            match places[..] {
                [] => {}
                [(x, y)] => {
                    group.append(
                        Circle::new()
                            .set("cx", x)
                            .set("cy", y)
                            .set("r", width + 1.0)
                            .set("fill", colour)
                            .set("class", fill_class.as_str()),
                    );
                }
                _ => {
                    let points: Vec<String> =
                        places.iter().map(|(x, y)| format!("{x},{y}")).collect();
                    let line = Polyline::new()
                        .set("points", points.join(" "))
                        .set("fill", "none")
                        .set("stroke", colour)
                        .set("class", line_class.as_str())
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
        let room = WIDTH - self.right() - SAMPLE - 12.0;
        for (&(_, series), y) in names.iter().zip(places) {
            let Stroke { colour, width, dashes } = Stroke::of(series.style);
            let (line_class, fill_class) = Stroke::classes(series.style);
            let x = self.right() + 8.0;
            let sample = Line::new()
                .set("x1", round(x))
                .set("y1", round(y - 4.0))
                .set("x2", round(x + SAMPLE - 4.0))
                .set("y2", round(y - 4.0))
                .set("stroke", colour)
                .set("class", line_class)
                .set("stroke-width", width)
                .set("stroke-dasharray", dashes);
            group.append(sample);
            let weight = if series.style == 0 { 700 } else { 400 };
            let name = shortened(&series.name, (room / NAME_CHAR) as usize);
            group.append(
                text(x + SAMPLE, y, 12.5, (colour, ""), "start", &name)
                    .set("font-weight", weight)
                    .set("class", fill_class),
            );
        }
        group
    }
}

/// A name of at most so many characters.
fn shortened(name: &str, chars: usize) -> String {
    if name.chars().count() <= chars {
        return name.to_owned();
    }
    name.chars().take(chars.saturating_sub(1)).chain(['…']).collect()
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

/// Fewer points, `points_max` at most, each for several: their middle place and what `together` makes of
/// their values.
pub fn thinned(
    points: &[(f64, f64)],
    points_max: usize,
    together: fn(&[f64]) -> f64,
) -> Vec<(f64, f64)> {
    let chunk = points.len().div_ceil(points_max.max(1)).max(1);
    let one = |points: &[(f64, f64)]| {
        let (places, values): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        (average(&places), together(&values))
    };
    points.chunks(chunk).map(one).collect()
}

/// The mean of some values; 0 of none.
pub fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
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
    fn ticks_that_would_meet_have_no_labels() {
        let mut chart = chart(vec![]);
        let tick = |at: f64| (at, format!("label {at}"));
        chart.x = Axis::linear("x", 0.0, 10.0).with_ticks(vec![tick(1.0), tick(1.2), tick(5.0)]);
        let svg = chart.svg();
        assert!(svg.contains("label 1\n") && svg.contains("label 5\n"), "{svg}");
        assert!(!svg.contains("label 1.2"), "{svg}");
    }

    #[test]
    fn an_empty_chart_says_so_and_long_names_have_room() {
        let empty = chart(vec![Series::main("ours", vec![])]);
        assert!(empty.is_empty() && empty.svg().contains("nothing was measured"));
        let long = "a name of forty characters, no one less!";
        let svg = chart(vec![Series::main(long, vec![(0.0, 1.0), (10.0, 100.0)])]).svg();
        assert!(svg.contains("a name of forty charact") && svg.contains('…'), "{svg}");
        assert!(svg.contains("points=\"56,328 440,78\""), "the plot is narrower: {svg}");
    }

    #[test]
    fn thinning_keeps_the_mean() {
        let points: Vec<(f64, f64)> = (0..10).map(|i| (i.into(), f64::from(i) * 2.0)).collect();
        let few = thinned(&points, 5, average);
        assert_eq!(few, [(0.5, 1.0), (2.5, 5.0), (4.5, 9.0), (6.5, 13.0), (8.5, 17.0)]);
        assert_eq!(thinned(&points, 100, average), points);
        assert_eq!(average(&[]), 0.0);
    }

    #[test]
    fn text_is_escaped_and_points_lie_where_the_axes_say() {
        let svg = chart(vec![Series::main("ours", vec![(0.0, 1.0), (10.0, 100.0)])]).svg();
        assert!(svg.contains("A &lt; B &amp; C"), "{svg}");
        assert!(svg.contains("points=\"56,328 524,78\""), "{svg}");
    }
}
