//! The tree over a real mount, used as an operator's shell uses it. Needs root and /dev/fuse, else prints SKIPPED.
#![allow(clippy::unwrap_used)]

mod tree_site;
mod tree_world;

use std::{
    fs::{self, File},
    io::{Read, Seek},
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use holdfast::core::{names::VolumeName, size::Size, view::View, wish::Wish};
use nix::poll::{PollFd, PollFlags, poll};
use tree_site::{Site, place, skipped};
use tree_world as world;

fn site(test: &str) -> Option<Site> {
    (!skipped(test)).then(|| Site::new(world::world()))
}

fn name(name: &str) -> VolumeName {
    VolumeName::new(name).unwrap()
}

fn is_size(wish: &Wish, volume: &str, size: u64) -> bool {
    matches!(wish, Wish::ChangeVolume(n, c) if *n == name(volume) && c.size == Some(Size(size)))
}

#[test]
fn a_volume_is_made_sized_read_and_removed_from_either_shell() {
    let Some(site) = site("a_volume_is_made") else { return };
    for shell in ["bash", "dash"] {
        let (code, out, err) = site.run(
            shell,
            "mkdir volumes/new && echo 20G > volumes/new/size && cat volumes/new/size && ls volumes && rmdir volumes/new && ls volumes",
        );
        assert_eq!((code, err.as_str()), (0, ""), "{shell}");
        assert_eq!(out, "20G\ndb\nfresh\nnew\nplaced\nweb\ndb\nfresh\nplaced\nweb\n", "{shell}");
        let wishes = site.wishes();
        assert_eq!(wishes.len(), 3, "{wishes:?}");
        assert_eq!(wishes[0], Wish::MakeVolume(name("new")));
        assert!(is_size(&wishes[1], "new", 20 << 30), "{wishes:?}");
        assert_eq!(wishes[2], Wish::RemoveVolume(name("new")));
        site.asked.lock().unwrap().clear();
    }
}

#[test]
fn modes_owners_and_links_are_the_tables() {
    let Some(site) = site("modes") else { return };
    let out = site
        .good("stat -c '%A %u %g %h %s %n' . volumes/db volumes/db/size volumes/db/state volumes/db/device");
    assert_eq!(
        out,
        "dr-xr-xr-x 0 0 1 0 .\ndr-xr-xr-x 0 0 1 0 volumes/db\n-rw-r--r-- 0 0 1 4 volumes/db/size\n\
         -r--r--r-- 0 0 1 6 volumes/db/state\nlrwxrwxrwx 0 0 1 13 volumes/db/device\n"
    );
    assert_eq!(
        site.good("readlink volumes/db/device nodes/box1/volumes/db"),
        "/dev/drbd1000\n../../../volumes/db\n"
    );
    assert_eq!(site.good("cat nodes/box1/volumes/db/size"), "20G\n");
    assert!(site.bad("readlink -e volumes/fresh/device; cat volumes/fresh/device").contains("No such file"));
    assert_eq!(
        site.good("stat -c %i volumes/db/size; stat -c %i volumes/db/size; ls -i volumes/db | grep size")
            .lines()
            .count(),
        3
    );
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.contains(site.at.to_str().unwrap())).unwrap();
    assert!(line.contains("fuse.holdfast") && line.contains("allow_other"), "{line}");
    let (code, out, _) = site.run("bash", "setpriv --reuid 65534 --clear-groups cat volumes/db/size; setpriv --reuid 65534 --clear-groups bash -c 'echo 1G > volumes/db/size'");
    assert_eq!((code, out.as_str()), (1, "20G\n"));
    assert_eq!(site.wishes(), []);
}

#[test]
fn what_is_read_is_written_back_by_a_shell() {
    let Some(site) = site("what_is_read") else { return };
    let before = site.good("grep -r . volumes/*/spec volumes/*/size volumes/*/place");
    site.good("for f in volumes/*/{spec,size,place,replicas,pool,group} name; do v=$(cat $f); echo \"$v\" > $f || exit 1; done");
    assert_eq!(site.good("grep -r . volumes/*/spec volumes/*/size volumes/*/place"), before);
    assert_eq!(site.wishes().len(), 25);
    site.good("cp volumes/db/spec /tmp/holdfast-spec.$$ && cp /tmp/holdfast-spec.$$ volumes/db/spec && rm /tmp/holdfast-spec.$$");
    site.good("echo 40G | tee volumes/db/size > /dev/null");
    assert!(is_size(site.wishes().last().unwrap(), "db", 40 << 30));
}

