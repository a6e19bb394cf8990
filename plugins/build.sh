#!/usr/bin/env bash
# Builds the policies to components. They are committed, so that building Causeway itself takes no WebAssembly tools.
#   ./plugins/build.sh              builds every policy, and writes plugins/components/
#   ./plugins/build.sh --check      builds every policy anew, and fails where a committed component is another one
#   ./plugins/build.sh --toolchain  prints a rustc that can build policies, for machines where rustup cannot add targets:
#                                   RUSTC=$(./plugins/build.sh --toolchain) cargo build --release --target wasm32-unknown-unknown
#
# A component's bytes depend on the compiler and on its standard library, also on where that was built: the one that
# `rustup target add` brings is as good, but gives other bytes. So this builds the standard library from the compiler's
# own source, once for each version of Rust, in $HOME/.cache/causeway/wasm-toolchain. The source is rustup's component
# `rust-src`, else Debian's package `rust-src`, or a folder `library` that WASM_STD_SOURCE names.
set -euo pipefail
cd "$(dirname "$0")"

rust=1.95.0 # the components are made by this one; change it together with rust-version, and build all anew
target=wasm32-unknown-unknown
policies=(lb-locality lb-subset lb-weighted-clusters vip-sticky vip-tenant)
testing=(hostile hostile-vip noop)

mode=build
case "${1:-}" in
  '') ;;
  --check | --toolchain) mode=${1#--} ;;
  -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "build.sh: unknown argument '$1' (try --help)" >&2; exit 2 ;;
esac

started=$SECONDS
say() { printf '[%3ds] %s\n' $((SECONDS - started)) "$*" >&2; }
fail() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }
# Quiet where all is well; the whole output where not.
run() { # log, command...
  local log=$1
  shift
  "$@" >"$log" 2>&1 || { tail -n 40 "$log" >&2; fail "this failed: $*"; }
}

# What the user's shell says about builds must not reach the bytes.
for name in $(compgen -e); do
  case "$name" in
    *RUSTFLAGS | RUSTC | RUSTC_* | CARGO_PROFILE_* | CARGO_BUILD_* | CARGO_TARGET_WASM32_* | CARGO_INCREMENTAL) unset "$name" ;;
  esac
done

work=$(mktemp -d "${TMPDIR:-/tmp}/causeway-policies.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The pinned compiler, by rustup or by itself.
find_rustc() {
  local found
  if found=$(rustup which --toolchain "$rust" rustc 2>/dev/null); then echo "$found"; return; fi
  found=$(rustup which rustc 2>/dev/null || command -v rustc || true)
  if [ -n "$found" ] && [ "$("$found" -vV | sed -n 's/^release: //p')" = "$rust" ]; then echo "$found"; return; fi
  say "installing Rust $rust"
  rustup toolchain install --profile minimal "$rust" >&2 || fail "the components are made by Rust $rust, which is not here."
  rustup which --toolchain "$rust" rustc
}
rustc=$(find_rustc)
sysroot=$("$rustc" --print sysroot)
host=$("$rustc" -vV | sed -n 's/^host: //p')
commit=$("$rustc" -vV | sed -n 's/^commit-hash: //p')
cargo=$(dirname "$rustc")/cargo
[ -x "$sysroot/lib/rustlib/$host/bin/wasm-component-ld" ] || fail "Rust $rust at $sysroot has no wasm-component-ld."

# Paths of this machine become names that are the same everywhere.
remap() { # folder=name...
  local pair flags=
  for pair in "$@"; do flags+=" --remap-path-prefix=$pair"; done
  for pair in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
    [ -d "$pair" ] && flags+=" --remap-path-prefix=${pair%/}=/crates"
  done
  echo "$flags"
}

# --- The standard library.

# Prints the folder `library` of exactly this compiler's source.
std_source() {
  if [ -n "${WASM_STD_SOURCE:-}" ]; then
    [ -d "$WASM_STD_SOURCE/std" ] || fail "WASM_STD_SOURCE names $WASM_STD_SOURCE, which has no folder std."
    say "source: $WASM_STD_SOURCE"
    echo "$WASM_STD_SOURCE"
    return
  fi
  local rustup_source=$sysroot/lib/rustlib/src/rust/library
  if [ ! -d "$rustup_source" ]; then
    rustup component add --toolchain "$rust" rust-src >"$work/rust-src.log" 2>&1 || true
  fi
  if [ -d "$rustup_source" ]; then
    say "source: rustup's rust-src"
    echo "$rustup_source"
    return
  fi
  debian_source
}

# Reads other suites of the mirrors that this system's apt uses, without touching apt's own settings.
debian_source() {
  command -v apt-get >/dev/null || { cat "$work/rust-src.log" >&2; fail "rustup cannot add rust-src, and this is no Debian."; }
  local apt=$work/apt mirror suite version
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  for suite in forky sid trixie-backports trixie; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror%/} $suite main"
  done >"$apt/sources.list"
  cat >"$apt/apt.conf" <<EOF
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "-";
Dir::Etc::PreferencesParts "-";
Dir::Etc::Preferences "-";
Dir::State::Lists "$apt/lists";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
EOF
  export APT_CONFIG=$apt/apt.conf
  apt-get -qq update >"$work/apt.log" 2>&1 || true # a suite that the mirror does not have is no harm
  version=$(apt-cache madison rust-src | awk -v wanted="$rust" '$3 ~ "^" wanted "[+-]" { print $3; exit }')
  [ -n "$version" ] || fail "neither rustup nor Debian has the source of Rust $rust's standard library here."
  say "source: Debian's rust-src $version"
  (cd "$work" && run apt.log apt-get -qq download "rust-src=$version" && dpkg -x rust-src_*.deb source)
  unset APT_CONFIG
  echo "$work/source/usr/src/rustc-$rust/library"
}

