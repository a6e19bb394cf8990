//! Who is calling, and what they may do. One function decides, and every gRPC and HTTP entry asks
//! it, the debug paths included: control planes that checked one door and left another open have had
//! CVEs for it (CVE-2022-39388, CVE-2026-31838, CVE-2026-53714). Pure.

pub mod signature;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// How callers that prove nothing are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Only callers of this machine are served.
    #[default]
    Local,
    /// Anyone who can connect is served (`--insecure`).
    Insecure,
}

/// Who a connection proved to be. Nothing that a caller says of itself (node id, header) is part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A process of this machine: over the loopback interface or a Unix socket.
    Local,
    /// A process elsewhere, which proved nothing.
    Remote {
        /// Its address.
        address: IpAddr,
        /// How such callers are treated here.
        mode: Mode,
    },
    /// The manager of a sub-cluster, by a certificate of the primary's authority.
    Member {
        /// The cluster that the certificate names.
        cluster: Arc<str>,
    },
}

/// The cluster for which a certificate with these URIs speaks: that of its one SPIFFE id
/// `spiffe://<trust domain>/cluster/<name>`. `None` where there is none of this trust domain, or more than one id (which
/// the standard X.509-SVID forbids).
pub fn cluster_of<'a>(uris: impl IntoIterator<Item = &'a str>, trust_domain: &str) -> Option<&'a str> {
    let mut ids = uris.into_iter().filter(|uri| uri.starts_with("spiffe://"));
    let (id, None) = (ids.next()?, ids.next()) else { return None };
    let path = id.strip_prefix("spiffe://")?.strip_prefix(trust_domain)?;
    path.strip_prefix("/cluster/").filter(|name| !name.is_empty() && !name.contains('/'))
}

/// The SPIFFE id of a cluster's manager.
pub fn id_of_cluster(cluster: &str, trust_domain: &str) -> String {
    format!("spiffe://{trust_domain}/cluster/{cluster}")
}

impl Identity {
    /// The identity of a TCP connection's other end. An IPv4 address in IPv6 form
    /// (`::ffff:127.0.0.1`, what a dual-stack socket reports) counts as the IPv4 address.
    pub fn of_tcp_peer(peer: SocketAddr, mode: Mode) -> Self {
        let address = peer.ip().to_canonical();
        if address.is_loopback() { Identity::Local } else { Identity::Remote { address, mode } }
    }

    /// The identity of a Unix socket's other end: the socket file's permissions let it in.
    pub fn of_unix_peer() -> Self {
        Identity::Local
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Local => f.write_str("a local process"),
            Identity::Remote { address, .. } => write!(f, "{address}"),
            Identity::Member { cluster } => write!(f, "the member of cluster {cluster}"),
        }
    }
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask whether the process lives and is ready.
    ReadHealth,
    /// Read metrics.
    ReadMetrics,
    /// Read clusters, services, accesses, VIPs and nodes.
    ReadState,
    /// Read what single Envoys are served.
    ReadXdsDebug,
    /// Make the server forget a cluster.
    ForgetCluster,
    /// Read policies: their components, versions, settings and what they wrote.
    ReadPolicies,
    /// Upload a version of a policy.
    UploadPolicy,
    /// Put another version of a policy into force.
    ActivatePolicy,
    /// Forget a policy.
    DeletePolicy,
    /// Be served as an Envoy.
    Discover,
    /// Report listeners and assign VIPs as an Envoy's agent.
    Report,
    /// Tell what a sub-cluster has, as its manager. Of which cluster is asked by [`authorize_cluster`].
    SyncCluster,
}

impl Action {
    /// Every action, so that tests can go through them.
    pub const ALL: [Action; 12] = [
        Action::ReadHealth,
        Action::ReadMetrics,
        Action::ReadState,
        Action::ReadXdsDebug,
        Action::ForgetCluster,
        Action::ReadPolicies,
        Action::UploadPolicy,
        Action::ActivatePolicy,
        Action::DeletePolicy,
        Action::Discover,
        Action::Report,
        Action::SyncCluster,
    ];
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::ReadHealth => "read the health",
            Action::ReadMetrics => "read metrics",
            Action::ReadState => "read the state",
            Action::ReadXdsDebug => "read the xDS state of nodes",
            Action::ForgetCluster => "forget a cluster",
            Action::ReadPolicies => "read policies",
            Action::UploadPolicy => "upload a policy",
            Action::ActivatePolicy => "put a policy into force",
            Action::DeletePolicy => "delete a policy",
            Action::Discover => "be served over xDS",
            Action::Report => "report as an agent",
            Action::SyncCluster => "tell what a cluster has",
        })
    }
}

/// The answer of [`authorize`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// No.
    Deny {
        /// Why and what to do about it, for the caller.
        reason: String,
    },
}

