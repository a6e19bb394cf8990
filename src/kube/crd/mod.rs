//! The custom resource definitions. Their schemas are derived from [`super::kinds`]; what a derive cannot say (defaults,
//! rules in CEL, limits, printer columns) is laid over them here, so that the API server refuses what
//! [`super::convert`] would refuse.

mod access;
mod cluster;
mod draft;
mod policy;
mod pool;
mod rules;
mod snapshot;
mod vip;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use schemars::{Schema, SchemaGenerator, json_schema};

use draft::Draft;

/// The schema of what may be any object: its fields are not looked at.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// The definitions of all of Causeway's kinds, in the order in which people meet them.
pub fn all() -> Vec<CustomResourceDefinition> {
    drafts().into_iter().map(Draft::finish).collect()
}

/// The definition of what sub-clusters are given of Causeway's kinds.
pub fn snapshot() -> CustomResourceDefinition {
    snapshot::draft().finish()
}

fn drafts() -> Vec<Draft> {
    vec![cluster::draft(), access::draft(), pool::draft(), vip::draft(), snapshot::draft(), policy::draft()]
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_laid_over_the_schemas_finds_its_place() {
        for draft in super::drafts() {
            assert_eq!(draft.lost(), [""; 0], "{}", draft.kind());
        }
        assert_eq!(super::all().len(), 6);
    }
}
