//! LVM's report: read whole or not at all. What is missing from it is an error, never a group or a volume that is not
//! there: whoever believed that would make one.

use std::collections::{BTreeMap, BTreeSet};

use holdfast::edge::lvm_report::{Lv, Pv, Vg, VgReport};
use serde_json::{Map, Value, json};

use crate::{
    make,
    random::Random,
    runs::{all_fixtures, is_sentence, runs},
};

fn tags(random: &mut Random) -> BTreeSet<String> {
    let words = ["holdfast", "holdfast.id=0000000000000001", "holdfast.fresh", "x"];
    (0..random.below(4)).map(|_| (*random.pick(&words)).to_owned()).collect()
}

fn lv(random: &mut Random) -> Lv {
    let active = random.one_in(2);
    Lv {
        name: make::text(random),
        size_bytes: random.number(),
        tags: tags(random),
        active,
        open: active && random.one_in(2),
    }
}

fn pv(random: &mut Random) -> Pv {
    Pv {
        device: format!("/dev/{}", make::text(random)),
        free_bytes: random.number(),
        missing: random.one_in(3),
    }
}

fn vg(random: &mut Random) -> Vg {
    Vg {
        name: format!("holdfast-{}", make::name(random)),
        tags: tags(random),
        size_bytes: random.number(),
        free_bytes: random.number(),
        extent_bytes: 4 << 20,
        missing_pvs: random.below(3) as u32,
        pvs: (0..=random.below(3)).map(|_| pv(random)).collect(),
        lvs: (0..random.below(4)).map(|_| lv(random)).collect(),
    }
}

/// A section as LVM 2.03 prints it.
fn section(vg: &Vg) -> Value {
    let tags = |tags: &BTreeSet<String>| tags.iter().cloned().collect::<Vec<_>>().join(",");
    let pv = |pv: &Pv| {
        let missing = if pv.missing { "missing" } else { "" };
        json!({"pv_name": pv.device, "pv_free": pv.free_bytes.to_string(), "pv_missing": missing})
    };
    let lv = |lv: &Lv| {
        let active = if lv.active { "active" } else { "" };
        let open = match (lv.active, lv.open) {
            (false, _) => "unknown",
            (true, true) => "open",
            (true, false) => "",
        };
        json!({"lv_name": lv.name, "lv_size": lv.size_bytes.to_string(), "lv_tags": tags(&lv.tags), "lv_active": active,
               "lv_device_open": open})
    };
    json!({
        "vg": [{
            "vg_name": vg.name, "vg_tags": tags(&vg.tags), "vg_size": vg.size_bytes.to_string(),
            "vg_free": vg.free_bytes.to_string(), "vg_extent_size": vg.extent_bytes.to_string(),
            "vg_missing_pv_count": vg.missing_pvs.to_string(), "vg_colour": "7",
        }],
        "pv": vg.pvs.iter().map(pv).collect::<Vec<_>>(),
        "lv": vg.lvs.iter().map(lv).collect::<Vec<_>>(),
        "pvseg": [{"pvseg_start": "0"}],
    })
}

fn report(random: &mut Random) -> (Vec<Vg>, Value) {
    let vgs: Vec<Vg> = (0..=random.below(3)).map(|_| vg(random)).collect();
    let mut sections: Vec<Value> = vgs.iter().map(section).collect();
    if random.one_in(2) {
        sections
            .push(json!({"pv": [{"pv_name": "/dev/vde", "pv_free": "1", "pv_missing": ""}], "pvseg": []}));
    }
    (vgs, json!({"report": sections}))
}

fn expected(vgs: &[Vg]) -> VgReport {
    let mut report = VgReport::default();
    for vg in vgs {
        if vgs.iter().filter(|other| other.name == vg.name).count() > 1 {
            report.ambiguous.insert(vg.name.clone());
        } else {
            report.vgs.insert(vg.name.clone(), vg.clone());
        }
    }
    report
}

