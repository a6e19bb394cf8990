//! The primary's API server is gone or silent: what is served stays and follows the other clusters, nothing is allocated,
//! also over a restart; and everything heals.

use std::process::Command;
use std::time::{Duration, Instant};

use super::setup::{PORT, Pod, Setup, wait_cluster};
use crate::e2e::{clusterset, resolve};
use crate::support::apiserver::ApiServer;
use crate::support::eventually;
use crate::support::fleet::{ControlPlane, Gateway};
use crate::support::traffic::{self, Stream};

const WITHIN: Duration = Duration::from_secs(60);
/// From a change in another cluster to the gateway that is told of it.
const SOON: Duration = Duration::from_secs(5);

/// The addresses of an access's VIPs, each with its pod.
fn vips_of(plane: &ControlPlane, access: &str) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let vips = plane.vips().into_iter().filter(|vip| vip["access"] == format!("shop/{access}").as_str());
    let mut vips: Vec<_> = vips.map(|vip| (text(&vip["pod"]), text(&vip["address"]))).collect();
    vips.sort();
    vips
}

fn wait_endpoint(gateway: &Gateway, pod: &Pod) {
    let wanted = format!("::{}::", pod.address);
    eventually(&format!("the gateway to have {}", pod.name), SOON, || {
        gateway.page("/clusters").filter(|page| page.contains(&wanted))
    });
}

struct Scene {
    setup: Setup,
    plane: ControlPlane,
    gateway: Gateway,
    checkout: Vec<Pod>,
    cart: Vec<Pod>,
}

impl Scene {
    /// Two clusters with an access to a service, and one to each pod of another service, which changes allocate for.
    async fn new() -> Self {
        let setup = Setup::with(&["primary", "east"], |name, _| ApiServer::start_own(name));
        setup.deploy("checkout", 1).await;
        let checkout = setup.start_pods("east", "checkout-more", 2).await;
        setup.put_service("east", "checkout", &checkout);
        let cart = setup.start_pods("east", "cart", 3).await;
        setup.put_service("east", "cart", &cart[..1]);
        setup.primary().apply(
            "apiVersion: causeway.dev/v1alpha1\nkind: ClusterAccess\nmetadata: {namespace: shop, name: cart}\nspec: {vip: {per: Pod, pool: \
             edge}}\n",
        );
        let plane = setup.started();
        wait_cluster(&plane, "east", "Synced", WITHIN);
        let gateway = setup.gateway(&plane);
        eventually("the pod's VIP", WITHIN, || (vips_of(&plane, "cart").len() == 1).then_some(()));
        Self { setup, plane, gateway, checkout, cart }
    }

    /// Lets the primary be in trouble while `more` pods come in the other cluster.
    async fn endure(&mut self, pods: usize, fail: impl Fn(&Setup), mend: impl Fn(&Setup)) {
        let Self { setup, plane, gateway, checkout, cart } = self;
        let to = resolve(plane, "checkout");
        let stream = Stream::start(to, &clusterset("checkout"), 50);
        let (shared, of_pods) = (vips_of(plane, "checkout"), vips_of(plane, "cart"));

        fail(setup);
        let failed_at = Instant::now();
        wait_cluster(plane, "primary", "Unknown", WITHIN);
        println!("the primary is unknown after {:.1} s", failed_at.elapsed().as_secs_f64());
        // A pod that is to have a VIP of its own comes, and after it one that is only an endpoint.
        setup.put_service("east", "cart", &cart[..pods]);
        let name = format!("checkout-late-{pods}");
        let late = setup.start_pods("east", &name, 1).await;
        checkout.extend(late.clone());
        setup.put_service("east", "checkout", checkout);
        wait_endpoint(gateway, &late[0]);
        eventually("the problem to be told", WITHIN, || {
            let problems = plane.get("/api/v1/status")["problems"].to_string();
            problems.contains("the VIP ledger cannot be written").then_some(())
        });
        assert_eq!((vips_of(plane, "checkout"), vips_of(plane, "cart")), (shared.clone(), of_pods.clone()));

        let kept = "SELECT count(*) FROM kube_object WHERE cluster = 'east' AND kind = 'EndpointSlice'";
        let database = setup.dir.path().join("data/inventory.db");
        let wanted = (1 + checkout.len() + pods).to_string();
        eventually("the new endpoints to be kept", SOON, || {
            let output = Command::new("sqlite3").arg(&database).arg(kept).output().expect("sqlite3 runs");
            (String::from_utf8_lossy(&output.stdout).trim() == wanted).then_some(())
        });
        // A restart knows what was kept, which no kubeconfig is: the other cluster cannot be read until the primary is back.
        plane.process().kill();
        plane.restart();
        plane.wait_ready();
        assert_eq!(wait_cluster(plane, "east", "Unknown", WITHIN)["endpoints"], 1 + checkout.len() + pods);
        assert_eq!((vips_of(plane, "checkout"), vips_of(plane, "cart")), (shared.clone(), of_pods.clone()));
        assert_eq!(resolve(plane, "checkout"), to, "the name is answered again");

        mend(setup);
        wait_cluster(plane, "primary", "Synced", WITHIN);
        wait_cluster(plane, "east", "Synced", WITHIN);
        eventually("an address for each pod", WITHIN, || (vips_of(plane, "cart").len() == pods).then_some(()));
        let objects = setup.primary().kubectl(&["get", "virtualips", "-o", "name"]);
        assert_eq!(objects.lines().count(), pods + 1, "{objects}");
        assert!(of_pods.iter().all(|vip| vips_of(plane, "cart").contains(vip)), "a VIP has moved");
        assert_eq!(vips_of(plane, "checkout"), shared);
        assert_eq!(stream.stop().await.failed, Vec::<String>::new());
        let tally = traffic::send(to, &clusterset("checkout"), 60).await;
        assert!(tally.failed.is_empty() && tally.answered_by("checkout-late"), "{tally:?}");
        assert_eq!(to.port(), PORT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_primary_is_gone_or_silent_what_is_served_stays_and_nothing_is_allocated() {
    let mut scene = Scene::new().await;
    scene.endure(2, |setup| setup.primary().stop(), |setup| setup.primary().resume()).await;
    scene.endure(3, |setup| setup.primary().signal("STOP"), |setup| setup.primary().signal("CONT")).await;
}
