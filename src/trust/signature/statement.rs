//! What `cosign sign` signs: a statement about an image, in the form called simple signing
//! (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>).

use serde::Deserialize;

use super::SignatureError;

/// The only type that is written.
const TYPE: &str = "cosign container image signature";

#[derive(Deserialize)]
struct Statement {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

/// Whether it is about the image with this manifest. Under which name it was signed is not asked: the digest says all.
pub(crate) fn check(manifest_digest: &str, payload: &[u8]) -> Result<(), SignatureError> {
    let Statement { critical: Critical { image: Image { docker_manifest_digest: signed }, kind } } =
        serde_json::from_slice(payload).map_err(|error| SignatureError::NoStatement(error.to_string()))?;
    if kind != TYPE {
        return Err(SignatureError::NoStatement(format!("its `critical.type` is `{kind:.100}`, not `{TYPE}`")));
    }
    if signed != manifest_digest {
        return Err(SignatureError::OtherImage {
            signed: format!("{signed:.100}"),
            wanted: manifest_digest.to_owned(),
        });
    }
    Ok(())
}
