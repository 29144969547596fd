//! Whole clusters under generated operators and faults, and what is left of a run that breaks an invariant.
//!
//! The fault model. What can happen to a box, a disk, a wire or a daemon, at any moment and mixed at will:
//!
//! - A step fails before its effect, or is done and said to have failed.
//! - The daemon is killed between any two events and comes back from its own store alone, of whose last writes any
//!   number may be lost; a command that it had begun may end with it or come to its own end, for which the new
//!   daemon waits.
//! - Power is cut: what was not synced is lost, on the own store and on the meta resource, where a write that was on its
//!   way may have reached any of the replicas. All boxes may lose it, one after the other.
//! - What is seen is told late, after the world has changed again; DRBD's events come in order but late.
//! - A source cannot be looked at for a time: LVM, disks, .res files, DRBD's events.
//! - A disk fails, is pulled, comes back in another slot, or is blank all of a sudden; new ones come, blank or not.
//! - A wire is cut in one direction or both. What is on its way waits, and arrives late, or is lost with its link when
//!   the ends find it dead, each at its own time; a new link starts from nothing.
//! - The leader dies in any phase of a commit.
//! - Another box takes itself for the leader, with what it knows as the store; DRBD refuses its first commit.
//!
//! What does not happen, since this version does not claim to survive it (docs/testing.md): the leader's own disks do
//! not die, and others only while all other copies of what is on them are good; with DRBD 8.4 not below a Primary, and
//! roles are changed by hand only while every box and wire is there; bits do not rot; clocks do not jump; no box lies.
//!
//! When the faults stop, everything is mended, and then the cluster has to come to rest, be the same on every box, and
//! hold everything that was acknowledged.

use crate::core::{
    drbd::Role,
    intent::{Leg, META_NAME},
    names::{BoxName, DiskName, VolumeId},
    size::Size,
};

use super::{
    check::{Broken, assignments},
    command::{Command, Verb},
    drbd::BoxId,
    machine::{Eye, StepFault},
    rng::Rng,
    session::Session,
    world::World,
};

/// Commands of a run: a seed names a run only together with it.
pub const LENGTH: usize = 300;
/// Everything has to be quiet so soon after the faults stopped.
const QUIET_WITHIN_MS: u64 = 300_000;
/// Everybody who asked is answered so soon.
const ANSWERED_WITHIN_MS: u64 = 12_000;
/// Runs that are spent on making a failure shorter.
const SHRINK_RUNS: usize = 400;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed it was made from.
    pub seed: u64,
    /// What broke.
    pub broken: Broken,
    /// What was done up to there.
    pub commands: Vec<Command>,
}

impl Failure {
    /// As a file that `holdfast replay` takes.
    pub fn script(&self) -> String {
        let head = format!(
            "# seed {}: invariant {} is broken: {}\n",
            self.seed, self.broken.invariant, self.broken.text
        );
        self.commands.iter().fold(head, |text, command| format!("{text}> {command}\n"))
    }
}

/// What a run did, for those who want to know that it did something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Things that happened in the world.
    pub events: u64,
    /// Steps that were taken.
    pub steps: u64,
    /// Wishes that were granted.
    pub granted: u64,
    /// Wishes that were refused.
    pub refused: u64,
}

impl Done {
    /// What both did.
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.steps += other.steps;
        self.granted += other.granted;
        self.refused += other.refused;
    }
}

/// One whole run of `length` generated commands.
pub fn run(seed: u64, length: usize) -> Result<Done, Failure> {
    let mut rng = Rng::new(seed);
    let boxes = rng.within(3, 7);
    let major = if seed.is_multiple_of(2) { 9 } else { 8 };
    let size = Size(rng.within(1, 4) << 30);
    let first = Command::Cluster(usize::try_from(boxes).unwrap_or(3), major, size, seed);
    let mut session = Session::new();
    let mut commands = vec![first.clone()];
    session.command(&first);
    session.world.verbose = false;
    while commands.len() <= length && session.world.check.broken.is_none() {
        let command = generate(&session.world, &mut rng, major);
        session.command(&command);
        commands.push(command);
    }
    finish(&mut session);
    match session.world.check.broken.take() {
        Some(broken) => Err(Failure { seed, broken, commands }),
        None => Ok(done(&session.world)),
    }
}

