//! The forms in which a signature comes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// What is read of a bundle: of `sigstore`'s (`cosign sign-blob --bundle`), and of the older one of `cosign` up to v2.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    message_signature: Option<MessageSignature>,
    dsse_envelope: Option<serde::de::IgnoredAny>,
    base64_signature: Option<String>,
}

#[derive(Deserialize)]
struct MessageSignature {
    signature: String,
}

/// The signature's own bytes.
pub(super) fn signature(given: &[u8]) -> Result<Vec<u8>, String> {
    let trimmed = given.trim_ascii();
    if trimmed.first() == Some(&b'{') && std::str::from_utf8(trimmed).is_ok() {
        return from_bundle(trimmed);
    }
    // `openssl` and `base64` break long lines.
    let dense: Vec<u8> = given.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    match STANDARD.decode(&dense) {
        Ok(decoded) => Ok(decoded),
        // One of bytes is not text, but for an accident in 10^20.
        Err(_) if given.iter().any(|byte| !byte.is_ascii_graphic() && !byte.is_ascii_whitespace()) => {
            Ok(given.to_owned())
        }
        Err(error) => Err(format!("it is text, but not base64 ({error})")),
    }
}

fn from_bundle(json: &[u8]) -> Result<Vec<u8>, String> {
    let bundle: Bundle = serde_json::from_slice(json)
        .map_err(|error| format!("it looks like a bundle, but is no such JSON ({error})"))?;
    let text = match bundle {
        Bundle { message_signature: Some(MessageSignature { signature }), .. } => signature,
        Bundle { base64_signature: Some(signature), .. } => signature,
        Bundle { dsse_envelope: Some(_), .. } => {
            return Err("it is a bundle with a statement (`dsseEnvelope`), where one of `cosign sign-blob` is wanted"
                .to_owned());
        }
        _ => return Err("it is JSON with neither `messageSignature` nor `base64Signature`".to_owned()),
    };
    STANDARD.decode(text.trim()).map_err(|error| format!("the bundle's signature is not base64 ({error})"))
}
