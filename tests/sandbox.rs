//! `holdfast sandbox`, as a person uses it: the built program, real mounts. Where nothing can be mounted it prints SKIPPED.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

/// Everything that is waited for comes so soon, also on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);
/// Who is nobody in Debian.
const NOBODY: &str = "65534";

/// Said past the capture of the test runner.
fn skip(test: &str, why: &str) {
    drop(writeln!(std::io::stderr(), "SKIPPED sandbox {test}: {why}"));
}

/// Whether nothing can be mounted here, and says so.
fn skipped(test: &str) -> bool {
    let opened = File::options().read(true).write(true).open("/dev/fuse");
    if let Err(error) = &opened {
        skip(test, &format!("/dev/fuse cannot be opened: {error}"));
    }
    opened.is_err()
}

fn place() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("holdfast-sandbox-{}-{number}", std::process::id()))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < WITHIN, "not within {WITHIN:?}: {what}");
        sleep(Duration::from_millis(20));
    }
}

fn mounts_below(dir: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().filter(|line| line.contains(dir.to_str().unwrap())).map(str::to_owned).collect()
}

struct Sandbox {
    dir: PathBuf,
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Sandbox {
    fn start(options: &[&str], stdin: Stdio) -> Self {
        let dir = place();
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command.arg("sandbox").arg(&dir).args(options);
        Self::spawn(dir, command, stdin)
    }

    fn spawn(dir: PathBuf, mut command: Command, stdin: Stdio) -> Self {
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut sandbox = Self { dir, child, out };
        sandbox.read_to("commands  ");
        sandbox
    }

    /// What it prints up to and with the next line that begins so.
    fn read_to(&mut self, begins: &str) -> String {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "it ended before {begins:?}: {text}");
            text.push_str(&line);
            if line.starts_with(begins) {
                return text;
            }
        }
    }

    fn control(&self, command: &str) {
        let mut control = File::options().write(true).open(self.dir.join("control")).unwrap();
        control.write_all(format!("{command}\n").as_bytes()).unwrap();
    }

    /// A shell in the directory: exit code, output and errors.
    fn shell(&self, script: &str) -> (i32, String, String) {
        let shell = Command::new("bash").args(["-c", script]).current_dir(&self.dir).output();
        let Output { status, stdout, stderr } = shell.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    fn good(&self, script: &str) -> String {
        let (code, out, err) = self.shell(script);
        assert_eq!((code, err.as_str()), (0, ""), "{script}: {out}");
        out
    }

    fn bad(&self, script: &str) -> String {
        let (code, out, err) = self.shell(script);
        assert_ne!(code, 0, "{script}: {out}");
        err
    }

    fn reads(&self, file: &str) -> String {
        fs::read_to_string(self.dir.join(file)).unwrap_or_default()
    }

    fn holdfast(&self, args: &str) -> String {
        self.good(&format!("{} {args}", env!("CARGO_BIN_EXE_holdfast")))
    }

    /// Until it has ended; nothing of it is left.
    fn ends(mut self) {
        let mut status: Option<ExitStatus> = None;
        until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{status:?}");
        assert_eq!(mounts_below(&self.dir), Vec::<String>::new());
        assert!(!self.dir.exists());
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Only where a test failed; SIGTERM, so that it unmounts.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let id = self.child.id().to_string();
            drop(Command::new("kill").arg(id).status());
            drop(self.child.wait());
        }
    }
}

#[test]
fn a_volume_is_made_waited_for_and_seen_on_every_box() {
    if skipped("a_volume_is_made") {
        return;
    }
    let sandbox = Sandbox::start(&[], Stdio::null());
    sandbox.good("mkdir box2/volumes/db && echo 256M > box2/volumes/db/size");
    sandbox.holdfast("wait --synced --timeout 60 --mount box1 db");
    assert_eq!(sandbox.good("cat box1/volumes/db/state box1/volumes/db/size"), "ready\n256M\n");
    assert!(sandbox.holdfast("status --mount box2").starts_with("cluster sandbox "));
    let tree =
        |on: u8| sandbox.good(&format!("cd box{on} && find . && grep -r '' volumes nodes pools status"));
    until("all boxes show the same", || tree(1) == tree(2) && tree(2) == tree(3));

    let err = sandbox.bad("echo 900T > box3/volumes/db/size");
    assert!(err.contains("No space left on device"), "{err}");
    assert!(sandbox.reads("box3/volumes/db/error").starts_with("db cannot grow to \"900T\""));
    assert!(sandbox.bad("echo 1X > box1/volumes/db/size").contains("Invalid argument"));

    for on in ["box1", "box2", "box3"] {
        assert!(sandbox.reads(&format!("{on}/README")).starts_with("sandbox: "));
        let health = || sandbox.reads(&format!("{on}/health"));
        until("all is well", || health().starts_with("ok\nsandbox: "));
        assert!(health().contains("nothing here is real"), "{}", health());
    }
    assert_eq!(sandbox.good("readlink box1/volumes/db/device"), "/nonexistent/drbd1000\n");
    sandbox.good("rmdir box1/volumes/db");
    sandbox.control("quit");
    sandbox.ends();
}

