//! Compiles our own protocol definitions, without needing a `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=src/store/migrations");
    let files = protox::compile(["causeway/v1/feedback.proto"], ["proto"])?;
    // Channels are made by hand (agent::run), so that a Unix socket works as well.
    tonic_prost_build::configure().build_transport(false).compile_fds(files)?;
    Ok(())
}
