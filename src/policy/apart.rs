//! Compiling in a process of its own. Bytes of anybody may be made so that compiling them takes all time and memory there
//! is: that process limits itself, and where it dies, traffic does not notice. What it compiled lies in the engine's
//! cache, from where [`Component::load`] takes it.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::component::{Component, LoadError, MOST_BYTES};
use super::engine::Engine;
use crate::model::policy::World;

/// How long a compilation is waited for at least: it yields to others, who may leave it a small part of the machine.
const LEAST_PATIENCE: Duration = Duration::from_secs(180);

/// What a compilation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// CPU time, over all cores, in seconds; at least 1.
    pub cpu_seconds: u64,
    /// Memory, in MiB, as `RLIMIT_DATA` counts it: what can be written to and is nobody else's. `RLIMIT_AS` would count the
    /// places of the engine's pool too, which are tens of GiB that are never touched.
    pub memory_mib: u64,
}

impl Default for CompileLimits {
    /// One from JavaScript of 1.6 MB needs a second, one from Python of 18 MB five.
    fn default() -> Self {
        Self { cpu_seconds: 60, memory_mib: 2048 }
    }
}

impl CompileLimits {
    /// How long it is waited for, whatever else the machine does.
    fn patience(self) -> Duration {
        Duration::from_secs(self.cpu_seconds.saturating_mul(3)).max(LEAST_PATIENCE)
    }
}

/// What it adds to its niceness (nice(2)): it yields to whatever serves.
const NICE: i32 = 10;
/// The beginning of what a process said before it died, and the end of it, that are looked at.
const LAST_WORDS: usize = 4096;

/// The hidden command of the `causeway` binary that is such a process.
pub const COMMAND: &str = "policy-compiler";

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The bytes are no policy of the world.
    #[error("{message}")]
    Refused {
        /// [`LoadError::reason`].
        reason: String,
        /// Why, and what to do.
        message: String,
    },
    /// It took all the time or memory that compiling may take, or ended the compiler.
    #[error("compiling it {what}: make it smaller, with fewer and shorter functions")]
    Exploded {
        /// What happened.
        what: String,
    },
    /// The process cannot be started or talked to.
    #[error("the compiler cannot be run: {0}")]
    Process(#[source] io::Error),
}

/// What the process answers.
#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    /// It compiled; the code is in the cache.
    Is(World),
    /// It is none.
    Refused { reason: String, message: String },
}

/// Starts processes that compile.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    cache: PathBuf,
    limits: CompileLimits,
}

impl Compiler {
    /// Compiles with this binary into the cache of an [`Engine`].
    pub fn new(cache: &Path, limits: CompileLimits) -> Self {
        // Is this binary also when another was put in its place.
        Self { program: "/proc/self/exe".into(), cache: cache.to_owned(), limits }
    }

    /// Compiles, and finds out of which world it is where that is not said.
    ///
    /// # Errors
    /// Where the bytes are no policy, or compiling them takes too much.
    pub async fn compile(&self, world: Option<World>, bytes: &[u8]) -> Result<World, CompileError> {
        if bytes.len() > MOST_BYTES {
            return Err(refused(&LoadError::TooLarge { size: bytes.len(), most: MOST_BYTES }));
        }
        let mut command = Command::new(&self.program);
        let CompileLimits { cpu_seconds, memory_mib } = self.limits;
        command.arg(COMMAND).arg("--cache").arg(&self.cache);
        command.args(["--cpu-seconds", &cpu_seconds.to_string(), "--memory-mib", &memory_mib.to_string()]);
        if let Some(world) = world {
            command.args(["--world", world.name()]);
        }
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(CompileError::Process)?;
        let input = child.stdin.take();
        let hand_over = async {
            if let Some(mut input) = input {
                // One that died does not read; how it ended says why.
                let _ = input.write_all(bytes).await;
            }
        };
        let ended = async { tokio::join!(hand_over, child.wait_with_output()).1 };
        let patience = self.limits.patience();
        let output = match tokio::time::timeout(patience, ended).await {
            Ok(output) => output.map_err(CompileError::Process)?,
            Err(_) => return Err(exploded(format!("took more than {} s", patience.as_secs()))),
        };
        understood(&output, self.limits)
    }
}

/// What the process's end means.
fn understood(output: &Output, limits: CompileLimits) -> Result<World, CompileError> {
    match serde_json::from_slice(&output.stdout) {
        Ok(Verdict::Is(world)) if output.status.success() => Ok(world),
        Ok(Verdict::Refused { reason, message }) => Err(CompileError::Refused { reason, message }),
        _ => Err(exploded(cause_of_death(output.status, &output.stderr, limits))),
    }
}

