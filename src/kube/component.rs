//! Components of policies that lie in ConfigMaps of the primary.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::connect::Refused;

/// The bytes under a key of a ConfigMap's `binaryData`. An object of Kubernetes holds 1 MiB at most.
///
/// # Errors
/// Why they cannot be had, for a condition.
pub async fn of_config_map(client: &Client, namespace: &str, name: &str, key: &str) -> Result<Vec<u8>, Refused> {
    let found = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await;
    let map = match found {
        Ok(Some(map)) => map,
        Ok(None) => {
            let message = format!("there is no ConfigMap {namespace}/{name}");
            let remedy = "create it, as `kubectl create configmap NAME --from-file=KEY=component.wasm` does, or correct \
                          spec.component.from.configMapKeyRef";
            return Err(Refused::new("ComponentNotFound", message, remedy));
        }
        Err(kube::Error::Api(status)) if status.code == 403 => {
            let remedy =
                "let components lie in the namespace of Causeway's own objects, or give Causeway a Role in that one";
            return Err(Refused::new("Forbidden", status.message.clone(), remedy));
        }
        Err(error) => {
            let message = format!("the ConfigMap {namespace}/{name} cannot be read: {error}");
            return Err(Refused::new("Unreachable", message, "it is tried again"));
        }
    };
    match map.binary_data.and_then(|mut data| data.remove(key)) {
        Some(bytes) => Ok(bytes.0),
        None => {
            let message = format!("the ConfigMap {namespace}/{name} has no `{key}` in its binaryData");
            Err(Refused::new(
                "ComponentNotFound",
                message,
                "add it, or correct spec.component.from.configMapKeyRef.key",
            ))
        }
    }
}
