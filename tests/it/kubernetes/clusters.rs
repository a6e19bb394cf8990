//! Clusters that are read from their API servers, all the way to requests.

use std::time::Duration;

use super::setup::{Setup, wait_cluster};
use crate::e2e::{clusterset, resolve};
use crate::support::traffic;

const WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn requests_reach_the_pods_of_all_clusters() {
    let setup = Setup::new(&["primary", "east", "west"]);
    setup.deploy("checkout", 2).await;
    let plane = setup.started();
    for cluster in ["primary", "east", "west"] {
        wait_cluster(&plane, cluster, "Synced", WITHIN);
    }
    let _gateway = setup.gateway(&plane);
    let tally = traffic::send(resolve(&plane, "checkout"), &clusterset("checkout"), 60).await;
    assert_eq!(tally.failed, Vec::<String>::new());
    for cluster in ["-primary-", "-east-", "-west-"] {
        assert!(tally.answered_by(cluster), "{cluster}: {:?}", tally.answered);
    }
}
