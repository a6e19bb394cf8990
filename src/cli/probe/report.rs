//! What a probe found, as a table or a document.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::target::Target;
use crate::cli::args::Format;
use crate::cli::http::Reply;
use crate::cli::table::{Layout, shown};

/// Rows of answers that a table shows; a server that never says the same twice would fill the screen.
const MAX_ROWS: usize = 40;

/// Characters of a body's first line that tell answers apart.
const MAX_LINE_CHARS: usize = 80;

/// How one request ended.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    address: Option<SocketAddr>,
    took: Duration,
    result: Result<(u16, String), String>,
}

impl Outcome {
    /// There was an answer.
    pub fn answered(address: SocketAddr, took: Duration, reply: &Reply) -> Self {
        let text = String::from_utf8_lossy(&reply.body[..reply.body.len().min(4096)]).into_owned();
        let line: String = text.lines().next().unwrap_or_default().trim().chars().take(MAX_LINE_CHARS).collect();
        Self { address: Some(address), took, result: Ok((reply.status, line)) }
    }

    /// There was none.
    pub fn failed(address: Option<SocketAddr>, took: Duration, why: String) -> Self {
        Self { address, took, result: Err(why) }
    }

    /// An answer below 400 is what a user would call "it works".
    fn is_ok(&self) -> bool {
        matches!(self.result, Ok((status, _)) if status < 400)
    }
}

