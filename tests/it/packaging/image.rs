//! The program as the image has it: as nobody in particular, from a root file system that cannot be written to and has
//! nothing else. `CAUSEWAY_STATIC_BIN` names one that was built as the image's is; without it the program under test runs
//! so, with the C library beside it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::container::STATIC;
use crate::support::fleet::{Process, ureq_get};
use crate::support::manifests::{self, Backend, Clusters, Service};
use crate::support::registry::{Door, Registry};
use crate::support::signing::{P256, SigningKey};
use crate::support::{eventually, free_addr, in_net, own_loopback_net};

/// Who runs there, as the recipe says.
const NOBODY: u32 = 65532;
const WITHIN: Duration = Duration::from_secs(20);
/// A name that only DNS knows, and one that only /etc/hosts knows.
const REGISTRY: &str = "registry.example";
const NEIGHBOUR: &str = "neighbour.example";

/// What a runtime does for a container of this image: a root of its own, `/proc`, the volume, and the files that say how
/// names are found.
const RUNTIME: &str = r#"
root=$1 volume=$2 program=$3; shift 3
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind "$volume" "$root/var/lib/causeway"
mount --bind "$program" "$root/usr/local/bin/program"
mount -o remount,bind,ro "$root"
exec env -i PATH="$PATH" TMPDIR=/var/lib/causeway setpriv --no-new-privs \
    chroot --userspec=65532:65532 --groups= "$root" /usr/local/bin/program "$@"
"#;

struct Image {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Image {
    /// With what the program loads, if anything.
    fn of(program: &Path) -> Self {
        let image = Self { dir: tempfile::tempdir().unwrap(), program: program.to_owned() };
        for folder in ["proc", "etc", "usr/local/bin", "var/lib/causeway"] {
            fs::create_dir_all(image.dir.path().join("root").join(folder)).unwrap();
        }
        image.put("usr/local/bin/program", b"");
        for library in libraries(program) {
            image.put(&library, &fs::read(Path::new("/").join(&library)).unwrap());
        }
        fs::create_dir(image.volume()).unwrap();
        chown(image.volume(), Some(NOBODY), Some(NOBODY)).unwrap();
        image
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.path().join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        // Libraries are to be executable, and it does others no harm.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).unwrap();
    }

    /// `/var/lib/causeway` in the image.
    fn volume(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    /// The program with these arguments; it is the process that is started, so that it ends with it.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-euc", RUNTIME, "sh"]);
        command.arg(self.dir.path().join("root")).arg(self.volume()).arg(&self.program).args(arguments);
        command
    }

    /// What it prints.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("unshare runs");
        let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {errors}{out} (containers need root)");
        out.into_owned()
    }

    /// Names are found as in the files that runtimes give containers.
    fn name_servers(&self, dns: SocketAddr) {
        self.put("etc/resolv.conf", format!("nameserver {}\n", dns.ip()).as_bytes());
        self.put("etc/hosts", format!("127.0.0.1 localhost {NEIGHBOUR}\n").as_bytes());
    }
}

/// Paths, from the root on, of what a program loads.
fn libraries(program: &Path) -> Vec<String> {
    // It fails for some programs that load nothing.
    let output = Command::new("ldd").arg(program).output().expect("ldd runs");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().filter_map(|word| word.strip_prefix('/')).map(str::to_owned).collect()
}

/// A name server that knows one name, at the port that all have; it counts what it was asked for that name.
fn name_server(name: &'static str, is_at: Ipv4Addr) -> (SocketAddr, Arc<AtomicUsize>) {
    let address = SocketAddr::new(in_net(own_loopback_net(), 53), 53);
    let socket = UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error} (port 53 needs root)"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let mut wanted: Vec<u8> =
        name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    wanted.push(0);
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // RFC 1035, 4.1: a header of 12 bytes, the name by its labels, two bytes each of type and class.
            let query = &buffer[..length];
            let Some(end) = query.iter().skip(12).position(|byte| *byte == 0).map(|at| 12 + at + 5) else { continue };
            let Some(question) = query.get(12..end) else { continue };
            let is_ours = question.to_ascii_lowercase().starts_with(&wanted);
            let is_told = is_ours && question.ends_with(&[0, 1, 0, 1]);
            count.fetch_add(usize::from(is_ours), Ordering::SeqCst);
            let code = if is_ours { 0x80 } else { 0x83 };
            let mut answer = [&query[..2], &[0x81, code, 0, 1, 0, u8::from(is_told), 0, 0, 0, 0], question].concat();
            if is_told {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
                answer.extend(is_at.octets());
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    (address, asked)
}

/// That a process is nobody in particular, without any right, and cannot write where it has no volume.
fn is_confined(pid: u32) {
    let container = format!("/proc/{pid}");
    let status = fs::read_to_string(format!("{container}/status")).expect("it runs");
    for line in [format!("Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}"), "CapEff:\t0000000000000000".to_owned()] {
        assert!(status.contains(&line), "{line}: {status}");
    }
    for folder in ["", "etc", "usr/local/bin"] {
        let error = fs::write(format!("{container}/root/{folder}/new"), "").expect_err("it cannot be written to");
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{folder}: {error}");
    }
}

/// The program in question, and whether it is static.
fn program() -> (PathBuf, bool) {
    match std::env::var_os("CAUSEWAY_STATIC_BIN") {
        Some(path) => (path.into(), true),
        None => (env!("CARGO_BIN_EXE_causeway").into(), false),
    }
}

