//! The servers, each in a process of its own. The driver reads `ready PORT` and then writes a command a line:
//! `change N` changes the endpoints of the next N services in one push, `same N` those of service N, `allocated` is
//! answered with the bytes in use.

mod causeway;
mod floor;

use std::io::{BufRead, Write};

use tokio::sync::mpsc;

use crate::allocator;
use crate::options::{Allocations, Peer, ServerOptions};

/// What a server is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Change the next services.
    Change(usize),
    /// Change this service.
    Same(usize),
}

pub fn run(options: ServerOptions) -> Result<(), String> {
    if options.allocations == Allocations::Counted {
        allocator::count();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let (commands, todo) = mpsc::channel(1024);
    std::thread::spawn(move || read_commands(&commands));
    match options.peer {
        Peer::Causeway => runtime.block_on(causeway::serve(options, todo)),
        Peer::Floor => runtime.block_on(floor::serve(options, todo)),
        Peer::GoControlPlane => Err("that one is a process of tests/peers".to_owned()),
    }
}

/// Until the driver closes its end, which is the server's end as well.
fn read_commands(commands: &mpsc::Sender<Command>) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let (word, number) = line.split_once(' ').unwrap_or((&line, ""));
        let command = match (word, number.parse()) {
            ("change", Ok(count)) => Command::Change(count),
            ("same", Ok(service)) => Command::Same(service),
            ("allocated", _) => {
                tell(&format!("allocated {}", allocator::in_use()));
                continue;
            }
            _ => {
                eprintln!("`{line}` is no command");
                continue;
            }
        };
        if commands.blocking_send(command).is_err() {
            return;
        }
    }
}

/// Tells the driver.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    // A driver that is gone ends this process by its standard input.
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}
