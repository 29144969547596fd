//! What boxes boot from: kernel, root file system, initramfs. Made by image/build.sh, cached by what went in.

use crate::paths::{Key, Paths};
use anyhow::{Context, Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs that the lab calls, and the Debian packages they come from.
const PROGRAMS: [(&str, &str); 12] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mmdebstrap", "mmdebstrap"),
    ("mkfs.erofs", "erofs-utils"),
    ("cpio", "cpio"),
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("mke2fs", "e2fsprogs"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("setpriv", "util-linux"),
    ("xz", "xz-utils"),
    ("awk", "mawk"),
];
const IMAGES_KEPT: usize = 2;
const INITRDS_KEPT: usize = 4;

/// A finished image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Changes with everything that went in.
    pub key: String,
    /// The kernel's release, as `uname -r` tells it.
    pub kernel: String,
    /// The kernel.
    pub vmlinuz: PathBuf,
    /// The root file system.
    pub root: PathBuf,
    tree: PathBuf,
}

/// Fails with one sentence where something is missing that the lab cannot do without.
pub fn check_host() -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).collect();
    let is_there = |program: &str| folders.iter().any(|folder| folder.join(program).exists());
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !is_there(program)).map(|&(_, package)| package).collect();
    if !missing.is_empty() {
        bail!("packages are missing: apt-get install {}", missing.join(" "));
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes its image as root");
    }
    Ok(())
}

/// Builds what is missing. `modules` holds DRBD modules to use instead of the kernel's own.
pub fn ensure(paths: &Paths, modules: Option<&Path>) -> Result<Image> {
    let script = paths.build_script();
    let folder = script.parent().context("the build script is nowhere")?;
    let resolved = build(paths, &["resolve"], true)?;
    let kernel = resolved.split_whitespace().nth(1).context("build.sh resolve said nonsense")?.to_owned();

    let base_key = Key::default().add(&resolved).add_path(&script)?.add_path(&folder.join("files"))?.finish();
    let base = paths.cache.join(format!("image-{base_key}"));
    let (tree, vmlinuz) = (base.join("tree"), base.join("vmlinuz"));
    if !base.join("complete").exists() {
        eprintln!("lab: making the boxes' image from Debian packages (a minute or two, once)");
        if base.exists() {
            fs::remove_dir_all(&base)?;
        }
        build(paths, &["base", text(&base)?, &kernel], false)?;
        fs::write(base.join("complete"), "")?;
        paths.prune_cache("image-", IMAGES_KEPT)?;
    }

    let (key, folder) = match modules {
        None => (base_key.clone(), base.join("root")),
        Some(modules) => {
            let key = Key::default().add(&base_key).add_path(modules)?.finish();
            let folder = base.join(format!("root-{key}"));
            (key, folder)
        }
    };
    let root = folder.join("root.erofs");
    if !root.exists() {
        let mut words = vec!["root", text(&tree)?, &kernel, text(&folder)?];
        if let Some(modules) = modules {
            words.push(text(modules)?);
        }
        build(paths, &words, false)?;
    }
    Ok(Image { key, kernel, vmlinuz, root, tree })
}

/// The initramfs that reaches this image, with this very program in it as the agent.
pub fn ensure_initrd(paths: &Paths, image: &Image) -> Result<PathBuf> {
    let agent = env::current_exe()?;
    let init = paths.build_script().with_file_name("init");
    let key = Key::default().add(&image.key).add_path(&agent)?.add_path(&init)?.finish();
    let folder = paths.cache.join(format!("initrd-{key}"));
    let initrd = folder.join("initrd");
    if !initrd.exists() {
        fs::create_dir_all(&folder)?;
        build(paths, &["initrd", text(&image.tree)?, &image.kernel, text(&agent)?, text(&initrd)?], false)?;
        paths.prune_cache("initrd-", INITRDS_KEPT)?;
    }
    Ok(initrd)
}

fn build(paths: &Paths, words: &[&str], is_quiet: bool) -> Result<String> {
    let errors = if is_quiet { Stdio::piped() } else { Stdio::inherit() };
    let output = Command::new("sh")
        .arg(paths.build_script())
        .args(words)
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stderr(errors)
        .output()
        .context("cannot run image/build.sh")?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("image/build.sh {} failed; {}", words.first().unwrap_or(&""), reason.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not plain text", path.display()))
}