/// Decides whether `identity` may do `action`.
pub fn authorize(identity: &Identity, action: Action) -> Decision {
    match (identity, action) {
        (Identity::Member { .. }, Action::SyncCluster) => Decision::Allow,
        (Identity::Member { .. }, _) => Decision::Deny {
            reason: format!("{identity} may not {action}: its certificate is good for telling what the cluster has"),
        },
        // Whoever speaks for a cluster decides where its traffic goes: being of this machine, or a network that is
        // trusted, does not say for which.
        (Identity::Local | Identity::Remote { .. }, Action::SyncCluster) => Decision::Deny {
            reason: format!(
                "{identity} may not {action}: it takes a certificate that names the cluster; \
                 `causeway cluster join --push` makes one"
            ),
        },
        (Identity::Local, _) => Decision::Allow,
        (Identity::Remote { mode: Mode::Insecure, .. }, _) => Decision::Allow,
        (Identity::Remote { address, mode: Mode::Local }, _) => Decision::Deny {
            reason: format!(
                "{address} may not {action}: this server answers only its own machine; \
                 serve with --insecure to answer anyone who can connect"
            ),
        },
    }
}

/// Decides whether `identity` may tell what this cluster has.
pub fn authorize_cluster(identity: &Identity, cluster: &str) -> Decision {
    match (authorize(identity, Action::SyncCluster), identity) {
        (Decision::Allow, Identity::Member { cluster: own }) if **own == *cluster => Decision::Allow,
        (Decision::Allow, _) => Decision::Deny {
            reason: format!(
                "{identity} may not tell what cluster {cluster} has: give each member the certificate that \
                 `causeway cluster join --push` made for its own cluster"
            ),
        },
        (denied, _) => denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn loopback_in_every_spelling_is_local() {
        for text in ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(Identity::of_tcp_peer(peer(text), Mode::Local), Identity::Local, "{text}");
        }
        assert_eq!(Identity::of_unix_peer(), Identity::Local);
    }

    #[test]
    fn remote_callers_may_do_nothing_unless_insecure() {
        for text in ["10.0.0.1:1", "[fd00::1]:1", "[::ffff:10.0.0.1]:1", "0.0.0.0:1"] {
            for action in Action::ALL {
                let refused = authorize(&Identity::of_tcp_peer(peer(text), Mode::Local), action);
                assert!(matches!(refused, Decision::Deny { .. }), "{text} {action}");
                let admitted = authorize(&Identity::of_tcp_peer(peer(text), Mode::Insecure), action);
                assert_eq!(admitted == Decision::Allow, action != Action::SyncCluster, "{text} {action}");
            }
        }
    }

    #[test]
    fn local_callers_may_do_everything_but_speak_for_a_cluster() {
        for action in Action::ALL {
            let is_allowed = authorize(&Identity::Local, action) == Decision::Allow;
            assert_eq!(is_allowed, action != Action::SyncCluster, "{action}");
        }
    }

    #[test]
    fn members_speak_for_their_own_cluster_and_do_nothing_else() {
        let east = Identity::Member { cluster: "east".into() };
        for action in Action::ALL {
            assert_eq!(authorize(&east, action) == Decision::Allow, action == Action::SyncCluster, "{action}");
        }
        assert_eq!(authorize_cluster(&east, "east"), Decision::Allow);
        for other in ["west", "", "east2", "eas"] {
            assert!(matches!(authorize_cluster(&east, other), Decision::Deny { .. }), "{other}");
        }
        let insecure = Identity::of_tcp_peer(peer("10.0.0.1:1"), Mode::Insecure);
        for identity in [Identity::Local, insecure] {
            let Decision::Deny { reason } = authorize_cluster(&identity, "east") else { panic!("{identity}") };
            assert!(reason.contains("certificate") && reason.contains("join --push"), "{reason}");
        }
    }

    #[test]
    fn a_certificate_names_its_cluster_by_one_id_of_the_trust_domain() {
        let good = id_of_cluster("east", "causeway");
        assert_eq!(cluster_of([good.as_str()], "causeway"), Some("east"));
        assert_eq!(cluster_of(["https://example.test", good.as_str()], "causeway"), Some("east"));
        for uris in [
            vec![],
            vec!["spiffe://causeway/cluster/"],
            vec!["spiffe://causeway/cluster/a/b"],
            vec!["spiffe://causeway/east"],
            vec!["spiffe://causeway2/cluster/east"],
            vec!["spiffe://other/cluster/east"],
            vec!["https://causeway/cluster/east"],
            vec!["spiffe://causeway/cluster/east", "spiffe://causeway/cluster/west"],
        ] {
            assert_eq!(cluster_of(uris.iter().copied(), "causeway"), None, "{uris:?}");
        }
    }

    #[test]
    fn the_reason_names_the_caller_the_action_and_the_remedy() {
        let identity = Identity::of_tcp_peer(peer("[::ffff:10.0.0.1]:1"), Mode::Local);
        let Decision::Deny { reason } = authorize(&identity, Action::ForgetCluster) else { panic!("allowed") };
        for part in ["10.0.0.1", "forget a cluster", "--insecure"] {
            assert!(reason.contains(part), "{reason}");
        }
    }
}
