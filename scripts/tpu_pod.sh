#!/usr/bin/env bash
# Trains on a Cloud TPU slice, and starts again what was preempted. Run it where gcloud is set up.
#
#   scripts/tpu_pod.sh run --config=configs/rt1.py --workdir=/mnt/shared/rt1 [train.py's flags ...]
#   scripts/tpu_pod.sh create | install | train FLAGS ... | delete
#
# NAME, ZONE, TYPE, RUNTIME, SPOT, REPOSITORY and SETUP (a command for every host, such as mounting the
# workdir) are taken from the environment. DRY_RUN=1 prints what would be run.
set -euo pipefail

NAME=${NAME:-rt1}
ZONE=${ZONE:-us-west4-a}
TYPE=${TYPE:-v5litepod-16}           # a v5e 4x4: four hosts of four chips
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
SPOT=${SPOT:-1}
REPOSITORY=${REPOSITORY:-$(git -C "$(dirname "${BASH_SOURCE[0]}")" remote get-url origin 2>/dev/null || true)}
RESTART_CODE=75 # rt1_jax.training.preemption
PAUSE=${PAUSE:-60}

main() {
  local command=${1:-}
  shift || true
  case $command in
    create | install | delete) "$command" ;;
    train) train "$@" ;;
    run) run_until_done "$@" ;;
    *)
      sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
      exit 2
      ;;
  esac
}

create() {
  local spot=()
  if [[ $SPOT == 1 ]]; then spot=(--spot); fi
  do_ gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
    --accelerator-type="$TYPE" --runtime-version="$RUNTIME" "${spot[@]}"
  until [[ $(state) == ACTIVE ]]; do
    echo "tpu_pod: waiting for $NAME ($(state))" >&2
    sleep "$PAUSE"
  done
}

install() {
  [[ -n $REPOSITORY ]] || { echo "tpu_pod: set REPOSITORY to what git can clone" >&2; exit 2; }
  local python="python3.11 -m venv env"  # images come with older ones
  on_all_hosts "${SETUP:-true} && rm -rf rt1_jax && git clone --depth=1 $(printf %q "$REPOSITORY") rt1_jax \
&& { $python || { sudo apt-get install -y -qq python3.11-venv && $python; }; } && env/bin/pip install --quiet './rt1_jax[tpu]'"
}

# Every host runs the same; JAX finds the others by the slice's metadata.
train() {
  on_all_hosts "cd rt1_jax && JAX_COMPILATION_CACHE_DIR=\$HOME/jax_cache \
../env/bin/python train.py$(printf ' %q' "$@")"
}

delete() {
  do_ gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet
}

# Preempted hosts save and exit with 75; a slice that is taken away takes the connection with it.
run_until_done() {
  local code
  while true; do
    if [[ $(state) != ACTIVE ]]; then
      delete || true
      create
      install
    fi
    code=0
    train "$@" || code=$?
    if ((code == 0)); then return; fi
    if ((code != RESTART_CODE)) && [[ $(state) == ACTIVE ]]; then
      echo "tpu_pod: training ended with $code and the slice is there: not started again" >&2
      exit "$code"
    fi
    echo "tpu_pod: preempted (exit code $code); going on" >&2
    sleep "$PAUSE"
  done
}

on_all_hosts() {
  do_ gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command="$1"
}

state() {
  if [[ ${DRY_RUN:-} == 1 ]]; then echo ACTIVE; return; fi
  gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" \
    --format='value(state.state)' 2>/dev/null || echo NONE
}

do_() {
  if [[ ${DRY_RUN:-} == 1 ]]; then printf '%q ' "$@"; echo; else "$@"; fi
}

main "$@"
