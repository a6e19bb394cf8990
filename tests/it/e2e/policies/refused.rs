//! What is uploaded and cannot be a policy, while traffic runs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::{Setup, clusterset, resolve};
use super::hostile::resident_kib;
use super::{WITHIN, access, component, condition, contents};
use crate::support::eventually;
use crate::support::fleet::{Speaks, causeway};
use crate::support::traffic::Stream;

const MIB: usize = 1 << 20;

/// A component that imports one instance, which is empty, under this name: the binary format of the component model,
/// as wasm-tools writes `(component (import "NAME" (instance)))`.
fn importing(name: &str) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    // A section of types: one, of an instance without declarations.
    bytes.extend([0x07, 3, 1, 0x42, 0]);
    // A section of imports: one, under a plain name, of an instance of the type 0.
    let length = u8::try_from(name.len()).expect("a short name");
    bytes.extend([0x0a, length + 5, 1, 0x00, length]);
    bytes.extend(name.as_bytes());
    bytes.extend([0x05, 0]);
    bytes
}

/// A number as WebAssembly writes it (LEB128).
fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value % 128) as u8;
        value /= 128;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id], &*number(content.len()), content].concat()
}

/// A component with a module of one function, `(func (param i32 i32) (result i32) (local i32…))`, of this body.
fn with_function(locals: usize, body: &[u8]) -> Vec<u8> {
    let declared = if locals == 0 { vec![0] } else { [vec![1], number(locals), vec![0x7f]].concat() };
    let code = [&*declared, body, &[0x0b]].concat();
    let module = [
        &b"\0asm\x01\0\0\0"[..],
        &section(1, &[1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f]),
        &section(3, &[1, 0]),
        &section(10, &[&[1], &*number(code.len()), &*code].concat()),
    ];
    [&b"\0asm\x0d\0\x01\0"[..], &section(1, &module.concat())].concat()
}

/// Seven megabytes that take gigabytes to compile: a sum of 2.5 million parts.
fn takes_memory() -> Vec<u8> {
    with_function(0, &[&[0x20, 0][..], &[0x20, 1, 0x6a].repeat(2_533_333)].concat())
}

/// One megabyte that takes minutes to compile: 100,000 branches that set some of 100 locals.
#[cfg(feature = "long-checks")]
fn takes_time() -> Vec<u8> {
    let branch = |i: u8| [0x20, 0, 0x04, 0x40, 0x20, 1, 0x21, 2 + i % 100, 0x0b];
    let branches: Vec<u8> = (0..100_000_u32).flat_map(|i| branch((i % 100) as u8)).collect();
    with_function(100, &[&*branches, &[0x20, 2]].concat())
}

