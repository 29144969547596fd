//! The step contracts: what must hold before each step, what holds after it, and that doing it again does nothing.
//!
//! One list, two machines: `tests/model_contract.rs` runs it against the model world in `cargo test`, and
//! `tests/host_contract.rs` against this machine's kernel inside a box (vm-tests/50-contracts.sh), with DRBD 8.4 and 9. What
//! the model does and a kernel does not is found here, and so is what a new kernel or tool does differently.
//! What must not go in: anything that only one of the two machines can do or say. That is behind [`Bench`].

pub mod disks;
pub mod help;
pub mod lvs;
pub mod resources;
pub mod together;
pub mod uses;

use std::{any::Any, collections::BTreeMap};

use holdfast::{
    core::{
        drbd::{DrbdVersion, Resource},
        intent::Member,
        names::{BoxName, PoolName},
    },
    host::Host,
};

pub type Members = BTreeMap<BoxName, Member>;

/// Something is held until this is dropped.
pub type Held = Box<dyn Any>;

/// How a disk comes to be one that is not to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// A file system on it.
    FileSystem,
    /// A partition table with a partition.
    PartitionTable,
    /// A file system, and it is mounted.
    Mounted,
    /// It is swap space in use.
    Swap,
}

/// A box that may be broken: a machine, and what others than holdfast do there.
pub trait Bench {
    /// What is tried: `observe` and `apply`.
    fn host(&self) -> &dyn Host;

    /// The module in its kernel.
    fn drbd(&self) -> DrbdVersion;

    /// Its name, one of `members`.
    fn me(&self) -> BoxName;

    /// All boxes that take part, with addresses: one, two or three.
    fn members(&self) -> Members;

    /// Device nodes of its disks, blank at the beginning, of 512 MiB or more. One is enough.
    fn disks(&self) -> Vec<String>;

    /// What the stream of DRBD's events tells of a resource, once it has nothing more to tell for a moment.
    fn resource(&self, name: &str) -> Option<Resource>;

    /// Lets a fifth of a second go by.
    fn pause(&self);

    /// Makes a blank disk another's; `clean` undoes it, and the disk is blank again.
    fn spoil(&self, device: &str, how: Spoil);

    /// See `spoil`.
    fn clean(&self, device: &str, how: Spoil);

    /// Makes an LV without tags in the pool's volume group, 8 MiB, not active.
    fn make_foreign_lv(&self, pool: &PoolName, name: &str);

    /// Removes it.
    fn remove_foreign_lv(&self, pool: &PoolName, name: &str);

    /// Takes an LV's device node away.
    fn deactivate_lv(&self, pool: &PoolName, name: &str);

    /// Opens an active LV for reading.
    fn hold_lv(&self, pool: &PoolName, name: &str) -> Held;

    /// Puts a file `RESOURCE.res` there that is not holdfast's.
    fn write_foreign_conf(&self, resource: &str);

    /// Removes it.
    fn remove_foreign_conf(&self, resource: &str);

    /// Opens `/dev/drbdMINOR`; the error is the kernel's word.
    fn open(&self, minor: u32, write: bool) -> Result<Held, String>;

    /// Writes a number at the beginning of `/dev/drbdMINOR`, so that it lasts.
    fn write(&self, minor: u32, number: u64);

    /// Reads it back; 0 where none was written.
    fn read(&self, minor: u32) -> u64;

    /// Returns when all boxes have come to this place.
    fn meet(&self, place: &str);

    /// Takes the pool's group away, without LVs, and what else is left on its disks.
    fn tidy(&self, pool: &PoolName);
}

/// How far box and volume `db` have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The disks are blank, there is no group.
    Blank,
    /// The pool has the disks, and no LV.
    Claimed,
    /// `db`'s LV is there and fresh.
    Fresh,
    /// It has metadata.
    WithMd,
    /// The .res file is there and the kernel has it: Inconsistent, Secondary, alone.
    Up,
    /// UpToDate, Secondary.
    Ready,
    /// The kernel has it no longer; file and LV are there.
    Down,
}

/// One promise.
pub struct Contract {
    pub name: &'static str,
    pub given: Stage,
    pub then: Stage,
    pub check: fn(&dyn Bench),
}

macro_rules! contracts {
    ($($given:ident -> $then:ident: $module:ident::$check:ident,)+) => {
        &[$(Contract {
            name: stringify!($check),
            given: Stage::$given,
            then: Stage::$then,
            check: $module::$check,
        },)+]
    };
}

