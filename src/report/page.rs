//! One HTML page that needs nothing else.

use core::fmt::Write;

use super::bars::Bars;
use super::chart::Chart;
use super::style::dark_rules;

/// A table. Columns of numbers stand to the right, those with words, and the first, to the left; a row whose
/// first cell is empty goes on about what the row before it names.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Table {
    /// Heads of the columns.
    pub head: Vec<String>,
    /// Cells, a row each.
    pub rows: Vec<Vec<String>>,
}

/// How a figure is to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// As it should not be.
    Bad,
}

/// A figure that stands out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tile {
    /// What it is.
    pub name: String,
    /// The figure with its unit.
    pub value: String,
    /// What else one has to know.
    pub note: String,
    /// How it is to be taken.
    pub tone: Tone,
}

/// A part of a page.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Section {
    /// Heading.
    pub heading: String,
    /// Paragraphs below it.
    pub text: Vec<String>,
    /// Charts, two in a row where there is room.
    pub charts: Vec<Chart>,
    /// Bars beside them.
    #[serde(default)]
    pub bars: Vec<Bars>,
    /// A table below them.
    pub table: Option<Table>,
    /// A table of text, whose cells may be long.
    #[serde(default)]
    pub facts: Option<Table>,
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Title.
    pub title: String,
    /// Paragraphs below the title.
    pub text: Vec<String>,
    /// What stands out, in rows of one thing each.
    pub tiles: Vec<(String, Vec<Tile>)>,
    /// Parts.
    pub sections: Vec<Section>,
}

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1f2937; --soft: #374151; --faint: #5b6472; --rule: #e4e7eb;
  --strong: #9aa3af; --paper: #ffffff; --card: #f7f8fa; --good: #00714f; --bad: #b42318; }
body { font: 15px/1.5 Inter, 'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif;
  color: var(--ink); background: var(--paper); max-width: 1320px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .3rem; }
h3 { font-size: .95rem; margin: 1.1rem 0 .4rem; }
p { margin: .4rem 0; max-width: 46rem; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .6rem; }
.tile { background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: .5rem .75rem; }
.tile b { display: block; font-size: 1.3rem; font-weight: 650; line-height: 1.3; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: .8rem; color: var(--faint); }
.good b { color: var(--good); } .bad b { color: var(--bad); } .bad { border-color: var(--bad); }
.charts { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1rem; margin: 1rem 0; }
.charts svg { flex: 1 1 30rem; max-width: 640px; min-width: 0; height: auto; border: 1px solid var(--rule);
  border-radius: 6px; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .87rem; }
th, td { padding: .22rem .5rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { padding-left: 0; }
th:first-child, td:first-child, .words { text-align: left; }
.open td { border-bottom-color: transparent; }
th { color: var(--faint); font-weight: 600; border-bottom-color: var(--strong); }
.facts th, .facts td { text-align: left; vertical-align: top; }
.facts td { white-space: normal; max-width: 34rem; min-width: 7rem; }
.facts td:first-child { color: var(--faint); white-space: nowrap; }
";

/// Colours of a dark screen; print stays light.
const DARK: &str = ":root { --ink: #e6e9ee; --soft: #c3cad4; --faint: #a2abb8; --rule: #2c343f;
  --strong: #55606e; --paper: #0d1117; --card: #161b22; --good: #41c99c; --bad: #ff8a7d; }
svg .back { fill: #2c343f; }
";

const PRINT: &str = "@media print { @page { margin: 14mm; } :root { color-scheme: light; font-size: 12px; }
body { margin: 0; max-width: none; font-size: 12px; padding: 0; } h2, h3 { break-after: avoid; }
svg, tr, .tile { break-inside: avoid; } .charts svg { flex: 1 1 45%; max-width: 49%; }
.wide { overflow: visible; } th, td { padding: .15rem .4rem; } thead { display: table-header-group; } }
";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn element(page: &mut String, name: &str, text: &str) {
    // Writing into a string does not fail.
    let _ = writeln!(page, "<{name}>{}</{name}>", escape(text));
}

impl Tile {
    fn write(&self, page: &mut String) {
        let tone = match self.tone {
            Tone::Plain => "",
            Tone::Good => " good",
            Tone::Bad => " bad",
        };
        let _ = write!(page, "<div class=\"tile{tone}\">");
        element(page, "span", &self.name);
        element(page, "b", &self.value);
        element(page, "span", &self.note);
        page.push_str("</div>\n");
    }
}

