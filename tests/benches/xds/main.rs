//! What it costs to serve xDS, beside others and beside what cannot be done for less:
//! `cargo bench --no-default-features --features load --bench xds -- --quick`.
//!
//! ```text
//!  this process: clients, rounds, tables ── loopback ──▶ a server in a process of its own, whose CPU and memory are its own
//!                                        ── stdin ─────▶ `change 10`: so the instant of a change is known
//! ```
//!
//! Each server has the same world: services of 20 endpoints, a cluster and an assignment each.
//! * `causeway`: the rooms `snapshot` and `ads` with an owner that gives everybody one view.
//! * `floor`: bytes that were encoded once, written to each stream; requests are read and forgotten. Nothing that is
//!   sent over HTTP/2 by the same libraries can cost less.
//! * `go-control-plane`: of `tests/peers`, with its linear caches, or its snapshot cache for the state of the world.

mod allocator;
mod options;
mod process;
mod scenarios;
mod servers;
mod table;
mod world;

use std::process::ExitCode;

use options::{Options, Role};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

fn main() -> ExitCode {
    let role = match Options::parse(std::env::args().skip(1)) {
        Ok(role) => role,
        Err(wrong) => {
            eprintln!("xds: {wrong}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    causeway::load::allow_many_connections();
    let done = match role {
        Role::Server(server) => servers::run(server),
        Role::Driver(options) => scenarios::run(&options),
        Role::Help => {
            println!("{}", options::USAGE);
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xds: {error}");
            ExitCode::FAILURE
        }
    }
}
