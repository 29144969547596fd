//! `holdfast join TOKEN`: asks a member to take this box in, and writes what it answers into this box's own store.

use crate::{
    cli::network,
    core::{
        intent::Intent,
        message::{JoinAnswer, JoinAsk},
        token::Token,
    },
    edge::{peer, run::Programs},
    local::{self, Identity},
};

use super::{Args, Failure, Outcome, fail, say};

/// Tries each address of the token until a member answers.
pub(super) fn run(args: &Args) -> Outcome {
    let [word] = &args.words[..] else {
        return Err(Failure::used_wrongly(
            "holdfast join takes one token: cat /cluster/token on a member prints it",
        ));
    };
    network::check_root()?;
    let token = Token::parse(word)?;
    local::check_new(args.state_dir())?;
    Programs::resolve()?;
    let name = network::box_name()?;
    let address = network::address(args.address.as_deref())?;
    let fresh = Identity::new(name.clone(), &peer::Identity::generate()?);
    let identity = local::begin_join(args.state_dir(), fresh)?;
    let Some(keys) = identity.keys() else {
        return fail("the keys of an earlier try to join are damaged: remove /var/lib/holdfast/joining");
    };
    let ask = serde_json::to_vec(&JoinAsk { name: name.clone(), address })?;
    let mut failures = Vec::new();
    for at in &token.addresses {
        match peer::join(*at, &token.cluster, token.server_key, token.secret, &keys, &ask) {
            Ok(answer) => return welcome(args, &identity, serde_json::from_slice(&answer)?),
            Err(error) => failures.push(error.to_string()),
        }
    }
    fail(format!("no member took this box in: {}", failures.join("; ")))
}

fn welcome(args: &Args, identity: &Identity, answer: JoinAnswer) -> Outcome {
    let records = match answer {
        JoinAnswer::Welcome(records) => records,
        JoinAnswer::Refused(refusal) => return fail(refusal.text),
    };
    let intent = Intent::from_records(records);
    local::create(args.state_dir(), identity, &intent, false)?;
    if let Err(error) = local::end_join(args.state_dir()) {
        log::warn!("{error}");
    }
    let cluster = intent.cluster.map_or_else(String::new, |c| c.name);
    say(format_args!("{} belongs to cluster {cluster} now", identity.name));
    say("start it with: systemctl enable --now holdfast");
    Ok(())
}