impl Table {
    fn write(&self, page: &mut String, class: &str) {
        let has_words: Vec<bool> = (0..self.head.len()).map(|at| self.has_words(at)).collect();
        let write_row = |page: &mut String, name: &str, cells: &[String]| {
            for (at, cell) in cells.iter().enumerate() {
                let class = if has_words.get(at) == Some(&true) { " class=\"words\"" } else { "" };
                let _ = writeln!(page, "<{name}{class}>{}</{name}>", escape(cell));
            }
        };
        let _ = write!(page, "<div class=\"wide\"><table class=\"{class}\"><thead><tr>");
        write_row(page, "th", &self.head);
        page.push_str("</tr></thead><tbody>\n");
        for (at, row) in self.rows.iter().enumerate() {
            let next = self.rows.get(at + 1).and_then(|next| next.first());
            let goes_on = next.is_some_and(String::is_empty);
            page.push_str(if goes_on { "<tr class=\"open\">" } else { "<tr>" });
            write_row(page, "td", row);
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody></table></div>\n");
    }

    /// The same with columns for rows.
    #[must_use]
    pub fn turned(&self) -> Self {
        let lines: Vec<&Vec<String>> = std::iter::once(&self.head).chain(&self.rows).collect();
        let column = |at: usize| -> Vec<String> {
            lines.iter().map(|line| line.get(at).cloned().unwrap_or_default()).collect()
        };
        Self { head: column(0), rows: (1..self.head.len()).map(column).collect() }
    }

    /// Whether a column has cells that begin with a letter.
    fn has_words(&self, column: usize) -> bool {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.filter_map(|cell| cell.chars().next()).any(char::is_alphabetic)
    }
}

impl Page {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{}</title>\n<style>{STYLE}@media screen and (prefers-color-scheme: dark) {{ \
             {DARK}{}}}\n{PRINT}</style></head><body>\n",
            escape(&self.title),
            dark_rules(),
        );
        element(&mut page, "h1", &self.title);
        self.text.iter().for_each(|text| element(&mut page, "p", text));
        for (name, tiles) in &self.tiles {
            if !name.is_empty() {
                element(&mut page, "h3", name);
            }
            page.push_str("<div class=\"tiles\">\n");
            tiles.iter().for_each(|tile| tile.write(&mut page));
            page.push_str("</div>\n");
        }
        for section in &self.sections {
            element(&mut page, "h2", &section.heading);
            section.text.iter().for_each(|text| element(&mut page, "p", text));
            if section.charts.len() + section.bars.len() > 0 {
                page.push_str("<div class=\"charts\">\n");
                section.charts.iter().for_each(|chart| page.push_str(&chart.svg()));
                section.bars.iter().for_each(|bars| page.push_str(&bars.svg()));
                page.push_str("\n</div>\n");
            }
            if let Some(table) = &section.table {
                table.write(&mut page, "numbers");
            }
            if let Some(table) = &section.facts {
                table.write(&mut page, "facts");
            }
        }
        page.push_str("</body></html>\n");
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Axis, Series};

    #[test]
    fn a_page_is_complete_and_escaped() {
        let axis = Axis::linear("x", 0.0, 1.0);
        let chart = Chart {
            title: "t".into(),
            note: "n".into(),
            x: axis.clone(),
            y: axis,
            series: vec![Series::main("s", vec![(0.0, 0.0), (1.0, 1.0)])],
        };
        let table = Table { head: vec!["a".into()], rows: vec![vec!["1 < 2".into()]] };
        let section = Section {
            heading: "part".into(),
            text: vec!["words".into()],
            charts: vec![chart],
            table: Some(table),
            ..Section::default()
        };
        let tile = Tile { value: "7 us".into(), tone: Tone::Bad, ..Tile::default() };
        let page = Page {
            title: "A & B".into(),
            text: vec![],
            tiles: vec![("first".into(), vec![tile])],
            sections: vec![section],
        };
        let html = page.html();
        for part in [
            "<title>A &amp; B</title>",
            "<h2>part</h2>",
            "<svg",
            "1 &lt; 2",
            "<b>7 us</b>",
            "</html>",
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
        assert!(!html.contains("src=") && !html.contains("href="), "nothing from elsewhere");
    }

    #[test]
    fn a_table_with_many_columns_is_turned() {
        let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
        let table = Table { head: row(["", "a", "b"]), rows: vec![row(["mtu", "1500", "9000"])] };
        let turned = table.turned();
        assert_eq!(turned.head, ["", "mtu"]);
        assert_eq!(turned.rows, [["a", "1500"], ["b", "9000"]]);
        assert_eq!(turned.turned(), table);
    }

    #[test]
    fn words_stand_to_the_left_and_groups_of_rows_together() {
        let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
        let head = row(["size", "run", "p50"]);
        let rows =
            vec![row(["3 B", "homa", "5 us"]), row(["", "tcp", "–"]), row(["4 B", "homa", "1"])];
        let mut html = String::new();
        Table { head, rows }.write(&mut html, "numbers");
        assert!(html.contains("<th class=\"words\">run</th>\n<th>p50</th>"), "{html}");
        assert!(
            html.contains("<tr class=\"open\"><td>3 B</td>\n<td class=\"words\">homa"),
            "{html}"
        );
        assert_eq!(html.matches("class=\"open\"").count(), 1, "{html}");
    }
}
