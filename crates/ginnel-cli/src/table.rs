//! Rows of text in aligned columns, for people.

use std::fmt::Write;

/// On which side a column's text begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Columns with titles, and rows under them.
pub(crate) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with one column for each title.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        let align = columns.iter().map(|(_, align)| *align).collect();
        Self { align, rows: vec![columns.iter().map(|(title, _)| (*title).to_owned()).collect()] }
    }

    /// Adds a row; cells that are missing stay empty.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text: two blanks between columns, none at the ends of lines.
    pub(crate) fn render(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.align.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), align) in row.iter().zip(&widths).zip(&self.align) {
                let _ = match align {
                    Align::Left => write!(line, "{cell:<width$}  "),
                    Align::Right => write!(line, "{cell:>width$}  "),
                };
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right), ("REST", Align::Left)]);
        table.row(vec!["a".into(), "1024".into(), "x".into()]);
        table.row(vec!["längste".into(), "7".into()]);
        assert_eq!(table.render(), "NAME        N  REST\na        1024  x\nlängste     7\n");
    }
}
