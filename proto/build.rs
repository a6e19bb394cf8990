//! Compiles our own protocol definitions, without needing a `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=src/store/migrations");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_file("causeway/v1/feedback.proto")?;
    let files = compiler.file_descriptor_set();
    // For those who ask the server for its definitions.
    let out = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is set by cargo")?;
    let definitions = compiler.include_source_info(false).include_imports(false).encode_file_descriptor_set();
    std::fs::write(std::path::Path::new(&out).join("causeway.v1.bin"), definitions)?;
    // Channels are made by hand (agent::run), so that a Unix socket works as well.
    tonic_prost_build::configure().build_transport(false).compile_fds(files)?;
    Ok(())
}
