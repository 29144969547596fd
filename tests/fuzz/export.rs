//! The store's export: it reads back as written, and any damage to it is found.

use std::{fs, path::PathBuf};

use holdfast::{
    core::{intent::Intent, view::View},
    edge::store::{Records, export_paths, read_export, write_export},
    local,
};

use crate::{
    make,
    random::Random,
    runs::{is_sentence, runs},
    tree_world as world,
};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("holdfast-fuzz-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn newest(&self) -> PathBuf {
        export_paths(&self.0).remove(0)
    }

    fn written(&self, records: &Records) -> Vec<u8> {
        write_export(&self.0, records).unwrap();
        fs::read(self.newest()).unwrap()
    }

    /// What is read from a file with these bytes.
    fn read(&self, bytes: &[u8]) -> Result<Records, String> {
        let path = self.0.join("damaged");
        fs::write(&path, bytes).unwrap();
        read_export(&path).map_err(|error| error.to_string())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A real store's records, or any keys and bytes.
fn records(random: &mut Random) -> Records {
    match random.below(4) {
        0 => local::as_records(&real().intent),
        1 => local::as_records(&Intent::from_records((0..8).map(|_| make::record(random)))),
        _ => {
            let record = |random: &mut Random| {
                let key: String = make::text(random).chars().filter(char::is_ascii_graphic).collect();
                let length = random.below(40);
                let payload =
                    if random.one_in(2) { make::text(random).into_bytes() } else { random.bytes(length) };
                (format!("k/{key}"), payload)
            };
            (0..random.below(5)).map(|_| record(random)).collect()
        }
    }
}

fn real() -> View {
    world::world()
}

/// The same text with a checksum that fits it.
fn summed(text: &[u8]) -> Vec<u8> {
    let end = text.windows(6).rposition(|part| part == b"crc32 ").unwrap_or(text.len());
    let mut text = text[..end].to_vec();
    let sum = crc32fast::hash(&text);
    text.extend(format!("crc32 {sum:08x}\n").bytes());
    text
}

#[test]
fn an_export_reads_back_as_written_and_any_damage_is_found() {
    let place = Place::new("export");
    runs(60, |run| {
        let records = records(&mut run.random);
        let text = place.written(&records);
        run.note(&text);
        assert_eq!(place.read(&text), Ok(records));
        for _ in 0..40 {
            let damaged = run.random.damage(&text, std::slice::from_ref(&text));
            if damaged == text {
                continue;
            }
            run.note(&damaged);
            let why = place.read(&damaged).expect_err("damage is found");
            assert!(is_sentence(&why), "{why}");
        }
    });
}

#[test]
fn what_reads_as_an_export_is_what_would_be_written() {
    let place = Place::new("summed");
    let mut read = 0;
    let mut all = 0;
    runs(60, |run| {
        let text = place.written(&records(&mut run.random));
        for _ in 0..20 {
            let damaged = summed(&run.random.damage(&text, std::slice::from_ref(&text)));
            run.note(&damaged);
            all += 1;
            if let Ok(records) = place.read(&damaged) {
                assert_eq!(
                    place.written(&records).escape_ascii().to_string(),
                    damaged.escape_ascii().to_string()
                );
                read += 1;
            }
        }
    });
    assert!(all < 1_000 || read > all / 20, "{read} of {all}");
}
