//! Keys, certificates and signatures by `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `openssl genpkey` takes for keys as `cosign` makes them.
pub const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// A private key, in a folder of its own.
pub struct SigningKey {
    dir: tempfile::TempDir,
}

impl SigningKey {
    /// Makes one. The arguments say which.
    pub fn generate(kind: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let key = Self { dir };
        key.openssl(&[&["genpkey", "-out", "key.pem"], kind].concat());
        key
    }

    /// The public half in PEM.
    pub fn public(&self) -> String {
        text(self.openssl(&["pkey", "-in", "key.pem", "-pubout"]))
    }

    /// The file of the private key.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    /// The signature of bytes over their SHA-256, as it is.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        fs::write(self.dir.path().join("signed"), bytes).unwrap();
        self.openssl(&["dgst", "-sha256", "-sign", "key.pem", "signed"])
    }

    /// As [`SigningKey::sign`], in base64, as `cosign` writes it.
    pub fn sign_in_base64(&self, bytes: &[u8]) -> String {
        fs::write(self.dir.path().join("signature"), self.sign(bytes)).unwrap();
        text(self.openssl(&["base64", "-A", "-in", "signature"]))
    }

    /// A certificate of this key for 127.0.0.1, by itself.
    pub fn certificate(&self) -> PathBuf {
        self.certificate_of("IP:127.0.0.1")
    }

    /// As [`SigningKey::certificate`], for a name such as `DNS:registry.example`.
    pub fn certificate_of(&self, name: &str) -> PathBuf {
        // One that may sign others is not taken as a server's.
        let basic = "basicConstraints=critical,CA:FALSE";
        let name = format!("subjectAltName={name}");
        let names = ["-subj", "/CN=test", "-addext", &name, "-addext", basic, "-days", "2"];
        self.openssl(&[&["req", "-x509", "-new", "-key", "key.pem", "-out", "cert.pem"], &names[..]].concat());
        self.dir.path().join("cert.pem")
    }

    /// Runs `openssl` in this key's folder; it must succeed.
    pub fn openssl(&self, args: &[&str]) -> Vec<u8> {
        run(self.dir.path(), args)
    }
}

fn run(dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").current_dir(dir).args(args).output().expect("openssl runs");
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}