#[test]
fn refusals_reach_the_shell_and_their_sentence_is_there_at_once() {
    let Some(site) = site("refusals") else { return };
    let cases = [
        ("echo 1X > volumes/db/size", "Invalid argument", "\"1X\" is not a size"),
        ("printf '1G\\n2G\\n' > volumes/db/size", "", "offset 3"),
        ("echo 1G >> volumes/db/size", "Invalid argument", "use > and not >>"),
        (
            "printf '' | dd of=volumes/db/size bs=1 status=none; head -c 5000 /dev/zero | dd of=volumes/db/size bs=8192 iflag=fullblock status=none",
            "Invalid argument",
            "5000 bytes",
        ),
        ("echo x > volumes/db/state", "Operation not permitted", "is a fact"),
        ("echo primary > volumes/db/on/box1/role", "Operation not supported", "promotes by opening"),
        ("mv volumes/db volumes/main", "Operation not permitted", "renaming volumes is not built yet"),
        ("mv volumes/db/on/box1 volumes/db/on/box9", "Operation not permitted", "into place"),
        ("mkdir volumes/db/on/box9", "Operation not supported", "clients"),
        ("touch volumes/db/new", "Operation not permitted", "cannot be made"),
        ("ln volumes/db/size volumes/db/new", "Operation not permitted", "cannot be made"),
        ("ln -s size volumes/db/new", "Operation not permitted", "cannot be made"),
        ("mkfifo volumes/db/new", "Operation not permitted", "cannot be made"),
        ("sed -i s/20G/30G/ volumes/db/size", "Operation not permitted", "cannot be made"),
    ];
    for (script, message, sentence) in cases {
        let err = site.bad(script);
        assert!(err.contains(message), "{script}: {err}");
        let error = site.good("cat volumes/db/error");
        assert!(error.contains(sentence), "{script}: {error}");
        assert!(site.good("tail -1 errors").contains(sentence), "{script}");
    }
    assert!(site.bad("mkdir 'volumes/a b'").contains("Invalid argument"));
    assert!(
        site.good("tail -1 errors").contains(" volumes: \"a b\" is not a volume name"),
        "{}",
        site.good("tail -1 errors")
    );
    // bash sends two lines as two writes: the first is a value of its own.
    let sizes: Vec<_> = site.wishes();
    assert!(sizes.len() == 1 && is_size(&sizes[0], "db", 1 << 30), "{sizes:?}");
}

#[test]
fn mv_never_begins_to_copy_and_rm_removes_nothing() {
    let Some(site) = site("mv_never") else { return };
    let all = site.good("find . | sort");
    for script in [
        "mv volumes/db volumes/web",
        "mv volumes/db groups/",
        "mv volumes/db/size volumes/web/size",
        "mv /etc/hostname volumes/",
        "mv pools/main pools/x",
        "rm -rf volumes/fresh",
        "rm -rf volumes",
        "rm -rf pools groups nodes",
        "rm volumes/db/device",
        "rmdir volumes/db/on",
        "rmdir nodes/box1",
        "chmod 777 volumes/db",
        "chown 1 volumes/db/size",
    ] {
        site.bad(script);
    }
    // To another file system mv copies by itself; what it then removes here stays.
    site.bad("d=$(mktemp -d); mv volumes/db $d/; code=$?; rm -r $d; exit $code");
    assert!(site.good("find . | sort") == all, "something came or went");
    assert_eq!(site.wishes(), []);
}

#[test]
fn find_tar_grep_and_cp_read_the_whole_tree() {
    let Some(site) = site("find_tar") else { return };
    assert!(site.good("find . -type f | wc -l").trim().parse::<u32>().unwrap() > 120);
    assert_eq!(site.good("grep -rl 20G volumes/*/size"), "volumes/db/size\n");
    assert!(site.good("grep -r ready .").contains("volumes/db/state:ready"));
    let out = site.good(
        "d=$(mktemp -d); tar cf $d/all.tar . && mkdir $d/tar $d/cp && tar xf $d/all.tar -C $d/tar && cp -r . $d/cp && \
         diff -r --no-dereference $d/tar . && diff -r --no-dereference $d/cp . && cat $d/tar/volumes/db/state; rm -r $d",
    );
    assert_eq!(out, "ready\n");
    site.good("ls -laR . > /dev/null; du -s . > /dev/null; df . > /dev/null; stat -f . > /dev/null; wc -c README > /dev/null");
    site.good("test $(stat -c %s README) = $(cat README | wc -c)");
    assert_eq!(site.good("dd if=volumes/db/state bs=1 status=none; head -c 2 volumes/db/state"), "ready\nre");
    site.good("touch volumes/db/size; truncate -s 0 volumes/db/size; sync volumes/db/size");
    assert_eq!(site.good("cat volumes/db/size"), "20G\n");
    assert_eq!(site.wishes(), []);
}

/// What poll(2) says within that many milliseconds; no bits if nothing.
fn polled(file: &File, timeout_ms: u16) -> PollFlags {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN | PollFlags::POLLPRI)];
    poll(&mut fds, timeout_ms).unwrap();
    fds[0].revents().unwrap()
}

