//! Tables as kubectl prints them: columns as wide as they must be, three spaces between.

use std::io::{self, Write};

/// Text between columns.
const GAP: &str = "   ";

/// Prints rows in columns that stay aligned over several calls, as a watch needs.
#[derive(Debug, Default)]
pub(super) struct Layout {
    widths: Vec<usize>,
}

impl Layout {
    /// Prints rows, each with as many cells as every other.
    pub fn print(&mut self, rows: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
        for row in &rows {
            self.widths.resize(self.widths.len().max(row.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &rows {
            let cells: Vec<String> =
                row.iter().zip(&self.widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            writeln!(out, "{}", cells.join(GAP).trim_end())?;
        }
        Ok(())
    }
}

/// A cell that cannot play tricks: ids and error texts come from afar, and a terminal obeys escape
/// sequences.
pub(super) fn shown(text: &str) -> String {
    if text.is_empty() {
        return "<none>".to_owned();
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// A span of seconds the way kubectl shows ages: two units while it is young, one when it is not.
pub(super) fn age(seconds: i64) -> String {
    let s = seconds.max(0);
    let (m, h, d) = (s / 60, s / 3600, s / 86_400);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match s {
        0..120 => format!("{s}s"),
        120..600 => two(m, "m", s % 60, "s"),
        600..10_800 => format!("{m}m"),
        10_800..28_800 => two(h, "h", m % 60, "m"),
        28_800..172_800 => format!("{h}h"),
        172_800..691_200 => two(d, "d", h % 24, "h"),
        691_200..63_072_000 => format!("{d}d"),
        63_072_000..252_288_000 => two(d / 365, "y", d % 365, "d"),
        _ => format!("{}y", d / 365),
    }
}

/// Up to `most` items with commas, then how many more there are.
pub(super) fn some_of<T: ToString>(items: impl IntoIterator<Item = T>, most: usize) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    let shown = items.iter().take(most).cloned().collect::<Vec<_>>().join(",");
    if items.len() > most { format!("{shown} + {} more", items.len() - most) } else { shown }
}
