use std::os::unix::fs::PermissionsExt;

use super::*;

/// Files in a folder of their own; programs that do not matter here.
fn drbd(name: &str) -> Option<Drbd> {
    let programs = match Programs::resolve() {
        Ok(programs) => Arc::new(programs),
        Err(missing) => {
            println!("SKIPPED {name}: {missing}");
            return None;
        }
    };
    let folder = std::env::temp_dir().join(format!("holdfast-drbd-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let notes = folder.join("notes");
    Some(Drbd { programs, folder, notes, kept: Mutex::default() })
}

#[test]
fn a_file_is_replaced_whole_listed_and_removed() {
    let Some(drbd) = drbd("files") else { return };
    let one = format!("{} for volume db\n    device minor 1000;\n", conf::MARK);
    let two = format!("{one}more\n");
    for text in [&one, &two, &two] {
        drbd.write_conf("db", text).unwrap();
        assert_eq!(fs::read_to_string(drbd.path("db")).unwrap(), *text);
    }
    assert_eq!(fs::metadata(drbd.path("db")).unwrap().permissions().mode() & 0o777, 0o600);
    let Known::Known(files) = drbd.conf() else { panic!("it is known") };
    let file = ConfFile { crc: conf::crc(&two), adjusted: false };
    assert_eq!(files, BTreeMap::from([("db".to_owned(), file)]));
    for _ in 0..2 {
        drbd.remove_conf("db").unwrap();
    }
    assert_eq!(drbd.conf(), Known::Known(BTreeMap::new()));
    fs::remove_dir_all(&drbd.folder).unwrap();
}

#[test]
fn a_file_of_someone_else_is_neither_listed_nor_replaced_nor_removed_nor_adjusted_to() {
    let Some(drbd) = drbd("foreign") else { return };
    fs::write(drbd.path("web"), "resource web {}\n").unwrap();
    assert_eq!(drbd.write_conf("web", &format!("{} x\n", conf::MARK)).unwrap_err().class, StepClass::Refused);
    drbd.remove_conf("web").unwrap();
    assert_eq!(fs::read_to_string(drbd.path("web")).unwrap(), "resource web {}\n");
    assert_eq!(drbd.conf(), Known::Known(BTreeMap::new()));
    assert_eq!(drbd.adjust("web").unwrap_err().class, StepClass::Gone);
    fs::remove_dir_all(&drbd.folder).unwrap();
}

#[test]
fn a_folder_that_cannot_be_read_is_unknown_not_empty() {
    let Some(mut drbd) = drbd("unknown") else { return };
    fs::remove_dir_all(&drbd.folder).unwrap();
    drbd.folder.push("none");
    assert!(drbd.conf().known().is_none());
}

#[test]
fn the_minor_is_read_from_the_file() {
    assert_eq!(minor_of("on \"a\" {\n    volume 0 {\n        device minor 1007;\n"), Some(1007));
    assert_eq!(minor_of("device minor x;"), None);
    assert_eq!(minor_of(""), None);
}
