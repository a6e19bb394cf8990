//! Components: from bytes of anybody to something that can be asked.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component as Compiled, HasSelf, Linker};
use wasmtime::{Store, Trap};

use super::answer::decided;
use super::bindings::{lb, vip};
use super::engine::{Engine, Level, Limits, Line, State};
use super::question::LbQuestion;
use crate::model::decision::LbDecision;
use crate::model::policy::World;

/// The largest component that is taken, in bytes. One from Python is 18 MB, from JavaScript 1.6 MB.
pub const MOST_BYTES: usize = 32 << 20;
/// The interfaces of this version's worlds, which is all that a component may import.
const MAY_IMPORT: [&str; 3] = ["causeway:policy/log@0.1.0", "causeway:policy/lb@0.1.0", "causeway:policy/vip@0.1.0"];
/// The most machine code that a component may become, in bytes: it stays in memory. Code of compilers becomes three to
/// five times its size.
const MOST_CODE: usize = 256 << 20;
/// [`CallError::reason`] of what would take away too much.
pub(super) const TOO_MANY_REMOVED: &str = "TooManyRemoved";
/// Names that a refusal lists.
const MOST_NAMES: usize = 5;

/// What a component is known by: the SHA-256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `sha256:` and 64 hexadecimal digits in lower case, as `sha256sum` prints them")]
pub struct NoDigest;

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64).ok_or(NoDigest)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let digit = |digit: u8| match digit {
                b'0'..=b'9' => Ok(digit - b'0'),
                b'a'..=b'f' => Ok(digit - b'a' + 10),
                _ => Err(NoDigest),
            };
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl World {
    /// Its name in `plugins/wit`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lb => "lb-policy",
            Self::Vip => "vip-policy",
        }
    }

    fn exports(self) -> [&'static str; 2] {
        match self {
            Self::Lb => ["inspect", "decide"],
            Self::Vip => ["inspect", "assign"],
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text is no world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a world is `lb-policy` or `vip-policy`")]
pub struct NoWorld;

impl FromStr for World {
    type Err = NoWorld;

    fn from_str(text: &str) -> Result<Self, NoWorld> {
        [Self::Lb, Self::Vip].into_iter().find(|world| world.name() == text).ok_or(NoWorld)
    }
}

/// Why bytes are no policy. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Too many bytes.
    #[error("it has {size} bytes, and {most} are taken at most: build it with `opt-level = \"s\"` and `strip`")]
    TooLarge {
        /// How many it has.
        size: usize,
        /// How many are taken.
        most: usize,
    },
    /// A core module.
    #[error(
        "it is a WebAssembly module, not a component: link it with `wasm-component-ld`, or make a component of it with `wasm-tools component new`"
    )]
    Module,
    /// Not WebAssembly, cut short, or of features that are not served.
    #[error("it is no WebAssembly component that can be read: {0}")]
    Malformed(String),
    /// It wants more than its world gives.
    #[error(
        "it imports {names}; a policy is given nothing but `causeway:policy/log@0.1.0`: build it without WASI (for Rust `--target wasm32-unknown-unknown`)"
    )]
    ForeignImport {
        /// What it imports.
        names: String,
    },
    /// It is of no world, or of another one.
    #[error("it exports {found}; the world {world} (causeway:policy@0.1.0) has `{}` and `{}`", .world.exports()[0], .world.exports()[1])]
    WrongExports {
        /// The world that was wanted.
        world: World,
        /// What it exports.
        found: String,
    },
    /// It is of no world at all.
    #[error(
        "it exports {found}; a policy (causeway:policy@0.1.0) exports `inspect` and either `decide` (lb-policy) or `assign` (vip-policy)"
    )]
    NoWorld {
        /// What it exports.
        found: String,
    },
    /// The functions have other types than the world's.
    #[error("its functions are not those of the world {world} (causeway:policy@0.1.0): {reason}")]
    WrongTypes {
        /// The world that was wanted.
        world: World,
        /// What differs.
        reason: String,
    },
    /// It does not fit into an instance's place.
    #[error("it is too large to run: {0}")]
    TooHungry(String),
}

