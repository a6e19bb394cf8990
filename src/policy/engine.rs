//! The engine that all policies run in, and what one call may use.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{
    Cache, CacheConfig, Config, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter, Store,
    UpdateDeadline,
};

use super::bindings::{lb, vip};

/// What a call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Instructions, as Wasmtime counts them; a byte copied in bulk counts as one. At least 1.
    pub fuel: u64,
    /// Memory of an instance, all of its memories together, in MiB: 1 to [`Limits::MOST_MEMORY_MIB`].
    pub memory_mib: u32,
}

impl Limits {
    /// The most fuel that can be asked for: a second or two, for which the owner of the truth does nothing else.
    pub const MOST_FUEL: u64 = 1_000_000_000;
    /// The most memory that can be asked for, in MiB: what an instance's place in the pool has room for.
    pub const MOST_MEMORY_MIB: u32 = 256;
}

impl Default for Limits {
    /// 2 to 9 ms, by what is done, by the core and by who shares it. A policy in JavaScript needs 13 million for 1,000
    /// endpoints.
    fn default() -> Self {
        Self { fuel: 6_000_000, memory_mib: 64 }
    }
}

/// A million instructions take 0.3 to 1.5 ms: what takes several times as long does something that fuel does not see, and is
/// ended by the clock. Never before so many ms, since a decision must not depend on who else uses the core.
const LEAST_CPU_MS: u64 = 50;
/// ms for each million instructions.
const CPU_MS_A_MILLION: u64 = 10;
/// How often the clock is looked at while a policy runs.
const TICK: Duration = Duration::from_millis(1);
/// For so many ticks without any call the clock is let go.
const IDLE_TICKS: u32 = 1_000;
/// How long it rests, at most.
const REST: Duration = Duration::from_secs(60);
/// Policies that run at the same time: the owner of the truth, and those who try one out.
const AT_ONCE: u32 = 16;
/// Memories of an instance. A component of Rust has one; one of JavaScript has three, since what stands for WASI in it is
/// modules with memories of their own.
const MEMORIES: u32 = 4;
/// Entries of an instance's tables: functions that are called by pointer.
const TABLE_ELEMENTS: usize = 20_000;
/// The stack of a call, in bytes. Deeper recursion is a trap.
const STACK: usize = 512 * 1024;
/// What a place in the pool keeps of an instance's memory, in bytes: what a question about 1,000 endpoints needs would
/// cost more in page faults than the decision itself.
const KEPT: usize = 512 * 1024;
/// Lines that a call may write, and bytes of each: more is left out.
const MOST_LINES: usize = 64;
const LONGEST_LINE: usize = 1024;
/// Bytes that are read of what a call hands over: an answer about 100,000 endpoints has 800,000.
const MOST_HANDED_OVER: usize = 2 << 20;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever writes the policy.
    Debug,
    /// For whoever runs it.
    Info,
    /// Something is odd.
    Warn,
    /// Something is wrong; a panic, too.
    Error,
}

/// A line that a policy wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// What it says; at most 1024 bytes.
    pub text: String,
}

/// What an instance may still take.
struct Room {
    /// Bytes, for all of its memories together.
    memory: usize,
}

impl ResourceLimiter for Room {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|most| desired > most) {
            return Ok(false);
        }
        match self.memory.checked_sub(desired.saturating_sub(current)) {
            Some(left) => self.memory = left,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= maximum.unwrap_or(TABLE_ELEMENTS).min(TABLE_ELEMENTS))
    }
}

/// What a call has besides its instance.
pub(super) struct State {
    room: Room,
    /// What it wrote.
    pub(super) lines: Vec<Line>,
    /// How many lines were left out.
    pub(super) lines_left_out: u32,
}

impl State {
    fn write(&mut self, level: Level, mut text: String) {
        if self.lines.len() == MOST_LINES {
            self.lines_left_out = self.lines_left_out.saturating_add(1);
            return;
        }
        if text.len() > LONGEST_LINE {
            text.truncate(text.floor_char_boundary(LONGEST_LINE));
        }
        self.lines.push(Line { level, text });
    }
}

impl lb::causeway::policy::lb::Host for State {}
impl vip::causeway::policy::vip::Host for State {}

impl lb::causeway::policy::log::Host for State {
    fn write(&mut self, level: lb::causeway::policy::log::Level, message: String) {
        use lb::causeway::policy::log::Level as Told;
        let level = match level {
            Told::Debug => Level::Debug,
            Told::Info => Level::Info,
            Told::Warn => Level::Warn,
            Told::Error => Level::Error,
        };
        State::write(self, level, message);
    }
}

impl vip::causeway::policy::log::Host for State {
    fn write(&mut self, level: vip::causeway::policy::log::Level, message: String) {
        use vip::causeway::policy::log::Level as Told;
        let level = match level {
            Told::Debug => Level::Debug,
            Told::Info => Level::Info,
            Told::Warn => Level::Warn,
            Told::Error => Level::Error,
        };
        State::write(self, level, message);
    }
}

/// The engine cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("policies cannot run on this machine: {0}")]
pub struct EngineError(String);

