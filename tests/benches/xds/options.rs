//! The command line, by hand: what is measured is built without the command line's library.

use std::collections::BTreeSet;
use std::time::Duration;

use causeway::ads::Protocol;

pub const USAGE: &str = "\
What it costs to serve xDS.

  cargo bench --no-default-features --features load --bench xds -- [OPTIONS] [SCENARIO]...

Scenarios (default: all)
  push       1, 10 and 100 services change: CPU, and when the last client has it
  flat       the same in worlds and fleets of other sizes
  memory     for each client and each endpoint
  idle       CPU when nothing changes
  reconnect  5 times the clients come back at once with what they hold
  cold       all clients come at once and have nothing
  stalled    some clients never read
  churn      changes that do not end
  nacks      5 times the clients refuse one resource

Options
  --servers A,B      of causeway, floor, go-control-plane (default: all; the floor speaks delta only)
  --clients N        1000
  --services N       1000
  --rounds N         pushes that are measured: 20
  --repeat N         each server in turn, so often; the median counts: 3
  --rate N           changes a second of churn: 1000
  --seconds N        how long churn lasts: 30
  --protocol P       delta or sotw: delta
  --quick            100 clients, 100 services, 5 rounds, once, 5 s";

/// What this process is.
pub enum Role {
    Driver(Options),
    Server(ServerOptions),
    Help,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Causeway,
    Floor,
    GoControlPlane,
}

impl Peer {
    pub const ALL: [Peer; 3] = [Peer::Causeway, Peer::Floor, Peer::GoControlPlane];

    pub const fn label(self) -> &'static str {
        match self {
            Peer::Causeway => "causeway",
            Peer::Floor => "floor",
            Peer::GoControlPlane => "go-control-plane",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|peer| peer.label() == text);
        found.ok_or_else(|| format!("`{text}` is no server"))
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    pub scenarios: BTreeSet<String>,
    pub servers: Vec<Peer>,
    pub clients: usize,
    pub services: usize,
    pub rounds: usize,
    pub repeat: usize,
    pub rate: u32,
    pub seconds: Duration,
    pub protocol: Protocol,
}

/// What a server is told by the driver that starts it.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub peer: Peer,
    pub services: usize,
    pub endpoints: usize,
    /// Whether bytes in use are counted.
    pub allocations: Allocations,
    /// How long a response may stay unanswered, where the server has such a deadline.
    pub ack_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocations {
    Counted,
    Uncounted,
}

impl ServerOptions {
    pub fn new(peer: Peer, services: usize) -> Self {
        let (endpoints, allocations) = (crate::world::ENDPOINTS, Allocations::Uncounted);
        Self { peer, services, endpoints, allocations, ack_timeout: None }
    }

    /// As arguments of the process.
    pub fn args(&self) -> Vec<String> {
        let mut args = vec![
            "serve".to_owned(),
            self.peer.label().to_owned(),
            format!("--services={}", self.services),
            format!("--endpoints={}", self.endpoints),
        ];
        if self.allocations == Allocations::Counted {
            args.push("--allocations".to_owned());
        }
        args.extend(self.ack_timeout.map(|timeout| format!("--ack-timeout-ms={}", timeout.as_millis())));
        args
    }

    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let peer = Peer::parse(&args.next().ok_or("which server?")?)?;
        let mut options = Self::new(peer, 0);
        for arg in args {
            match arg.split_once('=') {
                Some(("--services", value)) => options.services = number(value)?,
                Some(("--endpoints", value)) => options.endpoints = number(value)?,
                Some(("--ack-timeout-ms", value)) => {
                    options.ack_timeout = Some(Duration::from_millis(number(value)? as u64));
                }
                None if arg == "--allocations" => options.allocations = Allocations::Counted,
                _ => return Err(format!("`{arg}` is no option of a server")),
            }
        }
        Ok(options)
    }
}

impl Options {
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Role, String> {
        let mut servers: Option<Vec<Peer>> = None;
        let mut options = Self {
            scenarios: BTreeSet::new(),
            servers: Peer::ALL.to_vec(),
            clients: 1000,
            services: 1000,
            rounds: 20,
            repeat: 3,
            rate: 1000,
            seconds: Duration::from_secs(30),
            protocol: Protocol::Delta,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("`{arg}` needs a value"));
            match arg.as_str() {
                "serve" => return Ok(Role::Server(ServerOptions::parse(args)?)),
                "--servers" => servers = Some(value()?.split(',').map(Peer::parse).collect::<Result<_, _>>()?),
                "--clients" => options.clients = number(&value()?)?,
                "--services" => options.services = number(&value()?)?,
                "--rounds" => options.rounds = number(&value()?)?,
                "--repeat" => options.repeat = number(&value()?)?,
                "--rate" => options.rate = u32::try_from(number(&value()?)?.max(1)).unwrap_or(u32::MAX),
                "--seconds" => options.seconds = Duration::from_secs(number(&value()?)? as u64),
                "--protocol" => {
                    options.protocol = match value()?.as_str() {
                        "delta" => Protocol::Delta,
                        "sotw" => Protocol::Sotw,
                        other => return Err(format!("`{other}` is neither delta nor sotw")),
                    }
                }
                "--quick" => {
                    (options.clients, options.services, options.rounds, options.repeat) = (100, 100, 5, 1);
                    options.seconds = Duration::from_secs(5);
                }
                "-h" | "--help" => return Ok(Role::Help),
                // cargo says so to every benchmark.
                "--bench" => {}
                name if crate::scenarios::NAMES.contains(&name) => _ = options.scenarios.insert(name.to_owned()),
                other => return Err(format!("`{other}` is neither an option nor a scenario")),
            }
        }
        let speaks = |peer: &Peer| *peer != Peer::Floor || options.protocol == Protocol::Delta;
        match servers {
            Some(named) if !named.iter().all(speaks) => return Err("the floor speaks delta only".to_owned()),
            Some(named) => options.servers = named,
            None => options.servers.retain(speaks),
        }
        Ok(Role::Driver(options))
    }

    pub fn wants(&self, scenario: &str) -> bool {
        self.scenarios.is_empty() || self.scenarios.contains(scenario)
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}
