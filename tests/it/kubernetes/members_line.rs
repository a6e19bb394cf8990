//! Members on a bad line: 64 kbit/s with a long delay, and one over which nothing comes any more.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::members::{Scene, WITHIN};
use super::setup::wait_cluster;
use crate::support::eventually;
use crate::support::fleet::ureq_get;

/// Bytes that go over the line in a second, each way: 64 kbit/s.
const RATE: u64 = 8_000;
/// How long each byte is under way.
const DELAY: Duration = Duration::from_millis(300);
/// What the line takes at once.
const PIECE: usize = 512;
/// Pieces that are under way in the line: it holds no more, so that whoever sends feels how slow it is.
const PIECES: usize = 8;

/// A slow line to an address.
struct Line {
    address: SocketAddr,
    /// Nothing comes out of it while this says so.
    silent: watch::Sender<bool>,
    carried: Arc<AtomicU64>,
}

impl Line {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("bound");
        let (silent, _) = watch::channel(false);
        let carried = Arc::new(AtomicU64::new(0));
        let (told, count) = (silent.clone(), carried.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(to).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                for (from, to) in [(near_in, far_out), (far_in, near_out)] {
                    tokio::spawn(carry(from, to, told.subscribe(), count.clone()));
                }
            }
        });
        Self { address, silent, carried }
    }

    fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut silent: watch::Receiver<bool>,
    carried: Arc<AtomicU64>,
) {
    let (pieces, mut arriving) = mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(PIECES);
    tokio::spawn(async move {
        let mut piece = vec![0; PIECE];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            tokio::time::sleep(Duration::from_secs(count as u64) / RATE as u32).await;
            carried.fetch_add(count as u64, Ordering::Relaxed);
            if pieces.send((tokio::time::Instant::now() + DELAY, piece[..count].to_vec())).await.is_err() {
                return;
            }
        }
    });
    while let Some((at, piece)) = arriving.recv().await {
        tokio::time::sleep_until(at).await;
        if silent.wait_for(|silent| !silent).await.is_err() || to.write_all(&piece).await.is_err() {
            return;
        }
    }
}

/// Slices with as many endpoints as Kubernetes puts into one.
fn slices(count: usize, zone: &str) -> String {
    let mut text = String::from(
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: large}\nspec: {ports: [{name: main, port: 80}]}\n",
    );
    for slice in 0..count {
        text += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{namespace: shop, name: large-{slice}, labels: \
             {{kubernetes.io/service-name: large}}}}\naddressType: IPv4\nports: [{{name: main, port: 8080}}]\nendpoints:\n"
        );
        for endpoint in 0..100 {
            writeln!(
                text,
                "- {{addresses: [\"10.{slice}.0.{endpoint}\"], zone: {zone}, nodeName: ip-10-{endpoint}-{slice}, targetRef: {{kind: \
                 Pod, namespace: shop, name: large-{slice}-{:08x}}}}}",
                (slice * 100 + endpoint).wrapping_mul(2_654_435_761) as u32
            )
            .expect("text takes text");
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_line_is_enough_and_a_silent_one_is_noticed() {
    let mut scene = Scene::new(&["primary", "far"]);
    let line = Line::start(scene.door).await;
    scene.via = Some(line.address);
    let server = scene.setup.server("far");
    server.apply(&slices(60, "a"));
    let file = scene.join("far");
    scene.start();
    let since = Instant::now();
    let _member = scene.member("far", &file);
    let row = wait_cluster(&scene.plane, "far", "Synced", 2 * WITHIN);
    assert_eq!(row["endpoints"], 6_000, "{row}");
    println!("6,000 endpoints came within {:.1} s by {} bytes", since.elapsed().as_secs_f64(), line.carried());
    let streams = |count: &str| {
        let (_, page) = ureq_get(scene.plane.admin, "/metrics").expect("metrics");
        let line = format!("causeway_member_streams_total{{cluster=\"far\"}} {count}");
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    };
    streams("1.0");

    // One change, there and seen.
    let since = Instant::now();
    server.kubectl(&["-n", "shop", "create", "service", "clusterip", "new", "--tcp=80"]);
    eventually("the change", WITHIN, || scene.plane.row("/api/v1/services", "name", "new"));
    println!("a change was seen {:.1} s after it was begun", since.elapsed().as_secs_f64());

    // All of it once more: signs of life come through all the same.
    let before = scene.travelled("far");
    server.apply(&slices(60, "b"));
    eventually("the changes", 2 * WITHIN, || (scene.travelled("far") >= before + 60).then_some(()));
    streams("1.0");

    // Nothing comes any more, and no connection is closed.
    let since = Instant::now();
    line.silent.send_replace(true);
    let stale = wait_cluster(&scene.plane, "far", "Unknown", WITHIN);
    println!("stale after {:.1} s: {}", since.elapsed().as_secs_f64(), stale["reason"]);
    assert_eq!(stale["endpoints"], 6_000, "nothing is withdrawn");
    server.kubectl(&["-n", "shop", "delete", "service", "new"]);
    server.kubectl(&["-n", "shop", "create", "service", "clusterip", "newer", "--tcp=80"]);
    let (before, carried) = (scene.travelled("far"), line.carried());
    line.silent.send_replace(false);
    let since = Instant::now();
    wait_cluster(&scene.plane, "far", "Synced", WITHIN);
    let bytes = line.carried() - carried;
    println!("back after {:.1} s by {bytes} bytes", since.elapsed().as_secs_f64());
    assert_eq!(scene.travelled("far") - before, 2, "what changed, and nothing else");
    assert!(bytes < 20_000, "{bytes}");
}
