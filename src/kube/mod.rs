//! What Kubernetes says, made into the model's objects. This room alone knows Kubernetes' types;
//! it decides what is valid, and says of what is not which field it is and what to do about it.
//!
//! The kinds that are Causeway's own are in [`kinds`]; Kubernetes' own come from `k8s-openapi`.
//! Both are made into [`crate::model::object::Object`]s by [`convert`].

pub mod apiserver;
pub mod connect;
pub mod convert;
pub mod crd;
pub mod documents;
pub mod field;
pub mod join;
pub mod kinds;
pub mod manager;
pub mod manifest;
pub mod names;
pub mod outbox;
pub mod rbac;
pub mod virtual_ips;
pub mod watch;
pub mod writer;
