//! Against real API servers.

mod apiserver;
mod clusters;
mod crds;
mod credentials;
mod deploy;
mod extremes;
mod join;
mod mutations;
mod outage;
mod primary;
mod rotation;
mod scale;
mod setup;
mod silence;
mod snapshots;
mod snapshots_user;
mod writes;