/// What policies run in. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    clock: Arc<Clock>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// Makes it. Compiled code is kept in `cache`, by what it was compiled from and by what compiled it, where there is one.
    ///
    /// # Errors
    /// When the machine has no room for the pool of instances, or the folder cannot be used.
    pub fn new(cache: Option<&Path>) -> Result<Self, EngineError> {
        let failed = |error: wasmtime::Error| EngineError(format!("{error:#}"));
        let mut config = config();
        if let Some(folder) = cache {
            let mut kept = CacheConfig::new();
            // A relative one would be refused.
            kept.with_directory(std::path::absolute(folder).map_err(|error| EngineError(error.to_string()))?);
            config.cache(Some(Cache::new(kept).map_err(failed)?));
        }
        let inner = wasmtime::Engine::new(&config).map_err(failed)?;
        let clock = Clock::start(&inner).map_err(|error| EngineError(error.to_string()))?;
        Ok(Self { inner, clock })
    }

    pub(super) fn inner(&self) -> &wasmtime::Engine {
        &self.inner
    }

    /// What one call runs in: to be thrown away after it.
    pub(super) fn store(&self, limits: Limits) -> Result<Store<State>, wasmtime::Error> {
        let memory = (limits.memory_mib.min(Limits::MOST_MEMORY_MIB) as usize) << 20;
        let state = State { room: Room { memory }, lines: Vec::new(), lines_left_out: 0 };
        let mut store = Store::new(&self.inner, state);
        store.limiter(|state| &mut state.room);
        store.set_fuel(limits.fuel)?;
        store.set_hostcall_fuel(MOST_HANDED_OVER);
        let most_cpu_ms = LEAST_CPU_MS.max((limits.fuel / 1_000_000).saturating_mul(CPU_MS_A_MILLION));
        // Nearly all calls end before the clock is looked at for the first time, which then begins to count: a call may
        // have taken up to `LEAST_CPU_MS` more.
        let mut begun_ms = None;
        store.set_epoch_deadline(LEAST_CPU_MS);
        store.epoch_deadline_callback(move |_| {
            // Of this thread's time, so that a machine that is busy otherwise changes no decision.
            let now_ms = cpu_ms();
            if now_ms.saturating_sub(*begun_ms.get_or_insert(now_ms)) >= most_cpu_ms {
                return Err(wasmtime::Trap::Interrupt.into());
            }
            Ok(UpdateDeadline::Continue(1))
        });
        self.clock.wake();
        Ok(store)
    }
}

/// The time that this thread has been on a core, in ms.
fn cpu_ms() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000)
}

fn config() -> Config {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(AT_ONCE)
        .total_core_instances(AT_ONCE * 8)
        .total_memories(AT_ONCE * MEMORIES)
        .total_tables(AT_ONCE * 8)
        .max_core_instances_per_component(64)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(8)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        .max_memory_size((Limits::MOST_MEMORY_MIB as usize) << 20)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEPT)
        .table_keep_resident(KEPT);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .wasm_component_model(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK)
        // The same bits on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(16));
    config
}

/// Lets running policies see that time passes; rests while none runs.
struct Clock {
    ticker: Thread,
    is_resting: AtomicBool,
    calls: AtomicU64,
}

impl Clock {
    fn start(engine: &wasmtime::Engine) -> std::io::Result<Arc<Self>> {
        let weak = engine.weak();
        let (tell, told) = std::sync::mpsc::channel::<Arc<Clock>>();
        let ticks = move || {
            let Ok(clock) = told.recv() else { return };
            let clock = Arc::downgrade(&clock);
            let (mut idle, mut seen) = (0, 0);
            loop {
                match clock.upgrade().map(|clock| clock.is_resting.load(Ordering::SeqCst)) {
                    // Looked at again now and then, so that the thread ends some time after the engine.
                    Some(true) => thread::park_timeout(REST),
                    Some(false) => thread::sleep(TICK),
                    None => return,
                }
                let (Some(engine), Some(clock)) = (weak.upgrade(), clock.upgrade()) else { return };
                if clock.is_resting.load(Ordering::SeqCst) {
                    continue;
                }
                engine.increment_epoch();
                let calls = clock.calls.load(Ordering::SeqCst);
                idle = if calls == seen { idle + 1 } else { 0 };
                seen = calls;
                if idle >= IDLE_TICKS {
                    idle = 0;
                    clock.is_resting.store(true, Ordering::SeqCst);
                    // A call that came before it could see that the clock rests would have nobody to wake it.
                    if clock.calls.load(Ordering::SeqCst) != seen {
                        clock.is_resting.store(false, Ordering::SeqCst);
                    }
                }
            }
        };
        let handle = thread::Builder::new().name("policy-clock".to_owned()).spawn(ticks)?;
        let ticker = handle.thread().clone();
        let clock = Arc::new(Self { ticker, is_resting: AtomicBool::new(false), calls: AtomicU64::new(0) });
        // The thread waits for it; it can only be gone with the process.
        let _ = tell.send(clock.clone());
        Ok(clock)
    }

    fn wake(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.is_resting.load(Ordering::SeqCst) && self.is_resting.swap(false, Ordering::SeqCst) {
            self.ticker.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_of_an_instance_share_what_it_may_have() {
        let mut room = Room { memory: 64 << 20 };
        let mut grows = |from: usize, to: usize| room.memory_growing(from << 20, to << 20, None).unwrap();
        assert!(grows(0, 40));
        assert!(!grows(0, 25), "a second one begins with too much");
        assert!(grows(0, 20));
        assert!(grows(40, 44));
        assert!(!grows(20, 21), "all is taken");
        assert!(!Room { memory: 64 << 20 }.memory_growing(0, 2, Some(1)).unwrap(), "its own limit holds, too");
    }
}