fn done(world: &World) -> Done {
    let granted = world.answers.values().filter(|a| a.is_ok()).count() as u64;
    let refused = world.answers.len() as u64 - granted;
    Done { events: world.events, steps: world.steps_taken, granted, refused }
}

/// The same commands again; what breaks.
pub fn repeat(commands: &[Command]) -> Option<Broken> {
    let mut session = Session::new();
    session.world.verbose = false;
    for command in commands {
        session.command(command);
        session.world.verbose = false;
        if session.world.check.broken.is_some() {
            break;
        }
    }
    finish(&mut session);
    session.world.check.broken
}

/// Takes away what is not needed to break the same invariant.
pub fn shrink(mut failure: Failure) -> Failure {
    let mut runs = 0;
    let mut chunk = failure.commands.len() / 2;
    while chunk > 0 && runs < SHRINK_RUNS {
        let mut at = 1;
        while at < failure.commands.len() && runs < SHRINK_RUNS {
            let end = (at + chunk).min(failure.commands.len());
            let shorter = [&failure.commands[..at], &failure.commands[end..]].concat();
            runs += 1;
            match repeat(&shorter) {
                Some(broken) if broken.invariant == failure.broken.invariant => {
                    failure = Failure { broken, commands: shorter, ..failure };
                }
                Some(_) | None => at = end,
            }
        }
        chunk /= 2;
    }
    failure
}

// ---- what is generated

fn generate(world: &World, rng: &mut Rng, major: u8) -> Command {
    match rng.below(100) {
        0..32 => Command::Run(rng.within(1, 800)),
        32..40 => Command::Run(rng.within(800, 6_000)),
        40..68 => operator(world, rng, major),
        68..80 => data(world, rng, major).unwrap_or(Command::Run(100)),
        80..90 => repair(world, rng),
        _ => fault(world, rng).unwrap_or(Command::Run(100)),
    }
}

fn some_box(world: &World, rng: &mut Rng) -> String {
    let at = usize::try_from(rng.below(world.boxes.len() as u64)).unwrap_or(0);
    world.boxes[at].name.to_string()
}

fn some_volume(rng: &mut Rng) -> String {
    format!("v{}", rng.within(1, 5))
}

fn operator(world: &World, rng: &mut Rng, major: u8) -> Command {
    let volume = some_volume(rng);
    let write = |path: String, value: &str| Verb::Write(path, value.to_owned());
    let size =
        *rng.pick(&["32M", "64M", "64M", "96M", "160M", "400M", "9G", "1", "none", "x"]).unwrap_or(&"64M");
    let verb = match rng.below(100) {
        0..22 => Verb::Mkdir(format!("volumes/{volume}")),
        22..44 => write(format!("volumes/{volume}/size"), size),
        44..50 => {
            write(format!("volumes/{volume}/spec"), &format!("size={size} replicas={}", rng.within(1, 3)))
        }
        50..58 => write(format!("volumes/{volume}/replicas"), &rng.within(0, 4).to_string()),
        58..66 => {
            let (a, b) = (some_box(world, rng), some_box(world, rng));
            write(
                format!("volumes/{volume}/place"),
                &if rng.percent(25) { "auto".to_owned() } else { format!("{a} {b}") },
            )
        }
        66..80 => Verb::Rmdir(format!("volumes/{volume}")),
        80..88 if major < 9 && all_there(world) => {
            let role = if rng.percent(50) { "primary" } else { "secondary" };
            write(format!("volumes/{volume}/on/{}/role", some_box(world, rng)), role)
        }
        80..90 => {
            let at = some_box(world, rng);
            let slot = *rng.pick(&["sdb", "sdc", "sdd"]).unwrap_or(&"sdb");
            write(
                format!("nodes/{at}/disks/{slot}/pool"),
                rng.pick(&["main", "main", "ssd", "none"]).unwrap_or(&"main"),
            )
        }
        90..92 => Verb::Mkdir("pools/ssd".to_owned()),
        92..93 => Verb::Rmdir("pools/ssd".to_owned()),
        93..95 => Verb::Mkdir("groups/g".to_owned()),
        95..96 => Verb::Rmdir("groups/g".to_owned()),
        96..98 => write("groups/g/replicas".to_owned(), &rng.within(1, 3).to_string()),
        _ => write(format!("volumes/{volume}/group"), "g"),
    };
    Command::Ask(some_box(world, rng), verb)
}