impl LoadError {
    /// In one word, for conditions and machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "TooLarge",
            Self::Module => "Module",
            Self::Malformed(_) => "Malformed",
            Self::ForeignImport { .. } => "ForeignImport",
            Self::WrongExports { .. } | Self::NoWorld { .. } | Self::WrongTypes { .. } => "WrongWorld",
            Self::TooHungry(_) => "TooHungry",
        }
    }
}

/// Why a call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The policy's own word.
    #[error("it says: {0}")]
    Said(String),
    /// It ran too long.
    #[error("it used up its fuel of {0} instructions")]
    OutOfFuel(u64),
    /// It took too long in a way that fuel does not see.
    #[error("it took too much time")]
    OutOfTime,
    /// It called itself too deeply.
    #[error("its stack overflowed")]
    StackOverflow,
    /// It wanted more memory than it may have, or another trap. What it logged before may say more.
    #[error("it trapped: {0}")]
    Trapped(String),
    /// It answered with something that cannot be done.
    #[error("its answer is refused: {0}")]
    Refused(String),
    /// It answered with something that would take away more of what is in service than it may.
    #[error(
        "it takes {removed} of {of} endpoints out of service ({} %), and at most {most} % may go at once: let it go in \
         smaller steps, or raise the policy's maxRemovedPercent",
        .removed * 100 / .of.max(&1)
    )]
    TooManyRemoved {
        /// Endpoints that would get no requests any more.
        removed: usize,
        /// Endpoints that get them by its last decision, and could go on.
        of: usize,
        /// The limit, in percent.
        most: u32,
    },
}

impl CallError {
    /// In one word, for conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Said(_) => "PolicyError",
            Self::OutOfFuel(_) => "OutOfFuel",
            Self::OutOfTime => "OutOfTime",
            Self::StackOverflow => "StackOverflow",
            Self::Trapped(_) => "Trapped",
            Self::Refused(_) => "DecisionRefused",
            Self::TooManyRemoved { .. } => TOO_MANY_REMOVED,
        }
    }
}

/// An answer, and what was written on the way.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// What was answered.
    pub outcome: Result<T, CallError>,
    /// What the policy wrote.
    pub lines: Vec<Line>,
    /// How many lines were left out.
    pub lines_left_out: u32,
    /// What it used of its fuel, in instructions.
    pub fuel_used: u64,
}

impl<T> Answer<T> {
    /// The same, with another outcome.
    pub fn and_then<U>(self, next: impl FnOnce(T) -> Result<U, CallError>) -> Answer<U> {
        let Self { outcome, lines, lines_left_out, fuel_used } = self;
        Answer { outcome: outcome.and_then(next), lines, lines_left_out, fuel_used }
    }
}

/// What an lb-policy needs to know, under some configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Into how many parts nodes are divided: 1 to 64.
    pub buckets: u32,
}

enum Ready {
    Lb(lb::LbPolicyPre<State>),
    Vip(vip::VipPolicyPre<State>),
}

/// A component that was read, compiled and found to be of its world. It has no state: every call is of a new instance.
pub struct Component {
    engine: Engine,
    digest: Digest,
    size: usize,
    ready: Ready,
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component").field("digest", &self.digest).field("world", &self.world()).finish()
    }
}

