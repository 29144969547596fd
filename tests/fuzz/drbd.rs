//! DRBD's events and /proc/drbd: what is told is what was said. A broken line is an error, and a stream that is cut off
//! anywhere has told the beginning of what the whole one tells.

use std::{
    collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::mpsc::channel,
    time::Duration,
};

use holdfast::{
    core::drbd::{DrbdVersion, Resource, parse_out_of_sync},
    edge::drbd_events::{Event, EventStream, Model, StreamEvent, Verb, parse_line},
};

use crate::{
    make,
    runs::{all_fixtures, fixture, is_sentence, runs},
};

const NINE: DrbdVersion = DrbdVersion { major: 9, minor: 2, patch: 18 };

fn recorded() -> Vec<String> {
    [
        all_fixtures("drbd/9.2.18", ".txt"),
        all_fixtures("drbd/8.4.11", "now.txt"),
        all_fixtures("drbd/8.4.11", "n4.txt"),
    ]
    .concat()
}

/// The words of a line by key, the first of each.
fn words(line: &str) -> BTreeMap<&str, &str> {
    let mut all = BTreeMap::new();
    for (key, value) in line.split_ascii_whitespace().filter_map(|word| word.split_once(':')) {
        all.entry(key).or_insert(value);
    }
    all
}

/// Everything that the event claims stands in the line.
fn check_event(line: &str, event: &Event) {
    let says = words(line);
    let has = |key: &str, value: &dyn ToString| {
        let said = says.get(key).unwrap_or_else(|| panic!("{line:?} says no {key}: {event:?}"));
        let value = value.to_string();
        // Numbers may be written in other ways.
        let number = |text: &str| text.parse::<i128>().ok();
        let same = *said == value || number(said).is_some() && number(said) == number(&value);
        assert!(same || value == "Other", "{line:?}: {event:?}");
    };
    let yes_no =
        |key, value: Option<bool>| value.iter().for_each(|yes| has(key, if *yes { &"yes" } else { &"no" }));
    let verb = match event {
        Event::Resource(verb, name, on) => {
            has("name", name);
            on.role.iter().for_each(|role| has("role", role));
            on.suspended.iter().for_each(|why| has("suspended", why));
            yes_no("force-io-failures", on.force_io_failures);
            verb
        }
        Event::Device(verb, name, volume, on) => {
            has("name", name);
            has("volume", volume);
            on.minor.iter().for_each(|minor| has("minor", minor));
            on.disk.iter().for_each(|disk| has("disk", disk));
            on.size_kib.iter().for_each(|size| has("size", size));
            on.backing.iter().for_each(|path| has("backing_dev", path));
            yes_no("client", on.client);
            yes_no("quorum", on.quorum);
            yes_no("open", on.open);
            verb
        }
        Event::Connection(verb, name, node_id, on) => {
            has("name", name);
            has("peer-node-id", node_id);
            on.peer_name.iter().for_each(|name| has("conn-name", name));
            on.connection.iter().for_each(|state| has("connection", state));
            on.role.iter().for_each(|role| has("role", role));
            verb
        }
        Event::PeerDevice(verb, name, node_id, volume, on) => {
            has("name", name);
            has("peer-node-id", node_id);
            has("volume", volume);
            on.disk.iter().for_each(|disk| has("peer-disk", disk));
            on.replication.iter().for_each(|state| has("replication", state));
            on.resync_suspended.iter().for_each(|why| has("resync-suspended", why));
            on.out_of_sync_kib.iter().for_each(|left| has("out-of-sync", left));
            yes_no("peer-client", on.client);
            assert!(
                on.done_hundredths.is_none_or(|done| done <= 10_000 && says.contains_key("done")),
                "{line:?}"
            );
            verb
        }
        Event::Path(verb, name) => {
            has("name", name);
            verb
        }
        Event::Helper { resource, helper, node_id, status } => {
            has("name", resource);
            has("helper", helper);
            node_id.iter().for_each(|id| has("peer-node-id", id));
            return status.iter().for_each(|status| has("status", status));
        }
        Event::Rename { from, to } => {
            has("name", from);
            return has("new_name", to);
        }
        Event::DumpEnd => {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            return assert!(words.windows(2).any(|pair| pair == ["exists", "-"]), "{line:?}");
        }
    };
    let word = match verb {
        Verb::Exists => "exists",
        Verb::Create => "create",
        Verb::Change => "change",
        Verb::Destroy => "destroy",
    };
    assert!(line.split_ascii_whitespace().take(2).any(|said| said == word), "{line:?}: {event:?}");
}

