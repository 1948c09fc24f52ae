//! Bytes, counts and times as people read them.

use std::time::Duration;

/// `1536` as `1.5 KiB`: three significant digits, binary units.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{} {}", significant(value), UNITS[unit]) }
}

/// `8030000000` as `8.03B`: three significant digits, powers of a thousand.
pub fn count(n: u64) -> String {
    const UNITS: [&str; 4] = ["", "k", "M", "B"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n}") } else { format!("{}{}", significant(value), UNITS[unit]) }
}

/// `1 weight`, `2 weights`.
pub fn several(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// A duration in the unit that suits it: `350 µs`, `1.20 s`, `2 min 05 s`.
pub fn duration(d: Duration) -> String {
    let seconds = d.as_secs_f64();
    if seconds < 1e-3 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{} ms", significant(seconds * 1e3))
    } else if seconds < 60.0 {
        format!("{} s", significant(seconds))
    } else {
        let whole = d.as_secs();
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

fn significant(value: f64) -> String {
    let digits = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        for (n, want) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (5 << 30, "5.00 GiB")] {
            assert_eq!(bytes(n), want);
        }
        for (n, want) in [(7, "7"), (2_760_000, "2.76M"), (8_030_000_000, "8.03B")] {
            assert_eq!(count(n), want);
        }
        for (n, want) in [(0, "0 weights"), (1, "1 weight"), (1234, "1234 weights")] {
            assert_eq!(several(n, "weight"), want);
        }
        for (ms, want) in
            [(0.35, "350 µs"), (12.3, "12.3 ms"), (1200.0, "1.20 s"), (125_000.0, "2 min 05 s")]
        {
            assert_eq!(duration(Duration::from_secs_f64(ms / 1e3)), want);
        }
    }
}
