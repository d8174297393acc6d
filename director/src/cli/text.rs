//! Tables and numbers for people.

/// Rows of cells as aligned columns; the first column and those in `left` to the left, the others to the right.
pub(super) fn table(rows: &[Vec<String>], left: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 || left.contains(&column) {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A number with commas: `1,048,576`.
pub(super) fn commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate in three digits or so: `0`, `0.4`, `12`, `3.4k`, `56M`, `7.8G`.
pub(super) fn rate(number: f64) -> String {
    let mut scaled = number;
    let mut unit = "";
    for larger in ["k", "M", "G", "T"] {
        if scaled < 999.5 {
            break;
        }
        scaled /= 1000.0;
        unit = larger;
    }
    let decimals = usize::from(scaled > 0.0 && scaled < 9.95);
    format!("{scaled:.decimals$}{unit}")
}

/// Seconds as one says them: `45s`, `3m05s`, `2h10m`, `5d03h`.
pub(super) fn seconds(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Bytes of memory: `512 KiB`, `320 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1_048_576)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_048_576].map(commas), ["0", "999", "1,000", "1,048,576"]);
        let rates = [0.0, 0.42, 9.97, 12.3, 999.4, 999.6, 3_440.0, 56e6, 7.8e9].map(rate);
        assert_eq!(rates, ["0", "0.4", "10", "12", "999", "1.0k", "3.4k", "56M", "7.8G"]);
        assert_eq!([45, 185, 7_800, 442_800].map(seconds), ["45s", "3m05s", "2h10m", "5d03h"]);
        assert_eq!([1, 524_288, 335_544_320].map(bytes), ["1 KiB", "512 KiB", "320 MiB"]);
    }

    #[test]
    fn columns_line_up() {
        let row = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect();
        let rows = [row(&["REAL", "N", "STATE"]), row(&["10.0.0.1", "100", "up"])];
        assert_eq!(table(&rows, &[2]), "REAL        N  STATE\n10.0.0.1  100  up\n");
    }
}
