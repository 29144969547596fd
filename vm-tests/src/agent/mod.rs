//! The lab's hand in a box: reads frames from a virtio-serial port and runs what they ask for.
//! No network is involved, so it works while the box is cut off, and in a restored box at once.
//! It decides nothing: what a box should be is told by the server.

mod run;
mod setup;

pub use setup::network;

use crate::frame::{Frame, Kind};
use anyhow::{Context, Result};
use run::Commands;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The name of the port, as QEMU is told.
pub const PORT_NAME: &str = "lab.agent";

/// The host's end, shared by all running commands.
#[derive(Clone)]
pub struct Port(Arc<Mutex<File>>);

impl Port {
    /// Sends one frame. A failure is not reported: there is nobody else to tell.
    fn send(&self, frame: &Frame) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = frame.write(&mut *file);
    }
}

/// Serves the port for ever.
pub fn serve() -> Result<()> {
    let path = wait_for_port();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let mut reader = PortReader(file.try_clone()?);
    let port = Port(Arc::new(Mutex::new(file)));
    let commands = Commands::default();
    port.send(&Frame::new(0, Kind::Hello, []));
    loop {
        if let Some(frame) = Frame::read(&mut reader)? {
            handle(frame, &port, &commands);
        }
    }
}

fn handle(frame: Frame, port: &Port, commands: &Commands) {
    match frame.kind {
        Kind::Ping => port.send(&Frame::new(frame.id, Kind::Pong, [])),
        Kind::Run => commands.start(frame.id, &String::from_utf8_lossy(&frame.payload), port),
        Kind::In => commands.input(frame.id, Some(frame.payload)),
        Kind::InEnd => commands.input(frame.id, None),
        Kind::Kill => commands.kill(frame.id),
        Kind::Setup => {
            port.send(&Frame::new(frame.id, Kind::Pong, []));
            let port = port.clone();
            thread::spawn(move || {
                let code = match setup::become_box(&frame.payload) {
                    Ok(()) => 0,
                    Err(error) => {
                        port.send(&Frame::new(frame.id, Kind::Err, format!("{error:#}")));
                        1
                    }
                };
                port.send(&Frame::exit(frame.id, code));
            });
        }
        // Words of the other direction mean nothing here.
        Kind::Out | Kind::Err | Kind::Exit | Kind::Pong | Kind::Hello | Kind::Request => {}
    }
}

/// A port reads as ended while no host is connected; the host comes back, so that is a reason to wait, not to stop.
struct PortReader(File);

impl Read for PortReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer)? {
                0 => thread::sleep(Duration::from_millis(20)),
                count => return Ok(count),
            }
        }
    }
}

fn wait_for_port() -> PathBuf {
    loop {
        if let Some(path) = find_port(Path::new("/sys/class/virtio-ports")) {
            return path;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Looks in sysfs, not for udev's link: the agent must work while udev does not.
fn find_port(class: &Path) -> Option<PathBuf> {
    for entry in fs::read_dir(class).ok()?.flatten() {
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == PORT_NAME {
            return Some(Path::new("/dev").join(entry.file_name()));
        }
    }
    None
}
