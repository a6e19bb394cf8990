//! Requests through VIPs, and what became of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// A client that keeps connections open, as applications do.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Default for Http {
    fn default() -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()) }
    }
}

impl Http {
    /// A client whose connections come from the address.
    pub fn from_address(source: IpAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_local_address(Some(source));
        Self { client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Status and body of a GET to the address under the host name.
    pub async fn get(&self, to: SocketAddr, host: &str) -> Result<(u16, String), String> {
        self.get_path(to, host, "/").await
    }

    /// As [`Http::get`], of a path.
    pub async fn get_path(&self, to: SocketAddr, host: &str, path: &str) -> Result<(u16, String), String> {
        let request = Request::get(format!("http://{to}{path}"))
            .header("host", host)
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let response = tokio::time::timeout(Duration::from_secs(5), self.client.request(request))
            .await
            .map_err(|_| "no answer within 5 s".to_owned())?
            .map_err(|error| format!("{error:?}"))?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).trim().to_owned()))
    }
}

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Tally {
    pub answered: BTreeMap<String, u64>,
    pub failed: Vec<String>,
    pub total: u64,
}

impl Tally {
    fn note(&mut self, answer: Result<(u16, String), String>) {
        self.total += 1;
        match answer {
            Ok((200, body)) => *self.answered.entry(body).or_default() += 1,
            Ok((status, body)) => self.failed.push(format!("{status}: {body}")),
            Err(error) => self.failed.push(error),
        }
    }

    /// Whether a pod whose name holds the text answered.
    pub fn answered_by(&self, part: &str) -> bool {
        self.answered.keys().any(|pod| pod.contains(part))
    }
}

/// Sends this many requests, one after the other, each on a connection of its own: a gateway of bytes
/// chooses a pod for each connection.
pub async fn send(to: SocketAddr, host: &str, count: usize) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..count {
        tally.note(Http::default().get(to, host).await);
    }
    tally
}

/// For how long a stream goes on whose test does not end: longer than the longest outage.
const LONGEST: Duration = Duration::from_secs(if cfg!(feature = "long-checks") { 2 * 3600 } else { 120 });

/// Sends requests at a steady rate until told to stop.
pub struct Stream {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Tally>,
}

impl Stream {
    /// Starts a stream of `per_second` requests over 8 workers; at most [`LONGEST`] of them.
    pub fn start(to: SocketAddr, host: &str, per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, host) = (stop.clone(), host.to_owned());
        let task = tokio::spawn(async move {
            let workers = (0..8).map(|_| tokio::spawn(worker(to, host.clone(), per_second, told.clone())));
            let mut tally = Tally::default();
            for worker in workers.collect::<Vec<_>>() {
                let part = worker.await.expect("the worker ends");
                tally.total += part.total;
                tally.failed.extend(part.failed);
                for (pod, count) in part.answered {
                    *tally.answered.entry(pod).or_default() += count;
                }
            }
            tally
        });
        Self { stop, task }
    }

    /// Stops the stream and says what became of its requests.
    pub async fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the stream ends")
    }
}

async fn worker(to: SocketAddr, host: String, per_second: u32, stop: Arc<AtomicBool>) -> Tally {
    let http = Http::default();
    let mut tally = Tally::default();
    let mut pace = tokio::time::interval(Duration::from_secs_f64(8.0 / f64::from(per_second)));
    let until = Instant::now() + LONGEST;
    while !stop.load(Ordering::Relaxed) && Instant::now() < until {
        pace.tick().await;
        tally.note(http.get(to, &host).await);
    }
    tally
}
