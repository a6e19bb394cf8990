//! A member whose line is cut, silent and slow, that is killed, and whose primary is killed, again and again while its
//! cluster changes: after quiet the primary has what the cluster has, and little more has travelled than what changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use causeway::kube::manager::Tell;
use causeway::member::simulate;
use causeway::model::object::{Change, Object, ObjectKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::members::Scene;
use super::members_scale::{LONG, PODS, cluster, options, pod};
use super::setup::wait_cluster;
use crate::support::eventually;

const ROUNDS: u64 = if LONG { 100 } else { 6 };
const WITHIN: Duration = Duration::from_secs(120);
/// Bytes a second of a slow line, each way.
const RATE: u64 = 8_000;
const NAME: &str = "c0";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Good,
    /// Nothing comes out of it.
    Silent,
    /// 64 kbit/s, and each piece is 200 ms under way.
    Slow,
}

/// A line to an address: its state, and how often it was cut.
async fn line_to(to: SocketAddr) -> (SocketAddr, watch::Sender<(Line, u64)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("bound");
    let (state, _) = watch::channel((Line::Good, 0));
    let told = state.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(to).await else { continue };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            for (from, to) in [(near_in, far_out), (far_in, near_out)] {
                tokio::spawn(carry(from, to, told.subscribe()));
            }
        }
    });
    (address, state)
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<(Line, u64)>) {
    let cut = state.borrow().1;
    let mut over = state.clone();
    let passes = async {
        let mut piece = vec![0; 2_048];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            if state.borrow().0 == Line::Slow {
                tokio::time::sleep(Duration::from_millis(200 + 1_000 * count as u64 / RATE)).await;
            }
            let may = state.wait_for(|(line, _)| *line != Line::Silent).await.is_ok();
            if !may || to.write_all(&piece[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = passes => {}
        _ = over.wait_for(|(_, now)| *now != cut) => {}
    }
}

/// Numbers that look random, and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

struct Storm {
    scene: Scene,
    file: PathBuf,
    random: Random,
    objects: BTreeMap<ObjectKey, Object>,
    member: Option<(JoinHandle<()>, mpsc::Sender<Tell>)>,
    version: u64,
    changes: u64,
    /// In earlier runs of the primary.
    travelled: u64,
}

impl Storm {
    async fn start_member(&mut self) {
        let (told, receiver) = mpsc::channel(4);
        let options = options(&self.file);
        let task = tokio::spawn(async move { drop(simulate(options, "uid-0", receiver).await) });
        let apply = |object: &Object| Change::Apply { cluster: NAME.into(), object: Box::new(object.clone()) };
        told.send(Tell::Changes(self.objects.values().map(apply).collect())).await.expect("it listens");
        told.send(Tell::Changes(vec![Change::Synced { cluster: NAME.into() }])).await.expect("it listens");
        self.member = Some((task, told));
    }

    /// Pods change, come and go.
    async fn churn(&mut self) {
        for _ in 0..10 + self.random.below(30) {
            self.version += 1;
            self.changes += 1;
            let object = pod(0, self.random.below(PODS as u64) as usize, self.version);
            let key = object.key();
            let change = if self.random.below(4) == 0 && self.objects.remove(&key).is_some() {
                Change::Delete { cluster: NAME.into(), key }
            } else {
                self.objects.insert(key, object.clone());
                Change::Apply { cluster: NAME.into(), object: Box::new(object) }
            };
            if let Some((_, told)) = &self.member {
                told.send(Tell::Changes(vec![change])).await.expect("it listens");
            }
        }
    }

    fn kill_member(&mut self) {
        if let Some((task, _)) = self.member.take() {
            task.abort();
        }
    }

    fn restart_primary(&mut self) {
        self.travelled += self.scene.travelled(NAME);
        self.scene.plane.process().kill();
        self.scene.start();
    }

    fn all_travelled(&self) -> u64 {
        self.travelled + self.scene.travelled(NAME)
    }

    /// Waits until nothing travels any more, and the primary counts what there is.
    fn settle(&self) {
        let pods = self.objects.keys().filter(|key| format!("{:?}", key.kind) == "Pod").count();
        let mut last = 0;
        eventually("quiet", WITHIN, || {
            std::thread::sleep(Duration::from_secs(2));
            let now = self.all_travelled();
            let is_quiet = std::mem::replace(&mut last, now) == now;
            let row = wait_cluster(&self.scene.plane, NAME, "Synced", WITHIN);
            (is_quiet && row["pods"] == pods).then_some(())
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_and_kills_at_random_lose_nothing_and_repeat_little() {
    let mut scene = Scene::new(&["primary"]);
    let (via, line) = line_to(scene.door).await;
    scene.via = Some(via);
    scene.start();
    let file = scene.pushed_file(NAME);
    let objects: BTreeMap<ObjectKey, Object> = cluster(0).into_iter().map(|object| (object.key(), object)).collect();
    let count = objects.len() as u64;
    let random = Random(0x9e37_79b9_7f4a_7c15);
    let mut storm = Storm { scene, file, random, objects, member: None, version: 0, changes: 0, travelled: 0 };
    storm.start_member().await;
    storm.settle();
    let first = storm.all_travelled();
    assert_eq!(first, count, "each once");

    let mut done = BTreeMap::new();
    for _ in 0..ROUNDS {
        storm.churn().await;
        let what = ["cut", "silent", "slow", "member killed", "primary killed"][storm.random.below(5) as usize];
        *done.entry(what).or_insert(0) += 1;
        match what {
            "cut" => line.send_modify(|(_, cuts)| *cuts += 1),
            "silent" => line.send_modify(|(state, _)| *state = Line::Silent),
            "slow" => line.send_modify(|(state, _)| *state = Line::Slow),
            "member killed" => storm.kill_member(),
            _ => storm.restart_primary(),
        }
        tokio::time::sleep(Duration::from_millis(storm.random.below(1_500))).await;
        storm.churn().await;
        tokio::time::sleep(Duration::from_millis(storm.random.below(1_500))).await;
        line.send_modify(|(state, _)| *state = Line::Good);
        if storm.member.is_none() {
            storm.start_member().await;
        }
    }
    storm.settle();
    let (travelled, changes) = (storm.all_travelled() - first, storm.changes);
    println!("{done:?}: {changes} changes of {count} objects, {travelled} travelled");
    // What changed twice while it could not be told travels once; what was under way when the line broke, twice.
    assert!(travelled <= changes + ROUNDS * 40, "{travelled} travelled, {changes} changed");

    // Both ends begin anew, find that they have the same, and say no more.
    storm.kill_member();
    storm.restart_primary();
    let before = storm.travelled;
    storm.start_member().await;
    storm.settle();
    assert_eq!(storm.all_travelled() - before, 0, "the primary had not what the cluster has");
    storm.kill_member();
}
