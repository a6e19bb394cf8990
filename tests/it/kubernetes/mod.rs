//! Against real API servers.

mod apiserver;
mod clusters;
mod crds;
mod deploy;
mod mutations;
mod outage;
mod rotation;
mod scale;
mod setup;
mod snapshots_user;
mod writes;
