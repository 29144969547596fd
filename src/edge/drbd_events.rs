//! DRBD's events, as `drbdsetup events2` prints them: one line a change, after a dump of all there is.
//!
//! Why: the kernel tells of every change the moment it happens, so nothing has to be polled; and one parser of lines serves
//! both modules (8.4 and 9), which differ in what they leave out.
//! How: `parse_line` turns a line into an `Event`, `Model` puts events together to whole facts, `EventStream` keeps the
//! program running. A line that is not understood is an error sentence for the log; those after it still count.
//! What must not go in: what to do about a change. Lines come from the kernel by way of a program of another version, so
//! nothing here may panic on any of them.

mod model;
mod stream;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use model::Model;
pub use stream::{EventStream, StreamEvent};

use crate::core::drbd::{ConnectionState, DiskState, ReplicationState, Role};

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It is part of the dump at the beginning.
    Exists,
    /// It is new.
    Create,
    /// Some of its facts are different now.
    Change,
    /// It is gone.
    Destroy,
}

/// One line. What a line does not say is None: lines may be partial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// About a resource as a whole.
    Resource(Verb, String, ResourceSays),
    /// About volume `1` of a resource, on this box.
    Device(Verb, String, u16, DeviceSays),
    /// About the link to a node id.
    Connection(Verb, String, u8, ConnectionSays),
    /// About one volume at a node id.
    PeerDevice(Verb, String, u8, u16, PeerDeviceSays),
    /// About one address pair of a link. The link's state says what matters.
    Path(Verb, String),
    /// The kernel called a helper, or (with its exit code times 256) the helper has answered.
    Helper {
        /// The resource.
        resource: String,
        /// For example `fence-peer`.
        helper: String,
        /// The peer it is about, where it is about one.
        node_id: Option<u8>,
        /// None is the call, Some the answer.
        status: Option<i32>,
    },
    /// A resource has a new name.
    Rename {
        /// The name so far.
        from: String,
        /// The name from now on.
        to: String,
    },
    /// The dump is complete; from here on lines are changes.
    DumpEnd,
}

/// What a line says of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // as in core::drbd::Resource
pub struct ResourceSays {
    pub role: Option<Role>,
    pub suspended: Option<String>,
    pub force_io_failures: Option<bool>,
}

/// What a line says of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // as in core::drbd::Device
pub struct DeviceSays {
    pub minor: Option<u32>,
    pub disk: Option<DiskState>,
    pub client: Option<bool>,
    pub quorum: Option<bool>,
    pub size_kib: Option<u64>,
    /// `none`, or a path.
    pub backing: Option<String>,
    pub open: Option<bool>,
}

/// What a line says of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // as in core::drbd::Peer
pub struct ConnectionSays {
    pub peer_name: Option<String>,
    pub connection: Option<ConnectionState>,
    pub role: Option<Role>,
}

/// What a line says of a volume at a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // as in core::drbd::PeerDevice
pub struct PeerDeviceSays {
    pub disk: Option<DiskState>,
    pub client: Option<bool>,
    pub replication: Option<ReplicationState>,
    pub resync_suspended: Option<String>,
    pub out_of_sync_kib: Option<u64>,
    pub done_hundredths: Option<u16>,
}

/// Reads one line of `events2`, with or without a timestamp. The error is a sentence that quotes the line.
pub fn parse_line(line: &str) -> Result<Event, String> {
    parse(line).map_err(|why| {
        let start: String = line.chars().take(200).collect();
        format!("drbdsetup events2: {why} in {start:?}")
    })
}

