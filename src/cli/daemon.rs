//! `holdfast daemon`: checks what has to be there, starts every edge, and runs the loop.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    cli::network,
    core::{
        drbd::DrbdVersion,
        facts::{Known, Report},
        hex,
        intent::PEER_PORT,
        node::{Facts, Input, Node},
        refusal::Refusal,
        wish::Wish,
    },
    daemon::{Daemon, Edges},
    edge::{
        drbd,
        drbd_events::{EventStream, StreamEvent},
        fuse::{self, Mounted},
        meta::Meta,
        peer::{LinkKeys, Links, PeerEvent},
        run::{Programs, Recording, Tool, wait_for_commands},
        store::{StoreEvent, StoreThread},
        udev::Monitor,
    },
    event::Event,
    host::{Host, RealHost},
    keeper::MetaKeeper,
    local::{self, Local},
    observer::Observers,
};

use super::{Args, Failure, Outcome, fail};

/// Events that may wait for the loop: who posts more waits.
const EVENTS: usize = 1_024;

/// Held open by every command: see `edge::run::wait_for_commands`.
const COMMANDS: &str = "/run/holdfast/commands";
/// LVM and DRBD take seconds. Who takes longer may be wedged, and the box must not stay without a daemon for that.
const COMMANDS_WITHIN: Duration = Duration::from_secs(20);

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(args: &Args) -> Outcome {
    args.no_words("daemon")?;
    crate::log::start(args.debug);
    network::check_root()?;
    network::check_kernel("/dev/fuse", "fuse", "it is in Debian's kernel")?;
    let programs = Programs::resolve()?;
    let Some(version) = drbd::module_version() else {
        return fail(
            "the kernel module drbd is not loaded: modprobe drbd (8.4 is in Debian's kernel; 9 is LINBIT's module)",
        );
    };
    let recording = args.record.as_deref().map(Recording::open).transpose()?;
    if args.detach {
        // Before any thread exists. Without its user and group options: see Cargo.toml.
        daemonize::Daemonize::new().working_directory("/").umask(0o022).start()?;
    }
    let programs = match recording {
        Some(recording) => programs.recorded_by(recording.start()?),
        None => programs,
    };
    let (events, queue) = sync_channel(EVENTS);
    // Its lock comes first: of two daemons the second ends here.
    let (store, local) = open_local(args, &events)?;
    let (held, ended) = wait_for_commands(Path::new(COMMANDS), COMMANDS_WITHIN)?;
    if !ended {
        log::warn!("commands of the daemon before this one still run after {} s", COMMANDS_WITHIN.as_secs());
    }
    let programs = Arc::new(programs.holding(Some(held)));
    let report = first_report(version);
    let now_s = report.since_s;
    let node = Node::new(local.identity.name.clone(), local.intent.clone(), local.founding, report, now_s);
    let (edges, _kept) = start_edges(args, &programs, version, store, &local, &node, &events)?;
    stop_on_signals(events)?;
    log::info!("holdfast {} runs as {}", env!("CARGO_PKG_VERSION"), local.identity.name);
    Daemon::new(node, edges).run(
        &queue,
        || drop(sd_notify::notify(&[sd_notify::NotifyState::Ready])),
        || drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog])),
    );
    log::info!("holdfast ends; volumes go on without it");
    Ok(())
}

/// Opens the own store and reads it; its thread then belongs to the loop.
fn open_local(args: &Args, events: &SyncSender<Event>) -> Result<(StoreThread, Local), Failure> {
    let dir = local::store_dir(args.state_dir());
    if !dir.exists() {
        return Err(local::LocalError::NoCluster.into());
    }
    let (opened, wait) = sync_channel(1);
    let events = events.clone();
    let store = StoreThread::start(dir, move |event| match event {
        StoreEvent::Opened(result) => drop(opened.send(result)),
        other @ (StoreEvent::Committed { .. } | StoreEvent::Exported(_)) => {
            drop(events.send(Event::Local(other)))
        }
    })?;
    let (records, rebuilt) = wait.recv()?.map_err(local::runs)?;
    if let Some(rebuilt) = rebuilt {
        log::warn!(
            "this box's own store was damaged ({}) and is rebuilt from {}",
            rebuilt.why,
            rebuilt.from.display()
        );
    }
    Ok((store, local::read(&records)?))
}

fn first_report(version: DrbdVersion) -> Report {
    let kernel = nix::sys::utsname::uname();
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel.map_or_else(|_| String::new(), |u| u.release().to_string_lossy().into_owned()),
        drbd_version: Some(version),
        since_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        ..Report::default()
    }
}