#[test]
fn a_line_is_an_error_or_claims_only_what_it_says() {
    let lines: Vec<Vec<u8>> =
        recorded().iter().flat_map(|text| text.lines().map(|l| l.as_bytes().to_vec())).collect();
    let (mut read, mut all) = (0, 0);
    runs(40_000, |run| {
        let line = run.random.pick(&lines).clone();
        let damaged = run.random.damage(&line, &lines);
        let line = String::from_utf8_lossy(&damaged).into_owned();
        run.note(&line);
        all += 1;
        match parse_line(&line) {
            Ok(event) => {
                check_event(&line, &event);
                read += 1;
            }
            Err(why) => assert!(why.len() < 3_000 && is_sentence(&why), "{why}"),
        }
    });
    assert!(all < 1_000 || (read > all / 10 && read < all), "{read} of {all}");
}

/// The dump of a resource, as `drbdsetup events2 --full` prints it, and the helpers that were called since.
fn print(resource: &Resource) -> String {
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let name = &resource.name;
    let mut text = format!(
        "exists resource name:{name} role:{} suspended:{} force-io-failures:{}\n",
        resource.role,
        resource.suspended,
        yes(resource.force_io_failures)
    );
    for (volume, device) in &resource.devices {
        text += &format!(
            "exists device name:{name} volume:{volume} minor:{} backing_dev:{} disk:{} client:{} size:{}",
            device.minor,
            device.backing.as_deref().unwrap_or("none"),
            device.disk,
            yes(device.client),
            device.size_kib
        );
        text += &device.quorum.map_or(String::new(), |quorum| format!(" quorum:{}", yes(quorum)));
        text += &device.open.map_or(String::new(), |open| format!(" open:{}", yes(open)));
        text += "\n";
    }
    for (id, peer) in &resource.peers {
        let conn_name = peer.name.as_ref().map_or(String::new(), |name| format!(" conn-name:{name}"));
        let (connection, role) = (peer.connection, peer.role);
        text += &format!(
            "exists connection name:{name} peer-node-id:{id}{conn_name} connection:{connection} role:{role}\n"
        );
        for (volume, device) in &peer.devices {
            let done = device.done_hundredths;
            let done = done.map_or(String::new(), |done| format!(" done:{}.{:02}", done / 100, done % 100));
            text += &format!(
                "exists peer-device name:{name} peer-node-id:{id}{conn_name} volume:{volume} replication:{} \
                 peer-disk:{} peer-client:{} resync-suspended:{}{done} out-of-sync:{}\n",
                device.replication,
                device.disk,
                yes(device.client),
                device.resync_suspended,
                device.out_of_sync_kib
            );
        }
    }
    for id in &resource.split {
        text += &format!("call helper name:{name} peer-node-id:{id} helper:split-brain\n");
    }
    text
}

fn replay<'a>(lines: impl IntoIterator<Item = &'a str>) -> Model {
    let mut model = Model::default();
    for event in lines.into_iter().filter_map(|line| parse_line(line).ok()) {
        model.apply(&event);
    }
    model
}

#[test]
fn a_dump_reads_as_it_was_and_a_damaged_line_touches_no_other_resource() {
    runs(4_000, |run| {
        let mut resources = make::resources(&mut run.random);
        // A first look does not tell of it.
        resources.values_mut().for_each(|resource| resource.split.clear());
        let text: String = resources.values().map(print).collect::<String>() + "exists -\n";
        run.note(&text);
        let model = replay(text.lines());
        assert!(model.ready());
        assert_eq!(*model.resources(), resources);
        if let Some(gone) = resources.keys().nth(run.random.below(resources.len())) {
            let mut model = model;
            let destroyed = parse_line(&format!("destroy resource name:{gone}")).unwrap();
            assert_eq!(model.apply(&destroyed).as_ref(), Some(gone));
            let left = resources.iter().filter(|(name, _)| *name != gone);
            assert!(model.resources().iter().eq(left), "without {gone}: {:?}", model.resources().keys());
        }
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let at = run.random.below(lines.len());
        let mut bytes = lines[at].clone().into_bytes();
        let name = words(&lines[at]).get("name").map(|name| (*name).to_owned());
        let place = run.random.below(bytes.len());
        match run.random.below(3) {
            0 => bytes[place] ^= 1 << run.random.below(7),
            1 => bytes.truncate(place),
            _ => drop(bytes.drain(..place)),
        }
        lines[at] = String::from_utf8_lossy(&bytes).into_owned();
        run.note(&lines[at]);
        let model = replay(lines.iter().map(String::as_str));
        let renamed = words(&lines[at]).get("name").map(|name| (*name).to_owned());
        for (other, resource) in &resources {
            if Some(other) != name.as_ref() && Some(other) != renamed.as_ref() {
                assert_eq!(model.resources().get(other), Some(resource), "line {at}");
            }
        }
    });
}

