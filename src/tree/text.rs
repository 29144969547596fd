//! Text as files have it.

/// Whole lines of ASCII: what is not ASCII is written as `\u{e4}`, a missing last newline is added, nothing stays nothing.
pub fn lines(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    for c in text.chars() {
        match c {
            '\n' | ' '..='~' => bytes.push(c as u8),
            _ => bytes.extend(c.escape_default().map(|c| c as u8)),
        }
    }
    if !bytes.is_empty() && !bytes.ends_with(b"\n") {
        bytes.push(b'\n');
    }
    bytes
}

/// Seconds since 1970 as UTC: `2026-03-01T12:00:00Z`.
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // The Gregorian calendar repeats every 400 years of 146097 days; counted from 1 March, leap days come last in a year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_date_1() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn text_is_whole_lines_of_ascii() {
        assert_eq!(lines(""), b"");
        assert_eq!(lines("ready"), b"ready\n");
        assert_eq!(lines("a\nb\n"), b"a\nb\n");
        assert_eq!(
            lines("\u{e4}\t\u{1b}"),
            br"\u{e4}\t\u{1b}".iter().chain(b"\n").copied().collect::<Vec<_>>()
        );
    }
}
