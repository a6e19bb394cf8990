//! `causeway rbac`: roles as the code asks for them.

use std::io::Write;

use super::args::Rbac;
use crate::kube::documents::documents;
use crate::kube::manifest::Manifest;
use crate::kube::rbac;

/// Prints the roles, their service account and its namespace.
pub(super) fn run(which: &Rbac, out: &mut dyn Write) -> anyhow::Result<()> {
    let (command, manifests) = match which {
        Rbac::Primary(of) => ("primary", with_namespace(&of.namespace, rbac::primary(&of.namespace))),
        Rbac::SubCluster(of) => ("sub-cluster", with_namespace(&of.namespace, rbac::sub_cluster(&of.namespace))),
        Rbac::Users => ("users", rbac::users()),
    };
    write!(out, "# Printed by `causeway rbac {command}`.\n{}", documents(&manifests)?)?;
    Ok(out.flush()?)
}

fn with_namespace(name: &str, manifests: Vec<Manifest>) -> Vec<Manifest> {
    std::iter::once(rbac::namespace(name)).chain(manifests).collect()
}
