//! Against real API servers.

mod apiserver;
mod clusters;
mod crds;
mod credentials;
mod deploy;
mod down;
mod down_clients;
mod exports;
mod extremes;
pub mod join;
mod mcs;
mod members;
mod members_line;
mod members_scale;
mod members_storm;
mod members_trust;
mod mutations;
mod outage;
mod policies;
mod primary;
mod rotation;
mod scale;
mod setup;
mod silence;
mod snapshots;
mod snapshots_user;
mod writes;
