//! Numbers in the form that people read.

/// A count and its noun in the right number: `1 line`, `2,000 lines`.
pub fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    agreeing(count, noun, &format!("{noun}s"))
}

/// A count before words that differ between one and many: `1 line is`, `2,000 lines are`.
pub fn agreeing(count: impl TryInto<u64>, one: &str, many: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{} {}", thousands(count as f64), if count == 1 { one } else { many })
}

/// A count with separated thousands: 12,345.
pub fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in a readable unit: 45 s, 3:05 min, 2:10 h.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole / 60 % 60),
    }
}

/// An amount of memory in a readable unit.
pub fn memory(bytes: f64) -> String {
    if bytes < 1e9 {
        format!("{:.0} MB", bytes / 1e6)
    } else {
        format!("{:.1} GB", bytes / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_can_read_it() {
        assert_eq!(thousands(1234567.4), "1,234,567");
        assert_eq!(thousands(12.0), "12");
        assert_eq!(duration(3.21), "3.2 s");
        assert_eq!(duration(185.0), "3:05 min");
        assert_eq!(duration(7800.0), "2:10 h");
    }

    #[test]
    fn numbers_agree() {
        assert_eq!(
            [0, 1, 2, 2000].map(|n| counted(n, "line")),
            ["0 lines", "1 line", "2 lines", "2,000 lines"]
        );
        assert_eq!(
            [1, 2].map(|n| agreeing(n, "pair is", "pairs are")),
            ["1 pair is", "2 pairs are"]
        );
    }
}
