//! Threads that look at the machine when told to, one for each source: a request that comes while one looks is not lost,
//! and many of them are one.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
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

/// The threads; they end when this is dropped.
pub struct Observers {
    disks: SyncSender<()>,
    vgs: SyncSender<()>,
    conf: SyncSender<()>,
    counters: SyncSender<()>,
}

impl Observers {
    /// Starts them; what they see is posted to `events`.
    pub fn start(host: &Arc<dyn Host>, events: &SyncSender<Event>) -> std::io::Result<Self> {
        let start = |source: Source| {
            // One waiting request is enough: it is looked at after it was made.
            let (ask, asked) = sync_channel(1);
            let (host, events) = (Arc::clone(host), events.clone());
            std::thread::Builder::new().name("observer".to_owned()).spawn(move || {
                while asked.recv().is_ok() {
                    // Steps wait for what is seen; a bug in looking must not let them wait for ever.
                    let seen = catch_unwind(AssertUnwindSafe(|| host.observe(source)));
                    let facts = seen.unwrap_or_else(|_| unknown(source));
                    if events.send(Event::Node(Input::Facts(facts))).is_err() {
                        return;
                    }
                }
            })?;
            Ok::<_, std::io::Error>(ask)
        };
        Ok(Self {
            disks: start(Source::Disks)?,
            vgs: start(Source::Vgs)?,
            conf: start(Source::Conf)?,
            counters: start(Source::Counters)?,
        })
    }

    /// Look at this, now or as soon as the present look is over.
    pub fn look(&self, source: Source) {
        let ask = match source {
            Source::Disks => &self.disks,
            Source::Vgs => &self.vgs,
            Source::Conf => &self.conf,
            Source::Counters => &self.counters,
        };
        // Full: it will be looked at anyway. Gone: the daemon ends.
        let _ = ask.try_send(());
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