fn cause_of_death(status: ExitStatus, stderr: &[u8], limits: CompileLimits) -> String {
    const SIGKILL: i32 = 9;
    const SIGSEGV: i32 = 11;
    const SIGXCPU: i32 = 24;
    // What happened is said first, and followed by a backtrace, which may be long.
    let (first, last) = (&stderr[..stderr.len().min(LAST_WORDS)], &stderr[stderr.len().saturating_sub(LAST_WORDS)..]);
    let said = [String::from_utf8_lossy(first), String::from_utf8_lossy(last)].concat();
    let is_said = |text: &str| said.contains(text);
    match status.signal() {
        Some(SIGXCPU) => format!("took more than {} s of CPU time", limits.cpu_seconds),
        // The standard library's words, before it aborts.
        _ if is_said("memory allocation of") || is_said("Cannot allocate memory") => {
            format!("took more than {} MiB of memory", limits.memory_mib)
        }
        _ if is_said("has overflowed its stack") => "overflowed the compiler's stack".to_owned(),
        Some(SIGSEGV) => "overflowed the compiler's stack".to_owned(),
        Some(SIGKILL) => "was ended by the system, which is short of memory".to_owned(),
        _ => {
            let mut what = format!("ended the compiler ({status}");
            if let Some(line) = said.lines().find(|line| !line.trim().is_empty()) {
                let _ = write!(what, ": {}", line.escape_debug());
            }
            what + ")"
        }
    }
}

fn exploded(what: String) -> CompileError {
    CompileError::Exploded { what }
}

fn refused(error: &LoadError) -> CompileError {
    CompileError::Refused { reason: error.reason().to_owned(), message: error.to_string() }
}

/// The other end: limits this process, reads a component from `input`, compiles it into the cache and says on `output`
/// what it is. Whatever goes wrong in between ends the process.
///
/// # Errors
/// When it cannot limit itself, read or write, or there is no engine.
pub fn run(
    cache: &Path,
    world: Option<World>,
    limits: CompileLimits,
    input: impl Read,
    mut output: impl Write,
) -> io::Result<()> {
    limit_this_process(limits)?;
    let mut bytes = Vec::new();
    input.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let engine = Engine::new(Some(cache)).map_err(io::Error::other)?;
    let verdict = match of_some_world(&engine, world, &bytes) {
        Ok(component) => Verdict::Is(component.world()),
        Err(error) if error.to_string().contains("Cannot allocate memory") => return Err(io::Error::other(error)),
        Err(error) => Verdict::Refused { reason: error.reason().to_owned(), message: error.to_string() },
    };
    serde_json::to_writer(&mut output, &verdict)?;
    output.flush()
}

/// Loads it as what it is said to be, else as what it is.
fn of_some_world(engine: &Engine, world: Option<World>, bytes: &[u8]) -> Result<Component, LoadError> {
    if let Some(world) = world {
        return Component::load(engine, world, bytes);
    }
    match Component::load(engine, World::Lb, bytes) {
        Err(LoadError::WrongExports { .. }) => match Component::load(engine, World::Vip, bytes) {
            Err(LoadError::WrongExports { found, .. }) => Err(LoadError::NoWorld { found }),
            other => other,
        },
        other => other,
    }
}

fn limit_this_process(CompileLimits { cpu_seconds, memory_mib }: CompileLimits) -> io::Result<()> {
    let limit =
        |resource, most: u64, at_last: u64| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(at_last) });
    // The first limit ends it with a signal that says why, the second in any case.
    limit(Resource::Cpu, cpu_seconds, cpu_seconds.saturating_add(1))?;
    let memory = memory_mib.saturating_mul(1 << 20);
    limit(Resource::Data, memory, memory)?;
    // It may die of this, and nobody wants to see it.
    limit(Resource::Core, 0, 0)?;
    nice(NICE)?;
    // Where the machine has less memory than that, it is this process that goes. Not everybody's system has it.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_has_a_cause() {
        let by_signal = ExitStatus::from_raw;
        for (status, stderr, what) in [
            (by_signal(24), "", "took more than 60 s of CPU time"),
            (by_signal(6), "memory allocation of 268435456 bytes failed\n", "took more than 2048 MiB of memory"),
            (by_signal(6), "\nthread 'main' (7) has overflowed its stack\n", "overflowed the compiler's stack"),
            (by_signal(11), "", "overflowed the compiler's stack"),
            (by_signal(9), "", "was ended by the system, which is short of memory"),
            (by_signal(101 << 8), "\nthread panicked at x\nnote\n", "(exit status: 101: thread panicked at x)"),
        ] {
            let found = cause_of_death(status, stderr.as_bytes(), CompileLimits::default());
            assert!(found.contains(what), "{found}");
        }
        let long =
            format!("memory allocation of 9 bytes failed\nstack backtrace:\n{}", "  at somewhere\n".repeat(1_000));
        let found = cause_of_death(by_signal(6), long.as_bytes(), CompileLimits { cpu_seconds: 5, memory_mib: 300 });
        assert_eq!(found, "took more than 300 MiB of memory");
    }

    #[test]
    fn an_end_without_a_word_is_no_success() {
        let output = |stdout: &str| Output {
            status: ExitStatus::from_raw(0),
            stdout: stdout.as_bytes().to_vec(),
            stderr: Vec::new(),
        };
        let understood = |stdout: &str| understood(&output(stdout), CompileLimits::default());
        assert!(matches!(understood(""), Err(CompileError::Exploded { .. })));
        assert!(matches!(understood(r#"{"Is":"vip-policy"}"#), Ok(World::Vip)));
        let refused = r#"{"Refused":{"reason":"Module","message":"m"}}"#;
        assert!(matches!(understood(refused), Err(CompileError::Refused { .. })));
    }
}
