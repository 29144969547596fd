//! `holdfast replay FILE`: walks through a script of the model world and says what happens in it, step by step.
//!
//! What it prints is a script itself: commands begin with `> `, what was seen does not.

use std::{fs, mem};

use crate::sim::{Command, Session, script, simulate};

use super::{Args, Failure, Outcome, fail, say};

/// Prints the walk; fails where an invariant breaks.
pub(super) fn run(args: &Args) -> Outcome {
    let [file] = &args.words[..] else {
        return Err(Failure::used_wrongly("holdfast replay takes one file"));
    };
    let unfit = |why: String| Failure { text: format!("{file} cannot be replayed: {why}"), code: 2 };
    let text = fs::read_to_string(file).map_err(|error| unfit(error.to_string()))?;
    let commands = script::commands(&text).map_err(unfit)?;
    if commands.is_empty() {
        return Err(unfit("no line in it begins with \"> \" and a command".to_owned()));
    }
    text.lines().take_while(|line| line.starts_with('#')).for_each(say);
    match walk(&commands, &mut |line| say(line)) {
        None => Ok(()),
        Some(broken) => fail(broken),
    }
}

/// Carries the commands out and then mends everything. What broke, as a sentence.
fn walk(commands: &[Command], line: &mut dyn FnMut(&str)) -> Option<String> {
    let mut walk = Walk { session: Session::new(), told: 0, line };
    for command in commands {
        (walk.line)(&format!("> {command}"));
        if matches!(command, Command::Boxes(..) | Command::Cluster(..)) {
            walk.told = 0;
        }
        let seen = walk.session.command(command);
        walk.tell(seen);
        if let Some(broken) = walk.broken() {
            return Some(broken);
        }
    }
    (walk.line)("# everything is mended, and what has to hold in the end is checked");
    simulate::finish(&mut walk.session);
    walk.tell(Vec::new());
    let broken = walk.broken();
    if broken.is_none() {
        (walk.line)("# no invariant is broken");
    }
    broken
}

struct Walk<'a> {
    session: Session,
    /// Steps that were told of.
    told: usize,
    line: &'a mut dyn FnMut(&str),
}

impl Walk<'_> {
    /// The steps since the last time, what was seen, and the time now.
    fn tell(&mut self, seen: Vec<String>) {
        let steps = &self.session.world.steps;
        let told = mem::replace(&mut self.told, steps.len());
        for (at, step) in steps.iter().enumerate().skip(told) {
            (self.line)(&format!("  step {}: {step}", at + 1));
        }
        seen.iter().for_each(|seen| (self.line)(format!("  {seen}").trim_end()));
        let now = self.session.world.now_ms;
        (self.line)(&format!("  at {}.{:03} s", now / 1_000, now % 1_000));
    }

    fn broken(&self) -> Option<String> {
        let world = &self.session.world;
        let broken = world.check.broken.as_ref()?;
        Some(format!(
            "invariant {} is broken at {}.{:03} s, after step {}: {}",
            broken.invariant,
            world.now_ms / 1_000,
            world.now_ms % 1_000,
            world.steps.len(),
            broken.text
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mutant;

    #[test]
    fn what_breaks_is_named_with_its_step() {
        let script = "> cluster 3 9 1G 1\n> mkdir volumes/v\n> write volumes/v/size 64M\n> quiet\n\
                      > write volumes/v/size 128M\n> quiet\n";
        let commands = script::commands(script).unwrap_or_default();
        let mut lines = Vec::new();
        assert_eq!(walk(&commands, &mut |line| lines.push(line.to_owned())), None, "{}", lines.join("\n"));
        assert!(lines.iter().any(|line| line.starts_with("  step 1: box1 ")), "{}", lines.join("\n"));
        mutant::set("never resize");
        let broken = walk(&commands, &mut |_| {});
        mutant::set("");
        let broken = broken.unwrap_or_default();
        assert!(
            broken.starts_with("invariant 9 is broken at ") && broken.contains(" s, after step "),
            "{broken}"
        );
    }
}
