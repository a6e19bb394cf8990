//! `causeway probe`: looks a name up, sends requests to its addresses in turn, and shows who answered.

mod report;
mod resolve;
mod target;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::args::Probe;
use super::{Told, http};
use report::{Outcome, Report};
use resolve::{Names, Resolver};
use target::Target;

/// Only a body's first line is shown; more than this is not read.
const MAX_BODY_BYTES: usize = 1 << 20;

/// What the workers share. They run on one thread, so cells are enough.
struct Run {
    target: Target,
    names: Names,
    requests: u32,
    timeout: Duration,
    /// Between the beginnings of two requests, where a rate was asked for.
    interval: Option<Duration>,
    begun: Instant,
    next: Cell<u32>,
    outcomes: RefCell<Vec<Outcome>>,
}

/// Probes and prints the report. Fails when too few requests succeeded.
pub(super) async fn run(args: Probe, out: &mut dyn Write) -> anyhow::Result<()> {
    let target = Target::parse(&args.target)?;
    let resolver = Resolver::parse(&args.dns)?;
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => resolve::Wanted::V4,
        (_, true) => resolve::Wanted::V6,
        _ => resolve::Wanted::Both,
    };
    let names = Names::new(resolver, target.host.clone(), family, args.timeout);
    // The first lookup decides whether there is anything to probe.
    if let Err(error) = names.next().await {
        bail!("{}: {error}", target.host);
    }
    let run = Rc::new(Run {
        target,
        names,
        requests: args.requests,
        timeout: args.timeout,
        interval: args.rate.map(|rate| Duration::from_secs(1) / rate),
        begun: Instant::now(),
        next: Cell::new(0),
        outcomes: RefCell::default(),
    });
    let workers = futures::future::join_all((0..args.concurrency).map(|_| work(run.clone())));
    // Someone who interrupts wants to see what is known so far.
    tokio::select! {
        _ = workers => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    let report = Report::new(&run.target, run.begun.elapsed(), &run.outcomes.borrow());
    report.print(args.output, out)?;
    out.flush()?;
    if report.percent_ok() < args.fail_under { Err(Told.into()) } else { Ok(()) }
}

async fn work(run: Rc<Run>) {
    loop {
        let index = run.next.get();
        if index >= run.requests {
            return;
        }
        run.next.set(index + 1);
        if let Some(interval) = run.interval {
            tokio::time::sleep_until((run.begun + interval * index).into()).await;
        }
        let outcome = one(&run).await;
        run.outcomes.borrow_mut().push(outcome);
    }
}

/// One request: the lookup, where one is due, and the answer, both within the timeout.
async fn one(run: &Run) -> Outcome {
    let begun = Instant::now();
    let address = match run.names.next().await {
        Ok(ip) => SocketAddr::new(ip, run.target.port),
        Err(error) => return Outcome::failed(None, begun.elapsed(), format!("dns: {error}")),
    };
    let begun = Instant::now();
    let answer = http::get(address, &run.target.authority, &run.target.path, MAX_BODY_BYTES);
    match tokio::time::timeout(run.timeout, answer).await {
        Ok(Ok(reply)) => Outcome::answered(address, begun.elapsed(), &reply),
        Ok(Err(error)) => Outcome::failed(Some(address), begun.elapsed(), error.to_string()),
        Err(_) => Outcome::failed(Some(address), begun.elapsed(), format!("no answer within {:?}", run.timeout)),
    }
}