#[test]
fn the_program_serves_from_an_image_of_nothing_else() {
    let (program, is_static) = program();
    assert_eq!(libraries(&program).is_empty(), is_static, "{}", program.display());
    let image = Image::of(&program);
    let (dns, asked) = name_server(REGISTRY, Ipv4Addr::LOCALHOST);
    image.name_servers(dns);
    let key = SigningKey::generate(P256);
    let certificate = key.certificate_of(&format!("DNS:{REGISTRY}"));
    let registry = Registry::start(&Door::Tls { certificate: certificate.clone(), key: key.file() });
    image.put("etc/ssl/certs/ca-certificates.crt", &fs::read(certificate).unwrap());

    let clusters = Clusters::at(image.volume().join("clusters"));
    clusters.cluster_info("east", "Primary", "a");
    clusters.write("east", "pool.yaml", &manifests::pool_yaml("edge", "240.11.0.0/28"));
    let service = Service { name: "checkout".into(), app_protocol: "http", port: 8080, pod_port: 9080 };
    clusters.service("east", &service, &[Backend::ready("checkout-0", Ipv4Addr::new(10, 1, 0, 1).into())]);
    let component = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/components/lb-weighted-clusters.wasm");
    fs::copy(component, clusters.root().join("east/mine.wasm")).unwrap();
    let policy = |name: &str, from: &str| {
        clusters.write(
            "east",
            &format!("{name}.yaml"),
            &format!(
                "apiVersion: causeway.dev/v1alpha1\nkind: Policy\nmetadata: {{name: {name}}}\n\
                 spec: {{world: lb-policy, component: {{{from}}}}}\n"
            ),
        );
    };
    let digest = causeway::policy::Digest::of(&fs::read(clusters.root().join("east/mine.wasm")).unwrap());
    policy("mine", &format!("digest: \"{digest}\", from: {{path: east/mine.wasm}}"));
    let port = registry.host().rsplit(':').next().unwrap().to_owned();
    policy("far", &format!("from: {{oci: \"oci://{REGISTRY}:{port}/p@sha256:{}\"}}", "0".repeat(64)));
    let access = manifests::access_yaml("checkout", "edge", 1);
    let config = "{clusters: {east: 90}}";
    let access = format!("{access}  policies: {{loadBalancing: {{name: mine, config: {config}}}}}\n");
    clusters.write("east", "access.yaml", &access);

    let [xds, admin, names] = [free_addr(), free_addr(), free_addr()];
    let (xds, at, names) = (xds.to_string(), admin.to_string(), names.to_string());
    let arguments = ["serve", "--manifests", "/var/lib/causeway/clusters", "--data-dir", "/var/lib/causeway/data"];
    let addresses = ["--xds-addr", &xds, "--admin-addr", &at, "--dns-addr", &names];
    let mut command = image.command(&[&arguments[..], &addresses].concat());
    let server = Process::start(image.dir.path(), "image", &mut command);
    let get = |path: &str| {
        let (status, body) = ureq_get(admin, path).ok()?;
        (status == 200).then_some(body)
    };
    eventually("the control plane to be ready", WITHIN, || get("/readyz"));

    // Wasmtime compiles in a process of its own, and runs what it made.
    let condition = |policy: &str, kind: &str| {
        let page: serde_json::Value = serde_json::from_str(&get(&format!("/api/v1/policies/{policy}"))?).ok()?;
        let found = page["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)?.clone();
        Some([found["reason"].as_str()?.to_owned(), found["message"].as_str()?.to_owned()])
    };
    eventually("the policy to be in force", WITHIN, || condition("mine", "Active").filter(|[why, _]| why == "Active"));
    let accesses = get("/api/v1/accesses").expect("it is ready");
    assert!(accesses.contains("\"Decided\""), "{accesses}");

    // The registry is found in DNS and held against the image's certificates; it does not have what it is asked for.
    let [_, message] = eventually("the registry to be asked", WITHIN, || {
        condition("far", "Accepted").filter(|[why, _]| why == "NotFound")
    });
    assert!(message.contains("the registry has no such manifest"), "{message}");
    assert!(asked.load(Ordering::SeqCst) > 0, "the name server is asked");

    // A name that /etc/hosts has; the server takes no others of this machine.
    let at = format!("localhost:{}", admin.port());
    let status = image.run(&["status", "--admin-addr", &at]);
    assert!(status.contains("Ready:      yes") && status.contains("Clusters:   1"), "{status}");
    is_confined(server.pid());
}

#[test]
fn a_program_that_is_made_as_the_images_loads_nothing_and_finds_names() {
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("names.rs"), dir.path().join("names"));
    let text = r#"
        fn main() {
            for name in std::env::args().skip(1) {
                let found = std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), 1));
                println!("{name} {:?}", found.map(|all| all.map(|at| at.ip().to_string()).collect::<Vec<_>>()).ok());
            }
        }"#;
    fs::write(&source, text).unwrap();
    let flags = STATIC.split('"').nth(1).unwrap();
    let output =
        Command::new("rustc").args(flags.split(' ')).arg("-o").arg(&program).arg(&source).output().expect("rustc runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(libraries(&program), [""; 0]);

    let image = Image::of(&program);
    let (dns, _) = name_server(REGISTRY, Ipv4Addr::new(192, 0, 2, 7));
    image.name_servers(dns);
    let said = image.run(&[REGISTRY, NEIGHBOUR, "nowhere.example"]);
    let expected =
        format!("{REGISTRY} Some([\"192.0.2.7\"])\n{NEIGHBOUR} Some([\"127.0.0.1\"])\nnowhere.example None\n");
    assert_eq!(said, expected);
}
