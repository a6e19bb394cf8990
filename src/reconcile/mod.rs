//! The owner of the truth.

pub mod view;
