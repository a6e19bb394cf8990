//! What bindgen makes of the worlds in `plugins/wit`. Numbers and strings of a question are borrowed, so that asking
//! copies nothing on this side.

/// The world `lb-policy`.
#[allow(missing_docs, reason = "generated code")]
pub(crate) mod lb {
    wasmtime::component::bindgen!({ path: "plugins/wit", world: "lb-policy", ownership: Borrowing { duplicate_if_necessary: false } });
}

/// The world `vip-policy`.
pub(super) mod vip {
    wasmtime::component::bindgen!({ path: "plugins/wit", world: "vip-policy", ownership: Borrowing { duplicate_if_necessary: false } });
}
