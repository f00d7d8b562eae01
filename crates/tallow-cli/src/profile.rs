//! The table at the end of `train --profile`.

use tallow::humanize::counted;
use tallow_train::Profile;

/// One line for every operation, the slowest first, and one for the time that workers waited for each other.
pub(crate) fn table(profile: &Profile) -> String {
    let threads = profile.workers as f64;
    let whole = profile.seconds * threads;
    let Profile { updates, workers, .. } = profile;
    if *updates == 0 {
        return "profile: no update after the first, which is not measured".into();
    }
    let per_update = |seconds: f64| seconds * 1e3 / threads / *updates as f64;
    let mut rows: Vec<(&str, f64, u64)> = profile
        .shares
        .iter()
        .map(|share| (share.name, share.time.as_secs_f64(), share.flops))
        .collect();
    let measured: f64 = rows.iter().map(|(_, seconds, _)| seconds).sum();
    rows.push(("waiting for other workers", (whole - measured).max(0.0), 0));
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut text = format!(
        "profile of {} by {}, {:.0} ms each\n{:<36}{:>8}{:>12}{:>20}\n",
        counted(*updates, "update"),
        counted(*workers, "worker"),
        per_update(whole),
        "operation",
        "share",
        "ms/update",
        "GFLOP/s per worker"
    );
    for (name, seconds, flops) in rows.into_iter().filter(|(_, seconds, _)| *seconds > 0.0) {
        let share = 100.0 * seconds / whole;
        let line = format!("{name:<36}{share:>6.1} %{:>12.1}", per_update(seconds));
        let speed = flops as f64 / seconds / 1e9;
        text += line.trim_end();
        text += &if flops > 0 {
            format!("{speed:>20.0}\n")
        } else {
            "\n".into()
        };
    }
    let flops: u64 = profile.shares.iter().map(|share| share.flops).sum();
    let speed = flops as f64 / profile.seconds / 1e9;
    text += &format!("products of matrices over the whole time: {speed:.0} GFLOP/s");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tallow_ops::profile::Share;

    #[test]
    fn shares_of_the_whole() {
        let share = |name, seconds, flops| Share {
            name,
            time: Duration::from_secs(seconds),
            calls: 1,
            flops,
        };
        let profile = Profile {
            updates: 10,
            workers: 2,
            seconds: 5.0,
            shares: vec![
                share("sums", 1, 0),
                share("products", 6, 12_000_000_000_000),
                share("none", 0, 0),
            ],
        };
        let text = table(&profile);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6);
        assert!(
            lines[2].starts_with("products ") && lines[2].contains(" 60.0 %"),
            "{text}"
        );
        assert!(lines[2].ends_with(" 2000"), "{text}");
        assert!(
            lines[3].starts_with("waiting") && lines[3].contains(" 30.0 %"),
            "{text}"
        );
        assert!(lines[4].starts_with("sums") && lines[4].contains(" 10.0 %"), "{text}");
        assert!(lines[5].ends_with(" 2400 GFLOP/s"), "{text}");
        assert!(!table(&Profile { updates: 0, ..profile }).contains("NaN"));
    }
}
