#!/usr/bin/env bash
# Trains on a Cloud TPU slice, and starts again what was preempted. Run it where gcloud is set up.
#
#   scripts/tpu_pod.sh run --config=configs/rt1.py --workdir=/mnt/shared/rt1 [train.py's flags ...]
#   scripts/tpu_pod.sh create | install | train FLAGS ... | delete
#
# NAME, ZONE, TYPE, RUNTIME, SPOT, REPOSITORY and SETUP (a command for every host, such as mounting the
# workdir; it must bear being run again) are taken from the environment. `run` stops when RESTARTS (10) new
# starts in a row bring no newer checkpoint. DRY_RUN=1 prints what would be run.
set -euo pipefail

NAME=${NAME:-rt1}
ZONE=${ZONE:-us-west4-a}
TYPE=${TYPE:-v5litepod-16}           # a v5e 4x4: four hosts of four chips
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
SPOT=${SPOT:-1}
REPOSITORY=${REPOSITORY:-$(git -C "$(dirname "${BASH_SOURCE[0]}")" remote get-url origin 2>/dev/null || true)}
RESTARTS=${RESTARTS:-10}
RESTART_CODE=75 # rt1_jax.training.preemption
PAUSE=${PAUSE:-60}
TRIES=${TRIES:-10} # of gcloud, PAUSE seconds apart, before a failure is believed
# Each user's own, and gone after a host's reboot, as are the mounts that SETUP makes.
INSTALLED='/tmp/rt1_installed.$USER'

main() {
  local command=${1:-}
  shift || true
  case $command in
    create | install | delete) "$command" ;;
    train) train "$@" ;;
    run) run_until_done "$@" ;;
    *)
      sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
      exit 2
      ;;
  esac
}

create() {
  request
  provide
}

request() {
  local spot=()
  if [[ $SPOT == 1 ]]; then spot=(--spot); fi
  do_ gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
    --accelerator-type="$TYPE" --runtime-version="$RUNTIME" "${spot[@]}"
}

# Waits for the slice, whatever has become of it. Only what was preempted is deleted: its hosts are gone.
provide() {
  local now failures=0
  while true; do
    now=$(state) || exit 1
    case $now in
      ACTIVE) return ;;
      NONE) request || ((++failures)) ;;
      SUSPENDED) delete || ((++failures)) ;;
      FAILED)
        echo "tpu_pod: $NAME was refused; change what it says, then: $0 delete" >&2
        gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" --format='yaml(state)' >&2
        exit 1
        ;;
      *) echo "tpu_pod: waiting for $NAME ($now)" >&2 ;;
    esac
    if ((failures == TRIES)); then
      echo "tpu_pod: gcloud failed $failures times, see above; the same command goes on" >&2
      exit 1
    fi
    sleep "$PAUSE"
  done
}

# The marker comes last, so that what was interrupted is done again.
install() {
  [[ -n $REPOSITORY ]] || { echo "tpu_pod: set REPOSITORY to what git can clone" >&2; exit 2; }
  local python="python3.11 -m venv env"  # images come with older ones
  on_hosts all "rm -f $INSTALLED && (${SETUP:-true}) && rm -rf rt1_jax && git clone --depth=1 $(printf %q "$REPOSITORY") rt1_jax \
&& { $python || { sudo apt-get install -y -qq python3.11-venv && $python; }; } && env/bin/pip install --quiet './rt1_jax[tpu]' \
&& touch $INSTALLED"
}

installed() {
  if on_hosts all "test -e $INSTALLED"; then return; fi
  echo "tpu_pod: not installed on every host yet" >&2
  return 1
}

# Every host runs the same; JAX finds the others by the slice's metadata.
train() {
  on_hosts all "cd rt1_jax && JAX_COMPILATION_CACHE_DIR=\$HOME/jax_cache \
../env/bin/python train.py$(printf ' %q' "$@")"
}

delete() {
  do_ gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet
}

# Preempted hosts save and exit with 75; a slice that is taken away takes the connection with it.
run_until_done() {
  local code now
  while true; do
    provide
    code=0
    start "$@" || code=$?
    if ((code == 0)); then return; fi
    sleep "$PAUSE" # the connection is gone before the state tells of it
    # JAX ends a host whose neighbour is gone by a signal (134), which may be the one that is heard.
    if ((code != RESTART_CODE && (code <= 128 || code == 255))); then
      now=$(state) || exit 1
      if [[ $now == ACTIVE ]]; then
        echo "tpu_pod: it ended with $code and the slice is there: not started again" >&2
        exit "$code"
      fi
    fi
    echo "tpu_pod: preempted (exit code $code); going on" >&2
    ((++restarts))
  done
}

start() {
  installed || install || return
  count_restarts "$@"
  train "$@"
}

restarts=0 newest=unknown

# A run that is started over and over and comes no further would be paid for without end.
count_restarts() {
  local now
  now=$(newest_checkpoint "$@") || now=$newest
  if [[ $now != "$newest" ]]; then newest=$now restarts=0; fi
  if ((restarts > RESTARTS)); then
    echo "tpu_pod: started again $RESTARTS times without a newer checkpoint than ${newest:-none}, see above why." \
      "The slice is still there: the same command goes on (RESTARTS=N allows more), or: $0 delete" >&2
    exit 1
  fi
}

newest_checkpoint() {
  local workdir
  workdir=$(workdir_of "$@")
  on_hosts 0 "cd rt1_jax && ls $(printf %q "$workdir")/checkpoints 2>/dev/null | sort -n | tail -n 1"
}

workdir_of() {
  local flag before='' workdir=''
  for flag; do
    if [[ $flag == --workdir=* ]]; then workdir=${flag#*=}; fi
    if [[ $before == --workdir ]]; then workdir=$flag; fi
    before=$flag
  done
  echo "$workdir"
}

on_hosts() {
  do_ gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker="$1" --command="$2"
}

# NONE only if gcloud says that there is no such slice: a failure says nothing about it.
state() {
  if [[ ${DRY_RUN:-} == 1 ]]; then echo ACTIVE; return; fi
  local errors try
  for ((try = 1; try <= TRIES; try++)); do
    # Its answer is this function's; what it says beside is kept.
    if { errors=$(gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" \
      --format='value(state.state)' 2>&1 >&3); } 3>&1; then return; fi
    if [[ $errors == *NOT_FOUND* ]]; then echo NONE; return; fi
    echo "tpu_pod: gcloud does not tell the state of $NAME (try $try of $TRIES): $errors" >&2
    sleep "$PAUSE"
  done
  echo "tpu_pod: nothing was changed; once gcloud answers, the same command goes on" >&2
  return 1
}

do_() {
  if [[ ${DRY_RUN:-} == 1 ]]; then printf '%q ' "$@"; echo; else "$@"; fi
}

main "$@"
