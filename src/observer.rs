//! Threads that look at the machine when told to, one for each source: a request that comes while one looks is not lost,
//! and many of them are one.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
};

use crate::{
    core::{
        facts::Known,
        node::{Facts, Input, Source},
    },
    event::Event,
    host::Host,
};

/// One thread: how to wake it, and the number of the newest request.
struct Observer {
    wake: SyncSender<()>,
    newest: Arc<AtomicU64>,
}

/// The threads; they end when this is dropped.
pub struct Observers {
    disks: Observer,
    vgs: Observer,
    conf: Observer,
    counters: Observer,
}

impl Observers {
    /// Starts them; what they see is posted to `events`.
    pub fn start(host: &Arc<dyn Host>, events: &SyncSender<Event>) -> std::io::Result<Self> {
        let start = |source: Source| {
            // One waiting request is enough: it is looked at after it was made.
            let (wake, woken) = sync_channel(1);
            let newest = Arc::new(AtomicU64::new(0));
            let requests = Arc::clone(&newest);
            let (host, events) = (Arc::clone(host), events.clone());
            std::thread::Builder::new().name("observer".to_owned()).spawn(move || {
                while woken.recv().is_ok() {
                    let upto = requests.load(Ordering::SeqCst);
                    // Steps wait for what is seen; a bug in looking must not let them wait for ever.
                    let seen = catch_unwind(AssertUnwindSafe(|| host.observe(source)));
                    let facts = seen.unwrap_or_else(|_| unknown(source));
                    for input in [Input::Facts(facts), Input::Looked(source, upto)] {
                        if events.send(Event::Node(input)).is_err() {
                            return;
                        }
                    }
                }
            })?;
            Ok::<_, std::io::Error>(Observer { wake, newest })
        };
        Ok(Self {
            disks: start(Source::Disks)?,
            vgs: start(Source::Vgs)?,
            conf: start(Source::Conf)?,
            counters: start(Source::Counters)?,
        })
    }

    /// Look at this, now or as soon as the present look is over. `request`: 0, or a number that is answered by
    /// [`Input::Looked`].
    pub fn look(&self, source: Source, request: u64) {
        let observer = match source {
            Source::Disks => &self.disks,
            Source::Vgs => &self.vgs,
            Source::Conf => &self.conf,
            Source::Counters => &self.counters,
        };
        // Full: it will be looked at anyway. Gone: the daemon ends.
        observer.newest.fetch_max(request, Ordering::SeqCst);
        let _ = observer.wake.try_send(());
    }
}

fn unknown(source: Source) -> Facts {
    let why = "a bug in holdfast ended the look at it; the log says where".to_owned();
    match source {
        Source::Disks => Facts::Disks(Known::Unknown(why)),
        Source::Vgs => Facts::Vgs(Known::Unknown(why)),
        Source::Conf => Facts::Conf(Known::Unknown(why)),
        Source::Counters => Facts::Counters(BTreeMap::new()),
    }
}