/// Sends a body of zeros without waiting for anything, and reads what comes back.
fn put_zeros(to: SocketAddr, policy: &str, size: usize, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(to).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    write!(stream, "PUT /api/v1/policies/{policy} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n{head}\r\n\r\n")
        .expect("the head is taken");
    let (chunk, is_chunked) = (vec![0; MIB], head.contains("chunked"));
    for _ in 0..size / MIB {
        let mut send = || -> std::io::Result<()> {
            if is_chunked {
                write!(stream, "{MIB:x}\r\n")?;
            }
            stream.write_all(&chunk)?;
            if is_chunked { stream.write_all(b"\r\n") } else { Ok(()) }
        };
        // A server that has answered may hang up.
        if send().is_err() {
            break;
        }
    }
    if is_chunked {
        let _ = stream.write_all(b"0\r\n\r\n");
    }
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    (status, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_are_no_policies_are_refused_and_change_nothing() {
    let setup = Setup::new();
    setup.deploy(&Setup::service("checkout", "http"), 0..2, "edge").await;
    setup.clusters.write("east", "checkout-access.yaml", &access("mine", "{clusters: {east: 9, west: 1}}"));
    let mut plane = setup.control_plane();
    plane.command(&["policy", "upload", "mine", &component("lb-weighted-clusters")]);
    let mut gateway = setup.gateway("gw-1", &plane, Speaks::Delta);
    gateway.start_envoy().start_agent();
    let to = resolve(&plane, "checkout");
    eventually("the policy to decide", WITHIN, || (condition(&plane, "Decided").0 == "Decided").then_some(()));
    let stream = Stream::start(to, &clusterset("checkout"), 100);
    let (versions, whole) = (plane.command(&["policy", "show", "mine", "-o", "json"]), contents(&plane, "gw-1"));
    let used = |page: &str| -> serde_json::Value {
        let page: serde_json::Value = serde_json::from_str(page).expect("JSON");
        serde_json::json!([page["versions"], page["version"], page["digest"], page["state"]])
    };

    let read = |name: &str| std::fs::read(component(name)).expect("a committed component");
    let (good, vip) = (read("lb-locality"), read("vip-sticky"));
    let mut spoiled = good.clone();
    spoiled.iter_mut().skip(100).step_by(997).for_each(|byte| *byte ^= 0xff);
    let uploads: [(&str, Vec<u8>, &str); 8] = [
        ("truncated", good[..good.len() / 2].to_vec(), "it is no WebAssembly component that can be read"),
        ("cut-by-one", good[..good.len() - 1].to_vec(), "it is no WebAssembly component that can be read"),
        ("malformed", spoiled, "it is no WebAssembly component that can be read"),
        ("text", b"policy".to_vec(), "it is no WebAssembly component that can be read"),
        ("module", b"\0asm\x01\0\0\0".to_vec(), "it is a WebAssembly module, not a component"),
        ("other-world", vip, "is of the world lb-policy, and this component of vip-policy"),
        ("no-world", b"\0asm\x0d\0\x01\0".to_vec(), "it exports nothing"),
        ("wasi", importing("wasi:clocks/monotonic-clock@0.2.0"), "it imports `wasi:clocks/monotonic-clock@0.2.0`"),
    ];
    let upload = |file: &Path| {
        let output = causeway()
            .args(["policy", "upload", "mine"])
            .arg(file)
            .args(["--admin-addr", &plane.admin.to_string()])
            .output()
            .expect("the binary runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (name, bytes, wanted) in &uploads {
        let file = setup.dir.path().join(format!("{name}.wasm"));
        std::fs::write(&file, bytes).expect("the file can be written");
        let (is_taken, said) = upload(&file);
        println!("{name}: {}", said.trim());
        assert!(!is_taken && said.contains(wanted), "{name}: {said}");
    }
    let exploding = [
        ("takes-memory", takes_memory(), "compiling it took more than 2048 MiB of memory"),
        #[cfg(feature = "long-checks")]
        ("takes-time", takes_time(), "compiling it took more than 60 s of CPU time"),
    ];
    for (name, bytes, wanted) in &exploding {
        let (file, begun) = (setup.dir.path().join(format!("{name}.wasm")), Instant::now());
        std::fs::write(&file, bytes).expect("the file can be written");
        let (is_taken, said) = upload(&file);
        println!("{name}: {:.1} s: {}", begun.elapsed().as_secs_f64(), said.trim());
        assert!(!is_taken && said.contains(wanted), "{name}: {said}");
    }
    // The command does not even send so much.
    let large = setup.dir.path().join("large.wasm");
    std::fs::File::create(&large).and_then(|file| file.set_len(100 * MIB as u64)).expect("the file can be made");
    let (is_taken, said) = upload(&large);
    assert!(!is_taken && said.contains("it has 104857600 bytes, and 33554432 are taken at most"), "{said}");
    // Others do.
    let pid = plane.process().pid();
    let before = resident_kib(pid);
    for head in ["content-length: 104857600", "transfer-encoding: chunked"] {
        for _ in 0..3 {
            let (status, text) = put_zeros(plane.admin, "mine", 100 * MIB, head);
            assert_eq!(status, 413, "{head}: {text}");
            assert!(text.contains("33554432 are taken at most"), "{head}: {text}");
        }
    }
    let after = eventually("the memory of uploads to be given back", WITHIN, || {
        let now = resident_kib(pid);
        (now < before + 40 * 1024).then_some(now)
    });
    println!("resident: {before} KiB before 600 MB that were refused, {after} KiB after");

    assert_eq!(used(&plane.command(&["policy", "show", "mine", "-o", "json"])), used(&versions), "nothing was kept");
    assert_eq!(contents(&plane, "gw-1"), whole, "and nothing changed");
    let tally = stream.stop().await;
    println!("{} requests meanwhile", tally.total);
    assert_eq!(tally.failed, Vec::<String>::new());
}
