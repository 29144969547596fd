//! What a box can show at one moment: an immutable snapshot that every read is served from.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{facts::Report, intent::Intent, names::BoxName, place::World};

/// The note that says that nothing of it is real: no problem, so it is not counted as one.
pub const SANDBOX: &str =
    "sandbox: model boxes in one process, nothing here is real; `device` points to nothing";

/// Everything a read may look at. Cheap to clone: the parts are shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// This box; None before it belongs to a cluster.
    pub me: Option<BoxName>,
    /// The newest committed wishes and assignments that this box knows.
    pub intent: Arc<Intent>,
    /// The last report of each box, also of those that are away now; this box's own is in it.
    pub reports: BTreeMap<BoxName, Arc<Report>>,
    /// The boxes whose reports are current: this one and those linked to it.
    pub alive: BTreeSet<BoxName>,
    /// The box that takes writes, when this box is it or is linked to it and it leads.
    pub leader: Option<BoxName>,
    /// Its own lines for `health`, each a sentence with what to do.
    pub notes: Vec<String>,
    /// Steps that this box would take or is taking, for `debug/plan`.
    pub plan: Vec<String>,
    /// Counters for `debug/`, name and value.
    pub counters: Vec<(&'static str, u64)>,
}

impl View {
    /// It shows model boxes.
    pub fn is_sandbox(&self) -> bool {
        self.notes.iter().any(|note| note == SANDBOX)
    }

    /// The path of a block device. A model's must not be that of a real one on the machine that runs it.
    pub fn device(&self, minor: u32) -> String {
        let dir = if self.is_sandbox() { "/nonexistent" } else { "/dev" };
        format!("{dir}/drbd{minor}")
    }

    /// What decisions could be made from it.
    pub fn world(&self) -> World<'_> {
        World { intent: &self.intent, reports: &self.reports, alive: &self.alive }
    }

    /// The report of a box, if it is current.
    pub fn current(&self, name: &BoxName) -> Option<&Report> {
        self.world().current(name)
    }

    /// All reports that are current, in order of the boxes' names.
    pub fn all_current(&self) -> impl Iterator<Item = (&BoxName, &Report)> {
        self.alive.iter().filter_map(|name| Some((name, self.current(name)?)))
    }

    /// What boxes whose reports are current tried for `about` and failed at.
    pub fn troubles(&self, about: &str) -> impl Iterator<Item = (&BoxName, &str)> {
        self.all_current().filter_map(move |(name, report)| Some((name, report.trouble.get(about)?.as_str())))
    }
}
