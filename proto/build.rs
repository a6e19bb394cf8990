//! Compiles our own protocol definitions, without needing a `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=src/store/migrations");
    compile("causeway/v1/feedback.proto", Some("causeway.v1.bin"))?;
    compile("causeway/member/v1/member.proto", None)
}

/// Compiles a file; its definitions are kept by a name for those who ask the server for them.
fn compile(file: &str, definitions: Option<&str>) -> Result<(), Box<dyn Error>> {
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_file(file)?;
    let files = compiler.file_descriptor_set();
    if let Some(name) = definitions {
        let out = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is set by cargo")?;
        let definitions = compiler.include_source_info(false).include_imports(false).encode_file_descriptor_set();
        std::fs::write(std::path::Path::new(&out).join(name), definitions)?;
    }
    // Channels are made by hand (agent::run, member::client), for Unix sockets and for TLS of our own.
    tonic_prost_build::configure().build_transport(false).compile_fds(files)?;
    Ok(())
}