fn all_there(world: &World) -> bool {
    world.boxes.iter().all(|m| m.on) && world.net.cut.is_empty()
}

/// What somebody does with a device: where it is open, more likely that.
fn data(world: &World, rng: &mut Rng, major: u8) -> Option<Command> {
    let open: Vec<(String, BoxId)> = world
        .kernels
        .uses()
        .filter(|(_, resource, used)| used.openers > 0 && *resource != META_NAME)
        .map(|(at, resource, _)| (resource.to_owned(), at))
        .collect();
    if let Some((volume, at)) = rng.pick(&open).filter(|_| rng.percent(75)) {
        let at = world.boxes[*at].name.to_string();
        return Some(match rng.below(10) {
            0..7 => Command::Put(volume.clone(), at),
            7..8 => Command::Get(volume.clone(), at),
            _ => Command::Unuse(volume.clone(), at),
        });
    }
    let volume = some_volume(rng);
    let legs: Vec<String> = assignments(&world.check.durable)
        .filter(|a| a.resource == volume)
        .flat_map(|a| a.legs.keys().map(ToString::to_string))
        .collect();
    let at = rng.pick(&legs)?.clone();
    // With 8.4 a device is only opened where the operator asked for it to be Primary.
    let primary = world.find(&at).and_then(|at| world.kernels.used(at, &volume)).map(|used| used.role);
    (major >= 9 || primary == Some(Role::Primary)).then_some(Command::Use(volume, at))
}

fn repair(world: &World, rng: &mut Rng) -> Command {
    let off: Vec<_> = world.boxes.iter().filter(|m| !m.on).collect();
    let dead: Vec<_> = world.boxes.iter().filter(|m| m.on && m.mind.is_none()).collect();
    let away: Vec<_> = world
        .boxes
        .iter()
        .flat_map(|m| m.storage.drives.iter().map(move |d| (m, d)))
        .filter(|(_, d)| d.slot.is_none())
        .collect();
    match rng.below(10) {
        0..4 => rng.pick(&off).map(|m| Command::PowerOn(m.name.to_string())),
        4..7 => rng.pick(&dead).map(|m| Command::Start(m.name.to_string())),
        7..8 => {
            let slot = DiskName::new(*rng.pick(&["sdb", "sdc", "sdd"]).unwrap_or(&"sdd")).ok();
            rng.pick(&away)
                .zip(slot)
                .map(|((m, d), slot)| Command::Replug(m.name.to_string(), d.ident.to_string(), slot))
        }
        _ => Some(Command::Mend),
    }
    .unwrap_or(Command::Mend)
}

