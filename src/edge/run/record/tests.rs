use super::*;
use crate::edge::run::{Cmd, run};
use std::sync::Arc;

fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("holdfast-record-{name}-{}", std::process::id()));
    drop(fs::remove_dir_all(&dir));
    dir
}

fn record(dir: &Path) -> Recorder {
    Recording::open(dir).unwrap().start().unwrap()
}

/// Records what is done with a shell, and returns name and text of each file then.
fn recorded(dir: &Path, scripts: &[&str]) -> Vec<(String, String)> {
    let recorder = Arc::new(record(dir));
    for script in scripts {
        let cmd = Cmd::new("/bin/sh", Duration::from_secs(1)).args(["-c", script]);
        drop(run(&cmd.recorded_by(Some(Arc::clone(&recorder)))));
    }
    drop(recorder);
    files(dir)
}

fn files(dir: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .filter(|(_, text)| !text.is_empty())
        .collect();
    files.sort();
    files
}

#[test]
fn a_call_is_a_file_that_reads_back() {
    let dir = folder("call");
    let scripts =
        ["echo one; echo two >&2", "printf 'no end'; exit 3", "kill -9 $$", "sleep 20", "printf '\\377'"];
    let files = recorded(&dir, &scripts);
    let calls: Vec<_> = files.iter().map(|(_, text)| Call::parse(text).unwrap()).collect();
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[0], "00001-sh.txt");
    assert_eq!((calls[0].program(), calls[0].exit_code()), ("sh", Some(0)));
    assert_eq!(calls[0].argv, ["/bin/sh", "-c", scripts[0]]);
    assert_eq!((calls[0].stdout.as_str(), calls[0].stderr.as_str()), ("one\n", "two\n"));
    assert_eq!((calls[1].stdout.as_str(), calls[1].exit_code()), ("no end", Some(3)));
    assert_eq!((calls[2].ended.as_str(), calls[2].exit_code()), ("signal 9", None));
    assert_eq!(calls[3].ended, "killed: not done within 1 s");
    assert!(calls[3].took_ms >= 1000, "{:?}", calls[3]);
    assert_eq!(calls[4].stdout, "\u{fffd}");
    for ((_, text), call) in files.iter().zip(&calls) {
        assert_eq!(&call.to_string(), text);
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_program_that_does_not_start_is_recorded_too() {
    let dir = folder("missing");
    let recorder = Arc::new(record(&dir));
    let cmd = Cmd::new("/no/such/lvm", Duration::from_secs(1)).arg("vgs");
    assert!(run(&cmd.recorded_by(Some(Arc::clone(&recorder)))).is_err());
    drop(recorder);
    let (name, text) = files(&dir).remove(0);
    assert_eq!(name, "00001-lvm-vgs.txt");
    assert!(Call::parse(&text).unwrap().ended.starts_with("not run: No such file"), "{text}");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn files_are_called_after_what_was_done() {
    let title = |argv: &[&str]| {
        let argv = argv.iter().map(|arg| (*arg).to_owned()).collect();
        Call::new(argv, Duration::ZERO, &Ended::Deadline(1), b"", b"").title()
    };
    assert_eq!(title(&["/sbin/lvm", "fullreport", "--config"]), "lvm-fullreport");
    assert_eq!(title(&["/sbin/drbdadm", "-c", "/etc/drbd.d/db.res", "adjust", "db"]), "drbdadm-adjust");
    let meta = ["/sbin/drbdmeta", "--force", "1000", "v08", "/dev/x", "internal", "create-md"];
    assert_eq!(title(&meta), "drbdmeta-create-md");
    assert_eq!(title(&["/sbin/blkid", "-p", "/dev/vdb"]), "blkid");
    assert_eq!(title(&["../../x y"]), "xy");
}

#[test]
fn no_secret_is_recorded() {
    let dir = folder("secret");
    let files = recorded(
        &dir,
        &["echo 'a'; echo 'net --shared-secret=0123abcd --x' >&2; exit 10 # shared-secret \"77ff\""],
    );
    let text = &files[0].1;
    assert!(text.contains("shared-secret=... --x") && text.contains("exit code 10"), "{text}");
    assert!(!text.contains("0123abcd") && !text.contains("77ff"), "{text}");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn events_are_one_file_and_proc_drbd_is_written_when_it_changes() {
    let dir = folder("events");
    for _ in 0..2 {
        let recorder = record(&dir);
        recorder.event("exists -");
        ["one", "one", "two"].into_iter().for_each(|text| recorder.proc_drbd(text));
    }
    let found = files(&dir);
    let wanted = [
        ("00001-proc-drbd.txt", "one"),
        ("00002-proc-drbd.txt", "two"),
        ("00003-proc-drbd.txt", "one"),
        ("00004-proc-drbd.txt", "two"),
        (EVENTS_FILE, "exists -\nexists -\n"),
    ];
    assert_eq!(found, wanted.map(|(name, text)| (name.to_owned(), text.to_owned())));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_recording_has_a_limit_which_counts_what_is_there() {
    let dir = folder("limit");
    for _ in 0..3 {
        let recorder = Recording::with_limit(&dir, 2_500).unwrap().start().unwrap();
        (0..40).for_each(|n| recorder.proc_drbd(&format!("{n}").repeat(100)));
    }
    let bytes: usize = files(&dir).iter().map(|(_, text)| text.len()).sum();
    assert!((2_200..=2_500).contains(&bytes), "{bytes}");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_full_disk_ends_the_recording_and_nothing_else() {
    let dir = folder("full");
    fs::create_dir_all(&dir).unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.join(EVENTS_FILE)).unwrap();
    let recorder = Arc::new(record(&dir));
    for _ in 0..3 {
        recorder.event("exists -");
        let cmd = Cmd::new("/bin/sh", Duration::from_secs(5)).args(["-c", "echo goes on"]);
        let output = run(&cmd.recorded_by(Some(Arc::clone(&recorder)))).unwrap();
        assert_eq!(output.stdout, "goes on\n");
    }
    drop(recorder);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_folder_that_hangs_does_not_hold_the_caller() {
    let (queue, items) = sync_channel(1);
    let recorder = Recorder { queue: Some(queue), written: Mutex::default(), dropped: AtomicBool::default() };
    (0..3).for_each(|_| recorder.event("exists -"));
    assert!(recorder.dropped.load(Ordering::Relaxed));
    drop(items);
    recorder.event("exists -");
}

#[test]
fn a_folder_that_cannot_be_made_is_one_sentence() {
    let error = Recording::open(Path::new("/dev/null/x")).unwrap_err();
    assert!(error.to_string().starts_with("nothing can be recorded in /dev/null/x: "), "{error}");
}

#[test]
fn what_is_no_call_is_an_error() {
    let good = Call::new(vec!["/bin/lvm".into()], Duration::ZERO, &Ended::Deadline(1), b"out", b"");
    let good = good.to_string();
    assert!(Call::parse(&good).is_ok());
    for bad in [
        "",
        "argv: []\n",
        &good.replace("3 bytes", "4000 bytes"),
        &good.replace("3 bytes", "2 bytes"),
        &good.replace("argv", "arg"),
        &(good.clone() + "more\n"),
    ] {
        assert!(Call::parse(bad).is_err(), "{bad}");
    }
}
