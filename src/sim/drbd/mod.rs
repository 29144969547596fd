//! PURE: a model of DRBD on all boxes of a cluster, 8.4 or 9, for a simulation that is the same every time.
//!
//! Why: what holdfast decides is right only if DRBD then does what is expected of it, in every order in which power,
//! networks and disks fail. Here all kernels are one value that is asked and told: commands of a box, use of a device,
//! cut wires, power cuts, and time, which is an argument. From it come the facts that a box would see, and what lies on
//! the disks, which no box sees. The rules are those of drbd 9.2.18's source (`drbd_uuid_compare`, `calc_quorum`,
//! `sanitize_state`) and of what was seen in the lab (fixtures in tests/fixtures/drbd, which the tests compare with).
//! What must not go in: clocks, threads, files, chance; decisions about volumes.
//!
//! # What is modelled
//!
//! - **The file.** `adjust` does what the text of the .res file says, in drbdadm's order, and fails part-way where drbdadm
//!   does: no metadata, no LV, a dead disk, `(-10)` where the peers think that this box is diskless, `(-25)` where a
//!   Primary would lose quorum by a peer that is not there yet, 8.4 with one host. Links connect if both ends name each
//!   other's addresses and ports; with different secrets both stand alone.
//! - **Generations.** Each replica's metadata has a current id, for each peer a bitmap id and how much the peer lacks, a
//!   history, and the flags consistent, up to date, crashed Primary, lost quorum, who was there. A Primary begins a new
//!   generation with its first write, and after it lost a peer's data with the next one (8.4: at once). The handshake
//!   compares and comes to: equal, resync by bitmap, full resync, split brain or unrelated data (both stand alone), or a
//!   Primary that would become the target (9 with retry-connect tries again, 8.4 gives up).
//! - **Roles, disks, links, resyncs.** A resync runs at a fixed speed, takes as long as what is lacking, goes on after an
//!   interruption, gives the target the source's content when it ends, and waits for another of the same target. Who
//!   sees a Primary only by way of others is outdated. Survivors of a Primary even out a write that reached only some.
//! - **Quorum.** Majority with tie-breakers, outdated peers that do not count, the last man standing, peers that were
//!   removed and never forgotten, io-error and suspend-io, force-secondary of a suspended Primary that was outdated.
//! - **Use.** Opening promotes and closing demotes (9 with auto-promote); a client, or a box whose disk died, reads and
//!   writes by its peers. A write is answered when all replicas that take writes have it. While a peer is silent and that
//!   is not noticed yet, the write is on all others, unanswered; afterwards it is acknowledged or fails (`IoError::Frozen`,
//!   and then the answer to the next call).
//! - **Silence.** A peer that is cut off or without power is noticed after 500 ms times ping-int and a second (1.5 s, or
//!   6 s by default), within 500 ms where all are asked for something, at once where its kernel answers but knows
//!   nothing. Links come back half a second after the network.
//! - **Sizes.** Metadata takes its room, a device grows when all replicas are there and larger (9 also by reconnecting),
//!   the new part is synced, and events tell the size only with the next line about the device.
//!
//! # What is not modelled
//!
//! - Commands take no time. What would wait for silent peers refuses at once with a timeout; `answers_ms` tells how long
//!   the real command would take, after which it would succeed.
//! - Where in a volume a write lies: a content is one version, so a partial resync makes the target equal to the source
//!   whatever else differs. Replicas that are declared equal and are not stay different until then.
//! - A reconnect that finds equal generations also evens out a write that was on its way (the Primary's copy counts). The
//!   real one resends only what is still in its transfer log.
//! - Volumes other than 0, fencing handlers, verify, pause-sync, invalidate, discard-my-data, two Primaries allowed,
//!   protocols A and B, DRBD's own proxies, opening for reading, udev's short openers, device minors that change.
//! - States that last milliseconds: NetworkFailure, WFBitMap, Negotiating, the Consistent between the loss of a Primary and
//!   the agreement of the survivors, promotion scores.
//! - Internal metadata that is lost when an LV grew and the device was down before it did; full bitmap slots; more boxes
//!   at a time than node ids of one 32-bit word.
//! - A box without a disk that sees two generations trusts the one that no peer knows as older; the real one trusts
//!   whom it met first. A Primary without quorum outdates nobody.
//! - A weak box (one that sees the Primary only by way of others) is not resynced at all until it sees it; the real one is,
//!   but does not become UpToDate by it.

mod acts;
mod adjust;
mod attach;
mod cluster;
mod compare;
mod disk;
mod io;
mod kernels;
mod link;
mod look;
mod quorum;
mod res;
mod settle;
mod sync;
mod types;
mod versions;

pub use kernels::Kernels;
pub use types::{BackingId, BoxId, IoError, OpenError, ReplicaView, UseView, Version};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
