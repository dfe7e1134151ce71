# Sourced by the scripts beside it, in the root of the tree: finds Rust, and says what to do where it is missing or old.
# There is no toolchain file, which would make rustup download a toolchain of that very version.

# need_rust NAME: NAME is whose words they are. Ends the script where there is no Rust that can build this.
need_rust() {
  local wanted found
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  fi
  if ! command -v cargo >/dev/null; then
    echo "$1: cargo is missing; install Rust $wanted or newer from https://rustup.rs, open a new shell, and run this again" >&2
    exit 1
  fi
  if ! found=$(rustc --version); then
    echo "$1: rustc does not run; with rustup, install a toolchain: rustup default stable" >&2
    exit 1
  fi
  found=${found#rustc }
  found=${found%%[- ]*}
  # The older of the two comes first.
  if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
    echo "$1: Rust $wanted or newer is needed, and this is $found; with rustup: rustup update stable" >&2
    exit 1
  fi
}
