//! What makes one box different from another: names, addresses, serials. Known on both sides of the channel.

use serde::{Deserialize, Serialize};

/// Serial of the disk with the box's own system state.
pub const SYSTEM_SERIAL: &str = "SYSTEM";
/// Serial of the read-only root disk, the same in all boxes.
pub const ROOT_SERIAL: &str = "ROOT";
/// Boxes are numbered from 1; more would not fit the address plan and no machine runs them anyway.
pub const BOXES_MAX: usize = 9;

/// What only the host can tell a box: the rest is on its system disk.
#[derive(Debug, Serialize, Deserialize)]
pub struct Setup {
    /// Microseconds since 1970.
    pub clock_us: u64,
    /// Fresh random bytes.
    pub seed: [u8; 32],
}

/// The name of box `number`.
pub fn name(number: usize) -> String {
    format!("box{number}")
}

/// The number in a box's name.
pub fn number(name: &str) -> Option<usize> {
    let number = name.strip_prefix("box")?.parse().ok()?;
    (self::name(number) == name && (1..=BOXES_MAX).contains(&number)).then_some(number)
}

/// The address of box `number`, without the prefix length.
pub fn address(number: usize) -> String {
    format!("10.77.0.{number}")
}

/// The network card of box `number`.
pub fn mac(number: usize) -> [u8; 6] {
    [0x52, 0x54, 0, 0x4d, 0, u8::try_from(number).unwrap_or(u8::MAX)]
}

/// As text.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The machine id of box `number`. Boxes of two labs may share it; they never meet.
pub fn machine_id(number: usize) -> String {
    format!("6c616200{:024x}", number)
}

/// /etc/hosts of every box.
pub fn hosts(boxes: usize) -> String {
    let mut text = String::from("127.0.0.1 localhost\n");
    for number in 1..=boxes {
        text.push_str(&format!("{} {}\n", address(number), name(number)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for box_number in 1..=BOXES_MAX {
            assert_eq!(number(&name(box_number)), Some(box_number));
        }
        for nonsense in ["box0", "box10", "box01", "box+1", "box", "bix1", "1", ""] {
            assert_eq!(number(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_mac_is_local_and_not_a_group() {
        assert_eq!(mac_text(mac(3)), "52:54:00:4d:00:03");
        assert_eq!(mac(3)[0] & 3, 2);
    }

    #[test]
    fn machine_ids_are_well_formed_and_differ() {
        assert_eq!(machine_id(1).len(), 32);
        assert_ne!(machine_id(1), machine_id(2));
    }
}
