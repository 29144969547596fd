//! The verbs: write, mkdir, rmdir and rename. Each gives a wish for the leader, or a refusal.

use super::{
    path::{self, Fit},
    table::{Act, Verb},
    value::value,
};
use crate::core::{
    refusal::{Errno, Refusal, quote},
    view::View,
    wish::Wish,
};

fn missing(path: &str) -> Refusal {
    Refusal::new(Errno::NotFound, format!("there is no {}: see README for what is here", quote(path)))
}

fn not_quoted(path: &str) -> Refusal {
    let text = format!("what was written into {} is not one line of text: use echo and >", quote(path));
    Refusal::new(Errno::Invalid, text)
}

/// What writing `bytes` at `offset` into the file at `path` asks for. One write is one value.
pub fn write(view: &View, path: &str, bytes: &[u8], offset: u64) -> Result<Wish, Refusal> {
    let fit = path::find(view, path).ok_or_else(|| missing(path))?;
    match fit.row().act {
        Act::Wish(_, write) => write(view, &fit.args, value(bytes, offset)?),
        // Everyone may read the errors, and what is quoted there may be a part of the secret.
        Act::Secret(_, write) => write(view, &fit.args, value(bytes, offset).map_err(|_| not_quoted(path))?),
        Act::Fact(_) => Err(Refusal::new(
            Errno::NotPermitted,
            format!(
                "{} is a fact, it cannot be written: the files of mode 0644 are the wishes, see README",
                quote(path)
            ),
        )),
        Act::Dir | Act::Link(_) => Err(fixed(path, "written")),
    }
}

/// The parent must be there, the name itself need not.
fn below<'p>(view: &View, path: &'p str) -> Option<Fit<'p>> {
    let way = path::way(path)?;
    let (last, parents) = way.split_last()?;
    parents.iter().all(|fit| path::exists(view, fit)).then_some(*last)
}

/// What making the directory `path` asks for. EEXIST where this box already knows one.
pub fn mkdir(view: &View, path: &str) -> Result<Wish, Refusal> {
    let Some(fit) = below(view, path) else { return Err(fixed(path, "made")) };
    if path::exists(view, &fit) {
        return Err(Refusal::new(
            Errno::Exists,
            format!("{} is there already: take another name", quote(path)),
        ));
    }
    verb(&fit.row().mkdir, &fit, path, "made")
}

/// What removing the directory `path` asks for.
pub fn rmdir(view: &View, path: &str) -> Result<Wish, Refusal> {
    let fit = path::find(view, path).ok_or_else(|| missing(path))?;
    verb(&fit.row().rmdir, &fit, path, "removed")
}

fn verb(verb: &Verb, fit: &Fit<'_>, path: &str, done: &str) -> Result<Wish, Refusal> {
    match verb {
        Verb::Asks(make) => make(&fit.args),
        Verb::Never(errno, why) => {
            Err(Refusal::new(*errno, format!("{} cannot be {done}: {why}", quote(path))))
        }
    }
}

/// Why `from` cannot be renamed to `to`: no rename is built yet. Never EXDEV or EINVAL: mv would begin to copy.
pub fn rename(view: &View, from: &str, to: &str) -> Refusal {
    if path::find(view, to).is_some() {
        return Refusal::new(
            Errno::Exists,
            format!("{} cannot become {}: that name is taken, use another", quote(from), quote(to)),
        );
    }
    let words: Vec<&str> = from.split('/').collect();
    let why = match words[..] {
        ["volumes", _] => "renaming volumes is not built yet; keep the name",
        ["volumes", _, "on", _] => {
            "moving a copy by mv is not built yet; write the boxes that are to have one into place"
        }
        _ => return fixed(from, "renamed"),
    };
    Refusal::new(Errno::NotPermitted, format!("{} cannot become {}: {why}", quote(from), quote(to)))
}

/// Why `path` cannot be made, linked, unlinked or given another mode or owner (`done`): EPERM.
pub fn fixed(path: &str, done: &str) -> Refusal {
    Refusal::new(
        Errno::NotPermitted,
        format!(
            "{} cannot be {done}: the verbs here are writing into files, and mkdir and rmdir in volumes, pools and groups",
            quote(path)
        ),
    )
}
