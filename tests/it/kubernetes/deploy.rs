//! What `deploy/` holds for people to apply is what the code says.

use causeway::kube::crd;

use crate::golden::check_file;

#[test]
fn the_definitions_in_deploy_are_current() {
    for definition in crd::all() {
        let path = format!("deploy/crds/{}.yaml", definition.spec.names.plural);
        check_file(&path, &serde_yaml_ng::to_string(&definition).unwrap());
    }
}