impl Component {
    /// Reads and compiles. Takes from a millisecond to seconds, by the component's size.
    ///
    /// # Errors
    /// When it is not a component of the world, or imports anything that the world does not name.
    pub fn load(engine: &Engine, world: World, bytes: &[u8]) -> Result<Self, LoadError> {
        if bytes.len() > MOST_BYTES {
            return Err(LoadError::TooLarge { size: bytes.len(), most: MOST_BYTES });
        }
        // The bytes after the magic: a version of 16 bits, then the layer, which is 0 for modules and 1 for components.
        if bytes.get(..8) == Some(b"\0asm\x01\0\0\0") {
            return Err(LoadError::Module);
        }
        if !bytes.starts_with(b"\0asm") {
            return Err(LoadError::Malformed(
                "it does not begin as WebAssembly does, with a zero byte and `asm`".to_owned(),
            ));
        }
        let compiled = Compiled::from_binary(engine.inner(), bytes).map_err(unreadable)?;
        check_shape(engine, world, &compiled)?;
        let wrong = |error: wasmtime::Error| LoadError::WrongTypes { world, reason: format!("{error:#}") };
        let mut linker = Linker::<State>::new(engine.inner());
        let ready = match world {
            World::Lb => {
                lb::LbPolicy::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state).map_err(wrong)?;
                let pre = linker.instantiate_pre(&compiled).map_err(wrong)?;
                Ready::Lb(lb::LbPolicyPre::new(pre).map_err(wrong)?)
            }
            World::Vip => {
                vip::VipPolicy::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state).map_err(wrong)?;
                let pre = linker.instantiate_pre(&compiled).map_err(wrong)?;
                Ready::Vip(vip::VipPolicyPre::new(pre).map_err(wrong)?)
            }
        };
        let component = Self { engine: engine.clone(), digest: Digest::of(bytes), size: bytes.len(), ready };
        component.try_out()?;
        Ok(component)
    }

    /// One instance is made, as every call will need one.
    fn try_out(&self) -> Result<(), LoadError> {
        let failed = |error: wasmtime::Error| LoadError::TooHungry(format!("{error:#}"));
        let mut store = self.engine.store(Limits::default()).map_err(failed)?;
        match &self.ready {
            Ready::Lb(pre) => pre.instantiate(&mut store).map(|_| ()),
            Ready::Vip(pre) => pre.instantiate(&mut store).map(|_| ()),
        }
        .map_err(failed)
    }

    /// What it is known by.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What it decides on.
    pub fn world(&self) -> World {
        match self.ready {
            Ready::Lb(_) => World::Lb,
            Ready::Vip(_) => World::Vip,
        }
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Checks a configuration (JSON); says what an lb-policy needs.
    pub fn inspect(&self, limits: Limits, config: &str) -> Answer<Needs> {
        self.call(limits, |store| match &self.ready {
            Ready::Lb(pre) => {
                let said = pre.instantiate(&mut *store)?.call_inspect(store, config)?;
                Ok(said.map(|needs| needs.buckets))
            }
            Ready::Vip(pre) => Ok(pre.instantiate(&mut *store)?.call_inspect(store, config)?.map(|()| 1)),
        })
        .and_then(|buckets| match buckets {
            1..=64 => Ok(Needs { buckets }),
            _ => Err(CallError::Refused(format!("it needs {buckets} buckets, which is not within 1 to 64"))),
        })
    }

    /// Asks an lb-policy, and takes its answer only where it can be one.
    pub fn decide(&self, limits: Limits, question: &LbQuestion<'_>) -> Answer<LbDecision> {
        self.decide_unchecked(limits, question).and_then(|answer| decided(question, answer).map_err(CallError::Refused))
    }

    fn decide_unchecked(
        &self,
        limits: Limits,
        question: &LbQuestion<'_>,
    ) -> Answer<lb::causeway::policy::lb::Decision> {
        self.call(limits, |store| match &self.ready {
            Ready::Lb(pre) => {
                let instance = pre.instantiate(&mut *store)?;
                question.handed_over(|question| instance.call_decide(store, question))
            }
            Ready::Vip(_) => Err(wasmtime::Error::msg("a vip-policy is asked where traffic goes")),
        })
    }

    /// Asks a vip-policy, unchecked.
    pub(super) fn assign(
        &self,
        limits: Limits,
        question: vip::causeway::policy::vip::Question<'_>,
    ) -> Answer<vip::causeway::policy::vip::Decision> {
        self.call(limits, |store| match &self.ready {
            Ready::Vip(pre) => pre.instantiate(&mut *store)?.call_assign(store, question),
            Ready::Lb(_) => Err(wasmtime::Error::msg("an lb-policy is asked for an address")),
        })
    }

    /// One call, in a store of its own, which is dropped with all that the policy took.
    fn call<T>(
        &self,
        limits: Limits,
        ask: impl FnOnce(&mut Store<State>) -> wasmtime::Result<Result<T, String>>,
    ) -> Answer<T> {
        let mut store = match self.engine.store(limits) {
            Ok(store) => store,
            Err(error) => {
                let outcome = Err(CallError::Trapped(format!("{error:#}")));
                return Answer { outcome, lines: Vec::new(), lines_left_out: 0, fuel_used: 0 };
            }
        };
        let outcome = match ask(&mut store) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(said)) => Err(CallError::Said(shortened(said))),
            Err(error) => Err(explain(&error, limits)),
        };
        let fuel_used = limits.fuel.saturating_sub(store.get_fuel().unwrap_or_default());
        let state = store.into_data();
        let outcome = outcome.map_err(|error| match (error, state.lines.last()) {
            // A guest's panic hook has the last word.
            (CallError::Trapped(how), Some(line)) if line.level == Level::Error => {
                CallError::Trapped(format!("{how}; its last word was: {}", line.text))
            }
            (error, _) => error,
        });
        Answer { outcome, lines: state.lines, lines_left_out: state.lines_left_out, fuel_used }
    }
}

