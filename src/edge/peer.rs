//! Encrypted links between boxes.
