#!/usr/bin/env bash
# A RUSTC_WRAPPER: compiles the decoders so that libFuzzer sees where an input leads; all other crates as always. The flags
# are those of cargo-fuzz, but for the address sanitizer, which needs a nightly compiler. No crate may be named that
# procedural macros or build scripts use, too.
set -euo pipefail
case "${CARGO_CRATE_NAME:-}" in
  causeway | causeway_fuzz | hickory_proto | kube_client | pem | saphyr_parser | serde_saphyr)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