fn fault(world: &World, rng: &mut Rng) -> Option<Command> {
    let at = some_box(world, rng);
    let other = some_box(world, rng);
    let leads = world.find(&at).is_some_and(|at| world.boxes[at].founder());
    Some(match rng.below(100) {
        0..16 => Command::Crash(at),
        16..32 => Command::PowerOff(at),
        32..44 if at != other => Command::Cut(at, other),
        32..44 => return None,
        44..52 if at != other => Command::CutFrom(at, other),
        44..52 => return None,
        52..66 => Command::FailStep(at, if rng.percent(50) { StepFault::Before } else { StepFault::After }),
        66..76 => Command::Blind(at, *rng.pick(&[Eye::Vgs, Eye::Disks, Eye::Conf, Eye::Drbd])?),
        76..84 => Command::Stale(at, rng.within(50, 3_000)),
        84..86 => Command::Usurp(at),
        86..90 => {
            let what = rng.percent(30).then(|| "ext4".to_owned());
            Command::Plug(
                at,
                DiskName::new(*rng.pick(&["sdc", "sdd"])?).ok()?,
                Size(rng.within(1, 3) << 30),
                what,
            )
        }
        _ if leads => return None,
        _ => {
            let number = world.find(&at)?;
            let drives = world.boxes[number].storage.drives.iter().enumerate();
            let plugged: Vec<(usize, DiskName)> =
                drives.filter_map(|(n, d)| Some((n, d.slot.clone()?))).collect();
            let (drive, slot) = rng.pick(&plugged)?.clone();
            if !world.can_spare(number, drive) {
                return None;
            }
            match rng.below(3) {
                0 => Command::BreakDisk(at, slot),
                1 => Command::Pull(at, slot),
                _ => Command::Wipe(at, slot),
            }
        }
    })
}

// ---- when the faults stop

/// Everything is mended, and what has to hold then is checked: what does not is in `world.check.broken`.
pub fn finish(session: &mut Session) {
    if session.world.check.broken.is_some() {
        return;
    }
    let world = &mut session.world;
    mend_all(world);
    world.run(ANSWERED_WITHIN_MS);
    if !world.run_until_quiet(QUIET_WITHIN_MS) {
        let plans = world.plans();
        let what = if plans.is_empty() {
            "work goes on".to_owned()
        } else {
            format!("planned: {}", plans.join("; "))
        };
        return world.check.fail(11, format!("not quiet within {} s: {what}", QUIET_WITHIN_MS / 1_000));
    }
    for machine in &world.boxes {
        if machine.mind.as_ref().is_some_and(|mind| !mind.node.is_right()) {
            let text = format!("{} would plan something else from nothing", machine.name);
            return world.check.fail(11, text);
        }
    }
    same_everywhere(world);
    everything_is_there(world);
    nothing_is_left(world);
    restarts_change_nothing(world);
}

/// Power, disks, wires and daemons are all there again; whoever used a device has closed it.
fn mend_all(world: &mut World) {
    world.mend();
    for at in 0..world.boxes.len() {
        world.plug_back(at);
        world.power_on(at);
        world.start(at);
    }
    let open: Vec<(BoxId, String, u32)> = world
        .kernels
        .uses()
        .filter(|(_, resource, _)| *resource != META_NAME)
        .map(|(at, resource, used)| (at, resource.to_owned(), used.openers))
        .collect();
    for (at, resource, openers) in open {
        (0..openers).for_each(|_| world.kernels.close(at, &resource));
    }
}

/// Every box knows what the leader committed, and everybody who asked was answered.
fn same_everywhere(world: &mut World) {
    if world.leader().is_none() {
        return world.check.fail(11, "nobody leads".to_owned());
    }
    let mut wrong = Vec::new();
    for machine in &world.boxes {
        let Some(node) = machine.node() else { continue };
        let known = node.intent().records();
        let same = known.len() == world.check.durable.len()
            && known.iter().all(|r| world.check.durable.get(&r.key()) == Some(r));
        if !same {
            wrong.push(format!("{} does not know what was committed", machine.name));
        }
    }
    wrong.into_iter().for_each(|text| world.check.fail(3, text));
    if let Some(wish) = world.check.unanswered(&world.boxes) {
        world.check.fail(3, format!("{wish} was never answered"));
    }
}

