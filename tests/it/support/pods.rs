//! Pods: HTTP servers that answer with their names and remember when they were last asked.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use tokio::task::JoinHandle;

/// Running pods, by name.
#[derive(Default)]
pub struct Pods {
    running: Mutex<HashMap<String, Pod>>,
}

struct Pod {
    asked: Arc<Asked>,
    server: JoinHandle<()>,
}

/// What a pod remembers.
pub struct Asked {
    last: Mutex<Option<Instant>>,
}

impl Pods {
    /// Starts a pod that answers each request with its name.
    pub async fn start(&self, name: &str, address: IpAddr, port: u16) {
        let listener =
            tokio::net::TcpListener::bind(SocketAddr::new(address, port)).await.expect("the pod's address is free");
        let asked = Arc::new(Asked { last: Mutex::new(None) });
        let (body, memory) = (format!("{name}\n"), asked.clone());
        let router = Router::new().fallback(move || {
            *memory.last.lock().expect("not poisoned") = Some(Instant::now());
            let body = body.clone();
            async move { body }
        });
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("the pod serves");
        });
        self.running.lock().expect("not poisoned").insert(name.to_owned(), Pod { asked, server });
    }

    /// When the pod was last asked.
    pub fn last_asked(&self, name: &str) -> Option<Instant> {
        let running = self.running.lock().expect("not poisoned");
        *running.get(name)?.asked.last.lock().expect("not poisoned")
    }

    /// Stops a pod at once: connections are cut.
    pub fn stop(&self, name: &str) {
        if let Some(pod) = self.running.lock().expect("not poisoned").remove(name) {
            pod.server.abort();
        }
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for (_, pod) in self.running.lock().expect("not poisoned").drain() {
            pod.server.abort();
        }
    }
}
