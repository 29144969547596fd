//! The background process of a running lab: it holds the switch and the boxes, and answers words on a socket.
//! It ends by the word `down`, or by itself when its directory under target/ is removed.

use crate::boxes::Boxes;
use crate::frame::{Frame, Kind};
use crate::identity::name;
use crate::link::ConversationSender;
use crate::paths::Paths;
use crate::request::{Config, Request};
use crate::switch::Switch;
use crate::system::{Installed, installation};
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// What a word answers when the command's own exit code is not known: the box is off, frozen, or lost power meanwhile.
const EXIT_NO_ANSWER: i32 = 255;
const INSTALL_LIMIT: Duration = Duration::from_secs(60);
const INPUT_CHUNK_BYTES: usize = 32 * 1024;

struct Server {
    paths: Paths,
    config: Config,
    switch: Switch,
    boxes: Boxes,
}

/// Runs until `down`.
pub fn serve(paths: Paths) -> Result<()> {
    let config: Config = serde_json::from_slice(&fs::read(paths.config())?)?;
    let switch = Switch::start(&config.run, config.boxes)?;
    let boxes = Boxes::new(paths.clone(), config.clone())?;
    let listener = UnixListener::bind(config.control())?;
    let server = Arc::new(Server { paths, config, switch, boxes });
    let watcher = Arc::clone(&server);
    thread::spawn(move || watcher.watch());
    for stream in listener.incoming() {
        let (stream, server) = (stream?, Arc::clone(&server));
        thread::spawn(move || server.answer(stream));
    }
    Ok(())
}

impl Server {
    /// Nobody could end a lab whose state was removed under it (`cargo clean`), so it ends itself.
    fn watch(&self) {
        while self.paths.config().exists() {
            thread::sleep(Duration::from_secs(2));
        }
        self.end();
    }

    fn end(&self) -> ! {
        self.boxes.end();
        let _ = fs::remove_dir_all(&self.config.run);
        process::exit(0)
    }

    fn answer(&self, mut stream: UnixStream) {
        let request = match Frame::read(&mut stream) {
            Ok(Some(frame)) if frame.kind == Kind::Request => serde_json::from_slice(&frame.payload),
            Ok(_) | Err(_) => return,
        };
        let is_down = matches!(request, Ok(Request::Down));
        let done =
            request.context("a request that makes no sense").and_then(|request| self.act(request, &stream));
        // Whoever asked may be gone; then there is nobody to tell.
        let _ = match done {
            Ok(code) => Frame::exit(0, code).write(&mut stream),
            Err(error) => Frame::new(0, Kind::Err, format!("lab: {error:#}\n"))
                .write(&mut stream)
                .and_then(|()| Frame::exit(0, EXIT_NO_ANSWER).write(&mut stream)),
        };
        if is_down {
            self.end();
        }
    }

    fn act(&self, request: Request, stream: &UnixStream) -> Result<i32> {
        match request {
            Request::Boot => self.boot()?,
            Request::Sh { at, command } => return self.sh(at, command, stream),
            Request::AddDisk { at, bytes, serial, from } => {
                let serial = self.boxes.add_disk(at, bytes, serial, from.as_deref())?;
                say(stream, &format!("{serial}\n"))?;
            }
            Request::PullDisk { at, serial } => self.boxes.pull_disk(at, &serial)?,
            Request::PowerOff { at } => self.boxes.power_off(at)?,
            Request::PowerOn { at, cold } => self.boxes.power_on(at, cold)?,
            Request::Cut { at, other } => self.cut(at, other)?,
            Request::Mend { at, other } => self.mend(at, other)?,
            Request::Freeze { at } => self.boxes.freeze(at, true)?,
            Request::Thaw { at } => self.boxes.freeze(at, false)?,
            Request::Install => self.install()?,
            Request::Status => self.status(stream)?,
            Request::Down => self.boxes.end(),
        }
        Ok(0)
    }

    fn boot(&self) -> Result<()> {
        thread::scope(|scope| {
            let starts: Vec<_> = (1..=self.boxes.count())
                .map(|number| (number, scope.spawn(move || self.boxes.power_on(number, false))))
                .collect();
            for (number, start) in starts {
                match start.join() {
                    Ok(done) => done.with_context(|| format!("{} did not start", name(number)))?,
                    Err(_) => bail!("{} did not start", name(number)),
                }
            }
            Ok(())
        })
    }

