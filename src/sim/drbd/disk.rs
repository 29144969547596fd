//! What lies on disks: sizes, contents, and DRBD's metadata with its generation ids. It survives power cuts.
//!
//! What must not go in: states of kernels.

use super::types::{BackingId, BoxId, Version};

/// The current id of a replica on which nothing ever was.
pub(super) const JUST_CREATED: u64 = 4;
/// What a crashed Primary's activity log makes doubtful.
pub(super) const ACTIVITY_LOG_KIB: u64 = 12 << 10;
/// Peer slots of DRBD 9's metadata here.
const SLOTS_9: u64 = crate::core::conf::PEER_SLOTS_9;

/// What a replica knows of one peer. On 8.4 the only peer is 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) id: u8,
    /// The generation since which `dirty_kib` counts; 0 is none.
    pub(super) bitmap: u64,
    /// How much the peer is known to lack.
    pub(super) dirty_kib: u64,
    /// A bitmap is kept for it (MDF_HAVE_BITMAP).
    pub(super) has_bitmap: bool,
    /// It had a disk once (MDF_PEER_DEVICE_SEEN).
    pub(super) seen: bool,
    /// It was there once (MDF_NODE_EXISTS).
    pub(super) exists: bool,
    /// What it has is known to be older (MDF_PEER_OUTDATED).
    pub(super) outdated: bool,
}

/// DRBD's metadata on one backing device.
#[derive(Clone, Debug)]
pub(super) struct Md {
    pub(super) current: u64,
    pub(super) slots: Vec<Slot>,
    /// Newest first.
    pub(super) history: Vec<u64>,
    pub(super) consistent: bool,
    pub(super) up_to_date: bool,
    pub(super) crashed: bool,
    pub(super) lost_quorum: bool,
    pub(super) have_quorum: bool,
    /// Node ids that were in reach at last, as bits.
    pub(super) members: u32,
    /// The device's size as agreed on; 0 before the first attach.
    pub(super) size_kib: u64,
    /// `current` was made up for a first sync that is not through: it says nothing of the data.
    pub(super) filling: bool,
    /// A first write was made: the generation that it began with is over.
    pub(super) begun: bool,
}

impl Md {
    pub(super) fn new() -> Self {
        Md {
            current: JUST_CREATED,
            slots: Vec::new(),
            history: Vec::new(),
            consistent: false,
            up_to_date: false,
            crashed: false,
            lost_quorum: false,
            have_quorum: false,
            members: 0,
            size_kib: 0,
            filling: false,
            begun: false,
        }
    }

    pub(super) fn slot(&self, id: u8) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.id == id)
    }

    /// The slot of a peer; made if there is none.
    pub(super) fn slot_mut(&mut self, id: u8) -> &mut Slot {
        let at = self.slots.iter().position(|slot| slot.id == id).unwrap_or_else(|| {
            self.slots.push(Slot { id, ..Slot::default() });
            self.slots.len() - 1
        });
        &mut self.slots[at]
    }

    pub(super) fn bitmap(&self, id: u8) -> u64 {
        self.slot(id).map_or(0, |slot| slot.bitmap)
    }

    pub(super) fn remember(&mut self, id: u64) {
        if id != 0 && id != JUST_CREATED && !self.history.contains(&id) {
            self.history.insert(0, id);
            self.history.truncate(32);
        }
    }

    /// The peer has all there is.
    pub(super) fn clear_slot(&mut self, id: u8) {
        let slot = self.slot_mut(id);
        slot.dirty_kib = 0;
        let bitmap = std::mem::take(&mut slot.bitmap);
        self.remember(bitmap);
    }
}

/// An LV.
pub(super) struct Backing {
    pub(super) size_kib: u64,
    pub(super) failed: bool,
    pub(super) content: Version,
    pub(super) md: Option<Md>,
    /// The resource's index, and the box.
    pub(super) attached: Option<(usize, BoxId)>,
}

impl Backing {
    /// What is left of it beside internal metadata; see `conf::lv_size_for`.
    pub(super) fn usable_kib(&self, nine: bool) -> u64 {
        let slots = if nine { SLOTS_9 } else { 1 };
        let bitmap = self.size_kib.div_ceil(4).div_ceil(64) * 8 * slots;
        self.size_kib.saturating_sub(36 + bitmap.div_ceil(4096) * 4) & !3
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Disks(Vec<Option<Backing>>);

impl Disks {
    pub(super) fn add(&mut self, size_kib: u64) -> BackingId {
        self.0.push(Some(Backing {
            size_kib,
            failed: false,
            content: Version::ZERO,
            md: None,
            attached: None,
        }));
        BackingId(u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX))
    }

    pub(super) fn remove(&mut self, id: BackingId) {
        if let Some(slot) = self.0.get_mut(id.0 as usize) {
            *slot = None;
        }
    }

    pub(super) fn get(&self, id: BackingId) -> Option<&Backing> {
        self.0.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: BackingId) -> Option<&mut Backing> {
        self.0.get_mut(id.0 as usize)?.as_mut()
    }

    pub(super) fn md(&self, id: Option<BackingId>) -> Option<&Md> {
        self.get(id?)?.md.as_ref()
    }

    pub(super) fn md_mut(&mut self, id: Option<BackingId>) -> Option<&mut Md> {
        self.get_mut(id?)?.md.as_mut()
    }
}
