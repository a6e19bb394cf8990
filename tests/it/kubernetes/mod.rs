//! Against real API servers.

mod apiserver;
mod crds;
mod deploy;
