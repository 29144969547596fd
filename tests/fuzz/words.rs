//! Names, sizes, ids and tokens: what is taken is what the rule says, and prints as it was read.

use holdfast::core::{
    hex,
    names::{BoxName, ClusterName, DiskIdent, DiskName, GroupName, PoolName, VolumeId, VolumeName},
    refusal::Refusal,
    size::Size,
    token::Token,
};

use crate::{
    make,
    random::Random,
    runs::{Run, is_sentence, runs},
};

const WORDS: [&str; 16] = [
    "db",
    "box1",
    "Web-1.old",
    "0",
    "all",
    "snapshot1",
    "pvmove0",
    "a_rimage_0",
    "holdfast-meta",
    "20G",
    "512M",
    "1E",
    "18446744073709551615",
    "17179869183G",
    "16777216T",
    "-",
];

fn word(run: &mut Run) -> String {
    let word = match run.random.below(4) {
        0 => make::name(&mut run.random),
        1 => make::text(&mut run.random),
        _ => (*run.random.pick(&WORDS)).to_owned(),
    };
    let damaged = run.random.damage(word.as_bytes(), &[]);
    let word = if run.random.one_in(4) { word } else { String::from_utf8_lossy(&damaged).into_owned() };
    run.note(&word);
    word
}

fn is_name(text: &str) -> bool {
    let begins = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    begins
        && text.chars().count() <= 48
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// lvm(8), "Valid names", and what holdfast keeps.
fn is_lvm_name(text: &str) -> bool {
    let parts = "_cdata _cmeta _corig _cvol _wcorig _iorig _mimage _mlog _pmspare _rimage _rmeta _tdata _tmeta _vdata";
    is_name(text)
        && !["snapshot", "pvmove", "holdfast-"].iter().any(|start| text.starts_with(start))
        && !parts.split(' ').any(|part| text.contains(part))
        && text != "all"
}

fn check<T: ToString>(text: &str, wanted: bool, taken: Result<T, Refusal>) {
    match taken {
        Ok(name) => assert!(wanted && name.to_string() == text, "{text:?} is no such name"),
        Err(refusal) => {
            assert!(!wanted, "{text:?}: {refusal}");
            assert!(is_sentence(&refusal.text), "{}", refusal.text);
        }
    }
}

#[test]
fn names_are_taken_by_the_rule_and_refused_in_a_sentence() {
    runs(40_000, |run| {
        let text = word(run);
        check(&text, is_name(&text), BoxName::new(&*text));
        check(&text, is_name(&text), GroupName::new(&*text));
        check(&text, is_name(&text), ClusterName::new(&*text));
        check(&text, is_name(&text), DiskName::new(&*text));
        check(&text, is_lvm_name(&text), VolumeName::new(&*text));
        check(&text, is_lvm_name(&text), PoolName::new(&*text));
        let json = serde_json::to_string(&text).unwrap();
        let taken = serde_json::from_str::<VolumeName>(&json);
        assert_eq!(taken.is_ok(), is_lvm_name(&text));
    });
}

#[test]
fn idents_are_bounded_words_and_stay_as_they_are() {
    runs(10_000, |run| {
        let text = word(run);
        let ident = DiskIdent::new(&text).to_string();
        assert!(ident.len() <= 96 && ident.bytes().all(|b| b.is_ascii_graphic() && b != b'/'), "{ident}");
        assert_eq!(DiskIdent::new(&ident).to_string(), ident);
        let is_id = text.len() == 16 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        assert_eq!(VolumeId::parse(&text).is_some(), is_id);
        let key: [u8; 32] = run.random.bytes(32).try_into().unwrap();
        let digits = hex::text(&key);
        assert_eq!(hex::key(&digits), Some(key));
        let damaged = String::from_utf8_lossy(&run.random.damage(digits.as_bytes(), &[])).into_owned();
        if let Some(key) = hex::key(&damaged) {
            assert_eq!(hex::text(&key), damaged.to_lowercase());
        }
    });
}

/// By longer arithmetic than the parser's.
fn size(text: &str) -> Option<u64> {
    let unit = text.chars().last().filter(|c| !c.is_ascii_digit());
    let digits = &text[..text.len() - unit.map_or(0, char::len_utf8)];
    let factor = match unit {
        None => 1_u128,
        Some(unit) => 1 << (10 * (1 + "KMGTPE".find(unit.to_ascii_uppercase())?)),
    };
    if digits.is_empty() || digits.chars().any(|c| !c.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    let number = if digits.is_empty() { 0 } else { digits.parse::<u64>().ok()? };
    u64::try_from(u128::from(number).checked_mul(factor)?).ok()
}

#[test]
fn sizes_print_as_they_read_and_never_overflow() {
    runs(40_000, |run| {
        let random = &mut run.random;
        let exact = Size(random.number());
        assert_eq!(Size::parse(&exact.to_string()).ok(), Some(exact));
        assert!(exact.about().len() <= 6, "{}", exact.about());
        let text = if random.one_in(2) {
            format!(
                "{}{}",
                random.number() >> random.below(64),
                random.pick(&["", "k", "M", "G", "T", "P", "E"])
            )
        } else {
            word(run)
        };
        run.note(&text);
        match Size::parse(&text) {
            Ok(taken) => assert_eq!(Some(taken.bytes()), size(&text)),
            Err(refusal) => {
                assert_eq!(size(&text), None, "{refusal}");
                assert!(is_sentence(&refusal.text), "{}", refusal.text);
            }
        }
    });
}

fn token(random: &mut Random) -> Token {
    let address =
        |random: &mut Random| std::net::SocketAddr::new(make::address(random), random.next() as u16);
    Token {
        cluster: make::text(random).chars().take(60).collect(),
        server: make::name(random),
        addresses: (0..random.below(5)).map(|_| address(random)).collect(),
        server_key: random.bytes(32).try_into().unwrap(),
        secret: random.bytes(32).try_into().unwrap(),
    }
}

#[test]
fn a_token_reads_back_and_a_damaged_one_is_no_other() {
    runs(6_000, |run| {
        let token = token(&mut run.random);
        let text = token.to_text().unwrap();
        assert!(text.bytes().all(|b| b.is_ascii_graphic()));
        assert_eq!(Token::parse(&text).as_ref(), Ok(&token));
        let damaged = run.random.damage(text.as_bytes(), &[]);
        let damaged = String::from_utf8_lossy(&damaged).into_owned();
        run.note(&damaged);
        match Token::parse(&damaged) {
            Ok(other) => assert!(other == token && damaged.trim().eq_ignore_ascii_case(&text)),
            Err(error) => assert!(is_sentence(&error.to_string()), "{error}"),
        }
    });
}
