//! Kubeconfigs that change: a new one is tried beside the old one, and takes over only when it has shown the cluster.

use std::time::Duration;

use super::setup::{Setup, wait_cluster};
use crate::e2e::{clusterset, resolve};
use crate::support::traffic::Stream;

const WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_kubeconfig_leaves_the_old_one_in_place() {
    let setup = Setup::new(&["primary", "east", "west"]);
    setup.deploy("checkout", 2).await;
    let plane = setup.started();
    wait_cluster(&plane, "east", "Synced", WITHIN);
    let _gateway = setup.gateway(&plane);
    let stream = Stream::start(resolve(&plane, "checkout"), &clusterset("checkout"), 50);
    let good = setup.server("east").kubeconfig_for("admin-token");

    let wrong = [
        (setup.server("east").kubeconfig_for("no-such-token"), "Unauthorized"),
        (setup.server("west").kubeconfig_for("admin-token"), "AnotherCluster"),
        (good.replace("https://127.0.0.1:", "https://127.0.0.1:777777"), "InvalidKubeconfig"),
        (
            good.replace(
                "    token: admin-token",
                "    exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}",
            ),
            "ExecRefused",
        ),
        (good.replace("    token: admin-token", "    auth-provider: {name: gcp}"), "AuthProviderRefused"),
        (good.replace("    token: admin-token", "    tokenFile: /etc/passwd"), "FileRefused"),
        ("nonsense: [".to_owned(), "InvalidKubeconfig"),
    ];
    for (kubeconfig, reason) in wrong {
        setup.put_kubeconfig("east", &kubeconfig);
        let until = std::time::Instant::now() + WITHIN;
        loop {
            let (found, message) = setup.wait_condition("east", "CredentialAccepted", "False", WITHIN);
            if found == reason {
                println!("{reason}: {message}");
                assert!(message.contains("stays in use"), "{message}");
                break;
            }
            assert!(std::time::Instant::now() < until, "{reason} is not told, but {found}: {message}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(wait_cluster(&plane, "east", "Synced", WITHIN)["endpoints"], 2);
    }
    setup.put_kubeconfig("east", &good);
    setup.wait_condition("east", "CredentialAccepted", "True", WITHIN);
    assert_eq!(stream.stop().await.failed, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_come_and_go_without_touching_others() {
    let setup = Setup::new(&["primary", "east"]);
    setup.deploy("checkout", 2).await;
    let plane = setup.started();
    wait_cluster(&plane, "east", "Synced", WITHIN);
    let _gateway = setup.gateway(&plane);
    let stream = Stream::start(resolve(&plane, "checkout"), &clusterset("checkout"), 50);
    setup.primary().kubectl(&["delete", "clusterinfo", "east"]);
    crate::support::eventually("the cluster to be gone", WITHIN, || {
        plane.row("/api/v1/clusters", "name", "east").is_none().then_some(())
    });
    setup.join("east", &setup.server("east").kubeconfig_for("admin-token"));
    assert_eq!(wait_cluster(&plane, "east", "Synced", WITHIN)["endpoints"], 2);
    assert_eq!(stream.stop().await.failed, Vec::<String>::new());
}