fn parse(line: &str) -> Result<Event, String> {
    let mut words = line.split_ascii_whitespace().peekable();
    // Only timestamps begin with a digit.
    words.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let action = words.next().ok_or("nothing")?;
    let object = words.next().ok_or("no object")?;
    let says = Says(words.filter_map(|word| word.split_once(':')).collect());
    let verb = match (action, object) {
        ("exists", "-") => return Ok(Event::DumpEnd),
        ("call" | "response", "helper") => return helper(action, &says),
        ("rename", "resource") => {
            return Ok(Event::Rename { from: says.needed("name")?, to: says.needed("new_name")? });
        }
        ("exists", _) => Verb::Exists,
        ("create", _) => Verb::Create,
        ("change", _) => Verb::Change,
        ("destroy", _) => Verb::Destroy,
        _ => return Err("unknown action".to_string()),
    };
    let name = says.needed("name")?;
    match object {
        "resource" => Ok(Event::Resource(verb, name, resource(&says))),
        "device" => Ok(Event::Device(verb, name, says.number("volume")?, device(&says)?)),
        "connection" => Ok(Event::Connection(verb, name, says.number("peer-node-id")?, connection(&says))),
        "peer-device" => {
            let (node_id, volume) = (says.number("peer-node-id")?, says.number("volume")?);
            Ok(Event::PeerDevice(verb, name, node_id, volume, peer_device(&says)?))
        }
        "path" => Ok(Event::Path(verb, name)),
        _ => Err("unknown object".to_string()),
    }
}

fn helper(action: &str, says: &Says<'_>) -> Result<Event, String> {
    let status = if action == "response" { Some(says.number("status")?) } else { None };
    let node_id = says.number_if_there("peer-node-id")?;
    Ok(Event::Helper { resource: says.needed("name")?, helper: says.needed("helper")?, node_id, status })
}

fn resource(says: &Says<'_>) -> ResourceSays {
    ResourceSays {
        role: says.word("role"),
        suspended: says.text("suspended"),
        force_io_failures: says.yes_no("force-io-failures"),
    }
}

fn device(says: &Says<'_>) -> Result<DeviceSays, String> {
    Ok(DeviceSays {
        minor: says.number_if_there("minor")?,
        disk: says.word("disk"),
        client: says.yes_no("client"),
        quorum: says.yes_no("quorum"),
        size_kib: says.number_if_there("size")?,
        backing: says.text("backing_dev"),
        open: says.yes_no("open"),
    })
}

fn connection(says: &Says<'_>) -> ConnectionSays {
    ConnectionSays {
        peer_name: says.text("conn-name"),
        connection: says.word("connection"),
        role: says.word("role"),
    }
}

fn peer_device(says: &Says<'_>) -> Result<PeerDeviceSays, String> {
    Ok(PeerDeviceSays {
        disk: says.word("peer-disk"),
        client: says.yes_no("peer-client"),
        replication: says.word("replication"),
        resync_suspended: says.text("resync-suspended"),
        out_of_sync_kib: says.number_if_there("out-of-sync")?,
        done_hundredths: says.get("done").and_then(percent),
    })
}

/// `5.86` is 586; `nan` and the like are None.
fn percent(text: &str) -> Option<u16> {
    let percent: f32 = text.parse().ok()?;
    (0.0..=100.0).contains(&percent).then(|| (percent * 100.0).round() as u16)
}

/// The `key:value` words of a line. Keys that nobody asks for are no error: newer versions say more.
struct Says<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Says<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(candidate, _)| *candidate == key);
        found.map(|(_, value)| *value).filter(|value| !value.is_empty())
    }

    fn text(&self, key: &str) -> Option<String> {
        self.get(key).map(str::to_string)
    }

    fn needed(&self, key: &str) -> Result<String, String> {
        self.text(key).ok_or_else(|| format!("no {key}"))
    }

    fn number_if_there<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("{key} is not a number of its kind"));
        self.get(key).map(number).transpose()
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T, String> {
        self.number_if_there(key)?.ok_or_else(|| format!("no {key}"))
    }

    /// One of DRBD's words; one not known becomes `Other`.
    fn word<T: From<String>>(&self, key: &str) -> Option<T> {
        self.text(key).map(T::from)
    }

    /// None is anything but yes and no, such as `unknown`.
    fn yes_no(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        }
    }
}
