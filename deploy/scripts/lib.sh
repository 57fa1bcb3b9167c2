# What the scripts here share: speaking, installing, timing. Sourced, not run.
#
# shellcheck shell=bash disable=SC2034

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"

# One target folder for everything that is built, fetched or reported.
TARGET=$ROOT/target
LOGS=$TARGET/logs
WEB=$ROOT/signaling/web
VENV=$TARGET/venv
# Packages with fuzzers, each of which is a workspace of its own with its own lock file.
FUZZED=(node signaling loadtest/client)
mkdir -p "$LOGS"

say() { printf '\n== %s\n' "$*"; }
fail() {
  printf '\nerror: %s\n' "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# --- Steps: each is timed, shown as it runs, and kept in target/logs ---

SUMMARY=()
SECONDS_BEGIN=$SECONDS

# step <name> <pattern of its closing lines, or -> <command…>
step() {
  local name=$1 closing=$2 begin=$SECONDS log outcome=0
  shift 2
  log=$LOGS/${name//[ \/]/-}.log
  say "$name: $*"
  "$@" 2>&1 | tee "$log" || outcome=$?
  SUMMARY+=("$(printf '%-28s %5d s  %s' "$name" "$((SECONDS - begin))" "$([ "$outcome" = 0 ] && echo ok || echo FAILED)")")
  if [ "$closing" != - ]; then
    while IFS= read -r line; do
      SUMMARY+=("    $line")
    done < <(sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -E "$closing" | sed 's/^[[:space:]]*//' | tail -n 12)
  fi
  if [ "$outcome" != 0 ]; then
    summary
    fail "$name failed; its output is in ${log#"$ROOT"/}"
  fi
}

summary() {
  say "summary, $((SECONDS - SECONDS_BEGIN)) s"
  printf '%s\n' "${SUMMARY[@]}"
}

# --- Skips: what cannot run here is named, and only what the list allows may be skipped ---

SKIPS=$TARGET/skips.txt

skip() {
  printf '%s\n' "$1" >>"$SKIPS"
  printf 'skipped: %s (%s)\n' "$1" "$2"
}

# --- Installing ---

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    fail "this needs root, and there is no sudo: $*"
  fi
}

APT_UPDATED=
# What there is to install; once in a run.
apt_update() {
  [ -z "$APT_UPDATED" ] || return 0
  as_root apt-get update -qq
  APT_UPDATED=yes
}

# apt_install <package…>: those that are not there yet.
apt_install() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  have apt-get || fail "please install ${missing[*]}: this is no Debian, so it cannot be done here"
  say "installing ${missing[*]}"
  apt_update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# cargo_install <command> <crate> <version>
cargo_install() {
  local command=$1 crate=$2 version=$3
  ! have "$command" || return 0
  say "installing $crate $version with cargo; this takes a few minutes, once"
  # Not into our target folder: its own profile would be rebuilt with every change of ours.
  CARGO_TARGET_DIR="$TARGET/tools" cargo install --locked --quiet "$crate" --version "$version"
  rm -rf "$TARGET/tools"
}

# What a mesh of several processes consists of. The same command for all who need it: with other packages
# beside these, cargo would build them otherwise, and again.
build_mesh() {
  cargo build --release --locked --package pipemesh-node --package pipemesh-signaling --package pipemesh-dev
}
