//! Random numbers: ids, keys and secrets are made from these, outside of `core`.

use crate::core::hex;

/// 32 random bytes as 64 hexadecimal digits.
pub fn key() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(hex::text(&bytes))
}