/// A probe's result; times are in milliseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    target: String,
    requests: usize,
    ok: usize,
    failed: usize,
    percent_ok: f64,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    addresses: BTreeMap<String, usize>,
    answers: Vec<AnswerRow>,
    failures: Vec<FailureRow>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AnswerRow {
    answer: String,
    status: u16,
    count: usize,
    p50_ms: f64,
    p99_ms: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FailureRow {
    reason: String,
    count: usize,
}

impl Report {
    /// Adds up the outcomes. Requests that were never sent, because someone interrupted, are left out.
    pub fn new(target: &Target, took: Duration, outcomes: &[Outcome]) -> Self {
        let mut answers: BTreeMap<(&str, u16), Vec<Duration>> = BTreeMap::new();
        let mut failures: BTreeMap<&str, usize> = BTreeMap::new();
        let mut addresses: BTreeMap<String, usize> = BTreeMap::new();
        let mut times = Vec::new();
        for outcome in outcomes {
            if let Some(address) = outcome.address {
                *addresses.entry(address.to_string()).or_default() += 1;
            }
            match &outcome.result {
                Ok((status, line)) => {
                    times.push(outcome.took);
                    answers.entry((line, *status)).or_default().push(outcome.took);
                }
                Err(why) => *failures.entry(why).or_default() += 1,
            }
        }
        let ok = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let mut answers: Vec<AnswerRow> = answers
            .into_iter()
            .map(|((answer, status), mut times)| {
                let (p50_ms, p99_ms) = percentiles(&mut times);
                AnswerRow { answer: answer.to_owned(), status, count: times.len(), p50_ms, p99_ms }
            })
            .collect();
        // The most frequent first; the sort is stable, so equals stay by name.
        answers.sort_by_key(|row| std::cmp::Reverse(row.count));
        let failures =
            failures.into_iter().map(|(reason, count)| FailureRow { reason: reason.to_owned(), count }).collect();
        let (p50_ms, p99_ms) = percentiles(&mut times);
        let percent_ok = if outcomes.is_empty() { 0.0 } else { 100.0 * ok as f64 / outcomes.len() as f64 };
        Self {
            target: format!("http://{}{}", target.authority, target.path),
            requests: outcomes.len(),
            ok,
            failed: outcomes.len() - ok,
            percent_ok,
            seconds: took.as_secs_f64(),
            p50_ms,
            p99_ms,
            addresses,
            answers,
            failures,
        }
    }

    /// How many of a hundred requests succeeded.
    pub fn percent_ok(&self) -> f64 {
        self.percent_ok
    }

    /// Prints the report.
    pub fn print(&self, form: Option<Format>, out: &mut dyn Write) -> anyhow::Result<()> {
        match form {
            Some(Format::Json) => writeln!(out, "{}", serde_json::to_string_pretty(self)?)?,
            Some(Format::Yaml) => write!(out, "{}", serde_yaml_ng::to_string(self)?)?,
            None => self.print_tables(out)?,
        }
        Ok(())
    }

    fn print_tables(&self, out: &mut dyn Write) -> std::io::Result<()> {
        if !self.answers.is_empty() {
            let mut rows = vec![["ANSWER", "STATUS", "COUNT", "SHARE", "P50", "P99"].map(str::to_owned).to_vec()];
            for row in self.answers.iter().take(MAX_ROWS) {
                let share = format!("{:.1}%", 100.0 * row.count as f64 / self.requests as f64);
                rows.push(vec![
                    row.answer.clone(),
                    row.status.to_string(),
                    row.count.to_string(),
                    share,
                    ms(row.p50_ms),
                    ms(row.p99_ms),
                ]);
            }
            Layout::default().print(&rows, out)?;
            if self.answers.len() > MAX_ROWS {
                writeln!(out, "and {} other answers", self.answers.len() - MAX_ROWS)?;
            }
            writeln!(out)?;
        }
        if !self.failures.is_empty() {
            let mut rows = vec![["FAILURE", "COUNT"].map(str::to_owned).to_vec()];
            rows.extend(self.failures.iter().take(MAX_ROWS).map(|f| vec![f.reason.clone(), f.count.to_string()]));
            Layout::default().print(&rows, out)?;
            writeln!(out)?;
        }
        let addresses: Vec<&str> = self.addresses.keys().map(String::as_str).collect();
        writeln!(
            out,
            "{}: {} requests to {} in {:.1}s, {} ok, {} failed ({:.2}% ok), p50 {}, p99 {}",
            shown(&self.target),
            self.requests,
            shown(&addresses.join(",")),
            self.seconds,
            self.ok,
            self.failed,
            self.percent_ok,
            ms(self.p50_ms),
            ms(self.p99_ms)
        )
    }
}

fn ms(milliseconds: f64) -> String {
    format!("{milliseconds:.1}ms")
}

/// The median and the 99th percentile in milliseconds, by nearest rank; 0 of nothing.
fn percentiles(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let rank = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    (rank(50), rank(99))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, body: &str, ms: u64) -> Outcome {
        let reply = Reply { status, body: body.to_owned().into() };
        Outcome::answered("240.11.0.7:80".parse().unwrap(), Duration::from_millis(ms), &reply)
    }

    fn report(outcomes: &[Outcome]) -> Report {
        Report::new(&Target::parse("shop.example/x").unwrap(), Duration::from_secs(2), outcomes)
    }

    #[test]
    fn answers_are_counted_by_first_line_and_status() {
        let mut outcomes: Vec<Outcome> = (1..=100).map(|ms| outcome(200, "east-0\nmore", ms)).collect();
        outcomes.push(outcome(503, "no healthy upstream", 7));
        outcomes.push(Outcome::failed(None, Duration::ZERO, "connect: refused".to_owned()));
        let report = report(&outcomes);
        assert_eq!((report.requests, report.ok, report.failed), (102, 100, 2));
        assert_eq!((report.answers[0].answer.as_str(), report.answers[0].count), ("east-0", 100));
        assert_eq!((report.answers[0].p50_ms, report.answers[0].p99_ms), (50.0, 99.0));
        assert_eq!((report.answers[1].status, report.failures[0].count), (503, 1));
    }

    #[test]
    fn nothing_sent_is_not_a_success() {
        assert_eq!(report(&[]).percent_ok(), 0.0);
    }

    #[test]
    fn the_table_shows_bodies_without_obeying_them() {
        let mut page = Vec::new();
        report(&[outcome(200, "\u{1b}[2Jowned", 1)]).print(None, &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(page.contains("\\u{1b}[2Jowned"), "{page}");
        assert!(page.contains("1 requests to 240.11.0.7:80 in 2.0s, 1 ok, 0 failed (100.00% ok)"), "{page}");
    }
}
