//! The thread that makes the meta resource Primary, mounts it and opens the store in it, and undoes that in order.
//!
//! All of it may hang on a DRBD device whose I/O is suspended; the loop never waits for it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    time::Duration,
};

use crate::{
    core::node::Input,
    edge::{
        meta::Meta,
        store::{Op, Records, StoreEvent, StoreThread},
    },
    event::Event,
};

/// How long the end of the daemon waits for the meta resource to be given back.
const STOP_WITHIN: Duration = Duration::from_secs(20);

enum Order {
    Open { found: bool },
    Close,
    Stop(SyncSender<()>),
}

type Shared = Arc<Mutex<Option<StoreThread>>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Option<StoreThread>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The way to the thread.
pub struct MetaKeeper {
    orders: Sender<Order>,
    store: Shared,
}

impl MetaKeeper {
    /// Starts the thread; what the store says is posted to `events`.
    pub fn start(mount: Meta, events: SyncSender<Event>) -> std::io::Result<Self> {
        let (orders, queue) = channel();
        let store = Shared::default();
        let shared = Arc::clone(&store);
        std::thread::Builder::new()
            .name("meta".to_owned())
            .spawn(move || serve(&mount, &queue, &shared, &events))?;
        Ok(Self { orders, store })
    }

    /// Answered by [`StoreEvent::Opened`], or by [`Input::StoreOpened`] if it does not come so far.
    pub fn open(&self, found: bool) {
        drop(self.orders.send(Order::Open { found }));
    }

    /// Takes no commits from now on, then closes everything.
    pub fn close(&self) {
        drop(self.orders.send(Order::Close));
    }

    /// False: there will be no answer.
    pub fn commit(&self, seq: u64, ops: Vec<Op>) -> bool {
        lock(&self.store).as_ref().is_some_and(|store| store.commit(seq, ops))
    }

    /// Writes the text export beside the store.
    pub fn export(&self, records: Records) {
        let taken = lock(&self.store).as_ref().is_some_and(|store| store.export(records));
        if !taken {
            log::warn!("the export on the meta resource was not written: the store takes no more requests");
        }
    }

    /// Closes everything and waits for it, within a bound.
    pub fn stop(self) {
        let (done, wait) = sync_channel(1);
        drop(self.orders.send(Order::Stop(done)));
        if let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(STOP_WITHIN) {
            log::warn!(
                "the meta resource was not given back within {} s; it stays mounted",
                STOP_WITHIN.as_secs()
            );
        }
    }
}

fn serve(mount: &Meta, queue: &Receiver<Order>, store: &Shared, events: &SyncSender<Event>) {
    while let Ok(order) = queue.recv() {
        match order {
            Order::Open { found } => {
                if let Err(why) = open(mount, found, store, events) {
                    // It may be Primary by now, or mounted.
                    give_back(mount);
                    drop(events.send(Event::Node(Input::StoreOpened(Err(why)))));
                }
            }
            Order::Close => close(mount, store),
            Order::Stop(done) => {
                close(mount, store);
                let _ = done.send(());
                return;
            }
        }
    }
}

fn open(mount: &Meta, found: bool, store: &Shared, events: &SyncSender<Event>) -> Result<(), String> {
    let dir = mount.open(found).map_err(|e| e.to_string())?.join("store");
    let events = events.clone();
    let thread = StoreThread::start(dir, move |event: StoreEvent| drop(events.send(Event::Meta(event))))
        .map_err(|e| e.to_string())?;
    *lock(store) = Some(thread);
    Ok(())
}

fn close(mount: &Meta, store: &Shared) {
    let thread = lock(store).take();
    let Some(thread) = thread else { return };
    if let Err(error) = thread.stop() {
        log::warn!("the store on the meta resource: {error}");
    }
    give_back(mount);
}

fn give_back(mount: &Meta) {
    if let Err(error) = mount.close() {
        log::warn!("the meta resource: {error}");
    }
}