    fn sh(&self, at: usize, command: String, stream: &UnixStream) -> Result<i32> {
        let conversation = self.boxes.link(at)?.open(Kind::Run, command)?;
        let (mut from, sender) = (stream.try_clone()?, conversation.sender());
        thread::spawn(move || relay_input(&mut from, &sender));
        let mut to = stream;
        loop {
            let Some(frame) = conversation.next(Instant::now() + Duration::from_secs(3600))? else {
                continue;
            };
            if let Some(code) = frame.exit_code() {
                return Ok(code);
            }
            if frame.kind == Kind::Pong {
                continue;
            }
            Frame { id: 0, ..frame }.write(&mut to)?;
        }
    }

    fn check(&self, at: usize) -> Result<()> {
        self.boxes.describe(at).map(drop)
    }

    fn cut(&self, at: usize, other: Option<usize>) -> Result<()> {
        self.check(at)?;
        match other {
            Some(other) if other == at => bail!("a box cannot be cut from itself"),
            Some(other) => {
                self.check(other)?;
                self.switch.change(|cuts| cuts.cut(at, other));
            }
            None => self.switch.change(|cuts| cuts.cut_all(at)),
        }
        Ok(())
    }

    fn mend(&self, at: Option<usize>, other: Option<usize>) -> Result<()> {
        at.into_iter().chain(other).try_for_each(|number| self.check(number))?;
        self.switch.change(|cuts| match (at, other) {
            (Some(at), Some(other)) => cuts.mend(at, other),
            (Some(at), None) => cuts.mend_box(at),
            (None, _) => cuts.mend_all(),
        });
        Ok(())
    }

    fn install(&self) -> Result<()> {
        let files = installation(&self.paths, self.config.daemon.as_deref())?;
        for number in 1..=self.boxes.count() {
            let link = self.boxes.link(number)?;
            for file in &files {
                put(&link, file).with_context(|| format!("{} in {}", file.to.display(), name(number)))?;
            }
            let reload = "udevadm control --reload && systemctl daemon-reload";
            link.run(reload, INSTALL_LIMIT)?.checked(reload)?;
        }
        Ok(())
    }

    fn status(&self, stream: &UnixStream) -> Result<()> {
        let accel = format!("{:?}", self.config.machine.accel).to_lowercase();
        say(stream, &format!("kernel {}, {accel}, drbd: {}\n", self.config.kernel, self.config.drbd))?;
        for number in 1..=self.boxes.count() {
            say(stream, &format!("{}\n", self.boxes.describe(number)?))?;
        }
        say(stream, &format!("{}\n", self.switch.cuts().describe(self.boxes.count())))
    }
}

fn say(mut stream: &UnixStream, text: &str) -> Result<()> {
    Ok(Frame::new(0, Kind::Out, text).write(&mut stream)?)
}

/// Hands a caller's input on; a caller that is gone does not want the command any more.
fn relay_input(from: &mut UnixStream, to: &ConversationSender) {
    loop {
        let sent = match Frame::read(from) {
            Ok(Some(frame)) if matches!(frame.kind, Kind::In | Kind::InEnd) => {
                to.send(frame.kind, frame.payload)
            }
            Ok(_) | Err(_) => {
                let _ = to.send(Kind::Kill, []);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Writes a file in a box: whole and renamed into place, since the old one may be running.
fn put(link: &Arc<crate::link::Link>, file: &Installed) -> Result<()> {
    let to = file.to.display();
    let command = format!("cat >'{to}.new' && chmod {:o} '{to}.new' && mv '{to}.new' '{to}'", file.mode);
    let conversation = link.open(Kind::Run, command)?;
    for chunk in fs::read(&file.from)?.chunks(INPUT_CHUNK_BYTES) {
        conversation.send(Kind::In, chunk)?;
    }
    conversation.send(Kind::InEnd, [])?;
    conversation.finish(INSTALL_LIMIT)?.checked("writing the file").map(drop)
}
