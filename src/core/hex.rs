//! Keys and ids as text.

use std::fmt::Write;

/// Lower-case hexadecimal digits.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

/// The 32 bytes that 64 hexadecimal digits stand for.
pub fn key(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; 32];
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        let digits = "0123456789abcdef".repeat(4);
        assert_eq!(text(&key(&digits).unwrap()), digits);
        for bad in ["", "00", &"g".repeat(64), &"é".repeat(32)] {
            assert!(key(bad).is_none());
        }
    }
}
