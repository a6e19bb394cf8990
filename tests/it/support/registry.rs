//! A real registry of images: CNCF distribution on loopback.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::manifest::{OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;

use super::apiserver::Supervised;
use super::{built, eventually, free_addr};

/// Who may read and write where passwords are asked for.
pub const USER: &str = "reader";
/// The password.
pub const PASSWORD: &str = "secret";
/// USER and PASSWORD by bcrypt, as `htpasswd -nbB` writes them.
const HTPASSWD: &str = "reader:$2a$04$IAKqCLCox4GxRB/5COmX5eUabyT.RueX.V7hKk3yO0QmNMvlnuuB2\n";
/// It starts in 50 ms; beside other tests in more.
const START: Duration = Duration::from_secs(60);

/// The program, built by `tests/registry/build.sh` where it is not there.
fn binary() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("tests/registry/build.sh"))
}

/// Who is let in, and how.
pub enum Door {
    /// Everybody.
    Open,
    /// Those with a password.
    Password,
    /// Those with a token that somebody gives at a URL, signed with the key of a certificate.
    Token { realm: String, certificate: PathBuf },
    /// Everybody who speaks TLS.
    Tls { certificate: PathBuf, key: PathBuf },
}

/// A registry with an empty folder of its own.
pub struct Registry {
    dir: tempfile::TempDir,
    address: SocketAddr,
    process: Mutex<Option<Supervised>>,
}

impl Registry {
    /// Starts one, and waits until it answers.
    pub fn start(door: &Door) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let address = free_addr();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (auth, tls) = match door {
            Door::Open => (String::new(), String::new()),
            Door::Password => {
                fs::write(path("htpasswd"), HTPASSWD).unwrap();
                (format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path("htpasswd")), String::new())
            }
            Door::Token { realm, certificate } => {
                let token = format!(
                    "realm: \"{realm}\", service: test, issuer: test, rootcertbundle: {}",
                    certificate.display()
                );
                (format!("auth: {{token: {{{token}}}}}\n"), String::new())
            }
            Door::Tls { certificate, key } => {
                let tls = format!(", tls: {{certificate: {}, key: {}}}", certificate.display(), key.display());
                (String::new(), tls)
            }
        };
        let config = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{address}\", secret: test{tls}}}\n{auth}",
            path("data")
        );
        fs::write(path("config.yml"), config).unwrap();
        let registry = Self { dir, address, process: Mutex::new(None) };
        registry.resume();
        registry
    }

    /// Kills it; what it holds stays on disk.
    pub fn stop(&self) {
        *self.process.lock().unwrap() = None;
    }

    /// Starts it at the address that it had, with what it held.
    pub fn resume(&self) {
        let args = ["serve".to_owned(), self.dir.path().join("config.yml").display().to_string()];
        let log = self.dir.path().join("registry.log");
        *self.process.lock().unwrap() = Some(Supervised::spawn(&log, None, binary(), &args));
        eventually(&format!("the registry to answer; see {}", log.display()), START, || {
            TcpStream::connect(self.address).ok()
        });
    }

    /// Sends a signal, such as `STOP` and `CONT`.
    pub fn signal(&self, name: &str) {
        if let Some(process) = self.process.lock().unwrap().as_mut() {
            process.signal(name);
        }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The file in which it keeps a blob.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a digest");
        self.dir.path().join("data/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// A file for this test.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Pushes an image and gives the digest of its manifest.
    pub async fn push(&self, name: &str, tag: &str, layers: &[ImageLayer], auth: &RegistryAuth) -> String {
        let manifest = OciImageManifest::build(layers, &config(), None);
        self.push_as(name, tag, layers, auth, manifest).await
    }

    /// As [`Registry::push`], with a manifest of one's own.
    pub async fn push_as(
        &self,
        name: &str,
        tag: &str,
        layers: &[ImageLayer],
        auth: &RegistryAuth,
        manifest: OciImageManifest,
    ) -> String {
        let image = self.image(name, tag);
        let pushed = client().push(&image, layers, config(), auth, Some(manifest)).await.expect("the push succeeds");
        digest_of(&pushed.manifest_url)
    }

    /// Pushes a manifest alone.
    pub async fn push_manifest(&self, name: &str, tag: &str, manifest: &OciManifest) -> String {
        digest_of(&client().push_manifest(&self.image(name, tag), manifest).await.expect("the push succeeds"))
    }

    fn image(&self, name: &str, tag: &str) -> oci_client::Reference {
        oci_client::Reference::with_tag(self.host(), name.to_owned(), tag.to_owned())
    }
}

fn client() -> oci_client::Client {
    // As in the product: whoever comes first chooses.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
    oci_client::Client::try_from(config).expect("a client")
}

fn config() -> Config {
    Config::new(&b"{}"[..], "application/vnd.wasm.config.v0+json".to_owned(), None)
}

fn digest_of(manifest_url: &str) -> String {
    let digest = manifest_url.rsplit('/').next().expect("a part").to_owned();
    assert!(digest.starts_with("sha256:"), "the URL of a manifest ends with its digest: {manifest_url}");
    digest
}
