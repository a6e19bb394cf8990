//! Policies of one's own, from `causeway policy new` to where requests land: what it prints is run as it stands.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use super::super::{PORT, Setup, clusterset, resolve};
use super::{WITHIN, access, access_to, condition, condition_of, contents, shares_of, versions};
use crate::decisions::assert_share;
use crate::support::eventually;
use crate::support::fleet::{ControlPlane, Gateway, Speaks};
use crate::support::in_net;
use crate::support::manifests::{Backend, pool_yaml};
use crate::support::traffic::{self, Stream};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Before what a user would type: where rustup cannot add the target, the way that plugins/README.md has for that.
const RUSTUP: &str = r#"
rustup() { command rustup "$@" || { RUSTC=$("$ROOT"/plugins/build.sh --toolchain); export RUSTC; }; }
"#;

/// Runs lines as a user's shell would, in the folder, with `causeway` on the `PATH` and a control plane's address set.
fn run(lines: &str, folder: &Path, plane: Option<&ControlPlane>) -> String {
    let bin = Path::new(env!("CARGO_BIN_EXE_causeway")).parent().expect("it is in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .args(["-c", &format!("set -euo pipefail\n{RUSTUP}\nset -x\n{lines}")])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", bin.display()))
        .envs(plane.map(|plane| ("CAUSEWAY_ADMIN_ADDR", plane.admin.to_string())))
        .env("ROOT", ROOT)
        // What is built goes where it would for a user; what it is built from on the way is kept for the next time.
        .env_remove("CARGO_TARGET_DIR")
        .env("CARGO_BUILD_BUILD_DIR", format!("{}/policies", env!("CARGO_TARGET_TMPDIR")))
        .output()
        .expect("the tests need bash");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "in {}: {lines}\n{said}", folder.display());
    said
}

/// A policy that is built.
struct Built {
    folder: PathBuf,
    /// The line that uploads it.
    upload: String,
}

/// Generates a policy and runs all that the command says comes next, but for the upload.
fn build(kind: &str, lang: &str, folder: &Path) -> Built {
    let name = format!("my-{kind}");
    let said = run(&format!("causeway policy new {kind} {name} --lang {lang}"), folder, None);
    let mut steps: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(steps.first(), Some(&&*format!("cd {name}")), "{said}");
    let upload = steps.pop().filter(|last| last.starts_with(&format!("causeway policy upload {name} ")));
    let begun = Instant::now();
    let built = run(&steps.join("\n"), folder, None);
    println!("{name} in {lang}: {:.1} s for {steps:?}", begun.elapsed().as_secs_f64());
    let tested = ["2 passed; 0 failed", "1 passed; 0 failed", "# fail 0"];
    assert!(tested.iter().any(|line| built.contains(line)), "its own test passed: {built}");
    Built {
        folder: folder.join(name),
        upload: upload.unwrap_or_else(|| panic!("the last step is the upload: {said}")).to_owned(),
    }
}

struct Live {
    setup: Setup,
    plane: ControlPlane,
    _gateway: Gateway,
    to: SocketAddr,
    stream: Stream,
}

/// A service in two clusters, a gateway in the zone of one of them, and traffic.
async fn live() -> Live {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    setup.deploy(&Setup::service("catalog", "http"), 10..11, "edge").await;
    setup.clusters.remove("east", "catalog-access.yaml");
    let spare = format!("{}/26", in_net(setup.vip_net, 64));
    setup.clusters.write("east", "spare.yaml", &pool_yaml("spare", &spare));
    let plane = setup.control_plane();
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    let stream = Stream::start(to, &clusterset("checkout"), 100);
    Live { setup, plane, _gateway: gateway, to, stream }
}

impl Live {
    fn upload(&self, built: &Built) {
        let said = run(&built.upload, &built.folder, Some(&self.plane));
        assert!(said.contains(" activated: version 1 "), "{said}");
    }

    /// Gives the access the policy, and waits until the Envoy has what it decides.
    fn decide(&self, policy: &str, config: &str) {
        let before = versions(&self.plane, "gw-1");
        self.setup.clusters.write("east", "checkout-access.yaml", &access(policy, config));
        eventually("the policy's decision to be accepted", WITHIN, || {
            let now = versions(&self.plane, "gw-1");
            (now != before && now.values().all(|version| version.is_string())).then_some(())
        });
        assert_eq!(condition(&self.plane, "Accepted").0, "Accepted");
        assert_eq!(condition(&self.plane, "Decided").0, "Decided");
    }

    /// The address that `catalog` gets of a policy.
    async fn address(&self, access: &str, policies: &str) -> String {
        let text = format!(
            "apiVersion: causeway.dev/v1alpha1\nkind: ClusterAccess\nmetadata: {{namespace: shop, \
             name: {access}}}\nspec:\n  service: {{name: catalog}}\n  publish: {{ttlSeconds: 1}}\n{policies}"
        );
        self.setup.clusters.write("east", &format!("{access}.yaml"), &text);
        let vip = self.plane.wait_vip(&format!("shop/{access}"), "Published");
        let address = vip["address"].as_str().expect("an address").to_owned();
        let to = SocketAddr::new(address.parse().expect("an address"), PORT);
        let tally = traffic::send(to, &clusterset("catalog"), 10).await;
        assert_eq!(tally.failed, Vec::<String>::new());
        assert!(tally.answered_by("catalog-"), "{tally:?}");
        address
    }

