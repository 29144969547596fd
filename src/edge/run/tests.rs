use super::pipes::STDERR_LIMIT_BYTES;
use super::*;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;

fn shell(script: &str) -> Cmd {
    Cmd::new("/bin/sh", Duration::from_secs(20)).args(["-c", script])
}

#[test]
fn output_error_and_exit_code_come_back() {
    let output = run(&shell("echo out; echo err >&2")).unwrap();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let error = run(&shell("echo 'State change failed' >&2; echo '(-12)' >&2; exit 11")).unwrap_err();
    let RunError::Failed { code: Some(11), stderr, .. } = &error else { panic!("{error:?}") };
    assert_eq!(stderr, "State change failed\n(-12)");
    assert!(error.to_string().starts_with("sh -c 'echo "), "{error}");
    assert!(matches!(run(&shell("kill -9 $$")), Err(RunError::Failed { code: None, .. })));
}

#[test]
fn without_words_on_standard_error_those_on_standard_output_are_kept() {
    let error = run(&shell("echo 'No such resource'; exit 10")).unwrap_err();
    assert!(error.to_string().ends_with("exit code 10: No such resource"), "{error}");
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let error = run(&Cmd::new("/no/such/lvm", Duration::from_secs(1)).arg("vgs")).unwrap_err();
    assert!(matches!(error, RunError::Start { .. }));
    assert!(error.to_string().starts_with("lvm vgs: cannot run it: No such file"), "{error}");
}

#[test]
fn the_environment_holds_three_variables() {
    let output = run(&Cmd::new("/usr/bin/env", Duration::from_secs(20))).unwrap();
    let mut names: Vec<_> = output.stdout.lines().map(|line| line.split('=').next().unwrap_or("")).collect();
    names.sort();
    assert_eq!(names, ["LC_ALL", "LVM_SUPPRESS_FD_WARNINGS", "PATH"]);
}

#[test]
fn standard_input_is_empty() {
    assert_eq!(run(&Cmd::new("/bin/cat", Duration::from_secs(20))).unwrap().stdout, "");
}

#[test]
fn the_deadline_kills_the_program_and_its_children() {
    let started = Instant::now();
    let mut slow = shell("sleep 61 & echo $!; sleep 62");
    slow.deadline = Duration::from_secs(1);
    let error = run(&slow).unwrap_err();
    assert!(matches!(error, RunError::Deadline { seconds: 1, .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_program_that_closed_its_output_still_has_a_deadline() {
    let mut silent = shell("exec >&- 2>&-; sleep 61");
    silent.deadline = Duration::from_secs(1);
    assert!(matches!(run(&silent), Err(RunError::Deadline { .. })));
}

#[test]
fn large_output_within_the_limit_is_whole() {
    let output = run(&shell("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2")).unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (3_000_000, STDERR_LIMIT_BYTES));
}

#[test]
fn endless_output_is_an_error_and_not_half_a_report() {
    let error = run(&Cmd::new("/usr/bin/yes", Duration::from_secs(20))).unwrap_err();
    assert!(matches!(error, RunError::TooMuchOutput { .. }), "{error}");
}

#[test]
fn a_grandchild_that_holds_the_pipe_does_not_hold_the_caller() {
    let started = Instant::now();
    let output = run(&shell("sleep 7 & echo done")).unwrap();
    assert_eq!(output.stdout, "done\n");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn many_at_once_do_not_disturb_each_other() {
    let threads: Vec<_> = (0..16)
        .map(|number| {
            std::thread::spawn(move || run(&shell(&format!("head -c 200000 /dev/zero; exit {number}"))))
        })
        .collect();
    for (number, thread) in threads.into_iter().enumerate() {
        match thread.join().unwrap() {
            Ok(output) => assert_eq!((number, output.stdout.len()), (0, 200_000)),
            Err(RunError::Failed { code, .. }) => assert_eq!(code, Some(number as i32)),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_missing_program_is_one_sentence_with_the_package() {
    let missing = MissingProgram { file: "drbdadm", package: "drbd-utils" };
    assert_eq!(
        missing.to_string(),
        "drbdadm is not in /usr/sbin, /usr/bin, /sbin or /bin: install the package drbd-utils"
    );
    if let Ok(programs) = Programs::resolve() {
        assert!(Tool::ALL.into_iter().all(|tool| programs.path(tool).is_absolute()));
    }
}

#[test]
fn a_talker_dies_with_the_thread_that_started_it() {
    let args = ["-c", "echo $$; sleep 63"].map(String::from);
    let talk = move || start_talker(Path::new("/bin/sh"), &args);
    let (mut child, mut reader) = std::thread::spawn(talk).join().unwrap().unwrap();
    let status = wait_until(&mut child, Instant::now() + Duration::from_secs(5)).expect("still alive");
    assert_eq!(status.signal(), Some(9));
    drop(reader.read(&mut [0; 64]));
}

#[test]
fn a_failed_calls_secret_is_not_repeated() {
    let said = "Command 'drbdsetup new-peer db 1 --_name=box2 --shared-secret=0123abcd --verify-alg=crc32c' terminated \
                with exit code 10\nshared-secret \"77ff\"; shared-secret";
    let kept = first_lines(said);
    assert!(kept.contains("--shared-secret=... --verify-alg=crc32c' terminated"), "{kept}");
    assert!(!kept.contains("0123abcd") && !kept.contains("77ff"), "{kept}");
}

#[test]
fn a_command_that_outlives_its_daemon_is_waited_for_within_a_bound() {
    let folder = std::env::temp_dir().join(format!("holdfast-held-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (path, gate) = (folder.join("commands"), folder.join("gate"));
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // What it starts lives on, as a command's own children do, until somebody opens the gate.
    let script = format!("exec 3<&0; cat '{}' >/dev/null 2>&1 &", gate.display());
    let outlive = |held| {
        let cmd = Cmd::new("/bin/sh", Duration::from_secs(5)).args(["-c", script.as_str()]);
        run(&cmd.holding(Some(held))).unwrap();
    };
    let open_gate = || drop(std::fs::OpenOptions::new().write(true).open(&gate).unwrap());
    let (held, ended) = wait_for_commands(&path, Duration::from_secs(30)).unwrap();
    assert!(ended, "nobody was there");
    outlive(held);
    let (held, ended) = wait_for_commands(&path, Duration::from_millis(100)).unwrap();
    assert!(!ended, "it runs and was not waited for");
    open_gate();
    outlive(held);
    open_gate();
    assert!(wait_for_commands(&path, Duration::from_secs(30)).unwrap().1, "it ended and nobody noticed");
    std::fs::remove_dir_all(&folder).unwrap();
}
