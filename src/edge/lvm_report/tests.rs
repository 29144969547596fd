use super::*;

fn fixture(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lvm");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn a_box_without_groups_is_an_empty_report() {
    assert_eq!(VgReport::parse(&fixture("none.json")), Ok(VgReport::default()));
}

fn tags(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| word.to_string()).collect()
}

#[test]
fn a_group_is_read_with_its_disks_and_volumes() {
    let report = VgReport::parse(&fixture("two-disks.json")).unwrap();
    let vg = &report.vgs["main"];
    assert_eq!(vg.name, "main");
    assert_eq!((vg.size_bytes, vg.free_bytes, vg.extent_bytes), (2_139_095_040, 864_026_624, 4 << 20));
    assert_eq!((&vg.tags, vg.missing_pvs), (&tags(&["holdfast"]), 0));
    let second = Pv { device: "/dev/vdd".to_string(), free_bytes: 0, missing: false };
    assert_eq!((vg.pvs.len(), &vg.pvs[1]), (2, &second));
    let db = Lv {
        name: "db".to_string(),
        size_bytes: 64 << 20,
        tags: tags(&["hf.minor=1000", "hf.volume=db"]),
        active: true,
        open: true,
    };
    assert_eq!((vg.lvs.len(), &vg.lvs[1]), (3, &db));
    let off = &vg.lvs[2];
    assert_eq!((off.name.as_str(), off.active, off.open), ("off", false, false));
    assert!(report.ambiguous.is_empty());
}

#[test]
fn a_missing_disk_stays_in_its_group() {
    let report = VgReport::parse(&fixture("missing-disk.json")).unwrap();
    let vg = &report.vgs["main"];
    assert_eq!(vg.missing_pvs, 1);
    assert_eq!((vg.pvs[1].device.as_str(), vg.pvs[1].missing), ("[unknown]", true));
    assert!(vg.lvs.iter().all(|lv| !lv.open));
}

#[test]
fn a_disk_in_no_group_adds_no_group() {
    assert_eq!(VgReport::parse(&fixture("orphan.json")), VgReport::parse(&fixture("missing-disk.json")));
}

#[test]
fn what_is_no_report_is_an_error_and_never_an_empty_report() {
    let whole = fixture("missing-disk.json");
    let without = |what: &str| whole.replace(what, "\"other\"");
    for broken in [
        "",
        "{}",
        "[]",
        "{\"report\":",
        &whole[..whole.len() / 2],
        &without("\"vg_size\""),
        &without("\"pv_missing\""),
        &without("\"lv_tags\""),
        &whole.replace("\"vg_extent_size\":\"4194304\"", "\"vg_extent_size\":\"4.00m\""),
    ] {
        let why = VgReport::parse(broken).unwrap_err();
        assert!(why.starts_with("LVM's report cannot be read: "), "{why}");
    }
}

/// Found by tests/fuzz: each of these read as a report in which a group or a volume was not there.
#[test]
fn a_report_that_lacks_a_table_or_has_two_rows_in_one_is_an_error() {
    let whole = fixture("two-disks.json");
    let first = whole.find("\"lv_name\":\"big\", ").unwrap();
    let second = whole.find("\"lv_name\":\"db\", ").unwrap();
    let merged = format!("{}{}", &whole[..first + "\"lv_name\":\"big\", ".len()], &whole[second..]);
    for broken in [
        merged,
        whole.replace("\"vg\":", "\"vgx\":"),
        whole.replace("\"lv\":", "\"lvx\":"),
        whole.replace("\"pv\":", "\"pvx\":"),
        whole.replace("\"lv\":", "\"lv\": null, \"lvx\":"),
        "{\"report\":[{}]}".to_owned(),
        "{\"report\":[{\"vg\":[], \"pv\":[], \"lv\":[]}]}".to_owned(),
    ] {
        let why = VgReport::parse(&broken).expect_err(&broken);
        assert!(why.starts_with("LVM's report cannot be read: "), "{why}");
    }
}

/// Found by tests/fuzz: what stood in place of a number was quoted in full.
#[test]
fn a_long_wrong_value_is_quoted_in_part() {
    let long = "x".repeat(5_000);
    for broken in [
        fixture("two-disks.json").replace("\"4194304\"", &format!("\"{long}\"")),
        fixture("two-disks.json").replace("\"vg\": [", &format!("\"vg\": \"{long}\", \"x\": [")),
    ] {
        assert!(VgReport::parse(&broken).unwrap_err().len() < 400);
    }
}

#[test]
fn fields_of_a_newer_lvm_are_passed_over() {
    let whole = fixture("missing-disk.json");
    let newer = whole
        .replace("\"vg_size\"", "\"vg_colour\":7, \"vg_size\"")
        .replace("\"report\"", "\"log\": [], \"report\"");
    assert_eq!(VgReport::parse(&newer), VgReport::parse(&whole));
}

#[test]
fn a_name_borne_twice_is_ambiguous_and_in_no_list() {
    let whole = fixture("missing-disk.json");
    let section = &whole[whole.find('[').unwrap() + 1..whole.rfind(']').unwrap()];
    for times in [2, 3] {
        let twice = format!("{{\"report\": [{}]}}", vec![section; times].join(","));
        let report = VgReport::parse(&twice).unwrap();
        assert!(report.vgs.is_empty());
        assert_eq!(report.ambiguous.len(), 1);
    }
}
