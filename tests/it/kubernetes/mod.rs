//! Against real API servers.

mod apiserver;
mod clusters;
mod credentials;
mod crds;
mod deploy;
mod join;
mod mutations;
mod outage;
mod rotation;
mod scale;
mod setup;
mod snapshots;
