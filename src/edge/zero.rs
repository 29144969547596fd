//! Writing zeroes on an LV of ours: the only place that writes to a device by itself.
//!
//! Why: a replica whose fresh LV reads as zeroes need not be synced, and stale signatures on reused space mislead
//! everyone who probes. A punched hole is free on disks that discard (and in files below virtual ones); where the disk
//! cannot do it the kernel says so and nothing is written, since zeroing by writing would take as long as a sync.
//! What must not go in: deciding what may be written. Callers have checked the LV's tags right before.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FallocateFlags, OFlag, fallocate},
    sys::stat::{major, minor},
};

/// How much is wiped at each end: all signatures that blkid knows, and DRBD's superblock at the end, lie in it.
const END_BYTES: u64 = 1 << 20;
/// A hole is punched in parts of this size, so that a slow disk is noticed.
const PUNCH_BYTES: u64 = 1 << 30;
/// If it takes longer, it is not cheap: a sync behind a device that is in use costs nobody that wait.
const PUNCH_LIMIT: Duration = Duration::from_secs(10);
/// How many blocks are read back after a hole was punched.
const SAMPLES: u64 = 64;
const SAMPLE_BYTES: usize = 4096;

/// Opens a device of ours for writing; EBUSY while anything else has it.
fn open(device: &Path) -> io::Result<(File, u64)> {
    let flags = (OFlag::O_EXCL | OFlag::O_CLOEXEC).bits();
    let mut file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(device)?;
    let size_bytes = file.seek(SeekFrom::End(0))?;
    Ok((file, size_bytes))
}

/// Makes all of it read as zeroes if that costs next to nothing: true. Else (false) only both ends are wiped.
pub fn cheaply(device: &Path) -> io::Result<bool> {
    let (mut file, size_bytes) = open(device)?;
    if !discards(&file)? || !punch(&file, size_bytes) {
        wipe(&mut file, size_bytes)?;
        return Ok(false);
    }
    let zero = samples_are_zero(&mut file, size_bytes)?;
    if !zero {
        log::warn!("{}: the disk says that it zeroed this, but it does not read as zeroes", device.display());
        wipe(&mut file, size_bytes)?;
    }
    // A disk may hold a discard back like a write: what is told to read as zeroes has to do so after a power cut, too.
    file.sync_all()?;
    Ok(zero)
}

/// Whether the disk has discard. One that has not may still take the order to zero, and then writes all of it.
fn discards(file: &File) -> io::Result<bool> {
    let about = file.metadata()?;
    if !about.file_type().is_block_device() {
        return Ok(true);
    }
    let (major, minor) = (major(about.rdev()), minor(about.rdev()));
    let limit = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/queue/discard_max_bytes"))?;
    Ok(limit.trim() != "0")
}

/// False: the disk cannot, or takes longer than `PUNCH_LIMIT`.
fn punch(file: &File, size_bytes: u64) -> bool {
    // On a block device this is BLKDEV_ZERO_NOFALLBACK: the disk does it, or the kernel answers EOPNOTSUPP.
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let started = Instant::now();
    let mut start = 0;
    while start < size_bytes {
        let length = PUNCH_BYTES.min(size_bytes - start);
        // Below 2^63, since no device is larger.
        if let Err(errno) = fallocate(file, hole, start.cast_signed(), length.cast_signed()) {
            log::debug!("punching a hole of {length} bytes at {start}: {errno}");
            return false;
        }
        start += length;
        if started.elapsed() > PUNCH_LIMIT {
            log::debug!("punching holes takes too long: {start} of {size_bytes} bytes in {PUNCH_LIMIT:?}");
            return false;
        }
    }
    true
}

/// Wipes the first and the last MiB.
pub fn ends(device: &Path) -> io::Result<()> {
    let (mut file, size_bytes) = open(device)?;
    wipe(&mut file, size_bytes)
}

fn wipe(file: &mut File, size_bytes: u64) -> io::Result<()> {
    let length = END_BYTES.min(size_bytes);
    let zeroes = vec![0; usize::try_from(length).unwrap_or_default()];
    for start in [0, size_bytes - length] {
        file.seek(SeekFrom::Start(start))?;
        file.write_all(&zeroes)?;
    }
    file.sync_all()
}

/// Evenly spread, the first and the last block among them.
fn samples_are_zero(file: &mut File, size_bytes: u64) -> io::Result<bool> {
    let last = size_bytes.saturating_sub(SAMPLE_BYTES as u64) / SAMPLE_BYTES as u64;
    let mut block = [0; SAMPLE_BYTES];
    for n in 0..SAMPLES {
        file.seek(SeekFrom::Start(last * n / (SAMPLES - 1) * SAMPLE_BYTES as u64))?;
        match file.read_exact(&mut block) {
            Ok(()) if block.iter().any(|byte| *byte != 0) => return Ok(false),
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn file(name: &str, bytes: usize) -> PathBuf {
        let path = std::env::temp_dir().join(format!("holdfast-zero-{name}-{}", std::process::id()));
        fs::write(&path, vec![0x55; bytes]).unwrap();
        path
    }

    #[test]
    fn both_ends_are_wiped_and_the_rest_is_left() {
        let path = file("ends", 3 << 20);
        ends(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 3 << 20);
        assert!(bytes[..1 << 20].iter().all(|b| *b == 0) && bytes[2 << 20..].iter().all(|b| *b == 0));
        assert!(bytes[1 << 20..2 << 20].iter().all(|b| *b == 0x55));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_device_smaller_than_the_ends_is_wiped_whole() {
        let path = file("small", 5000);
        ends(&path).unwrap();
        assert!(fs::read(&path).unwrap().iter().all(|b| *b == 0));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_called_zeroed_reads_as_zeroes() {
        let path = file("cheap", 3 << 20);
        let zeroed = cheaply(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 3 << 20);
        assert!(!zeroed || bytes.iter().all(|b| *b == 0));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn one_byte_in_the_last_block_is_seen() {
        let path = file("sample", 0);
        let mut bytes = vec![0; 1 << 20];
        *bytes.last_mut().unwrap() = 1;
        fs::write(&path, &bytes).unwrap();
        let (mut opened, size) = open(&path).unwrap();
        assert!(!samples_are_zero(&mut opened, size).unwrap());
        fs::remove_file(path).unwrap();
    }
}