#[test]
fn what_happens_to_boxes_is_said_in_the_control_file() {
    if skipped("what_happens_to_boxes") {
        return;
    }
    let mut sandbox = Sandbox::start(&["--boxes", "4"], Stdio::null());
    sandbox.good(
        "mkdir box1/volumes/db && echo box2 box3 > box1/volumes/db/place && echo 64M > box1/volumes/db/size",
    );
    sandbox.holdfast("wait --synced --timeout 60 --mount box1 db");

    sandbox.control("plug box4 sdc 4G");
    until("the disk is seen", || sandbox.reads("box1/nodes/box4/disks/sdc/state") == "blank\n");
    sandbox.good("echo main > box1/nodes/box4/disks/sdc/pool");
    until("it is taken", || sandbox.reads("box1/nodes/box4/disks/sdc/state") == "claimed\n");

    sandbox.control("power-off box3");
    until("the volume is degraded", || sandbox.reads("box1/volumes/db/state").starts_with("degraded"));
    until("a box without a daemon has no tree", || !sandbox.dir.join("box3/README").exists());
    sandbox.control("power-on box3");
    until("the volume is whole again", || sandbox.reads("box1/volumes/db/state") == "ready\n");
    until("the tree is there again", || sandbox.reads("box3/volumes/db/state") == "ready\n");

    sandbox.control("crash box1");
    until("the leader is missed", || sandbox.reads("box2/leader") == "-\n");
    assert!(sandbox.bad("mkdir box2/volumes/web").contains("Read-only file system"));
    sandbox.control("start box1");
    until("it leads again", || sandbox.reads("box2/leader") == "box1\n");
    sandbox.good("mkdir box2/volumes/web");

    sandbox.control("show boxes");
    sandbox.read_to("> show boxes");
    assert_eq!(sandbox.read_to("box4: on, follows box1").lines().count(), 4);
    sandbox.control("dance");
    sandbox.read_to("\"dance\" is no command here");

    // Who sits in a tree does not hold it up.
    let mut sitter =
        Command::new("sleep").arg("60").current_dir(sandbox.dir.join("box2/volumes")).spawn().unwrap();
    assert!(Command::new("kill").arg(sandbox.child.id().to_string()).status().unwrap().success());
    sandbox.ends();
    sitter.kill().unwrap();
    sitter.wait().unwrap();
}

#[test]
fn a_script_on_standard_input_is_carried_out() {
    if skipped("a_script") {
        return;
    }
    let mut sandbox = Sandbox::start(&["--drbd", "8", "--boxes", "2"], Stdio::piped());
    let mut stdin = sandbox.child.stdin.take().unwrap();
    stdin.write_all(b"mkdir volumes/db\nwrite volumes/db/size 64M\nquiet\ncat volumes/db/state\n").unwrap();
    sandbox.read_to("> cat volumes/db/state");
    assert_eq!(sandbox.read_to(""), "ready\n");
    assert_eq!(sandbox.good("cat box2/nodes/box2/drbd"), "8.4.11\n");
    // Its end is not the end of the sandbox.
    drop(stdin);
    sandbox.control("show volumes");
    sandbox.read_to("cluster sandbox");
    sandbox.control("quit");
    sandbox.ends();
}

#[test]
fn no_root_is_needed() {
    if skipped("no_root") {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return skip("no_root", "the other tests show it: this is not root");
    }
    let everybody = fs::metadata("/dev/fuse").unwrap().permissions().mode() & 0o6 == 0o6;
    let helper = Path::new("/usr/bin/fusermount3").exists() && Path::new("/usr/bin/setpriv").exists();
    if !everybody || !helper {
        return skip("no_root", "needs /dev/fuse with mode 0666, fusermount3 and setpriv");
    }
    // Nobody may not look into the build directory.
    let home = place();
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).unwrap();
    let program = home.join("holdfast");
    fs::copy(env!("CARGO_BIN_EXE_holdfast"), &program).unwrap();
    let dir = home.join("sandbox");
    let nobody = |what: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(what).current_dir("/");
        command
    };
    let mut command = nobody(&program);
    command.arg("sandbox").arg(&dir);
    let sandbox = Sandbox::spawn(dir.clone(), command, Stdio::null());
    assert_eq!(mounts_below(&dir).len(), 3);
    assert!(mounts_below(&dir).iter().all(|line| !line.contains("allow_other")));
    let shell = |script: &str| {
        let output =
            nobody(Path::new("bash")).arg("-c").arg(format!("cd {} && {script}", dir.display())).output();
        let Output { status, stdout, stderr } = output.unwrap();
        (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
    };
    let made = "mkdir box1/volumes/db && echo 64M > box1/volumes/db/size && ../holdfast wait --synced --timeout 60 --mount box1 db && cat box1/volumes/db/state";
    assert_eq!(shell(made), (Some(0), "ready\n".to_owned()));
    assert!(shell("echo x > box1/leader").1.contains("Operation not permitted"));
    assert_eq!(shell("echo quit > control").0, Some(0));
    sandbox.ends();
    fs::remove_dir_all(home).unwrap();
}
