//! The store's plain-text copy: for an administrator's eyes, and to rebuild a store that no longer opens.
//!
//! ```text
//! holdfast export 1 records 2
//! node/box1<TAB>{"address":"10.0.0.1"}
//! volume/db<TAB>{"size":21474836480}
//! crc32 5f3a0c11
//! ```
//!
//! Bytes of a payload that are not printable ASCII, and the backslash, are written as `\xNN`. The sum is over
//! all lines before it. Written beside, synced, renamed into place; the ones before are kept as `export.1`
//! and `export.2`. When to write one is the caller's decision.

use super::{Records, StoreError, io_error, record, sync_dir};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Newest first.
const NAMES: [&str; 3] = ["export.txt", "export.1", "export.2"];
const TEMPORARY: &str = "export.tmp";
/// Of the format; another one is refused.
const VERSION: u32 = 1;
/// Longest file that is read, in bytes: hundreds of times a large cluster's.
const MAX_BYTES: u64 = 256 << 20;

/// Where exports of the store in `dir` lie, newest first, whether or not they exist.
pub fn export_paths(dir: &Path) -> Vec<PathBuf> {
    NAMES.iter().map(|name| dir.join(name)).collect()
}

/// Writes all of `records` as the newest export in `dir`; on disk when it returns. The older ones move down
/// by one.
///
/// # Errors
/// `Io`; the newest of the older exports is then still readable under one of its names.
pub fn write_export(dir: &Path, records: &Records) -> Result<(), StoreError> {
    let temporary = dir.join(TEMPORARY);
    let written = write_synced(&temporary, render(records).as_bytes());
    if written.is_err() {
        // On a full disk its bytes are better free; that it could not be written is what is reported.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    let paths = export_paths(dir);
    for pair in paths.windows(2).rev() {
        if pair[0].exists() {
            fs::rename(&pair[0], &pair[1]).map_err(io_error("rename", &pair[0]))?;
        }
    }
    fs::rename(&temporary, &paths[0]).map_err(io_error("rename", &temporary))?;
    sync_dir(dir)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = File::create(path).map_err(io_error("create", path))?;
    file.write_all(bytes).map_err(io_error("write", path))?;
    file.sync_all().map_err(io_error("sync", path))
}

/// Reads one export back.
///
/// # Errors
/// `Io` when it cannot be read, `BadExport` when version, checksum, count or a line is not as written.
pub fn read_export(path: &Path) -> Result<Records, StoreError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    let bad = |what: String| StoreError::BadExport { path: path.to_owned(), what };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(bad("it is too long".into()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| bad("it is not text".into()))?;
    parse(text).map_err(bad)
}

fn render(records: &Records) -> String {
    let mut text = format!("holdfast export {VERSION} records {}\n", records.len());
    for (key, payload) in records {
        text.push_str(key);
        text.push('\t');
        for &byte in payload {
            match byte {
                b' '..=b'~' if byte != b'\\' => text.push(char::from(byte)),
                _ => push_hex(&mut text, byte),
            }
        }
        text.push('\n');
    }
    let sum = crc32fast::hash(text.as_bytes());
    text.push_str(&format!("crc32 {sum:08x}\n"));
    text
}

fn push_hex(text: &mut String, byte: u8) {
    write!(text, "\\x{byte:02x}").expect("a String takes all that is written");
}

fn parse(text: &str) -> Result<Records, String> {
    let cut_off = || "it is cut off".to_owned();
    let body = text.strip_suffix('\n').ok_or_else(cut_off)?;
    let (_, last) = body.rsplit_once('\n').ok_or_else(cut_off)?;
    let sum = last.strip_prefix("crc32 ").ok_or_else(cut_off)?;
    let covered = &text[..text.len() - last.len() - 1];
    if sum != format!("{:08x}", crc32fast::hash(covered.as_bytes())) {
        return Err("its checksum is wrong".into());
    }
    let mut lines = covered.lines();
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let ["holdfast", "export", version, "records", count] = words[..] else {
        return Err("its first line is not an export's".into());
    };
    if version != VERSION.to_string() {
        return Err(format!("it has version {version}, this program knows version {VERSION}"));
    }
    let mut records = Records::new();
    for line in lines {
        let (key, payload) = line.split_once('\t').ok_or_else(|| format!("line {line:?} has no key"))?;
        record::check_key(key).map_err(|e| e.to_string())?;
        let payload = unescape(payload).ok_or_else(|| format!("the payload of {key} is not as written"))?;
        record::check_payload(key, &payload).map_err(|e| e.to_string())?;
        records.insert(key.to_owned(), payload);
    }
    if count != records.len().to_string() {
        return Err(format!("it promises {count} records and has {}", records.len()));
    }
    // Lines in another order, other words for the same byte: nobody but us writes exports, and we do not write these.
    if render(&records) != text {
        return Err("it is not as it was written".into());
    }
    Ok(records)
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'\\' {
            let (escape, tail) = rest.split_at_checked(3)?;
            let hex = std::str::from_utf8(escape.strip_prefix(b"x")?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(first);
        }
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sample() -> Records {
        let all: Vec<u8> = (0..=255).collect();
        [("a/b", b"{\"x\":\"\\n\"}".to_vec()), ("empty", vec![]), ("bytes", all)]
            .into_iter()
            .map(|(key, payload)| (key.to_owned(), payload))
            .collect()
    }

    #[test]
    fn an_export_reads_back_as_written() {
        for records in [sample(), Records::new()] {
            assert_eq!(parse(&render(&records)).unwrap(), records);
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_refused() {
        let text = render(&sample());
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            assert!(parse(&String::from_utf8(changed).unwrap()).is_err(), "changed at {at}");
            assert!(parse(&text[..at]).is_err(), "cut at {at}");
        }
    }

    /// Found by tests/fuzz, which made the checksum fit: all of these were read.
    #[test]
    fn what_would_not_be_written_so_is_refused() {
        let summed = |body: &str| format!("{body}crc32 {:08x}\n", crc32fast::hash(body.as_bytes()));
        assert!(parse(&summed("holdfast export 1 records 2\na\t1\nb\t\\x0a\n")).is_ok());
        for body in [
            "holdfast export 1 records 2\nb\t\\x0a\na\t1\n",
            "holdfast export 1 records 2\na\t1\nb\t\\x+a\n",
            "holdfast export 1 records 2\na\t1\nb\t\\x41\n",
            "holdfast export 1 records 2\na\t1\r\nb\t\\x0a\n",
            "holdfast export 1 records 2\na\t1\na\t2\nb\t\\x0a\n",
        ] {
            assert!(parse(&summed(body)).is_err(), "{body:?}");
        }
    }

    #[test]
    fn another_version_or_count_is_refused_by_name() {
        for (from, to, says) in
            [("export 1", "export 9", "version 9"), ("records 3", "records 4", "promises 4 records")]
        {
            let text = render(&sample()).replacen(from, to, 1);
            let body = &text[..text.rfind("crc32").unwrap()];
            let text = format!("{body}crc32 {:08x}\n", crc32fast::hash(body.as_bytes()));
            let error = parse(&text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
