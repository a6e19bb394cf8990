//! Each part by itself, and the owner as a whole on a real store with Envoys and agents made by hand.

mod agents;
mod buckets;
mod build;
mod claims;
mod copy;
mod exports;
mod inventory;
mod ledger;
mod nodes;
mod policies;
mod rig;
mod run;
mod views;
