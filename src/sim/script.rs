//! Scripts: lines that begin with `> ` are commands, `# ` are comments, everything else is what was seen.

use super::{command::Command, session::Session};

/// Carries out a script's commands; the script again, with what is seen now. The error is a sentence that names the line.
pub fn transcript(script: &str) -> Result<String, String> {
    let mut session = Session::new();
    let mut text = String::new();
    for (number, line) in script.lines().enumerate() {
        if line.starts_with('#') || (line.is_empty() && text.is_empty()) {
            text.push_str(&format!("{line}\n"));
            continue;
        }
        let Some(command) = line.strip_prefix("> ") else { continue };
        let command_read = Command::parse(command).map_err(|why| format!("line {}: {why}", number + 1))?;
        text.push_str(&format!("> {command}\n"));
        for seen in session.command(&command_read) {
            text.push_str(&seen);
            text.push('\n');
        }
        if let Some(broken) = &session.world.check.broken {
            text.push_str(&format!("invariant {} is broken: {}\n", broken.invariant, broken.text));
            return Ok(text);
        }
    }
    Ok(text)
}

/// The commands of a script. The error is a sentence that names the line.
pub fn commands(script: &str) -> Result<Vec<Command>, String> {
    let lines = script.lines().enumerate();
    let lines = lines.filter_map(|(number, line)| Some((number, line.strip_prefix("> ")?)));
    lines
        .map(|(number, line)| Command::parse(line).map_err(|why| format!("line {}: {why}", number + 1)))
        .collect()
}