fn error(text: &str) -> String {
    let why = VgReport::parse(text).expect_err(text);
    assert!(why.starts_with("LVM's report cannot be read: ") && is_sentence(&why), "{why}");
    why
}

/// What every group's section has to have, by table.
const NEEDED: [(&str, &[&str]); 3] = [
    ("vg", &["vg_name", "vg_tags", "vg_size", "vg_free", "vg_extent_size", "vg_missing_pv_count"]),
    ("pv", &["pv_name", "pv_free", "pv_missing"]),
    ("lv", &["lv_name", "lv_size", "lv_tags", "lv_active", "lv_device_open"]),
];

fn lose(random: &mut Random, map: &mut Map<String, Value>, key: &str) {
    let value = map.remove(key).unwrap();
    match random.below(4) {
        0 => {}
        1 => drop(map.insert(format!("{key}x"), value)),
        2 => drop(map.insert(key.to_owned(), Value::Null)),
        _ => drop(map.insert(key.to_owned(), json!({ "is": value }))),
    }
}

/// Takes away something without which the report cannot be whole.
fn lose_something(random: &mut Random, report: &mut Value, groups: usize) {
    let sections = report["report"].as_array_mut().unwrap();
    let section = sections[random.below(groups)].as_object_mut().unwrap();
    let (table, fields) = *random.pick(&NEEDED);
    let rows = section[table].as_array_mut().unwrap();
    if rows.is_empty() || random.one_in(4) {
        return lose(random, section, table);
    }
    let at = random.below(rows.len());
    if random.one_in(5) {
        rows[at] = json!("row");
    } else {
        let field = *random.pick(fields);
        lose(random, rows[at].as_object_mut().unwrap(), field);
    }
}

#[test]
fn a_report_reads_as_it_was_and_one_that_lacks_anything_is_an_error() {
    runs(4_000, |run| {
        let (vgs, mut report) = report(&mut run.random);
        let text = serde_json::to_string_pretty(&report).unwrap();
        run.note(&text);
        assert_eq!(VgReport::parse(&text), Ok(expected(&vgs)));
        error(
            &text[..(0..=run.random.below(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap()],
        );
        lose_something(&mut run.random, &mut report, vgs.len());
        let text = report.to_string();
        run.note(&text);
        error(&text);
    });
}

/// How often a field is named in the tables of that name. There are no escapes in the text.
fn count(text: &str, table: &str, field: &str) -> usize {
    let (mut within, mut count) = (false, 0);
    for (at, part) in text.split('"').enumerate() {
        let is_quoted = at % 2 == 1;
        within = (within && (is_quoted || !part.contains(']'))) || (is_quoted && part == table);
        count += usize::from(within && is_quoted && part == field);
    }
    count
}

#[test]
fn a_damaged_report_is_an_error_or_has_every_group_disk_and_volume_that_is_named_in_it() {
    let texts = all_fixtures("lvm", ".json");
    let others: Vec<Vec<u8>> = texts.iter().map(|text| text.clone().into_bytes()).collect();
    runs(12_000, |run| {
        let text = run.random.pick(&texts).clone();
        let damaged = run.random.damage(text.as_bytes(), &others);
        let damaged = String::from_utf8_lossy(&damaged).into_owned();
        run.note(&damaged);
        let Ok(report) = VgReport::parse(&damaged) else {
            error(&damaged);
            return;
        };
        let lvs: usize = report.vgs.values().map(|vg| vg.lvs.len()).sum();
        // Tables that were put elsewhere are none of the report's: only where little came in, all that is named counts.
        let is_lessened = damaged.len() <= text.len() + 8 && !damaged.contains('\\');
        if report.ambiguous.is_empty() && is_lessened {
            assert_eq!(report.vgs.len(), count(&damaged, "vg", "vg_name"));
            assert_eq!(lvs, count(&damaged, "lv", "lv_name"));
        }
        let names: BTreeMap<_, _> = report.vgs.iter().map(|(name, vg)| (name, &vg.name)).collect();
        assert!(names.iter().all(|(key, name)| key == name));
    });
}
