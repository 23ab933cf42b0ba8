//! Numbers as people write and read them: sizes as `64KiB`, durations as `10ms`, ages as `3h`.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// Units of time with their nanoseconds, longest first.
const TIMES: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const SIZES: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// Reads a size of at least one byte: `4096`, `64KiB`, `1GiB`.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    match ginnel::parse_size(text).map(usize::try_from) {
        Some(Ok(0)) => Err("a size of at least one byte is needed".into()),
        Some(Ok(size)) => Ok(size),
        _ => Err(format!("write a size as 4096, 64KiB or 1GiB, up to {} bytes", usize::MAX)),
    }
}

/// Reads a whole number within limits, of which a wrong one is told.
pub(crate) fn whole<T>(least: T, most: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Copy + Send + Sync + 'static,
{
    move |text| match text.parse() {
        Ok(number) if least <= number && number <= most => Ok(number),
        _ => Err(format!("write a whole number from {least} to {most}")),
    }
}

/// Reads a duration: `10ms`, `2s`, `1.5m`. The unit is not optional, so that nobody waits 10 s who meant 10 ms.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a duration with its unit, as 10ms, 2s or 1.5m".to_owned();
    if text.starts_with('-') {
        return Err(format!("{text} is negative; {}", wrong()));
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, scale) = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*scale).map(Duration::from_nanos).ok_or_else(|| format!("{text} is too long"));
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * *scale as f64 / 1e9).map_err(|_| format!("{text} is too long"))
}

/// Writes a size: `64KiB`, `1.5MiB`, `17B`.
pub(crate) fn size(bytes: u64) -> String {
    let mut unit = 0;
    while unit + 1 < SIZES.len() && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    let scale = 1u64 << (10 * unit);
    if bytes % scale == 0 {
        return format!("{}{}", bytes / scale, SIZES[unit]);
    }
    format!("{:.1}{}", bytes as f64 / scale as f64, SIZES[unit])
}

/// Writes a short time with about three digits: `850ns`, `12.3us`, `4.07ms`.
pub(crate) fn time(nanoseconds: u64) -> String {
    let (name, scale) = TIMES.iter().skip(2).find(|(_, scale)| nanoseconds >= *scale).unwrap_or(&TIMES[5]);
    let value = nanoseconds as f64 / *scale as f64;
    match value {
        _ if *scale == 1 || value >= 100.0 => format!("{value:.0}{name}"),
        _ if value >= 10.0 => format!("{value:.1}{name}"),
        _ => format!("{value:.2}{name}"),
    }
}

/// Writes the age of something that began at this time, both in nanoseconds since 1970: `12s`, `3m`, `5h`, `9d`.
pub(crate) fn age(since_ns: u64, now_ns: u64) -> String {
    let seconds = now_ns.saturating_sub(since_ns) / 1_000_000_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("64KiB"), Ok(65536));
        assert_eq!(parse_size("1"), Ok(1));
        for bad in ["", "0", "0KiB", "-1", "64kb", "1.5MiB", "many"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_read() {
        let all = [
            ("10ms", Duration::from_millis(10)),
            ("2s", Duration::from_secs(2)),
            ("0s", Duration::ZERO),
            ("1.5m", Duration::from_secs(90)),
            ("250us", Duration::from_micros(250)),
            ("7ns", Duration::from_nanos(7)),
            ("0.25s", Duration::from_millis(250)),
            ("1h", Duration::from_secs(3600)),
        ];
        for (text, duration) in all {
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
        }
        for bad in
            ["", "10", "ms", ".s", "-1s", "1 s", "1d", "1e3s", "inf", "99999999999999999999h", "9999999999h", "1.2.3s"]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_written() {
        let all = [
            (0, "0B"),
            (17, "17B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (65536, "64KiB"),
            (1536, "1.5KiB"),
            (16 << 20, "16MiB"),
            (1 << 30, "1GiB"),
            (5 << 40, "5TiB"),
            (u64::MAX, "16777216.0TiB"),
        ];
        for (bytes, text) in all {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn what_is_written_as_a_size_is_read_as_the_same() {
        for bytes in [1, 1023, 1024, 65536, 3 << 20, 7 << 30] {
            assert_eq!(parse_size(&size(bytes)), Ok(usize::try_from(bytes).unwrap()));
        }
    }

    #[test]
    fn whole_numbers_have_limits_that_are_told() {
        let count = whole(1, u64::MAX);
        assert_eq!((count("1"), count("18446744073709551615")), (Ok(1), Ok(u64::MAX)));
        for bad in ["0", "-1", "1.5", "NaN", "x", "", "18446744073709551616"] {
            assert_eq!(count(bad), Err("write a whole number from 1 to 18446744073709551615".into()), "{bad}");
        }
        assert_eq!(whole(i32::MIN, i32::MAX)("-2147483648"), Ok(i32::MIN));
        assert!(whole(i32::MIN, i32::MAX)("2147483648").is_err());
    }

    #[test]
    fn times_are_written() {
        let all = [
            (0, "0ns"),
            (850, "850ns"),
            (1_234, "1.23us"),
            (12_345, "12.3us"),
            (123_456, "123us"),
            (4_070_000, "4.07ms"),
            (2_500_000_000, "2.50s"),
            (100_000_000_000, "100s"),
        ];
        for (nanoseconds, text) in all {
            assert_eq!(time(nanoseconds), text);
        }
    }

    #[test]
    fn ages_are_written() {
        let second = 1_000_000_000;
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (86400 * 9, "9d")] {
            assert_eq!(age(second, second + seconds * second), text);
        }
        assert_eq!(age(second, 0), "0s", "a clock that went back");
    }
}
