#!/usr/bin/env bash
# Makes .venv from requirements.lock, in it the small environment of a client that the policy server
# is tested with, and sees that MuJoCo can render without a display.
# Does nothing, quickly, when all of that is done. Installs system packages when it runs as root,
# else names them and stops.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=.venv
STAMP=$VENV/.setup-done
CLIENT_VENV=$VENV/openpi-client
CLIENT_PACKAGES=tests/serving/requirements-openpi-client.txt
GL_PACKAGES=(libegl1 libopengl0 libgl1-mesa-dri)

say() { printf 'setup: %s\n' "$*"; }
die() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

main() {
  local fingerprint
  fingerprint=$(fingerprint)
  if [[ -x $VENV/bin/python && -f $STAMP && $(cat "$STAMP") == "$fingerprint" ]]; then
    return
  fi
  make_environment
  make_client_environment
  check_rendering
  printf '%s\n' "$fingerprint" >"$STAMP"
  say "done ($VENV)"
}

# What the environment was made from. The folder counts too: a moved virtual environment is broken.
fingerprint() {
  { cat requirements.lock "$CLIENT_PACKAGES" setup.py scripts/setup.sh && pwd -P; } | sha256sum | cut -d' ' -f1
}

make_environment() {
  local python
  python=$(find_python)
  # ensurepip is the part of venv that Debian keeps in a package of its own.
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    install_system_packages "Python's venv module is missing" \
      "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
  fi
  if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    say "making $VENV with $python"
    "$python" -m venv --clear "$VENV"
  fi
  say "installing packages from requirements.lock (about 1 GB to download, once)"
  pip_install "$VENV" -r requirements.lock
  pip_install "$VENV" --no-deps --no-build-isolation --editable .
}

# openpi-client wants numpy 1, so it cannot share the environment. One from another set of packages
# or another folder is made anew.
make_client_environment() {
  say "installing openpi-client for the server's tests ($CLIENT_VENV)"
  "$VENV/bin/python" -m venv --clear "$CLIENT_VENV"
  pip_install "$CLIENT_VENV" --no-deps -r "$CLIENT_PACKAGES"
}

# pip_install ENVIRONMENT ARGUMENT...
# Download progress for a person, only errors for a log.
pip_install() {
  local environment=$1 quiet=--quiet
  shift
  if [[ -t 1 ]]; then quiet=--progress-bar=on; fi
  PYTHONWARNINGS=ignore "$environment/bin/python" -m pip --disable-pip-version-check \
    --no-input install "$quiet" "$@"
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3; do
    # The lock holds versions for 3.11; a shim that cannot run counts as absent.
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  die "no Python 3.11 found. Install it (Debian 12: apt-get install python3) or set PYTHON=/path/to/python3.11"
}

check_rendering() {
  [[ $(uname -s) == Linux ]] || return 0
  if can_render; then return; fi
  install_system_packages "MuJoCo cannot render without a display: GL libraries are missing" \
    "${GL_PACKAGES[@]}"
  can_render || die "MuJoCo still cannot render without a display; see what" \
    "'MUJOCO_GL=egl $VENV/bin/python -c \"import mujoco; mujoco.GLContext(8, 8).make_current()\"' says"
}

can_render() {
  local backend
  for backend in egl osmesa; do
    if MUJOCO_GL=$backend "$VENV/bin/python" -c \
      'import mujoco; mujoco.GLContext(8, 8).make_current()' >/dev/null 2>&1; then
      return 0
    fi
  done
  return 1
}

# install_system_packages REASON PACKAGE...
install_system_packages() {
  local reason=$1
  shift
  if ! command -v apt-get >/dev/null; then
    die "$reason. Install what your system calls: $*"
  fi
  if [[ $(id -u) -ne 0 ]]; then
    die "$reason. Run: sudo apt-get install --no-install-recommends $*"
  fi
  say "$reason; installing $*"
  apt-get update -qq || say "apt-get update failed; going on with the lists at hand"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
    die "apt-get could not install: $*"
}

main "$@"
