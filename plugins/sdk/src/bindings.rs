//! What wit-bindgen makes of `wit/`; the documentation of its types is there.
#![allow(missing_docs, reason = "it is generated, and documented in `wit/`")]

pub mod lb {
    wit_bindgen::generate!({
        path: "../wit",
        world: "lb-policy",
        pub_export_macro: true,
        export_macro_name: "export_lb_world",
        default_bindings_module: "causeway_policy::bindings::lb",
        additional_derives: [PartialEq],
    });
}

pub mod vip {
    wit_bindgen::generate!({
        path: "../wit",
        world: "vip-policy",
        pub_export_macro: true,
        export_macro_name: "export_vip_world",
        default_bindings_module: "causeway_policy::bindings::vip",
        additional_derives: [PartialEq],
    });
}
