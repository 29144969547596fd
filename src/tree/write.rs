//! What a write into each file asks for. Names and values are checked for what they are, not for what there is.

use super::{
    path::Args,
    read_volume::promotes_by_opening,
    value::{invalid, or_default, place as parse_place, replicas as parse_replicas},
};
use crate::core::{
    hex,
    names::{BoxName, ClusterName, DiskName, GroupName, PoolName, VolumeName},
    refusal::{Errno, Refusal, quote},
    size::Size,
    token::Token,
    view::View,
    wish::{VolumeChange, Wish},
};

type Wished = Result<Wish, Refusal>;

const KEYS: &str = "size, replicas, place, pool and group";

pub fn name(_: &View, _: &Args<'_>, value: &str) -> Wished {
    Ok(Wish::SetClusterName(ClusterName::new(value)?.into()))
}

pub fn token(_: &View, _: &Args<'_>, value: &str) -> Wished {
    if value == "new" {
        return Ok(Wish::SetToken(None));
    }
    let token = Token::parse(value).map_err(|error| {
        // Not quoted: everyone may read the errors, and most of a token may be in it.
        Refusal::new(Errno::Invalid, format!("what was written is neither \"new\" nor a token: {error}"))
    })?;
    Ok(Wish::SetToken(Some(hex::text(&token.secret))))
}

fn change(view: &View, args: &Args<'_>, changes: &[(&str, &str)]) -> Wished {
    let mut change = VolumeChange::default();
    for (key, value) in changes {
        set(view, args, &mut change, key, value)?;
    }
    Ok(Wish::ChangeVolume(VolumeName::new(args.volume)?, change))
}

fn set(
    view: &View,
    args: &Args<'_>,
    change: &mut VolumeChange,
    key: &str,
    value: &str,
) -> Result<(), Refusal> {
    match key {
        "size" => change.size = wished_size(view, args, value)?,
        "replicas" => change.replicas = Some(or_default(value, parse_replicas)?),
        "place" => change.place = Some(parse_place(value)?),
        "pool" => change.pool = Some(or_default(value, PoolName::new)?),
        "group" => change.group = Some(GroupName::new(value)?),
        _ => return Err(invalid(format!("{} is no key of spec: they are {KEYS}", quote(key)))),
    }
    Ok(())
}

/// `none` is what a volume without a size reads: there it changes nothing, elsewhere it cannot be meant.
fn wished_size(view: &View, args: &Args<'_>, value: &str) -> Result<Option<Size>, Refusal> {
    let now = args.volume(view).and_then(|volume| volume.size);
    match (value, now) {
        ("none", None) => Ok(None),
        ("none", Some(size)) => Err(invalid(format!(
            "\"none\" would take the size {size} of {} back, and no volume shrinks; to remove it with its data, rmdir it",
            args.volume
        ))),
        _ => match Size::parse(value)? {
            Size(0) => Err(invalid(format!("{} is no size: write one like 20G or 512M", quote(value)))),
            size => Ok(Some(size)),
        },
    }
}

pub fn size(view: &View, args: &Args<'_>, value: &str) -> Wished {
    change(view, args, &[("size", value)])
}

pub fn replicas(view: &View, args: &Args<'_>, value: &str) -> Wished {
    change(view, args, &[("replicas", value)])
}

pub fn place(view: &View, args: &Args<'_>, value: &str) -> Wished {
    change(view, args, &[("place", value)])
}

pub fn pool(view: &View, args: &Args<'_>, value: &str) -> Wished {
    change(view, args, &[("pool", value)])
}

pub fn group(view: &View, args: &Args<'_>, value: &str) -> Wished {
    change(view, args, &[("group", value)])
}

pub fn spec(view: &View, args: &Args<'_>, value: &str) -> Wished {
    let mut changes: Vec<(&str, &str)> = Vec::new();
    for word in value.split(' ').filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').ok_or_else(|| {
            invalid(format!("{} in spec is not like size=20G: the keys are {KEYS}", quote(word)))
        })?;
        if changes.iter().any(|(seen, _)| *seen == key) {
            return Err(invalid(format!(
                "{} gives {key} twice: name each key once, nothing was changed",
                quote(word)
            )));
        }
        changes.push((key, value));
    }
    change(view, args, &changes)
}

pub fn role(view: &View, args: &Args<'_>, value: &str) -> Wished {
    let primary = match value {
        "primary" => true,
        "secondary" => false,
        _ => {
            return Err(invalid(format!("{} is not a role: write primary or secondary", quote(value))));
        }
    };
    if promotes_by_opening(view, args) {
        return Err(Refusal::new(
            Errno::NotSupported,
            format!(
                "{} cannot be asked of {}: DRBD 9 promotes by opening the device and demotes when it is closed; mount or \
                 open /cluster/volumes/{}/device there",
                quote(value),
                args.on,
                args.volume
            ),
        ));
    }
    Ok(Wish::SetRole(VolumeName::new(args.volume)?, BoxName::new(args.on)?, primary))
}

pub fn group_replicas(_: &View, args: &Args<'_>, value: &str) -> Wished {
    Ok(Wish::SetGroupReplicas(GroupName::new(args.group)?, parse_replicas(value)?))
}

pub fn group_pool(_: &View, args: &Args<'_>, value: &str) -> Wished {
    Ok(Wish::SetGroupPool(GroupName::new(args.group)?, PoolName::new(value)?))
}

pub fn disk_pool(_: &View, args: &Args<'_>, value: &str) -> Wished {
    let pool = if value == "none" { None } else { Some(PoolName::new(value)?) };
    Ok(Wish::SetDiskPool(BoxName::new(args.on)?, DiskName::new(args.disk)?, pool))
}

pub fn make_volume(args: &Args<'_>) -> Wished {
    Ok(Wish::MakeVolume(VolumeName::new(args.volume)?))
}

pub fn remove_volume(args: &Args<'_>) -> Wished {
    Ok(Wish::RemoveVolume(VolumeName::new(args.volume)?))
}

pub fn make_pool(args: &Args<'_>) -> Wished {
    Ok(Wish::MakePool(PoolName::new(args.pool)?))
}

pub fn remove_pool(args: &Args<'_>) -> Wished {
    Ok(Wish::RemovePool(PoolName::new(args.pool)?))
}

pub fn make_group(args: &Args<'_>) -> Wished {
    Ok(Wish::MakeGroup(GroupName::new(args.group)?))
}

pub fn remove_group(args: &Args<'_>) -> Wished {
    Ok(Wish::RemoveGroup(GroupName::new(args.group)?))
}