    /// What each of three accesses gets: one without the policy, one with it, and one that tells it something.
    async fn assert_addresses_change(&self) {
        let last = |address: String| address.rsplit('.').next().and_then(|last| last.parse::<u8>().ok()).expect("IPv4");
        let is_spare = |address: String| last(address) >= 64;
        assert!(!is_spare(self.address("by-default", "").await), "the first pool, where nobody says otherwise");
        let own = "  policies: {vip: {name: my-vip}}\n";
        assert!(is_spare(self.address("by-own", own).await), "the pool with the most free addresses");
        let without = "  policies: {vip: {name: my-vip, config: {without: [spare]}}}\n";
        assert!(!is_spare(self.address("by-own-told", without).await), "a pool is left out");
    }

    async fn end(self) {
        println!("{}", self.plane.command(&["policy", "list"]));
        let tally = self.stream.stop().await;
        println!("{} requests meanwhile", tally.total);
        assert_eq!(tally.failed, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_of_ones_own_in_rust_build_and_decide() {
    let folder = TempDir::new().expect("a temporary folder");
    let (lb, vip) = (build("lb", "rust", folder.path()), build("vip", "rust", folder.path()));
    let live = live().await;
    let even = shares_of(live.to, "checkout", 400).await;
    assert_share(even["east"], 400, 0.5);
    live.upload(&lb);
    live.decide("my-lb", "{}");
    assert_eq!(shares_of(live.to, "checkout", 400).await.get("east"), Some(&400), "the client's own zone first");
    live.upload(&vip);
    live.assert_addresses_change().await;
    live.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_of_ones_own_in_javascript_build_and_decide() {
    let folder = TempDir::new().expect("a temporary folder");
    let (lb, vip) = (build("lb", "js", folder.path()), build("vip", "js", folder.path()));
    // And the example, as plugins/README.md says.
    for part in ["examples-js", "examples-js/test", "wit"] {
        copy_files(&Path::new(ROOT).join("plugins").join(part), &folder.path().join(part));
    }
    let example = folder.path().join("examples-js");
    run("npm install\nnpm test\nnpm run build", &example, None);
    let upload = "causeway policy upload lb-by-load lb-by-load.wasm".to_owned();
    let example = Built { folder: example, upload };

    let live = live().await;
    live.upload(&lb);
    for (config, far) in [("{}", 0.1), ("{farPercent: 40}", 0.4)] {
        live.decide("my-lb", config);
        let landed = shares_of(live.to, "checkout", 1_000).await;
        println!("{config}: {landed:?}");
        assert_share(landed["west"], 1_000, far);
    }
    live.upload(&vip);
    live.assert_addresses_change().await;

    live.upload(&example);
    live.decide("lb-by-load", "{halfAt: 20}");
    let landed = shares_of(live.to, "checkout", 400).await;
    assert_share(landed["east"], 400, 0.5);
    let assignment = contents(&live.plane, "gw-1")["Endpoint shop/checkout/checkout:8080"].to_string();
    assert_eq!(assignment.matches(r#""load_balancing_weight":1000,"#).count(), 4, "its fine steps: {assignment}");
    let logged = live.plane.command(&["policy", "logs", "lb-by-load"]);
    assert!(logged.contains("DEBUG no endpoint reports its load"), "{logged}");
    live.assert_many_take_more_fuel(&example);
    live.end().await;
}

impl Live {
    /// A thousand endpoints are more than JavaScript can go through with the fuel that there is by default.
    fn assert_many_take_more_fuel(&self, example: &Built) {
        let many = Setup::service("many", "http");
        let backends: Vec<Backend> = (0..1_000_u16)
            .map(|i| {
                let [high, low] = (i / 250 * 256 + 1 + i % 250).to_be_bytes();
                Backend::ready(format!("many-east-{i}"), Ipv4Addr::new(127, 200, high, low).into())
            })
            .collect();
        self.setup.clusters.service("east", &many, &backends);
        self.setup.clusters.write("east", "many-access.yaml", &access_to("many", "lb-by-load", "{}"));
        let told = |wanted: &str| {
            eventually(&format!("{wanted} to be told of a thousand endpoints"), WITHIN, || {
                self.plane.row("/api/v1/accesses", "name", "many")?;
                let (reason, message) = condition_of(&self.plane, "many", "Decided");
                (reason == wanted).then_some(message)
            })
        };
        let message = told("OutOfFuel");
        println!("{message}");
        let used = || self.plane.get("/api/v1/policies/lb-by-load")["fuelUsed"].as_u64().expect("a number");
        let before = used();
        run(&format!("{} --fuel 20000000", example.upload), &example.folder, Some(&self.plane));
        told("Decided");
        println!("{} instructions since", used() - before);
    }
}

/// Copies the files of a folder, and none of its folders.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the folder can be made");
    for entry in from.read_dir().expect("the folder is there") {
        let file = entry.expect("it can be listed").path();
        if let (true, Some(name)) = (file.is_file(), file.file_name()) {
            std::fs::copy(&file, to.join(name)).expect("the file can be copied");
        }
    }
}
