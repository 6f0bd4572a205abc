//! Text for terminals: aligned tables, bars, and colour where it is wanted.

/// No line of a report is longer, unless a single word is.
pub const COLUMNS: usize = 100;

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// Text without colour.
    pub const PLAIN: Self = Self { colour: false };

    /// Colour on a terminal, unless the user does not want any. `no_color` is the content of the
    /// environment variable `NO_COLOR`, which forbids colour when it is there and not empty.
    pub fn new(is_terminal: bool, no_color: Option<&str>) -> Self {
        Self { colour: is_terminal && no_color.is_none_or(str::is_empty) }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// For titles.
    pub fn title(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// For what goes without saying.
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// For bars.
    pub fn bar(self, text: &str) -> String {
        self.paint("36", text)
    }

    /// For what is as it should be.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// For what should not be.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }
}

/// Where a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
    /// Left, coloured as a bar; only for the last column.
    Bar,
}

/// A table of text with a line of column names.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        Self {
            align: columns.iter().map(|column| column.1).collect(),
            rows: vec![columns.iter().map(|column| column.0.to_owned()).collect()],
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Two blanks in front of each line and between columns, none at the ends of lines.
    pub(crate) fn render(&self, style: Style) -> String {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.align.len()).map(width).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for ((cell, &align), &width) in row.iter().zip(&self.align).zip(&widths) {
                line.push_str("  ");
                match align {
                    Align::Right => line.push_str(&format!("{cell:>width$}")),
                    Align::Left => line.push_str(&format!("{cell:<width$}")),
                    Align::Bar if index == 0 => line.push_str(cell),
                    Align::Bar => line.push_str(&style.bar(cell)),
                }
            }
            let line = line.trim_end();
            text.push_str(&if index == 0 { style.faint(line) } else { line.to_owned() });
            text.push('\n');
        }
        text
    }
}

/// A bar of up to `cells` characters for a `share` of 0 to 1, to an eighth of a character.
pub(crate) fn bar(share: f64, cells: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (cells * 8) as f64).round() as usize;
    // What is not nothing should not look like nothing.
    let eighths = if share > 0.0 { eighths.max(1) } else { eighths };
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// `  label      text`, broken at blanks so that no line is longer than [`COLUMNS`].
pub(crate) fn field(style: Style, label: &str, text: &str) -> String {
    const INDENT: usize = 13;
    let mut field = format!("  {}", style.faint(&format!("{label:<11}")));
    let mut column = INDENT;
    for word in text.split(' ') {
        let width = shown_width(word);
        if column > INDENT && column + 1 + width > COLUMNS {
            field.push('\n');
            field.push_str(&" ".repeat(INDENT));
            column = INDENT;
        } else if column > INDENT {
            field.push(' ');
            column += 1;
        }
        field.push_str(word);
        column += width;
    }
    field.push('\n');
    field
}

/// Characters of `text` that show, without the codes of [`Style`].
fn shown_width(text: &str) -> usize {
    let mut width = 0;
    let mut in_code = false;
    for c in text.chars() {
        match c {
            '\x1b' => in_code = true,
            'm' if in_code => in_code = false,
            _ => width += usize::from(!in_code),
        }
    }
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right), ("", Align::Bar)]);
        table.row(vec!["a".into(), "1".into(), "█".into()]);
        table.row(vec!["longer".into(), "1,000".into(), String::new()]);
        assert_eq!(
            table.render(Style::PLAIN),
            "  name        n\n  a           1  █\n  longer  1,000\n"
        );
    }

    #[test]
    fn bars() {
        assert_eq!(bar(0.0, 4), "");
        assert_eq!(bar(0.0001, 4), "▏");
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(0.53125, 4), "██▏");
        assert_eq!(bar(7.0, 4), "████");
    }

    #[test]
    fn long_fields_break_at_blanks() {
        let text = field(Style::PLAIN, "label", &"word ".repeat(30));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("  label      word word"), "{text}");
        assert!(lines[1].starts_with("             word"), "{text}");
        assert!(lines.iter().all(|line| line.len() <= COLUMNS), "{text}");
        assert_eq!(shown_width(&Style::new(true, None).bad("mum")), 3);
        assert_eq!(field(Style::PLAIN, "x", "y"), "  x          y\n");
    }

    #[test]
    fn colour_only_where_wanted() {
        assert_eq!(Style::new(true, None).bad("3"), "\x1b[1;31m3\x1b[0m");
        assert_eq!(Style::new(true, Some("")), Style::new(true, None));
        assert_eq!(Style::new(true, Some("1")), Style::PLAIN);
        assert_eq!(Style::new(false, None), Style::PLAIN);
        assert_eq!(Style::PLAIN.bad("3"), "3");
    }
}
