//! The only place that starts programs.
//!
//! Why: lvm, drbdadm and their like may hang (a DRBD command even unkillably), write more than anyone wants to keep, or leave
//! a child behind that holds a pipe open. Here each of these is bounded once: argv without a shell, an environment of three
//! variables, output with a limit, a deadline after which the whole process group is killed, and an answer within two more
//! seconds even if the kernel does not let go of the process.
//! How: the calling thread serves all pipes itself with poll(2); no helper threads, so nothing can be left behind by them.
//! What must not go in: what a program's output or exit code means. That is the business of the edge that calls.

mod held;
mod pipes;
mod programs;
mod record;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pipes::{End, Pipes, STDOUT_LIMIT_BYTES, wait_until};
use std::fmt;
use std::fs::File;
use std::io::PipeReader;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use held::wait_for_commands;
pub use programs::{MissingProgram, Programs, Tool};
pub use record::{Call, EVENTS_FILE, LIMIT_BYTES, RecordError, Recorder, Recording};

/// How long a killed process may take to be gone before it counts as wedged.
const REAP_LIMIT: Duration = Duration::from_secs(2);

/// One call of a program.
#[derive(Clone, Debug)]
pub struct Cmd {
    program: PathBuf,
    args: Vec<String>,
    deadline: Duration,
    recorder: Option<Arc<Recorder>>,
    held: Option<Arc<File>>,
}