/// Volumes are as large as was asked, and their copies hold what was written, all the same.
fn everything_is_there(world: &mut World) {
    let mut wrong: Vec<(u8, String)> = Vec::new();
    for a in assignments(&world.check.durable) {
        let good: Vec<_> = world
            .replicas(&a.id)
            .filter_map(|(_, lv)| world.kernels.replica(lv.backing))
            .filter(|r| r.up_to_date && r.attached.is_some())
            .collect();
        if good.windows(2).any(|two| two[0].content != two[1].content) {
            wrong.push((8, format!("two UpToDate copies of {} differ", a.resource)));
        }
        let written = world.check.written.get(&a.id).copied();
        if let (Some(written), Some(one)) = (written, good.first())
            && !world.kernels.descends(one.content, written)
        {
            wrong.push((8, format!("{} lacks what was written", a.resource)));
        }
        if written.is_some() && good.is_empty() {
            wrong.push((1, format!("{} has no good copy any more", a.resource)));
        }
        // A box whose disks were wiped and taken back has no place for its copy.
        let has_pool = |(name, leg): &(&BoxName, &Leg)| {
            let storage = world.find(name.as_str()).map(|at| &world.boxes[at].storage);
            leg.pool.as_ref().zip(storage).is_some_and(|(pool, storage)| storage.there(pool))
        };
        let wanted = a.legs.iter().filter(has_pool).count();
        if good.is_empty() || good.len() < wanted {
            if !world.check.excused.contains(&a.id) {
                wrong.push((11, format!("{} has {} good copies of {wanted}", a.resource, good.len())));
            }
            continue;
        }
        for (name, _) in a.legs.iter().filter(|leg| leg.1.pool.is_none() || has_pool(leg)) {
            let Some(at) = world.find(name.as_str()) else { continue };
            let size_kib = world.kernels.counters(at).get(&a.minor).map_or(0, |c| c.size_kib);
            if size_kib * 1024 < a.size.bytes() {
                wrong.push((
                    9,
                    format!("{} has {size_kib} KiB on {name}, {} were asked for", a.resource, a.size),
                ));
            }
        }
    }
    wrong.into_iter().for_each(|(invariant, text)| world.check.fail(invariant, text));
}

/// No LV, no .res file and no resource that nobody wants, and no order to remove one.
fn nothing_is_left(world: &mut World) {
    let durable = &world.check.durable;
    let mut wrong = Vec::new();
    if let Some(key) = durable.keys().find(|key| key.starts_with("leave/")) {
        wrong.push(format!("{key} is still there"));
    }
    for (at, machine) in world.boxes.iter().enumerate() {
        let leg = |resource: &str| {
            assignments(durable).any(|a| a.resource == resource && a.legs.contains_key(&machine.name))
        };
        for lv in machine.storage.groups.values().flatten() {
            let wanted = |id: &VolumeId| {
                assignments(durable).any(|a| &a.id == id && a.legs.contains_key(&machine.name))
            };
            if lv.tags.as_ref().is_some_and(|tags| !wanted(&tags.id)) {
                wrong.push(format!("LV {} is left on {}", lv.name, machine.name));
            }
        }
        let in_kernel = world.kernels.look_all(at).into_keys().filter(|r| !leg(r));
        wrong.extend(in_kernel.map(|r| format!("{r} is left in the kernel of {}", machine.name)));
        wrong.extend(
            machine.conf.keys().filter(|r| !leg(r)).map(|r| format!("{r}.res is left on {}", machine.name)),
        );
    }
    wrong.into_iter().for_each(|text| world.check.fail(11, text));
}

/// A restart of every daemon interrupts nothing: no step, no change in any kernel.
fn restarts_change_nothing(world: &mut World) {
    if world.check.broken.is_some() {
        return;
    }
    let look =
        |world: &World| -> Vec<_> { (0..world.boxes.len()).map(|at| world.kernels.look_all(at)).collect() };
    let before = look(world);
    let steps = world.steps_taken;
    for at in 0..world.boxes.len() {
        world.crash(at);
        world.start(at);
    }
    if !world.run_until_quiet(QUIET_WITHIN_MS) {
        world.check.fail(11, "not quiet after all daemons were restarted".to_owned());
    }
    if world.steps_taken != steps {
        let taken = world.steps_taken - steps;
        world.check.fail(5, format!("{taken} steps were taken after a mere restart"));
    }
    if look(world) != before {
        world.check.fail(5, "a mere restart changed what the kernels have".to_owned());
    }
}
