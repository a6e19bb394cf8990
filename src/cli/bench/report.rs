//! What the clients saw, as text or a document.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use crate::ads::Protocol;
use crate::cli::args::Format;
use crate::cli::table::{Layout, shown};
use crate::load::{Board, Times, Totals};
use crate::snapshot::ResourceType;

/// A run; times are in milliseconds where their names say so.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    server: String,
    protocol: &'static str,
    clients: usize,
    /// Clients that are served at the end.
    served: usize,
    /// Clients that lost their stream or never had one.
    failed: usize,
    connect_ms: Spread,
    served_ms: Spread,
    /// What came until all were served.
    pub start: Counts,
    pushes: Option<Pushes>,
    reconnect: Option<Reconnect>,
    types: Vec<TypeRow>,
    errors: Vec<ErrorRow>,
}

/// A distribution over clients, or over pushes.
#[derive(Debug, Default, Serialize)]
pub(super) struct Spread {
    count: usize,
    p50: f64,
    p99: f64,
    last: f64,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    responses: u64,
    resources: u64,
    removed: u64,
    bytes: u64,
    nacks: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TypeRow {
    r#type: &'static str,
    #[serde(flatten)]
    counts: Counts,
}

/// What came while looking on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pushes {
    seconds: f64,
    /// Different pairs of type and version.
    versions: usize,
    responses_per_second: f64,
    /// Of one version, from the first client to the last, for each that came to more than one.
    spread_ms: Spread,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reconnect {
    /// Until the last client had a stream again.
    seconds: f64,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Debug, Serialize)]
struct ErrorRow {
    error: String,
    clients: usize,
}

impl From<&Times> for Spread {
    fn from(times: &Times) -> Self {
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        Self { count: times.len(), p50: ms(times.quantile(0.5)), p99: ms(times.quantile(0.99)), last: ms(times.last()) }
    }
}

impl From<&Totals> for Counts {
    fn from(totals: &Totals) -> Self {
        let Totals { responses, resources, removed, bytes, nacks } = *totals;
        Self { responses, resources, removed, bytes, nacks }
    }
}

impl Report {
    /// Of a run that is about to begin.
    pub fn new(server: &str, protocol: Protocol, clients: usize) -> Self {
        Self {
            server: server.to_owned(),
            protocol: protocol.label(),
            clients,
            served: 0,
            failed: 0,
            connect_ms: Spread::default(),
            served_ms: Spread::default(),
            start: Counts::default(),
            pushes: None,
            reconnect: None,
            types: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// What came while looking on.
    pub fn look(&mut self, took: Duration, came: Totals, (spreads, versions): &(Times, usize)) {
        let seconds = took.as_secs_f64();
        self.pushes = Some(Pushes {
            seconds,
            versions: *versions,
            responses_per_second: came.responses as f64 / seconds.max(f64::EPSILON),
            spread_ms: spreads.into(),
            counts: (&came).into(),
        });
    }

    /// What came when all reconnected.
    pub fn reconnected(&mut self, took: Duration, came: Totals) {
        self.reconnect = Some(Reconnect { seconds: took.as_secs_f64(), counts: (&came).into() });
    }

    /// What the board says at the end.
    pub fn finish(&mut self, board: &Board) {
        (self.served, self.failed) = (board.serve_times().len().min(self.clients), board.failed());
        (self.connect_ms, self.served_ms) = ((&board.connect_times()).into(), (&board.serve_times()).into());
        let row = |ty: ResourceType| TypeRow { r#type: ty.label(), counts: (&board.totals(ty)).into() };
        self.types = ResourceType::ALL.into_iter().map(row).collect();
        self.errors = board.errors().into_iter().map(|(error, clients)| ErrorRow { error, clients }).collect();
    }

    /// Whether a client was never served, was refused, or lost its stream.
    pub fn is_failure(&self) -> bool {
        self.served < self.clients || self.failed > 0
    }

    /// Prints it.
    pub fn print(&self, output: Option<Format>, out: &mut dyn Write) -> anyhow::Result<()> {
        match output {
            Some(Format::Json) => Ok(writeln!(out, "{}", serde_json::to_string_pretty(self)?)?),
            Some(Format::Yaml) => Ok(write!(out, "{}", serde_yaml_ng::to_string(self)?)?),
            None => self.text(out),
        }
    }

    fn text(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let Self { server, protocol, clients, served, failed, .. } = self;
        writeln!(out, "{}, {protocol}: {served} of {clients} clients served, {failed} failed", shown(server))?;
        writeln!(out)?;
        let mut times = vec![["TIME", "COUNT", "P50", "P99", "LAST"].map(str::to_owned).to_vec()];
        times.push(self.connect_ms.row("connected"));
        times.push(self.served_ms.row("served"));
        if let Some(pushes) = &self.pushes {
            times.push(pushes.spread_ms.row("a push, first to last client"));
        }
        Layout::default().print(&times, out)?;
        writeln!(out)?;
        let mut rows =
            vec![["CAME", "RESPONSES", "RESOURCES", "REMOVED", "BYTES", "REFUSED"].map(str::to_owned).to_vec()];
        rows.push(self.start.row("until served".to_owned()));
        if let Some(pushes) = &self.pushes {
            let what = format!(
                "in {:.1}s: {} versions, {:.1} responses/s",
                pushes.seconds, pushes.versions, pushes.responses_per_second
            );
            rows.push(pushes.counts.row(what));
        }
        if let Some(reconnect) = &self.reconnect {
            rows.push(reconnect.counts.row(format!("back after {:.1}s", reconnect.seconds)));
        }
        rows.extend(self.types.iter().map(|row| row.counts.row(format!("in all: {}", row.r#type))));
        Layout::default().print(&rows, out)?;
        for ErrorRow { error, clients } in &self.errors {
            writeln!(out, "{clients} clients: {}", shown(error))?;
        }
        Ok(())
    }
}

impl Spread {
    fn row(&self, what: &str) -> Vec<String> {
        let ms = |value: f64| if self.count == 0 { "-".to_owned() } else { format!("{value:.1}ms") };
        vec![what.to_owned(), self.count.to_string(), ms(self.p50), ms(self.p99), ms(self.last)]
    }
}

impl Counts {
    fn row(&self, what: String) -> Vec<String> {
        let numbers = [self.responses, self.resources, self.removed, self.bytes, self.nacks];
        std::iter::once(what).chain(numbers.map(|number| number.to_string())).collect()
    }
}
