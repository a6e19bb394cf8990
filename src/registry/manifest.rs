//! What an image is made of. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Reference, RegistryError};
use crate::policy::Digest;

/// How manifests may be written.
pub(super) const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";
/// How layers that are components call themselves: as the CNCF says, and as tools did before.
const COMPONENTS: [&str; 3] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Names that an error lists.
const MOST_NAMES: usize = 5;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    layers: Option<Vec<Written>>,
    manifests: Option<Vec<Written>>,
}

/// A descriptor, as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// Something that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Manifest {
    pub(crate) fn parse(reference: &Reference, text: &[u8]) -> Result<Self, RegistryError> {
        serde_json::from_slice(text).map_err(|error| {
            no_component(
                reference,
                format!("the registry's manifest is none of an image ({error}): push the component anew"),
            )
        })
    }

    /// The one layer that is a component.
    pub(crate) fn component(&self, reference: &Reference) -> Result<Layer, RegistryError> {
        if let Some(manifests) = &self.manifests {
            let listed = names(manifests.iter().map(|listed| listed.digest.as_str()));
            let detail = format!("it is an index of other images: refer to one of them by its own digest ({listed})");
            return Err(no_component(reference, detail));
        }
        let layers = self.layers.as_deref().unwrap_or_default();
        let components: Vec<&Written> =
            layers.iter().filter(|layer| COMPONENTS.contains(&layer.media_type.as_str())).collect();
        match components[..] {
            [layer] => match layer.digest.parse() {
                Ok(digest) => Ok(Layer { digest, size: layer.size }),
                Err(error) => Err(no_component(
                    reference,
                    format!("its layer `{:.200}` cannot be asked for: {error}", layer.digest),
                )),
            },
            [] => {
                let found = names(layers.iter().map(|layer| layer.media_type.as_str()));
                let detail = format!(
                    "it is an image without a component (its layers are {found}): push the component as a layer of the media \
                     type `application/wasm`, as `wkg oci push` does"
                );
                Err(no_component(reference, detail))
            }
            _ => {
                let detail = format!("it has {} components, and a policy is one: push them apart", components.len());
                Err(no_component(reference, detail))
            }
        }
    }

    /// The payloads that were signed, with their signatures, newest last. Those that cannot be any are passed over: anybody
    /// who may push may have written them.
    pub(crate) fn signatures(self, most_payload: u64, most: usize) -> Vec<(Layer, String)> {
        let signature = |layer: Written| {
            let signature = layer.annotations?.remove(SIGNATURE)?;
            let digest = layer.digest.parse().ok()?;
            let fits = layer.media_type == SIMPLE_SIGNING && layer.size <= most_payload;
            fits.then_some((Layer { digest, size: layer.size }, signature))
        };
        let mut found: Vec<_> = self.layers.unwrap_or_default().into_iter().filter_map(signature).collect();
        found.drain(..found.len().saturating_sub(most));
        found
    }
}

fn no_component(reference: &Reference, detail: String) -> RegistryError {
    RegistryError::NoComponent { reference: reference.to_string(), detail }
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<String> = all.map(|name| format!("`{name:.100}`")).collect();
    let more = all.len().saturating_sub(MOST_NAMES);
    all.truncate(MOST_NAMES);
    match (all.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (_, 0) => all.join(", "),
        _ => format!("{} and {more} more", all.join(", ")),
    }
}