# Lays a sysroot with the compiler's own host part and a standard library for the guests; `rustc` in it uses that.
make_toolchain() {
  local source made=$toolchain.$$ flags
  say "building Rust $rust's standard library for $target (once, about a minute)"
  source=$(std_source)
  cp -r "$source" "$work/library" && chmod -R u+w "$work/library"
  export RUSTC_BOOTSTRAP=1 # the library is written in what only the compiler's own parts may use
  run "$work/fetch.log" "$cargo" fetch --manifest-path "$work/library/Cargo.toml" # so that the crates have their folder
  flags="-Zforce-unstable-if-unmarked$(remap "$work/library=/rustc/$commit/library")"
  (
    cd "$work/library"
    export RUSTC=$rustc RUSTFLAGS=$flags CARGO_TARGET_DIR=$work/std __CARGO_DEFAULT_LIB_METADATA=std
    run "$work/std.log" "$cargo" build --profile dist --package sysroot --no-default-features \
      --features compiler-builtins-mem --target "$target"
  )
  unset RUSTC_BOOTSTRAP
  rm -rf "$made" && mkdir -p "$made/lib/rustlib/$target/lib"
  cp "$work/std/$target"/dist/deps/*.rlib "$made/lib/rustlib/$target/lib/"
  ln -s "$sysroot/lib/rustlib/$host" "$made/lib/rustlib/$host"
  printf '#!/bin/sh\nexec "%s" --sysroot "%s" "$@"\n' "$rustc" "$toolchain" >"$made/rustc"
  chmod +x "$made/rustc"
  # Another build may have been as fast; either will do.
  mkdir -p "$(dirname "$toolchain")"
  mv -T "$made" "$toolchain" 2>/dev/null || rm -rf "$made"
}

toolchain=${XDG_CACHE_HOME:-$HOME/.cache}/causeway/wasm-toolchain/$rust
[ -x "$toolchain/rustc" ] || { mkdir -p "$(dirname "$toolchain")"; make_toolchain; }
if [ $mode = toolchain ]; then
  echo "$toolchain/rustc"
  exit 0
fi

# --- The components.

target_dir=${CARGO_TARGET_DIR:-$PWD/target}
packages=()
for name in "${policies[@]}" "${testing[@]}"; do packages+=(--package "$name"); done
# As in .cargo/config.toml, whose flags these replace.
flags=$(remap "$PWD=/policies")" -Clink-arg=-zstack-size=65536 -Clink-arg=--initial-memory=196608"
say "building $((${#policies[@]} + ${#testing[@]})) policies"
run "$work/fetch.log" "$cargo" fetch --locked --target "$target"
RUSTC=$toolchain/rustc RUSTFLAGS=$flags CARGO_TARGET_DIR=$target_dir PATH=$(dirname "$rustc"):$PATH \
  run "$work/build.log" "$cargo" build --locked --release --target "$target" "${packages[@]}"

out=components
[ $mode = check ] && out=$work/components
mkdir -p "$out/testing"
place() { # name, folder
  local built=$target_dir/$target/release/${1//-/_}.wasm component=$2/$1.wasm
  # A component says so in its eighth byte; a core module has another.
  [ "$(od -An -tx1 -j4 -N4 "$built" | tr -d ' ')" = 0d000100 ] || fail "$1 has become a module and no component."
  cp "$built" "$component"
  say "$1: $(stat -c %s "$component") bytes, sha256:$(sha256sum "$component" | cut -c1-16)…"
}
for name in "${policies[@]}"; do place "$name" "$out"; done
for name in "${testing[@]}"; do place "$name" "$out/testing"; done
[ $mode = check ] || exit 0

wrong=()
while read -r component; do
  cmp -s "$out/$component" "components/$component" || wrong+=("${component%.wasm}")
done < <({ cd "$out" && find . -name '*.wasm'; cd "$OLDPWD" && cd components && find . -name '*.wasm'; } | sed 's#^\./##' | sort -u)
[ ${#wrong[@]} = 0 ] || fail "not what the source makes: ${wrong[*]}. Run ./plugins/build.sh and commit plugins/components/."
say "all components are what their source makes"
