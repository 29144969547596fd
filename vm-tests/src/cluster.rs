//! Makes booted boxes one cluster, in the way an operator would: holdfast's own commands and the tree, nothing else.

use crate::client::ask;
use crate::identity::{address, name};
use crate::link::Output;
use crate::paths::Paths;
use crate::request::{Config, Request};
use anyhow::{Context, Result, bail};
use std::thread;
use std::time::{Duration, Instant};

// Emulated boxes on two cores: a real cluster needs a few seconds for each of these.
const TREE_LIMIT: Duration = Duration::from_secs(60);
const WRITE_LIMIT: Duration = Duration::from_secs(90);
const HEALTH_LIMIT: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(250);

/// Forms the cluster and waits until it is healthy. On failure, what the boxes logged is shown.
pub fn form(paths: &Paths, config: &Config) -> Result<()> {
    let cluster = Cluster { paths, config };
    cluster.form().inspect_err(|_| cluster.show_logs())
}

struct Cluster<'a> {
    paths: &'a Paths,
    config: &'a Config,
}

impl Cluster<'_> {
    fn form(&self) -> Result<()> {
        let first_disk = if self.config.disks > 0 {
            format!("--disk {}", self.check(1, "readlink -f /dev/disk/by-id/virtio-box1-d1")?)
        } else {
            String::new()
        };
        self.check(1, &format!("holdfast init --name lab --address {} {first_disk}", address(1)))?;
        self.check(1, "systemctl enable --now holdfast")?;
        self.until(1, HEALTH_LIMIT, "cat /cluster/leader", |leader| leader == name(1))?;
        let token = self.until(1, TREE_LIMIT, "cat /cluster/token", |token| !token.is_empty())?;
        for number in 2..=self.config.boxes {
            self.check(number, &format!("holdfast join '{token}' --address {}", address(number)))?;
            self.check(number, "systemctl enable --now holdfast")?;
        }
        for number in 1..=self.config.boxes {
            for disk in 1..=self.config.disks {
                if (number, disk) != (1, 1) {
                    self.hand_over(number, disk)?;
                }
            }
        }
        self.until(1, HEALTH_LIMIT, "cat /cluster/health", |health| health == "ok")?;
        Ok(())
    }

    fn hand_over(&self, number: usize, disk: usize) -> Result<()> {
        let link = format!("/dev/disk/by-id/virtio-{}-d{disk}", name(number));
        let device = self.check(number, &format!("basename $(readlink -f {link})"))?;
        let write = format!("echo main > /cluster/nodes/{}/disks/{device}/pool", name(number));
        self.until(number, WRITE_LIMIT, &write, |_| true)?;
        Ok(())
    }

    fn run(&self, number: usize, command: &str) -> Result<Output> {
        ask(self.paths, &Request::Sh { at: number, command: command.into() })
    }

    fn check(&self, number: usize, command: &str) -> Result<String> {
        let said = self.run(number, command)?.checked(&format!("{}: {command}", name(number)))?;
        Ok(said.trim().to_owned())
    }

    /// Repeats a command until it succeeds and says what is wanted.
    fn until(
        &self,
        number: usize,
        limit: Duration,
        command: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let output = self.run(number, command)?;
            let said = output.stdout.trim();
            if output.code == 0 && wanted(said) {
                return Ok(said.to_owned());
            }
            if Instant::now() > deadline {
                bail!(
                    "{}: after {} s, {command:?} still says: {said} {} (exit code {})",
                    name(number),
                    limit.as_secs(),
                    output.stderr.trim(),
                    output.code
                );
            }
            thread::sleep(PAUSE);
        }
    }

    fn show_logs(&self) {
        for number in 1..=self.config.boxes {
            let tail = self
                .run(
                    number,
                    "journalctl -u holdfast -n 30 --no-pager -o short-precise 2>&1; cat /cluster/errors 2>&1",
                )
                .context("no log");
            match tail {
                Ok(tail) => eprintln!("--- {}: holdfast's log\n{}", name(number), tail.stdout),
                Err(error) => eprintln!("--- {}: {error:#}", name(number)),
            }
        }
    }
}
