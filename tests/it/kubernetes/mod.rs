//! Against real API servers.

mod apiserver;