/// A program that prints what is in a file, in place of drbdsetup.
struct Printer {
    folder: PathBuf,
}

impl Printer {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("holdfast-fuzz-drbd-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let script = folder.join("drbdsetup");
        fs::write(&script, format!("#!/bin/sh\nexec cat '{}'\n", folder.join("text").display())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    /// What is told of a stream with that text, until it ends.
    fn told(&self, text: &[u8]) -> Vec<StreamEvent> {
        fs::write(self.folder.join("text"), text).unwrap();
        let (to, from) = channel();
        let stream =
            EventStream::start(self.folder.join("drbdsetup"), NINE, move |event| drop(to.send(event)));
        let stream = stream.unwrap();
        let mut told = Vec::new();
        loop {
            match from.recv_timeout(Duration::from_secs(60)).unwrap() {
                StreamEvent::Lost(_) => break,
                event => told.push(event),
            }
        }
        drop(stream);
        told
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_stream_that_is_cut_off_anywhere_has_told_the_beginning_of_what_the_whole_one_tells() {
    let printer = Printer::new();
    let text = fixture("drbd/9.2.18/events2-full-stream.n2.txt");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let ends = [
        "destroy connection name:r0 peer-node-id:12",
        "destroy resource name:r0-old",
        "exists resource name:r0",
    ];
    runs(80, |run| {
        let random = &mut run.random;
        // The dump at the beginning, and some of the changes after it.
        let dump_end = lines.iter().position(|line| line.ends_with("exists -\n")).unwrap() + 1;
        let from = dump_end + random.below(lines.len() - dump_end);
        let changes = lines[from..].iter().take(random.below(40));
        let mut whole: String = lines[..dump_end].iter().chain(changes).copied().collect();
        if random.one_in(3) {
            whole += &format!("{}\n", random.pick(&ends));
        }
        let cut = if random.one_in(2) { random.below(whole.len()) } else { whole.len() - random.below(30) };
        run.note(&whole[..cut]);
        let (all, some) = (printer.told(whole.as_bytes()), printer.told(&whole.as_bytes()[..cut]));
        assert!(all.starts_with(&some), "cut off at {cut} of {}: {:#?}", whole.len(), some.last());
    });
}

#[test]
fn what_is_out_of_sync_stands_in_the_text_and_a_cut_claims_nothing_else() {
    let proc_84 = fixture("drbd/8.4.11/05-syncing.n4.proc.txt");
    let nine =
        "version: 9.2.18 (api:2/proto:118-124)\nGIT-hash: ab\nTransports (api:21): tcp (9.2.18)\n".to_owned();
    runs(10_000, |run| {
        let text = if run.random.one_in(4) { &nine } else { &proc_84 };
        let cut = run.random.below(text.len());
        run.note(&text[..cut]);
        let all = parse_out_of_sync(text);
        let some = parse_out_of_sync(&text[..cut]);
        assert!(some.iter().all(|(minor, left)| all.get(minor) == Some(left)), "{some:?} of {all:?}");
        let damaged = run.random.damage(text.as_bytes(), &[proc_84.as_bytes().to_vec()]);
        let damaged = String::from_utf8_lossy(&damaged).into_owned();
        run.note(&damaged);
        for (minor, left) in parse_out_of_sync(&damaged) {
            let said = |start: &str, number: u64| {
                let words = damaged.split_ascii_whitespace();
                let numbers =
                    words.filter_map(|word| word.strip_prefix(start)?.trim_end_matches(':').parse().ok());
                numbers.into_iter().any(|said: u64| said == number)
            };
            assert!(said("", minor.into()) && said("oos:", left), "{minor}: {left}");
        }
        if let Some(version) = DrbdVersion::parse_proc_drbd(&damaged) {
            assert!(damaged.contains("version:"), "{version}");
            assert!(damaged.contains(&format!("{}.", version.major)), "{version}");
        }
    });
}
