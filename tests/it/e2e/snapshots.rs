//! Users' own EndpointSnapshots in files.

use std::time::Duration;

use super::{POD_PORT, Setup, clusterset, resolve};
use crate::support::fleet::Speaks;
use crate::support::traffic::{self, Stream};
use crate::support::{eventually, in_net};

const WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_file_adds_a_backend_and_takes_a_pod_out() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..1, "edge").await;
    let plane = setup.control_plane();
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Sotw);
    gateway.start_envoy().start_agent();
    let (to, host) = (resolve(&plane, "checkout"), clusterset("checkout"));
    let address = in_net(setup.pod_net, 201);
    setup.pods.start("vm-1", address, POD_PORT).await;
    let stream = Stream::start(to, &host, 50);

    let ports = format!("{{main: {POD_PORT}}}");
    let head = "apiVersion: causeway.dev/v1alpha1\nkind: EndpointSnapshot\nmetadata: {namespace: shop, name: mine}\n";
    let entry = format!("{{name: vm-1, addresses: [{address}], ports: {ports}}}");
    setup.clusters.write("east", "mine.yaml", &format!("{head}spec: {{access: checkout, pods: [{entry}]}}\n"));
    eventually("the machine to be asked", WITHIN, || setup.pods.last_asked("vm-1"));
    let out = "{name: checkout-west-0, ready: false}";
    let other = head.replace("mine", "west");
    setup.clusters.write(
        "east",
        "west.yaml",
        &format!("{other}spec: {{access: checkout, cluster: west, pods: [{out}]}}\n"),
    );
    let west = format!("{}:{POD_PORT}", setup.pod_address("west", 0));
    let lists = |address: &str| gateway.page("/clusters").is_some_and(|page| page.contains(&format!("::{address}::")));
    eventually("the pod to be left out", WITHIN, || (!lists(&west)).then_some(()));
    let tally = traffic::send(to, &host, 60).await;
    assert!(!tally.answered_by("-west-") && tally.answered_by("vm-1") && tally.answered_by("-east-"), "{tally:?}");

    setup.clusters.remove("east", "west.yaml");
    setup.clusters.remove("east", "mine.yaml");
    eventually("all to be as it was", WITHIN, || {
        (lists(&west) && !lists(&format!("{address}:{POD_PORT}"))).then_some(())
    });
    let tally = stream.stop().await;
    assert_eq!(tally.failed, Vec::<String>::new());
}
