//! Public keys.

use std::fmt;

use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use sha2::{Digest as _, Sha256};
use webpki::{Error, RawPublicKeyEntity, ring as algorithms};

/// What can be checked, one for each way in which a key says what it is.
static ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 3] =
    [algorithms::ECDSA_P256_SHA256, algorithms::ED25519, algorithms::RSA_PKCS1_2048_8192_SHA256];
/// The size of a P-256 key whose point is written in full, in bytes of DER.
const P256_SIZE: usize = 91;
/// The sizes of RSA keys of 2048 to 8192 bits with the exponents in use, in bytes of DER.
const RSA_SIZES: std::ops::RangeInclusive<usize> = 292..=1064;

/// Why a text gives no public keys. Each says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has no block of PEM.
    #[error(
        "{file} has no public key: it has to hold what `cosign generate-key-pair` writes to cosign.pub, which begins with `-----BEGIN PUBLIC KEY-----`"
    )]
    NoKey {
        /// The file.
        file: String,
    },
    /// A block of PEM is damaged.
    #[error("{file} is damaged: {detail}; write it anew with `cosign public-key --key cosign.key`")]
    Damaged {
        /// The file.
        file: String,
        /// What was found.
        detail: String,
    },
    /// A private key.
    #[error(
        "the key {position} of {file} is a private key ({label}), which nobody but its owner should have: give its public half, \
         from `cosign public-key --key cosign.key` or `openssl pkey -in key.pem -pubout`"
    )]
    Private {
        /// The file.
        file: String,
        /// Which of its blocks, from 1.
        position: usize,
        /// How the block calls itself.
        label: String,
    },
    /// Something else, such as a certificate.
    #[error(
        "the key {position} of {file} is a {label}, not a PUBLIC KEY: give the key alone (of a certificate: \
         `openssl x509 -in cert.pem -pubkey -noout`)"
    )]
    OtherBlock {
        /// The file.
        file: String,
        /// Which of its blocks, from 1.
        position: usize,
        /// How the block calls itself.
        label: String,
    },
    /// A key of a kind that is not checked here.
    #[error(
        "the key {position} of {file} cannot be used: {detail}; ECDSA on P-256 (what `cosign generate-key-pair` makes), \
         Ed25519 and RSA of 2048 to 8192 bits can"
    )]
    Unusable {
        /// The file.
        file: String,
        /// Which of its blocks, from 1.
        position: usize,
        /// Why.
        detail: String,
    },
}

/// What a key is known by to people: the beginning of the SHA-256 of its DER form, as
/// `openssl pkey -pubin -in cosign.pub -outform der | sha256sum` prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone)]
struct Key {
    id: KeyId,
    spki: SubjectPublicKeyInfoDer<'static>,
    algorithm: &'static dyn SignatureVerificationAlgorithm,
}

/// Public keys, of which any one is enough.
#[derive(Clone, Default)]
pub struct Keys(Vec<Key>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ids()).finish()
    }
}

/// Their ids, as an error lists them.
impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.ids().map(|id| id.to_string()).collect();
        f.write_str(if ids.is_empty() { "(none)" } else { "" })?;
        f.write_str(&ids.join(", "))
    }
}

impl Extend<Keys> for Keys {
    fn extend<I: IntoIterator<Item = Keys>>(&mut self, others: I) {
        for key in others.into_iter().flat_map(|keys| keys.0) {
            if self.ids().all(|id| id != key.id) {
                self.0.push(key);
            }
        }
    }
}

impl Keys {
    /// The keys of a PEM file, whose name errors tell. What is between its blocks is for people.
    ///
    /// # Errors
    /// When there is none, or when one of its blocks is anything but a public key that can be used.
    pub fn from_pem(file: &str, text: &str) -> Result<Self, KeyError> {
        let file = file.to_owned();
        let blocks = match pem::parse_many(text) {
            Ok(blocks) => blocks,
            Err(error) => return Err(KeyError::Damaged { file, detail: error.to_string() }),
        };
        // One that does not end is passed over by the parser.
        let begun = text.matches("-----BEGIN ").count();
        if begun != blocks.len() {
            let detail = format!("{begun} keys begin, and {} end", blocks.len());
            return Err(KeyError::Damaged { file, detail });
        }
        if blocks.is_empty() {
            return Err(KeyError::NoKey { file });
        }
        let mut keys = Self::default();
        for (index, block) in blocks.into_iter().enumerate() {
            let (position, label) = (index + 1, block.tag().to_owned());
            if label.contains("PRIVATE") {
                return Err(KeyError::Private { file, position, label });
            }
            if label != "PUBLIC KEY" {
                return Err(KeyError::OtherBlock { file, position, label });
            }
            match Key::from_der(block.into_contents()) {
                Ok(key) => keys.extend([Self(vec![key])]),
                Err(detail) => return Err(KeyError::Unusable { file, position, detail }),
            }
        }
        Ok(keys)
    }

    /// Whether there is none, so that nothing can be verified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the keys are known by.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.0.iter().map(|key| key.id)
    }

    /// The key that made a signature of bytes, where one did.
    pub(super) fn signer(&self, bytes: &[u8], signature: &[u8]) -> Option<KeyId> {
        self.0.iter().find(|key| key.made(bytes, signature)).map(|key| key.id)
    }
}

impl Key {
    fn from_der(der: Vec<u8>) -> Result<Self, String> {
        let spki = SubjectPublicKeyInfoDer::from(der);
        let size = spki.as_ref().len();
        let entity = RawPublicKeyEntity::try_from(&spki)
            .map_err(|error| format!("it is no public key in DER (SubjectPublicKeyInfo): {error}"))?;
        // The key tells for which algorithm it is. No signature is empty, so what is left to refuse is that.
        let other = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
            let refused = entity.verify_signature(**algorithm, b"", b"");
            matches!(refused, Err(Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)))
        };
        let Some(algorithm) = ALGORITHMS.iter().find(|algorithm| !other(algorithm)).copied() else {
            return Err("it is for another algorithm or another curve".to_owned());
        };
        let (p256, rsa) = (algorithms::ECDSA_P256_SHA256, algorithms::RSA_PKCS1_2048_8192_SHA256);
        if algorithm.public_key_alg_id() == p256.public_key_alg_id() && size != P256_SIZE {
            return Err("its point is compressed, or cut short (`openssl ec -pubin -conv_form uncompressed` \
                        writes it in full)"
                .to_owned());
        }
        if algorithm.public_key_alg_id() == rsa.public_key_alg_id() && !RSA_SIZES.contains(&size) {
            return Err("it has too few or too many bits".to_owned());
        }
        let mut id = [0; 8];
        for (byte, hashed) in id.iter_mut().zip(Sha256::digest(&spki)) {
            *byte = hashed;
        }
        Ok(Self { id: KeyId(id), spki, algorithm })
    }

    fn made(&self, bytes: &[u8], signature: &[u8]) -> bool {
        RawPublicKeyEntity::try_from(&self.spki)
            .and_then(|entity| entity.verify_signature(self.algorithm, bytes, signature))
            .is_ok()
    }
}
