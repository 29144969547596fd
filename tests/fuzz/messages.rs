//! What boxes say to each other, as text: any text is a message or an error, and a message reads back the same.

use holdfast::core::{
    intent::Record,
    message::{JoinAnswer, JoinAsk, Message},
};

use crate::{make, runs::runs};

#[test]
fn every_message_reads_back_and_every_other_text_is_one_or_an_error() {
    runs(1_600, |run| {
        for kind in 0..make::KINDS {
            let message = make::message(&mut run.random, kind);
            let text = serde_json::to_vec(&message).unwrap();
            run.note(&text);
            assert_eq!(serde_json::from_slice::<Message>(&text).unwrap(), message);
            let other = make::any_message(&mut run.random);
            let others = [serde_json::to_vec(&other).unwrap()];
            let damaged = run.random.damage(&text, &others);
            run.note(&damaged);
            if let Ok(read) = serde_json::from_slice::<Message>(&damaged) {
                let again = serde_json::to_vec(&read).unwrap();
                assert_eq!(serde_json::from_slice::<Message>(&again).unwrap(), read);
            }
            // The door for newcomers reads the same bytes, of boxes that are not trusted at all.
            let _ = serde_json::from_slice::<JoinAsk>(&damaged);
            let _ = serde_json::from_slice::<JoinAnswer>(&damaged);
        }
    });
}

#[test]
fn no_record_brings_a_name_that_leads_elsewhere_or_text_that_ends_its_quotes() {
    runs(8_000, |run| {
        let assignment = make::assignment(&mut run.random);
        let mut json = serde_json::to_value(Record::Assignment(assignment)).unwrap();
        let field = *run.random.pick(&["resource", "secret"]);
        json["assignment"][field] = make::text(&mut run.random).into();
        run.note(json.to_string());
        if let Ok(Record::Assignment(a)) = serde_json::from_value(json) {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            assert!(a.resource.chars().all(is_plain) && !a.resource.starts_with('.'), "{:?}", a.resource);
            assert!(a.secret.chars().all(|c| c.is_ascii_hexdigit()), "{:?}", a.secret);
        }
    });
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow_of_the_stack() {
    for deep in ["[", "{\"state\":[", "{\"report\":{\"disks\":", "{\"commit\":{\"txn\":["] {
        assert!(serde_json::from_str::<Message>(&deep.repeat(100_000)).is_err());
        let inside = format!("{{\"hello\":{{\"later\":{}", "[".repeat(1 << 20));
        assert!(serde_json::from_str::<Message>(&inside).is_err());
    }
}
