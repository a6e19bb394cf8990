//! The `causeway` binary: everything it does lives in the library's rooms.

fn main() -> std::process::ExitCode {
    causeway::cli::main()
}