struct Sink(SyncSender<Event>);

impl fuse::Sink for Sink {
    fn wish(&self, about: String, wish: Wish, answer: fuse::Answer) {
        self.post(Event::Wish { about, wish, answer });
    }

    fn refused(&self, about: String, refusal: Refusal, answer: fuse::Answer) {
        self.post(Event::Refused { about, refusal, answer });
    }
}

impl Sink {
    /// Never waits: a write that finds the channel full is dropped, which answers EIO.
    fn post(&self, event: Event) {
        if self.0.try_send(event).is_err() {
            log::error!("a write was not taken: {EVENTS} events wait already");
        }
    }
}

fn start_edges(
    args: &Args,
    programs: &Arc<Programs>,
    version: DrbdVersion,
    store: StoreThread,
    local: &Local,
    node: &Node,
    events: &SyncSender<Event>,
) -> Result<(Edges, (EventStream, Monitor)), Failure> {
    let drbd = follow_drbd(programs, version, events)?;
    let to_loop = events.clone();
    let monitor = Monitor::start(move || drop(to_loop.send(Event::DisksChanged)))?;
    let meta = MetaKeeper::start(Meta::new(Arc::clone(programs)), events.clone())?;
    let links = start_links(local, events)?;
    let tree = Mounted::mount(args.mount(), Arc::new(node.view()), Sink(events.clone()))?;
    let host: Arc<dyn Host> = Arc::new(RealHost::new(Arc::clone(programs)));
    let observers = Observers::start(&host, events)?;
    let edges = Edges { host, observers, links, tree, meta, local: store, events: events.clone() };
    Ok((edges, (drbd, monitor)))
}

fn follow_drbd(
    programs: &Programs,
    version: DrbdVersion,
    events: &SyncSender<Event>,
) -> Result<EventStream, Failure> {
    let events = events.clone();
    let (recorder, drbdsetup) = (programs.recorder().cloned(), programs.path(Tool::Drbdsetup));
    let stream = EventStream::recorded_by(recorder, drbdsetup, version, move |event| {
        let facts = match event {
            StreamEvent::Facts(all) => Facts::Drbd(Known::Known(all)),
            StreamEvent::Changed(name, resource) => Facts::Resource(name, resource),
            StreamEvent::Lost(why) => {
                log::warn!("DRBD's events are lost: {why}");
                Facts::Drbd(Known::Unknown(why))
            }
        };
        drop(events.send(Event::Node(Input::Facts(facts))));
    })?;
    Ok(stream)
}

fn start_links(local: &Local, events: &SyncSender<Event>) -> Result<Links, Failure> {
    let (Some(cluster), Some(me)) = (&local.intent.cluster, local.identity.keys()) else {
        return fail("this box's own store holds no keys; join the cluster again");
    };
    let Some(psk) = hex::key(&cluster.link_key) else {
        return fail("this box's own store holds no cluster key; join the cluster again");
    };
    let keys = LinkKeys { me, psk, cluster: cluster.id.clone() };
    // Where IPv6 is switched off, there is no address for both.
    let any: IpAddr = match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    };
    let listen = SocketAddr::new(any, PEER_PORT);
    let events = events.clone();
    let on_event = move |event| {
        if let Some(event) = peer_event(event) {
            drop(events.send(event));
        }
    };
    Ok(Links::start(listen, keys, local.identity.name.to_string(), on_event)?)
}

/// What a link says, as an event; nonsense is logged and dropped.
fn peer_event(event: PeerEvent) -> Option<Event> {
    let named = |name: String| crate::core::names::BoxName::new(name).ok();
    Some(Event::Node(match event {
        PeerEvent::Up(name, address) => {
            log::info!("link to {name} at {address} is up");
            Input::LinkUp(named(name)?)
        }
        PeerEvent::Down(name, why) => {
            log::warn!("link to {name} is down: {why}");
            Input::LinkDown(named(name)?)
        }
        PeerEvent::Message(name, bytes) => match serde_json::from_slice(&bytes) {
            Ok(message) => Input::Message(named(name)?, message),
            Err(error) => {
                log::warn!("{name} sent what cannot be understood: {error}");
                return None;
            }
        },
        PeerEvent::Join(request) => return Some(Event::Join(request)),
        PeerEvent::Refused(line) => return Some(Event::PeerRefused(line)),
    }))
}

fn stop_on_signals(events: SyncSender<Event>) -> Outcome {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            drop(events.send(Event::Stop));
        }
    })?;
    Ok(())
}
