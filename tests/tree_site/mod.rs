//! The tree mounted for a test, with a stand-in for the daemon's loop: it grants every wish, files every refusal, and
//! publishes before it answers. Wishes for the volume `stuck` are never answered.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use holdfast::{
    core::{
        facts::ErrorLine,
        intent::Place,
        refusal::Refusal,
        view::View,
        wish::{Or, VolumeChange, Wish},
    },
    edge::fuse::{Answer, Mounted, Sink},
};

use crate::tree_world as world;

enum Event {
    Wish(String, Wish, Answer),
    Refused(String, Refusal, Answer),
    Change(Box<dyn FnOnce(&mut View) + Send>),
    Quit,
}

struct Loop(Mutex<Sender<Event>>);

impl Loop {
    fn send(&self, event: Event) {
        // A loop that has ended drops the answer, which is EIO.
        drop(self.0.lock().unwrap().send(event));
    }
}

impl Sink for Loop {
    fn wish(&self, about: String, wish: Wish, answer: Answer) {
        self.send(Event::Wish(about, wish, answer));
    }

    fn refused(&self, about: String, refusal: Refusal, answer: Answer) {
        self.send(Event::Refused(about, refusal, answer));
    }
}

/// What was asked so far: where, and what.
pub type Asked = Arc<Mutex<Vec<(String, Wish)>>>;

pub struct Site {
    pub at: PathBuf,
    pub asked: Asked,
    send: Sender<Event>,
    worker: Option<JoinHandle<()>>,
}

/// A directory that no other test has.
pub fn place() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let at = std::env::temp_dir().join(format!("holdfast-tree-{}-{number}", std::process::id()));
    fs::create_dir_all(&at).unwrap();
    at
}

/// Why nothing can be mounted here; said once per test, past the capture of the test runner.
pub fn skipped(test: &str) -> bool {
    let why = if !nix::unistd::geteuid().is_root() {
        "only root can mount"
    } else if !Path::new("/dev/fuse").exists() {
        "there is no /dev/fuse"
    } else {
        return false;
    };
    drop(std::io::stderr().write_all(format!("SKIPPED: {test}: {why}\n").as_bytes()));
    true
}

impl Site {
    pub fn new(view: View) -> Site {
        Site::at(&place().join("cluster"), view)
    }

    pub fn at(at: &Path, view: View) -> Site {
        let (send, receive) = channel();
        let asked = Asked::default();
        let mounted = Mounted::mount(at, Arc::new(view.clone()), Loop(Mutex::new(send.clone()))).unwrap();
        let worker = {
            let asked = Arc::clone(&asked);
            std::thread::spawn(move || run(mounted, view, &receive, &asked))
        };
        Site { at: at.to_owned(), asked, send, worker: Some(worker) }
    }

    /// Changes the view as the loop would, and publishes it.
    pub fn change(&self, change: impl FnOnce(&mut View) + Send + 'static) {
        self.send.send(Event::Change(Box::new(change))).unwrap();
    }

    /// Runs a script in the tree: exit code, output, errors. 124: it did not end.
    pub fn run(&self, shell: &str, script: &str) -> (i32, String, String) {
        let output = Command::new("timeout")
            .args(["-k", "5", "20", shell, "-c", script])
            .current_dir(&self.at)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// The output of a script that has to succeed without a word on stderr.
    pub fn good(&self, script: &str) -> String {
        let (code, out, err) = self.run("bash", script);
        assert_eq!((code, err.as_str()), (0, ""), "{script}\n{out}");
        out
    }

    /// The errors of a script that has to fail.
    pub fn bad(&self, script: &str) -> String {
        let (code, out, err) = self.run("bash", script);
        assert!(code != 0 && code != 124, "{script} gave {code}\n{out}{err}");
        err
    }

    pub fn wishes(&self) -> Vec<Wish> {
        self.asked.lock().unwrap().iter().map(|(_, wish)| wish.clone()).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.send.send(Event::Quit));
        if let Some(worker) = self.worker.take() {
            drop(worker.join());
        }
        drop(fs::remove_dir(&self.at));
        drop(self.at.parent().map(fs::remove_dir));
    }
}

fn run(mounted: Mounted, mut view: View, receive: &Receiver<Event>, asked: &Asked) {
    let mut stuck = Vec::new();
    let mut at_s = 1_772_370_000;
    while let Ok(event) = receive.recv() {
        match event {
            Event::Wish(about, wish, answer) => {
                asked.lock().unwrap().push((about.clone(), wish.clone()));
                if about == "volumes/stuck" {
                    stuck.push(answer);
                    continue;
                }
                grant(&mut view, wish);
                mounted.publish(Arc::new(view.clone()));
                answer(Ok(()));
            }
            Event::Refused(about, refusal, answer) => {
                at_s += 1;
                let line = ErrorLine { at_s, number: at_s, about, text: refusal.text.clone() };
                world::change_report(&mut view, "box1", |report| report.errors.push(line));
                mounted.publish(Arc::new(view.clone()));
                answer(Err(refusal));
            }
            Event::Change(change) => {
                change(&mut view);
                mounted.publish(Arc::new(view.clone()));
            }
            Event::Quit => break,
        }
    }
    // What waits gets EIO before the tree goes.
    drop(stuck);
    mounted.unmount().unwrap();
}

fn grant(view: &mut View, wish: Wish) {
    match wish {
        Wish::MakeVolume(name) => world::add(view, world::volume(name.as_str(), 77, None)),
        Wish::RemoveVolume(name) => world::change_intent(view, |intent| drop(intent.volumes.remove(&name))),
        Wish::ChangeVolume(name, change) => world::change_intent(view, |intent| {
            apply(intent.volumes.get_mut(&name).unwrap(), change);
        }),
        Wish::SetClusterName(name) => {
            world::change_intent(view, |intent| intent.cluster.as_mut().unwrap().name = name);
        }
        Wish::SetRole(..)
        | Wish::SetDiskPool(..)
        | Wish::MakePool(_)
        | Wish::RemovePool(_)
        | Wish::MakeGroup(_)
        | Wish::RemoveGroup(_)
        | Wish::SetGroupReplicas(..)
        | Wish::SetGroupPool(..)
        | Wish::SetToken(_)
        | Wish::Join(_) => {}
    }
}

fn apply(volume: &mut holdfast::core::intent::Volume, change: VolumeChange) {
    volume.size = change.size.or(volume.size);
    if let Some(place) = change.place {
        volume.place = Place::clone(&place);
    }
    match change.replicas {
        Some(Or::Set(replicas)) => volume.replicas = Some(replicas),
        Some(Or::Default) => volume.replicas = None,
        None => {}
    }
    match change.pool {
        Some(Or::Set(pool)) => volume.pool = Some(pool),
        Some(Or::Default) => volume.pool = None,
        None => {}
    }
    if let Some(group) = change.group {
        volume.group = group;
    }
}