impl Cmd {
    /// `program` is a full path. At `deadline` it is killed.
    pub fn new(program: impl Into<PathBuf>, deadline: Duration) -> Cmd {
        Cmd { program: program.into(), args: Vec::new(), deadline, recorder: None, held: None }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Cmd {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Cmd {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// What it says is also recorded, where there is a recording.
    pub fn recorded_by(mut self, recorder: Option<Arc<Recorder>>) -> Cmd {
        self.recorder = recorder;
        self
    }

    /// Holds this file open as long as it runs; it is to be empty.
    pub fn holding(mut self, held: Option<Arc<File>>) -> Cmd {
        self.held = held;
        self
    }

    /// The call as a person would type it, for messages.
    pub fn text(&self) -> String {
        let mut text = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for arg in &self.args {
            let plain =
                !arg.is_empty() && !arg.contains(|c: char| c.is_whitespace() || "'\"\\$|;&".contains(c));
            text += &if plain { format!(" {arg}") } else { format!(" '{arg}'") };
        }
        text
    }

    fn command(&self) -> Command {
        let mut command = bare_command(&self.program);
        command.args(&self.args).process_group(0);
        // Standard input is empty: whoever asks a question gets no answer.
        let held = self.held.as_ref().and_then(|held| held.try_clone().ok());
        command
            .stdin(held.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// What a program that succeeded said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// The beginning of standard error.
    pub stderr: String,
}

/// Why there is no `Output`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// It could not be started, or its pipes not be served.
    #[error("{argv}: cannot run it: {cause}")]
    Start {
        /// The call.
        argv: String,
        /// The system's words.
        cause: String,
    },
    /// It ended, but not with exit code 0.
    #[error("{argv}: {}: {stderr}", ending(*code))]
    Failed {
        /// The call.
        argv: String,
        /// The exit code; None if a signal ended it.
        code: Option<i32>,
        /// The first lines of standard error, or of standard output if that is empty.
        stderr: String,
    },
    /// It did not end in time and was killed. What it did meanwhile is not known.
    #[error("{argv}: not done after {seconds} s, killed")]
    Deadline {
        /// The call.
        argv: String,
        /// The deadline.
        seconds: u64,
    },
    /// It did not end in time, and the kernel does not let it be killed.
    #[error("{argv}: not done after {seconds} s and cannot be killed: the kernel holds it")]
    Wedged {
        /// The call.
        argv: String,
        /// The deadline.
        seconds: u64,
    },
    /// It wrote more than anyone can have asked for, and was killed.
    #[error("{argv}: more than {limit_bytes} bytes of output, killed")]
    TooMuchOutput {
        /// The call.
        argv: String,
        /// The limit it passed.
        limit_bytes: usize,
    },
}

fn ending(code: Option<i32>) -> String {
    code.map_or("ended by a signal".to_string(), |code| format!("exit code {code}"))
}

/// How a call came to its end.
enum Ended {
    NotRun(String),
    Exited(ExitStatus),
    Deadline(u64),
    Wedged(u64),
    TooMuch,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::NotRun(cause) => write!(f, "not run: {cause}"),
            Ended::Exited(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "exit code {code}"),
                (None, Some(signal)) => write!(f, "signal {signal}"),
                (None, None) => f.write_str("neither by itself nor by a signal"),
            },
            Ended::Deadline(seconds) => write!(f, "killed: not done within {seconds} s"),
            Ended::Wedged(seconds) => write!(f, "never: not done within {seconds} s and cannot be killed"),
            Ended::TooMuch => write!(f, "killed: more than {STDOUT_LIMIT_BYTES} bytes of output"),
        }
    }
}

/// Runs `cmd` to its end, its deadline, or the limit of its output. Blocks the calling thread that long, plus two seconds at most.
pub fn run(cmd: &Cmd) -> Result<Output, RunError> {
    let started = Instant::now();
    let (ended, stdout, stderr) = serve(cmd, started + cmd.deadline);
    let took = started.elapsed();
    if let Some(recorder) = &cmd.recorder {
        let program = cmd.program.to_string_lossy().into_owned();
        let argv = std::iter::once(program).chain(cmd.args.iter().cloned()).collect();
        recorder.call(Call::new(argv, took, &ended, &stdout, &stderr));
    }
    let argv = cmd.text();
    let result = match ended {
        Ended::NotRun(cause) => Err(RunError::Start { argv: argv.clone(), cause }),
        Ended::Exited(status) => finished(&argv, status, &stdout, &stderr),
        Ended::Deadline(seconds) => Err(RunError::Deadline { argv: argv.clone(), seconds }),
        Ended::Wedged(seconds) => Err(RunError::Wedged { argv: argv.clone(), seconds }),
        Ended::TooMuch => {
            Err(RunError::TooMuchOutput { argv: argv.clone(), limit_bytes: STDOUT_LIMIT_BYTES })
        }
    };
    let seconds = took.as_secs_f32();
    match &result {
        Ok(_) => log::debug!("{argv}: exit code 0 after {seconds:.3} s"),
        Err(error) => log::debug!("after {seconds:.3} s: {error}"),
    }
    result
}

/// How it ended, and what came through its standard output and error until then.
fn serve(cmd: &Cmd, deadline: Instant) -> (Ended, Vec<u8>, Vec<u8>) {
    let not_run = |error: std::io::Error| (Ended::NotRun(error.to_string()), Vec::new(), Vec::new());
    let mut child = match cmd.command().spawn() {
        Ok(child) => child,
        Err(error) => return not_run(error),
    };
    let outcome =
        Pipes::of(&mut child).and_then(|mut pipes| pipes.serve(&mut child, deadline).map(|end| (pipes, end)));
    let (pipes, end) = match outcome {
        Ok(served) => served,
        Err(error) => {
            kill(child);
            return not_run(error);
        }
    };
    let seconds = cmd.deadline.as_secs();
    let ended = match end {
        End::Exited(status) => Ended::Exited(status),
        End::TooMuch => {
            kill(child);
            Ended::TooMuch
        }
        End::Deadline if kill(child) => Ended::Deadline(seconds),
        End::Deadline => Ended::Wedged(seconds),
    };
    (ended, pipes.stdout, pipes.stderr)
}

fn finished(argv: &str, status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> Result<Output, RunError> {
    let stdout = String::from_utf8_lossy(stdout).into_owned();
    let stderr = String::from_utf8_lossy(stderr).into_owned();
    if status.success() {
        return Ok(Output { stdout, stderr });
    }
    let said = if stderr.trim().is_empty() { &stdout } else { &stderr };
    let stderr = first_lines(said);
    Err(RunError::Failed { argv: argv.to_string(), code: status.code(), stderr })
}

/// The first ten lines that say something, each bounded: DRBD's additional information from the kernel comes late.
fn first_lines(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(10);
    lines
        .map(|line| without_secrets(line).chars().take(300).collect::<String>())
        .collect::<Vec<_>>()
        .join("\n")
}

/// drbdadm prints the drbdsetup call that failed with all its options; what is said here ends up in logs and in the tree.
fn without_secrets(line: &str) -> String {
    const SECRET: &str = "shared-secret";
    let Some((before, after)) = line.split_once(SECRET) else { return line.to_owned() };
    let rest = after.trim_start_matches(['=', ' ', '"', '\'']);
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    format!("{before}{SECRET}=...{}", without_secrets(&rest[end..]))
}

/// Kills the process group of a child. False: it did not go.
fn kill(mut child: Child) -> bool {
    if matches!(child.try_wait(), Ok(Some(_))) {
        // Its id may by now be someone else's.
        return true;
    }
    let group = Pid::from_raw(child.id() as i32);
    if let Err(error) = killpg(group, Signal::SIGKILL) {
        log::debug!("cannot kill process group {group}: {error}");
    }
    if wait_until(&mut child, Instant::now() + REAP_LIMIT).is_some() {
        return true;
    }
    // Someone has to collect it when the kernel lets go, or it stays a zombie as long as the daemon lives.
    let collect = move || child.wait();
    if let Err(error) = std::thread::Builder::new().name("reap".to_string()).spawn(collect) {
        log::warn!("process {group} is wedged and stays unreaped: {error}");
    }
    false
}

fn bare_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", programs::FOLDERS.join(":")).env("LC_ALL", "C");
    // LVM complains of every descriptor it inherits; ours are close-on-exec, but a service manager may pass some.
    command.env("LVM_SUPPRESS_FD_WARNINGS", "1").current_dir("/");
    command
}

/// Starts a program that talks for as long as it lives, both its outputs in one pipe. It is killed by the kernel when the
/// **calling thread** ends, so call this from a thread that lives as long as the child is wanted.
pub fn start_talker(program: &Path, args: &[String]) -> std::io::Result<(Child, PipeReader)> {
    let (reader, writer) = std::io::pipe()?;
    let mut command = bare_command(program);
    command.args(args).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    die_with_parent(&mut command);
    let child = command.spawn()?;
    Ok((child, reader))
}

/// A child that only writes when something happens would outlive a killed daemon until then: one more for each crash.
#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    let ask_kernel = || Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?);
    // Sound: between fork and exec only async-signal-safe calls are allowed, and this is the one system call prctl(2).
    unsafe { command.pre_exec(ask_kernel) };
}
