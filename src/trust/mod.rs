//! Who is calling, and what they may do. One function decides, and every gRPC and HTTP entry asks
//! it, the debug paths included: control planes that checked one door and left another open have had
//! CVEs for it (CVE-2022-39388, CVE-2026-31838, CVE-2026-53714). Pure.

pub mod signature;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Action {
    /// Every action, so that tests can go through them.
    pub const ALL: [Action; 11] = [
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
    match identity {
        Identity::Local => Decision::Allow,
        Identity::Remote { mode: Mode::Insecure, .. } => Decision::Allow,
        Identity::Remote { address, mode: Mode::Local } => Decision::Deny {
            reason: format!(
                "{address} may not {action}: this server answers only its own machine; \
                 serve with --insecure to answer anyone who can connect"
            ),
        },
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
                assert_eq!(admitted, Decision::Allow, "{text} {action}");
            }
        }
    }

    #[test]
    fn local_callers_may_do_everything() {
        for action in Action::ALL {
            assert_eq!(authorize(&Identity::Local, action), Decision::Allow);
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