/// For one box alone. Each begins where the one before it ended.
pub const ALONE: &[Contract] = contracts![
    Blank -> Blank: disks::a_disk_is_taken_only_as_the_one_that_was_seen,
    Blank -> Blank: disks::a_disk_with_anything_on_it_is_refused,
    Blank -> Claimed: disks::a_blank_disk_becomes_the_pools_once,
    Claimed -> Claimed: disks::another_disk_makes_the_pool_larger,
    Claimed -> Claimed: disks::a_disk_of_one_pool_is_not_anothers,
    Claimed -> Claimed: lvs::what_is_not_ours_in_a_group_is_left_alone,
    Claimed -> Claimed: lvs::an_lv_that_is_not_there_is_gone_and_removed,
    Claimed -> Claimed: lvs::an_lv_needs_room,
    Claimed -> Claimed: lvs::an_lv_that_is_not_active_is_used_as_others,
    Claimed -> Fresh: lvs::an_lv_is_made_once_and_is_fresh,
    Fresh -> Fresh: lvs::an_lv_of_another_life_is_left_alone,
    Fresh -> Fresh: lvs::what_is_open_gets_no_metadata_and_is_not_removed,
    Fresh -> WithMd: lvs::metadata_is_made_once,
    WithMd -> WithMd: resources::a_file_is_written_replaced_and_removed,
    WithMd -> WithMd: resources::a_file_that_is_not_ours_is_left_alone,
    WithMd -> WithMd: resources::without_a_file_nothing_is_done,
    WithMd -> Up: resources::adjust_brings_up_what_the_file_says,
    Up -> Up: resources::what_has_no_data_yet_cannot_be_used,
    Up -> Up: resources::another_minor_is_left_alone,
    Up -> Ready: resources::the_first_copy_is_made_once,
    Ready -> Ready: uses::it_is_used_where_it_is_primary,
    Ready -> Ready: uses::opening_promotes_with_drbd_9_only,
    Ready -> Ready: uses::a_reader_is_a_user_too,
    Ready -> Ready: uses::what_has_data_is_not_made_anew,
    Ready -> Ready: uses::a_device_grows_in_use_and_keeps_what_it_has,
    Ready -> Down: uses::what_is_down_is_gone_from_the_kernel_only,
    Down -> Down: uses::what_was_down_comes_back_with_its_data,
    Down -> Claimed: uses::what_is_removed_leaves_nothing,
];

/// Tries all promises in order on one box, and leaves its disks blank.
pub fn alone(bench: &dyn Bench) {
    let mut stage = Stage::Blank;
    for contract in ALONE {
        assert_eq!(contract.given, stage, "{} is out of order", contract.name);
        in_turn(contract.name, || (contract.check)(bench));
        stage = contract.then;
    }
    assert_eq!(stage, Stage::Claimed);
    bench.tidy(&help::pool());
}

/// One promise of boxes to each other.
type Joint = (&'static str, fn(&together::Boxes<'_>));

macro_rules! joint {
    ($($check:ident,)+) => { &[$((stringify!($check), together::$check),)+] };
}

/// For two or three boxes, each of which runs this list at the same time.
pub const TOGETHER: &[Joint] = joint![
    replicas_find_each_other_and_are_declared_equal,
    only_one_at_a_time_is_primary,
    what_one_wrote_the_other_reads,
    a_device_grows_once_all_its_lvs_have,
    a_device_that_nobody_uses_grows,
    a_box_that_was_down_is_brought_up_to_date,
    one_box_goes_while_the_other_is_used,
    a_replica_that_comes_later_is_filled,
];

/// Tries all of them as one of the boxes, and leaves its disks blank.
pub fn together(bench: &dyn Bench) {
    let boxes = together::Boxes::new(bench);
    for (name, check) in TOGETHER {
        bench.meet(name);
        in_turn(name, || check(&boxes));
    }
    bench.meet("the end");
    if boxes.part.is_diskful() {
        bench.tidy(&help::pool());
    }
}

/// Says which one it is, and how long it took.
fn in_turn(name: &str, check: impl FnOnce()) {
    println!("-- {name}");
    let started = std::time::Instant::now();
    check();
    println!("-- {name}: kept, {:.1} s", started.elapsed().as_secs_f32());
}