/// What does not fit into the pool is told in the same kind of error as what cannot be read, and has another remedy.
fn unreadable(error: wasmtime::Error) -> LoadError {
    let why = format!("{error:#}");
    if why.contains("pooling allocator") { LoadError::TooHungry(why) } else { LoadError::Malformed(why) }
}

/// Imports and exports, before a linker says in its own words what is wrong with them.
fn check_shape(engine: &Engine, world: World, compiled: &Compiled) -> Result<(), LoadError> {
    let ty = compiled.component_type();
    let foreign: Vec<String> = ty
        .imports(engine.inner())
        .map(|(name, _)| name.to_owned())
        .filter(|name| !MAY_IMPORT.contains(&&**name))
        .collect();
    if !foreign.is_empty() {
        return Err(LoadError::ForeignImport { names: listed(&foreign) });
    }
    let is_function = |name: &str| {
        ty.get_export(engine.inner(), name).is_some_and(|found| matches!(found.ty, ComponentItem::ComponentFunc(_)))
    };
    if !world.exports().into_iter().all(is_function) {
        let found: Vec<String> = ty.exports(engine.inner()).map(|(name, _)| name.to_owned()).collect();
        return Err(LoadError::WrongExports { world, found: listed(&found) });
    }
    let Some(needed) = compiled.resources_required() else {
        return Err(LoadError::TooHungry("it takes components or modules as arguments".to_owned()));
    };
    let code = compiled.image_range();
    let code = code.end.addr().saturating_sub(code.start.addr());
    if code > MOST_CODE {
        let (code, most) = (code >> 20, MOST_CODE >> 20);
        return Err(LoadError::TooHungry(format!("it becomes {code} MiB of machine code; {most} MiB are the most")));
    }
    let most = u64::from(Limits::MOST_MEMORY_MIB) << 20;
    match needed.max_initial_memory_size {
        Some(size) if size > most => Err(LoadError::TooHungry(format!(
            "its memory begins with {} MiB; {} MiB are the most",
            size >> 20,
            most >> 20
        ))),
        _ => Ok(()),
    }
}

/// Names for people, some of them where there are many.
fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let some: Vec<String> = names.iter().take(MOST_NAMES).map(|name| format!("`{}`", name.escape_debug())).collect();
    let more = names.len().saturating_sub(MOST_NAMES);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", some.join(", "))
}

fn shortened(mut text: String) -> String {
    /// What a condition's message has room for, with what is said around it.
    const MOST: usize = 1024;
    if text.len() > MOST {
        text.truncate(text.floor_char_boundary(MOST));
        text.push('…');
    }
    text
}

fn explain(error: &wasmtime::Error, limits: Limits) -> CallError {
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => CallError::OutOfFuel(limits.fuel),
        Some(Trap::Interrupt) => CallError::OutOfTime,
        Some(Trap::StackOverflow) => CallError::StackOverflow,
        Some(Trap::UnreachableCodeReached) => {
            CallError::Trapped("it panicked, or could not have the memory that it wanted".to_owned())
        }
        Some(trap) => CallError::Trapped(trap.to_string()),
        // The chain ends with the cause; what comes before is a backtrace of the guest.
        None => CallError::Trapped(shortened(error.root_cause().to_string())),
    }
}
