//! The .res file as drbdadm reads it: nested blocks of words, in the dialect of the module that is loaded.
//!
//! Why: what a box does is driven by the text of the file and by nothing else, so a file that says the wrong thing does
//! the wrong thing here too.
//! What must not go in: what is done about it (adjust.rs).

/// One host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) node_id: u8,
    pub(super) address: String,
    pub(super) minor: u32,
    /// None: `disk none`.
    pub(super) disk: Option<String>,
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conf {
    pub(super) resource: String,
    pub(super) auto_promote: bool,
    pub(super) majority: bool,
    pub(super) suspend_io: bool,
    pub(super) force_secondary: bool,
    pub(super) retry_connect: bool,
    pub(super) secret: String,
    pub(super) ping_int_s: u64,
    pub(super) hosts: Vec<Host>,
    /// Pairs of hosts that are linked.
    pub(super) connections: Vec<(String, String)>,
}

struct Statement {
    words: Vec<String>,
    block: Option<Vec<Statement>>,
}

impl Statement {
    fn head(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
    fn value(&self) -> &str {
        self.words.last().map_or("", String::as_str)
    }
    fn inner(&self) -> &[Statement] {
        self.block.as_deref().unwrap_or_default()
    }
}

fn tokens(text: &str) -> Result<Vec<(bool, String)>, String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut rest = line.trim_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            if let Some(quoted) = rest.strip_prefix('"') {
                let end = quoted.find('"').ok_or_else(|| format!("unterminated string: {line}"))?;
                found.push((true, quoted[..end].to_owned()));
                rest = &quoted[end + 1..];
            } else if rest.starts_with(['{', '}', ';']) {
                found.push((false, rest[..1].to_owned()));
                rest = &rest[1..];
            } else {
                let end =
                    rest.find(|c: char| c.is_whitespace() || "{};\"#".contains(c)).unwrap_or(rest.len());
                found.push((true, rest[..end].to_owned()));
                rest = &rest[end..];
            }
            rest = rest.trim_start();
        }
    }
    Ok(found)
}

fn statements(
    tokens: &mut std::vec::IntoIter<(bool, String)>,
    nested: bool,
) -> Result<Vec<Statement>, String> {
    let mut found = Vec::new();
    let mut words = Vec::new();
    while let Some((word, text)) = tokens.next() {
        match (word, text.as_str()) {
            (true, _) => words.push(text),
            (false, "{") => {
                let block = Some(statements(tokens, true)?);
                found.push(Statement { words: std::mem::take(&mut words), block });
            }
            (false, ";") => found.push(Statement { words: std::mem::take(&mut words), block: None }),
            (false, _) if nested && words.is_empty() => return Ok(found),
            (false, _) => return Err(format!("Parse error: unexpected '{text}'")),
        }
    }
    if nested || !words.is_empty() {
        return Err("Parse error: end of file within a section".to_owned());
    }
    Ok(found)
}

const OPTIONS_9: [&str; 5] =
    ["auto-promote", "quorum", "on-no-quorum", "on-no-data-accessible", "on-suspended-primary-outdated"];
const NET: [&str; 7] =
    ["protocol", "cram-hmac-alg", "shared-secret", "rr-conflict", "ping-int", "ping-timeout", "timeout"];
const DISK: [&str; 3] = ["on-io-error", "c-max-rate", "c-min-rate"];

/// Only these words may be in a section; anything else is a parse error as it is for drbdadm.
fn only(section: &Statement, words: &[&str]) -> Result<(), String> {
    match section.inner().iter().find(|s| !words.contains(&s.head()) || s.words.len() < 2) {
        Some(unknown) => Err(format!("Parse error: '{}' in section {}", unknown.head(), section.head())),
        None => Ok(()),
    }
}

/// Reads a file with one resource. The error is what drbdadm would say, about.
pub(super) fn parse(text: &str, nine: bool) -> Result<Conf, String> {
    let all = statements(&mut tokens(text)?.into_iter(), false)?;
    let [resource] = &all[..] else { return Err("Parse error: one resource expected".to_owned()) };
    if resource.head() != "resource" || resource.words.len() != 2 {
        return Err(format!("Parse error: 'resource' expected, got '{}'", resource.head()));
    }
    let mut conf = Conf {
        resource: resource.value().to_owned(),
        auto_promote: nine,
        majority: false,
        suspend_io: false,
        force_secondary: false,
        retry_connect: false,
        secret: String::new(),
        ping_int_s: 10,
        hosts: Vec::new(),
        connections: Vec::new(),
    };
    for section in resource.inner() {
        match section.head() {
            "options" => {
                only(section, if nine { &OPTIONS_9 } else { &OPTIONS_9[3..4] })?;
                options(&mut conf, section);
            }
            "net" => {
                only(section, &NET)?;
                net(&mut conf, section);
            }
            "disk" => only(section, &DISK)?,
            "on" => conf.hosts.push(host(section, nine)?),
            "connection" if nine => {
                let hosts: Vec<_> = section.inner().iter().filter(|s| s.head() == "host").collect();
                let [one, other] = &hosts[..] else {
                    return Err("Parse error: a connection has two hosts".to_owned());
                };
                conf.connections.push((one.value().to_owned(), other.value().to_owned()));
            }
            unknown => return Err(format!("Parse error: '{unknown}' in section resource")),
        }
    }
    Ok(conf)
}

fn options(conf: &mut Conf, section: &Statement) {
    for option in section.inner() {
        match (option.head(), option.value()) {
            ("auto-promote", value) => conf.auto_promote = value == "yes",
            ("quorum", value) => conf.majority = value == "majority",
            ("on-no-quorum", value) => conf.suspend_io = value == "suspend-io",
            ("on-suspended-primary-outdated", value) => conf.force_secondary = value == "force-secondary",
            _ => {}
        }
    }
}

fn net(conf: &mut Conf, section: &Statement) {
    for option in section.inner() {
        match (option.head(), option.value()) {
            ("shared-secret", value) => conf.secret = value.to_owned(),
            ("rr-conflict", value) => conf.retry_connect = value == "retry-connect",
            ("ping-int", value) => conf.ping_int_s = value.parse().unwrap_or(10),
            _ => {}
        }
    }
}

fn host(section: &Statement, nine: bool) -> Result<Host, String> {
    let name = section.value().to_owned();
    let (mut node_id, mut address, mut device) = (None, None, None);
    for line in section.inner() {
        match line.head() {
            "node-id" if nine => node_id = line.value().parse().ok(),
            "address" => address = Some(line.words[1..].join(" ")),
            "volume" => device = Some(volume(line)?),
            unknown => return Err(format!("Parse error: '{unknown}' in section on {name}")),
        }
    }
    let node_id = if nine { node_id } else { Some(0) };
    let (Some(node_id), Some(address), Some((minor, disk))) = (node_id, address, device) else {
        return Err(format!("host {name} has no node-id, address or volume"));
    };
    Ok(Host { name, node_id, address, minor, disk })
}

fn volume(section: &Statement) -> Result<(u32, Option<String>), String> {
    only(section, &["device", "disk", "meta-disk"])?;
    let (mut minor, mut disk) = (None, None);
    for line in section.inner() {
        match line.head() {
            "device" => minor = line.value().parse().ok(),
            "disk" => disk = Some(line.value()).filter(|path| *path != "none").map(str::to_owned),
            _ => {}
        }
    }
    let minor = minor.ok_or_else(|| "Parse error: a volume has a device minor".to_owned())?;
    Ok((minor, disk))
}
