//! Sizes as LVM writes them: binary units, exact.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::refusal::{Errno, Refusal, quote};

/// A number of bytes. Reads `20G`, `512M` or plain bytes; prints the largest unit that is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Size(pub u64);

const UNITS: [(char, u32); 6] = [('E', 60), ('P', 50), ('T', 40), ('G', 30), ('M', 20), ('K', 10)];

impl Size {
    /// Takes `20G` (binary: 20 times 2^30), `512M`, `64K`, `1T`, `1P` or a number of bytes. EINVAL for anything else.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let refuse = |why: &str| {
            Refusal::new(
                Errno::Invalid,
                format!("{} is not a size: {why}; write it like 20G, 512M or a number of bytes", quote(text)),
            )
        };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &text[digits.len()..];
        if digits.contains('.') {
            return Err(refuse("fractions are not taken, use the next smaller unit"));
        }
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse("it has to be a whole number and perhaps a unit"));
        }
        let shift = match unit.chars().map(|c| c.to_ascii_uppercase()).collect::<Vec<_>>()[..] {
            [] => 0,
            [c] => {
                UNITS.iter().find(|(u, _)| *u == c).ok_or_else(|| refuse("the units are K, M, G, T and P"))?.1
            }
            [_, 'B'] | [_, 'I', 'B'] => {
                return Err(refuse("units are one letter and binary, as LVM's: G is 1024 M"));
            }
            _ => return Err(refuse("the units are K, M, G, T and P")),
        };
        let number: u64 = digits.parse().map_err(|_| refuse("the number is too large"))?;
        number
            .checked_shl(shift)
            .filter(|v| v >> shift == number)
            .map(Size)
            .ok_or_else(|| refuse("the number is too large"))
    }

    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// For sentences and tables: rounded down to three digits, like `3.4G`. Not for values that are read back.
    pub fn about(self) -> String {
        for (unit, shift) in UNITS {
            if self.0 >> shift > 0 {
                let tenths = (u128::from(self.0) * 10) >> shift;
                let (whole, tenth) = (tenths / 10, tenths % 10);
                return if tenth == 0 || whole >= 100 {
                    format!("{whole}{unit}")
                } else {
                    format!("{whole}.{tenth}{unit}")
                };
            }
        }
        self.0.to_string()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().find(|(_, shift)| self.0 > 0 && self.0.trailing_zeros() >= *shift);
        match exact {
            Some((unit, shift)) => f.pad(&format!("{}{unit}", self.0 >> shift)),
            None => f.pad(&self.0.to_string()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_back_the_same() {
        for text in ["20G", "512M", "1T", "1025", "3K", "0", "1536M", "16P"] {
            assert_eq!(Size::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Size::parse("1024M").unwrap().to_string(), "1G");
        assert_eq!(Size::parse("20g").unwrap(), Size(20 << 30));
    }

    #[test]
    fn nonsense_is_refused_and_quoted() {
        for text in [
            "",
            "G",
            "ten",
            "1.5G",
            "10GB",
            "10GiB",
            "-1",
            "1 G",
            "99999999999999999999",
            "99999999P",
            "5X",
            "0x10",
            "1Gé",
        ] {
            let refusal = Size::parse(text).unwrap_err();
            assert!(refusal.text.contains(&format!("{text:?}")), "{}", refusal.text);
        }
    }

    /// Found by tests/fuzz: the whole value was quoted, with escapes for each of its bytes.
    #[test]
    fn a_long_bad_size_is_quoted_in_part() {
        assert!(Size::parse(&"\"".repeat(4_096)).unwrap_err().text.len() < 500);
        assert!(Size::parse(&"9".repeat(4_096)).unwrap_err().text.len() < 500);
    }

    #[test]
    fn about_is_short() {
        assert_eq!(Size(3_650_722_201).about(), "3.3G");
        assert_eq!(Size(4 << 30).about(), "4G");
        assert_eq!(Size(17).about(), "17");
    }
}
