//! stub
use super::{
    drbd::DrbdVersion,
    intent::{Assignment, Member},
    names::BoxName,
    size::Size,
};
use std::collections::BTreeMap;
/// x
pub fn render(_a: &Assignment, _m: &BTreeMap<BoxName, Member>, _v: DrbdVersion) -> String {
    String::new()
}
/// x
pub fn crc(t: &str) -> u32 {
    crc32fast::hash(t.as_bytes())
}
/// x
pub fn lv_name(r: &str) -> String {
    format!("{r}.0")
}
/// x
pub fn lv_size_for(s: Size, _v: DrbdVersion) -> Size {
    Size((s.0 + (1 << 20)).div_ceil(4 << 20) * (4 << 20))
}