fn text(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn poll_on_state_wakes_when_its_text_changes_and_only_then() {
    let Some(site) = site("poll") else { return };
    let mut file = File::open(site.at.join("volumes/placed/state")).unwrap();
    assert!(polled(&file, 10_000).contains(PollFlags::POLLIN), "nothing was read yet");
    assert_eq!(text(&mut file), "syncing 43%\n");
    assert!(polled(&file, 100).is_empty());
    // Something else changes.
    site.change(|view| view.notes.push("a note".to_owned()));
    assert!(polled(&file, 200).is_empty());
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sleep(Duration::from_millis(200));
            site.change(|view| world::syncing(view, "placed", "box2", "box3", Some(5000)));
        });
        let events = polled(&file, 20_000);
        assert!(events.contains(PollFlags::POLLIN | PollFlags::POLLPRI), "{events:?}");
    });
    assert!(begin.elapsed() >= Duration::from_millis(150));
    assert_eq!(text(&mut file), "syncing 50%\n");
    assert!(polled(&file, 100).is_empty());
    // The volume goes.
    site.change(|view| world::change_intent(view, |intent| drop(intent.volumes.remove("placed"))));
    let events = polled(&file, 20_000);
    assert!(events.contains(PollFlags::POLLHUP), "{events:?}");
}

#[test]
fn an_open_file_is_one_snapshot_until_it_is_read_from_the_beginning_again() {
    let Some(site) = site("snapshot") else { return };
    let mut file = File::open(site.at.join("volumes/placed/state")).unwrap();
    let mut begin = [0; 8];
    file.read_exact(&mut begin).unwrap();
    site.change(|view| world::syncing(view, "placed", "box2", "box3", Some(5000)));
    while fs::read_to_string(site.at.join("volumes/placed/state")).unwrap() != "syncing 50%\n" {
        sleep(Duration::from_millis(5));
    }
    let mut rest = String::new();
    file.read_to_string(&mut rest).unwrap();
    assert_eq!((&begin, rest.as_str()), (b"syncing ", "43%\n"));
    assert_eq!(text(&mut file), "syncing 50%\n");
}

#[test]
fn a_write_that_is_never_answered_holds_nobody_else_up() {
    let Some(site) = site("never_answered") else { return };
    site.change(|view| world::add(view, world::volume("stuck", 55, None)));
    while !site.at.join("volumes/stuck").exists() {
        sleep(Duration::from_millis(5));
    }
    let mut child = Command::new("bash")
        .args(["-c", "echo 1G > volumes/stuck/size"])
        .current_dir(&site.at)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while site.wishes().is_empty() {
        sleep(Duration::from_millis(5));
    }
    assert_eq!(
        site.good(
            "cat volumes/stuck/size volumes/db/size; ls volumes | wc -l; mkdir volumes/n; rmdir volumes/n"
        ),
        "none\n20G\n5\n"
    );
    site.good("echo 2 > volumes/db/replicas; find . > /dev/null");
    assert!(child.try_wait().unwrap().is_none());
    // The daemon goes: who waits is told, and does not hang.
    drop(site);
    assert!(!child.wait().unwrap().success());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(err.contains("Input/output error"), "{err}");
}

#[test]
fn a_busy_tree_is_taken_away_and_a_new_one_mounted_at_the_same_place() {
    let Some(site) = site("busy") else { return };
    let at = site.at.clone();
    let mut child = Command::new("sleep").arg("60").current_dir(at.join("volumes")).spawn().unwrap();
    drop(site);
    assert_eq!(mounts(&at), 0);
    let site = Site::at(&at, world::world_84());
    assert_eq!(site.good("cat volumes/db/on/box2/role"), "primary\n");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn mounts(at: &Path) -> usize {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().filter(|line| line.split(' ').nth(1) == at.to_str()).count()
}

const PLACE: &str = "HOLDFAST_TEST_MOUNT_AT";

/// Not a test: the process that the next one kills.
#[test]
fn child_that_mounts_and_waits() {
    let Ok(at) = std::env::var(PLACE) else { return };
    let _site = Site::at(Path::new(&at), View::default());
    sleep(Duration::from_secs(60));
}

#[test]
fn after_a_killed_daemon_the_tree_is_mounted_again() {
    if skipped("after_a_killed_daemon") {
        return;
    }
    let at = place().join("cluster");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_mounts_and_waits"])
        .env(PLACE, &at)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while fs::read_to_string(at.join("name")).ok().as_deref() != Some("-\n") {
        assert!(begin.elapsed() < Duration::from_secs(30), "the child did not mount");
        sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let error = fs::read_to_string(at.join("name")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::ENOTCONN as i32));
    let site = Site::at(&at, world::world());
    assert_eq!(mounts(&at), 1);
    assert_eq!(site.good("cat name"), "lab\n");
}
