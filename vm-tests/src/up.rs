//! The word `up`: builds what is missing, starts the server, has the boxes booted and made a cluster.

use crate::accel;
use crate::client::{self, Input};
use crate::cluster;
use crate::image::{self, Image};
use crate::machine::{Accel, Machine};
use crate::paths::{Paths, lock};
use crate::request::{Config, Request};
use crate::template;
use anyhow::{Context, Result, bail};
use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const SERVER_LIMIT: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// How many boxes.
    pub boxes: usize,
    /// Blank disks of each.
    pub disks: usize,
    /// The size of each.
    pub disk_bytes: u64,
    /// Without a cluster.
    pub is_bare: bool,
}

/// Image, initramfs, saved state: everything boxes start from.
pub fn build(paths: &Paths) -> Result<(Image, Machine, PathBuf)> {
    image::check_host()?;
    let _lock = lock(&paths.cache.join("lock"))?;
    let modules = drbd_modules()?;
    let image = image::ensure(paths, modules.as_deref())?;
    let initrd = image::ensure_initrd(paths, &image)?;
    let accel = accel::ensure(paths, &image.vmlinuz, &initrd)?;
    let machine = Machine { vmlinuz: image.vmlinuz.clone(), initrd, root: image.root.clone(), accel };
    let template = template::ensure(paths, &machine, &image.key)?;
    Ok((image, machine, template))
}

fn drbd_modules() -> Result<Option<PathBuf>> {
    let Some(folder) = env::var_os("DRBD_MODULES").filter(|folder| !folder.is_empty()) else {
        return Ok(None);
    };
    let folder =
        fs::canonicalize(&folder).with_context(|| format!("DRBD_MODULES={}", folder.to_string_lossy()))?;
    if !folder.join("drbd.ko").exists() {
        bail!("DRBD_MODULES={}: there is no drbd.ko in it", folder.display());
    }
    Ok(Some(folder))
}

/// Does what is wished.
pub fn up(paths: &Paths, wish: Wish) -> Result<()> {
    let _lock = lock(&paths.state.join("lock"))?;
    if client::running(paths).is_some() {
        bail!("a lab is up already: `vm-tests/lab status` shows it, `vm-tests/lab down` ends it");
    }
    client::down(paths)?;
    if paths.boxes().exists() {
        fs::remove_dir_all(paths.boxes())?;
    }
    let begin = Instant::now();
    let (image, machine, template) = build(paths)?;
    let daemon = daemon(paths, wish.is_bare)?;
    let drbd = match drbd_modules()? {
        None => "the kernel's own 8.4 (DRBD_MODULES=DIR for version 9)".to_owned(),
        Some(folder) => format!("the modules in {}", folder.display()),
    };
    let run =
        nix::unistd::mkdtemp(Path::new("/tmp/lab.XXXXXX")).context("cannot make a directory in /tmp")?;
    std::os::unix::fs::symlink(&run, paths.run_link())?;
    let accel = machine.accel;
    let Wish { boxes, disks, disk_bytes, is_bare } = wish;
    let config =
        Config { boxes, disks, disk_bytes, machine, template, kernel: image.kernel, drbd, daemon, run };
    fs::write(paths.config(), serde_json::to_vec_pretty(&config)?)?;

    let built = begin.elapsed();
    start_server(paths, &config)?;
    let started = boot_and_form(paths, &config, is_bare);
    if started.is_err() {
        eprintln!("lab: the boxes are left as they are; `vm-tests/lab down` ends them");
    }
    started?;
    let emulated = if accel == Accel::Tcg { ", emulated" } else { "" };
    let drbd = &config.drbd;
    eprintln!(
        "lab: {boxes} boxes are up{emulated}; drbd is {drbd}; {:.1} s for building, {:.1} s for starting",
        built.as_secs_f32(),
        (begin.elapsed() - built).as_secs_f32()
    );
    Ok(())
}

fn boot_and_form(paths: &Paths, config: &Config, is_bare: bool) -> Result<()> {
    if client::call(paths, &Request::Boot, Input::Nothing)? != 0 {
        bail!("not all boxes started");
    }
    if is_bare {
        return Ok(());
    }
    cluster::form(paths, config).context("no cluster came about")
}

/// The daemon to install. A cluster needs one as fresh as the sources; bare boxes take what there is.
fn daemon(paths: &Paths, is_bare: bool) -> Result<Option<PathBuf>> {
    if let Some(elsewhere) = env::var_os("LAB_DAEMON").filter(|file| !file.is_empty()) {
        let file = fs::canonicalize(&elsewhere);
        return file.map(Some).with_context(|| format!("LAB_DAEMON={}", elsewhere.to_string_lossy()));
    }
    let daemon = paths.repo.join("target/release/holdfast");
    if !is_bare {
        let built = Command::new("cargo")
            .args(["build", "--quiet", "--release", "--locked", "--target-dir"])
            .arg(paths.repo.join("target"))
            .current_dir(&paths.repo)
            .status()
            .context("cannot run cargo")?;
        if !built.success() {
            bail!("holdfast did not build");
        }
    }
    Ok(daemon.exists().then_some(daemon))
}

fn start_server(paths: &Paths, config: &Config) -> Result<()> {
    let log = File::create(paths.server_log())?;
    let mut server = Command::new(env::current_exe()?)
        .arg("serve")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the lab's server")?;
    let deadline = Instant::now() + SERVER_LIMIT;
    while !config.control().exists() {
        if server.try_wait()?.is_some() || Instant::now() > deadline {
            let said = fs::read_to_string(paths.server_log()).unwrap_or_default();
            bail!("the lab's server did not start: {}", said.trim());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
