//! Who made a component: signatures as `cosign` and `openssl` make them, checked against public keys. Pure.
//!
//! A signature is over the component's bytes (`cosign sign-blob`, `openssl dgst -sha256 -sign`), or over a statement that
//! names the digest of an image's manifest (`cosign sign`). Neither says when it was made: one that was good once stays
//! good until the key is taken out.

mod key;
pub(crate) mod statement;
mod text;

#[cfg(test)]
mod tests;

pub use key::{KeyError, KeyId, Keys};

/// The longest signature that is read, in bytes: a bundle with a transparency log's proof has 10 KB.
const MOST_SIGNATURE: usize = 256 << 10;
/// The longest statement that is read, in bytes. Those of `cosign` have 250 bytes and what `-a` adds.
const MOST_STATEMENT: usize = 64 << 10;

/// Why a signature says nothing. Each says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("it is not signed: sign it with `{remedy}`, with one of the keys {keys}")]
    Unsigned {
        /// How one is made.
        remedy: &'static str,
        /// The keys of which one has to sign.
        keys: String,
    },
    /// The text is no signature.
    #[error(
        "its signature cannot be read: {0}; what `cosign sign-blob --output-signature` or `--bundle` writes is taken, or the signature as DER or in base64"
    )]
    Unreadable(String),
    /// No key made it, or it is of other bytes.
    #[error(
        "its signature is of none of the keys {keys}, or of other bytes: sign exactly these bytes with one of them, or trust \
         the key that signed"
    )]
    Foreign {
        /// The keys that were tried.
        keys: String,
    },
    /// What was signed is something else.
    #[error("its signature is of {signed}, not of {wanted}: sign the manifest that is referred to, by its digest")]
    OtherImage {
        /// The digest that was signed.
        signed: String,
        /// The digest of what is to be used.
        wanted: String,
    },
    /// What was signed is no statement about an image.
    #[error("what was signed is no statement of `cosign sign`: {0}")]
    NoStatement(String),
}

impl SignatureError {
    /// In one word, for conditions and machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unsigned { .. } => "Unsigned",
            Self::Unreadable(_) => "SignatureUnreadable",
            Self::Foreign { .. } => "SignatureForeign",
            Self::OtherImage { .. } => "SignatureOfOther",
            Self::NoStatement(_) => "SignatureUnreadable",
        }
    }
}

impl Keys {
    /// Who signed these bytes. The signature is what `cosign sign-blob` writes, alone or in a bundle, or what
    /// `openssl dgst -sha256 -sign` writes, in base64 or as it is. Of a bundle, the signature alone counts: neither its
    /// certificate nor the proofs of its transparency log are looked at.
    ///
    /// # Errors
    /// When none of the keys made it.
    pub fn verify_blob(&self, bytes: &[u8], signature: &[u8]) -> Result<KeyId, SignatureError> {
        if signature.len() > MOST_SIGNATURE {
            return Err(SignatureError::Unreadable(format!("it has more than {MOST_SIGNATURE} bytes")));
        }
        if signature.trim_ascii().is_empty() {
            let remedy = "cosign sign-blob --key cosign.key --output-signature policy.sig policy.wasm";
            return Err(SignatureError::Unsigned { remedy, keys: self.to_string() });
        }
        let signature = text::signature(signature).map_err(SignatureError::Unreadable)?;
        self.signer(bytes, &signature).ok_or_else(|| SignatureError::Foreign { keys: self.to_string() })
    }

    /// Who signed an image: its payload (a statement in JSON, as `cosign sign` stores it) and the signature of the payload's
    /// bytes. `manifest_digest` is that of the image's manifest, `sha256:` and 64 hexadecimal digits.
    ///
    /// # Errors
    /// When none of the keys made it, or when what they signed is not this manifest.
    pub fn verify_image(
        &self,
        manifest_digest: &str,
        payload: &[u8],
        signature: &[u8],
    ) -> Result<KeyId, SignatureError> {
        if payload.len() > MOST_STATEMENT {
            return Err(SignatureError::NoStatement(format!("it has more than {MOST_STATEMENT} bytes")));
        }
        let signer = self.verify_blob(payload, signature)?;
        // What strangers write is not parsed: the signature comes first.
        statement::check(manifest_digest, payload)?;
        Ok(signer)
    }

    /// Who signed an image, where several may have: the first of its payloads and signatures that
    /// [`Keys::verify_image`] takes.
    ///
    /// # Errors
    /// When none is taken: why the last that one of the keys made was not, else why the last was not.
    pub fn verify_image_by_any<'a>(
        &self,
        manifest_digest: &str,
        signatures: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<KeyId, SignatureError> {
        let remedy =
            "cosign sign --key cosign.key --new-bundle-format=false --use-signing-config=false <image>@<digest>";
        let mut reason = SignatureError::Unsigned { remedy, keys: self.to_string() };
        for (payload, signature) in signatures {
            match self.verify_image(manifest_digest, payload, signature) {
                Ok(signer) => return Ok(signer),
                // A known signer's mistake is more telling than a stranger's signature.
                Err(_) if matches!(reason, SignatureError::OtherImage { .. }) => {}
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }
}
