//! `holdfast sandbox`: a cluster of model boxes in one process, each with a real mount of the real tree.
//!
//! One thread owns the world and moves it with the real clock: the model's time is the time since the start, plus what
//! commands jumped over (`run`, `quiet`, a wait for an answer). The mounts, the prompt, the control file and signals post
//! [`Event`]s; when nothing happens the thread sleeps until the world's next event. What must not go in: anything that
//! the world decides (sim), and what a daemon or the tree says.

mod help;
mod input;
mod place;
mod seats;

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    time::{Duration, Instant},
};

use crate::{
    core::{refusal::Refusal, size::Size, wish::Wish},
    edge::fuse::Answer,
    sim::{Command, Session, Verb, drbd::BoxId, version},
};

use super::{Args, Failure, Outcome, say};
use input::{From, Prompt};
use place::Place;
use seats::Seats;

/// Events that may wait: who posts more waits, or is refused.
const EVENTS: usize = 1_024;
/// Events that are taken in one go before the trees show what became of them.
const BATCH: usize = 64;
/// Steps of the world in one go.
const STEPS: usize = 10_000;
/// The world is looked at this often at most, and at least.
const WAIT_MS: (u64, u64) = (5, 10_000);
/// Boxes, unless told otherwise.
const BOXES: usize = 3;
/// The disk in each.
const DISK: Size = Size(4 << 30);

/// Something happened outside of the world.
enum Event {
    /// A write in the tree of a box, in this life of its daemon, became a wish.
    Wish { at: BoxId, life: u64, about: String, wish: Wish, answer: Answer },
    /// A write that the tree refused.
    Refused { at: BoxId, life: u64, about: String, refusal: Refusal, answer: Answer },
    /// A command.
    Line(From, String),
    /// SIGINT, SIGTERM or SIGHUP, or the end of a terminal's input.
    Stop,
}

/// Runs until it is told to stop.
pub(super) fn run(args: &Args) -> Outcome {
    let dir = match &args.words[..] {
        [] => None,
        [dir] => Some(dir.as_str()),
        [_, more, ..] => {
            return Err(Failure::used_wrongly(format_args!("holdfast sandbox takes no {more:?}")));
        }
    };
    let (boxes, major) = (args.boxes.unwrap_or(BOXES), args.drbd.unwrap_or(9));
    let (events, queue) = sync_channel(EVENTS);
    // First of all: from here on a signal takes away what was made.
    input::signals(events.clone())?;
    let place = Place::new(dir)?;
    let mut sandbox = Sandbox::new(place, events.clone(), boxes, major);
    sandbox.seats.follow(&mut sandbox.session.world);
    if let Some(failure) = sandbox.seats.failures.pop() {
        return Err(failure);
    }
    let prompt = input::prompt(events.clone())?;
    input::control(&sandbox.place.control(), events)?;
    sandbox.prompt = prompt;
    sandbox.greet(boxes, major);
    sandbox.run(&queue);
    Ok(())
}

struct Sandbox {
    session: Session,
    /// Before the place, so that nothing is mounted when that is removed.
    seats: Seats,
    place: Place,
    prompt: Prompt,
    /// The world's time at a moment of the real clock.
    clock: (Instant, u64),
}

impl Sandbox {
    /// The cluster is built at once, in no time.
    fn new(place: Place, events: SyncSender<Event>, boxes: usize, major: u8) -> Self {
        let mut session = Session::new();
        let name = Verb::Write("name".to_owned(), "sandbox".to_owned());
        for command in [Command::Cluster(boxes, major, DISK, 1), Command::Do(None, name)] {
            session.command(&command).into_iter().for_each(say);
        }
        let clock = (Instant::now(), session.world.now_ms);
        let seats = Seats::new(place.dir.clone(), events);
        Self { session, seats, place, prompt: Prompt::None, clock }
    }

    fn greet(&self, boxes: usize, major: u8) {
        let dir = self.place.dir.display();
        let last = if boxes > 1 { format!(" to {dir}/box{boxes}") } else { String::new() };
        say(format_args!(
            "a sandbox: {boxes} model {} with DRBD {}, a disk of {} in each; nothing of it is real",
            if boxes == 1 { "box" } else { "boxes" },
            version(major),
            DISK.about()
        ));
        say(format_args!("trees     {dir}/box1{last}: what /cluster is on a real box"));
        let here = if self.prompt == Prompt::Terminal { "here, or " } else { "" };
        say(format_args!("commands  {here}echo help > {dir}/control; `help` lists them, `quit` ends it"));
        self.prompt.show();
    }

    fn run(&mut self, queue: &Receiver<Event>) {
        loop {
            let first = match queue.recv_timeout(self.wait()) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.catch_up();
            let rest: Vec<Event> = queue.try_iter().take(BATCH).collect();
            for event in first.into_iter().chain(rest) {
                if !self.take(event) {
                    return;
                }
            }
            self.settle();
        }
    }

    fn now_ms(&self) -> u64 {
        let (since, at_ms) = self.clock;
        at_ms + u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }

    /// Until the world has something to do.
    fn wait(&mut self) -> Duration {
        let (now, next) = (self.now_ms(), self.session.world.next_ms());
        let wait = next.map_or(WAIT_MS.1, |next| next.saturating_sub(now));
        Duration::from_millis(wait.clamp(WAIT_MS.0, WAIT_MS.1))
    }

    /// The world goes on to the present.
    fn catch_up(&mut self) {
        let now = self.now_ms();
        let _left = (0..STEPS).find(|_| !self.session.world.step(now));
    }

    /// Trees and answers follow the world, and what went wrong is said.
    fn settle(&mut self) {
        let world = &mut self.session.world;
        if let Some(broken) = world.check.broken.take() {
            say(format_args!(
                "invariant {} is broken: {}; this is a bug in holdfast or in the model",
                broken.invariant, broken.text
            ));
        }
        self.seats.follow(world);
        self.seats.failures.drain(..).for_each(|failure| say(failure.text));
    }

    /// False: it ends.
    fn take(&mut self, event: Event) -> bool {
        let world = &mut self.session.world;
        // A daemon that died answers nobody: what is dropped is EIO.
        let lives =
            |at: BoxId, life: u64| world.boxes.get(at).is_some_and(|m| m.mind.is_some() && m.life == life);
        match event {
            Event::Wish { at, life, about, wish, answer } if lives(at, life) => {
                let ticket = world.wish(at, &about, wish);
                self.seats.wait_for(at, ticket, answer);
            }
            Event::Refused { at, life, about, refusal, answer } if lives(at, life) => {
                world.refused(at, about, refusal.clone());
                self.seats.answer(answer, Err(refusal));
            }
            Event::Wish { .. } | Event::Refused { .. } => {}
            Event::Line(from, line) => return self.line(from, line.trim()),
            Event::Stop => return false,
        }
        true
    }

    fn line(&mut self, from: From, line: &str) -> bool {
        self.prompt.echo(from, line);
        match line {
            "" => {}
            "quit" | "exit" => return false,
            "help" => say(help::text()),
            line => match Command::parse(line) {
                Ok(command) => self.command(&command),
                Err(_) => say(format_args!("{line:?} is no command here; `help` lists them")),
            },
        }
        self.prompt.show();
        true
    }

    fn command(&mut self, command: &Command) {
        let anew = matches!(command, Command::Boxes(..) | Command::Cluster(..));
        if anew {
            self.seats.clear();
        }
        self.session.command(command).into_iter().for_each(say);
        let now = self.session.world.now_ms;
        if anew || now > self.now_ms() {
            self.clock = (Instant::now(), now);
        }
    }
}
