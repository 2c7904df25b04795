"""The training loop. It reads top to bottom: data, model, state, steps."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from typing import Any

import jax
import tqdm
from jax.sharding import Mesh

from rt1_jax.checkpoints import native
from rt1_jax.checkpoints.saver import remove_leftovers
from rt1_jax.data.training_data import TrainingData, open_training_data
from rt1_jax.training import hosts
from rt1_jax.training.config_keys import flatten, with_newer
from rt1_jax.training.fine_tuning import read_start, with_start
from rt1_jax.training.frozen import frozen_line
from rt1_jax.training.guards import check_actions, check_finite, step_failed
from rt1_jax.training.optimizer import make_schedule
from rt1_jax.training.preemption import Preemption
from rt1_jax.training.pretrained import read_backbone, with_backbone
from rt1_jax.training.program import Program, make_program
from rt1_jax.training.recorder import Recorder
from rt1_jax.training.sharding import check_batch, make_mesh, put_batch
from rt1_jax.training.start_state import continue_optimizer, put_into
from rt1_jax.training.state import TrainState
from rt1_jax.training.watchdog import Watchdog
from rt1_jax.training.workdir import check_workdir, checkpoint_path, claim_workdir


def train(config: Any, workdir: str | os.PathLike[str], *, progress: bool = True) -> dict[str, Any]:
    """Trains a policy, or goes on with the run that is in `workdir`.

    Several processes (`rt1_jax.training.hosts`) call it alike; `workdir` is a directory that all
    of them see.

    Args:
      config: an `ml_collections.ConfigDict` as in `configs/tabletop.py`.
      workdir: checkpoints, metrics and the run's config go here.
      progress: draw a progress bar.

    Returns:
      {"steps", "seconds", "frames_per_second", "loss", "validation_loss", "parameters",
      "preempted"}; preempted is whether it was told to go before its end, and has saved.

    Raises:
      DatasetError, CheckpointError, WorkdirError, MeshError, HostsError: see there.
      ValueError: the model has other bins or action tokens than the data's action spec.
      NonFiniteLossError: training diverged.
      StepFailedError: another process is gone.
      DeviceMemoryError: the step does not fit the devices.
    """
    first_process, processes = hosts.is_first(), jax.process_count()
    progress = progress and first_process
    root = check_workdir(workdir, config.to_dict())

    # ---- Data: training windows, and a few episodes held out for validation.
    complete = with_newer(config.to_dict())
    model_config = config.model.to_dict()
    if config.backbone_weights and complete["start"]["checkpoint"]:
        raise ValueError(
            "backbone_weights and start.checkpoint are both set: a run begins with one of them"
        )
    if config.backbone_weights:
        backbone, model_config = read_backbone(
            config.backbone_weights, config.architecture, model_config
        )
    mesh = make_mesh(complete["mesh"])
    check_batch(mesh, config.batch_size, complete["step"]["accumulate"], processes)
    frames = config.model.frames
    data = open_training_data(
        complete["data"],
        config.loader.to_dict(),
        frames=frames,
        embedding_size=config.model.embedding_size,
        batch_size=config.batch_size // processes,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=processes,
    )
    check_actions(config.model, data.action_spec)

    # ---- The step and the state: made on the devices, or the newest checkpoint's.
    steps_before = native.list_checkpoints(root)
    description = _describe(config, model_config, data)
    if steps_before and complete["start"]["checkpoint"]:  # the statistics that it has begun with
        path = checkpoint_path(root, steps_before[-1])
        description.embedding_statistics = native.read_description(path).embedding_statistics
    program = _program(config, mesh, description, data)
    hosts.check_agreement(
        {
            **{f"config.{key}": value for key, value in flatten(config.to_dict()).items()},
            **{f"data.{key}": value for key, value in data.order.items()},
            "checkpoint": steps_before[-1] if steps_before else None,
            **{f"version of {k}": v for k, v in native.library_versions().items()},
        }
    )
    hosts.check_shared(root)
    position = None
    if steps_before:
        path = checkpoint_path(root, steps_before[-1])
        state, position = native.load_training(path, program.abstract_state)
    else:
        state = program.init()
        if config.backbone_weights:
            state = program.place(with_backbone(state, model_config, backbone))
        if complete["start"]["checkpoint"]:
            state, description = _fine_tuned(state, description, complete, progress)
            program = _program(config, mesh, description, data)
    first_step = int(state.step)
    batches = data.batches(
        functools.partial(put_batch, program.mesh), position, first_step, jax.process_index()
    )
    if first_process:
        claim_workdir(root, config.to_dict())
        remove_leftovers(root)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    if progress:
        print(f"{config.name}: {parameters:,} parameters, {data.episodes:,} episodes", flush=True)
        if mesh.size > 1:
            print(program.table(), flush=True)
        if complete["frozen"]:
            print(frozen_line(state.params, tuple(complete["frozen"])), flush=True)
    schedule = make_schedule(config.optimizer)
    key = jax.random.key(config.seed)
    last_step = config.optimizer.steps
    frames_a_batch = config.batch_size * (frames + complete["data"]["chunk"] - 1)
    guards = complete["guards"]
    recorder = Recorder(config, root, description, data, program, first_step)

    # ---- The loop.
    bar = tqdm.tqdm(
        initial=first_step, total=last_step, unit="step", disable=not progress, smoothing=0.05
    )
    watchdog = Watchdog(guards["stall_seconds"])
    started = time.perf_counter()
    loss = validation_loss = float("nan")
    window_start, window_steps = started, 0
    step, preempted = first_step, False
    try:
        with Preemption() as preemption:
            for step in range(first_step + 1, last_step + 1):
                watchdog.doing("the next batch of the data")
                batch = next(batches)
                # The first step compiles, which may take as long as it takes.
                watchdog.doing(f"step {step} on the devices" if step > first_step + 1 else "")
                step_key = jax.random.fold_in(key, step)
                if step == first_step + 1:
                    hosts.compile_together("step", program.train_step, state, batch, step_key)
                with jax.transfer_guard_device_to_host("disallow"):
                    state, metrics = program.train_step(state, batch, step_key)
                bar.update()
                window_steps += 1
                preempted = preemption.reached(step)
                if step % config.log_every == 0 or step == last_step:
                    numbers = {k: float(v) for k, v in jax.device_get(metrics).items()}
                    check_finite(step, numbers, state, root, guards["max_skipped"])
                    seconds = time.perf_counter() - window_start
                    numbers["learning_rate"] = float(schedule(step))
                    numbers["frames_per_second"] = window_steps * frames_a_batch / seconds
                    numbers["skipped"] = float(jax.device_get(state.skipped))
                    window_start, window_steps = time.perf_counter(), 0
                    recorder.write(step, "train", numbers)
                    loss = numbers["loss"]
                    bar.set_postfix(
                        loss=f"{loss:.3f}",
                        accuracy=f"{numbers['token_accuracy']:.3f}",
                        frames=f"{numbers['frames_per_second']:.0f}/s",
                        refresh=False,
                    )
                if step % config.checkpoint_every == 0 or step == last_step or preempted:
                    final = {"loss": float(jax.device_get(metrics["loss"]))}
                    check_finite(step, final, state, root, guards["max_skipped"])
                    validation_loss = float("nan")
                    if not preempted:  # there may be no time for it
                        validation_loss = recorder.validate(step, state.average, watchdog.doing)
                    watchdog.doing(f"the checkpoint of step {step}")
                    recorder.save(step, state, batches.position(), validation_loss)
                    if preempted:
                        break
        watchdog.doing("the last checkpoint")
        recorder.finish()
    except jax.errors.JaxRuntimeError as error:
        parts = mesh.size * complete["step"]["accumulate"]
        told = step_failed(step, error, root, batch=config.batch_size, parts=parts)
        if told is None:
            raise
        raise told from error
    finally:
        watchdog.close()
        bar.close()
        recorder.close()
        batches.close()  # its threads and worker processes
    seconds = time.perf_counter() - started
    steps = step - first_step
    return {
        "steps": steps,
        "seconds": seconds,
        "frames_per_second": steps * frames_a_batch / max(seconds, 1e-9),
        "loss": loss,
        "validation_loss": validation_loss,
        "parameters": parameters,
        "preempted": preempted and step < last_step,
    }


def _program(
    config: Any, mesh: Mesh, description: native.PolicyDescription, data: TrainingData
) -> Program:
    return make_program(
        config,
        mesh,
        action_spec=description.action_spec,
        image_size=description.image_size,
        statistics=description.embedding_statistics,
        model_config=description.model,
        embedding_dimensions=data.encoder.dimensions,
    )


def _fine_tuned(
    state: TrainState,
    description: native.PolicyDescription,
    complete: dict[str, Any],
    progress: bool,
) -> tuple[TrainState, native.PolicyDescription]:
    """The fresh state with what it takes from `start.checkpoint`, and the description with that."""
    start = read_start(complete["start"]["checkpoint"])
    fresh = {"params": state.params, "batch_stats": state.batch_stats}
    tuned = with_start(fresh, start, description)
    if progress:
        print(tuned.report.table(), flush=True)
    state = put_into(state, tuned.variables)
    if not complete["start"]["reset_optimizer"]:
        state = continue_optimizer(state, start, tuned.report, tuple(complete["frozen"]))
    source = {**description.source, "start": str(start), "reused": tuned.report.counts()}
    return state, dataclasses.replace(
        description, embedding_statistics=tuned.statistics, source=source
    )


def _describe(config: Any, model: dict[str, Any], data: TrainingData) -> native.PolicyDescription:
    return native.PolicyDescription(
        architecture=config.architecture,
        model=model,
        action_spec=data.action_spec,
        encoder=data.encoder,
        embedding_statistics=data.statistics,
        image_size=data.image_size,
        frame_rate=data.frame_rate,
        step=0,
        source={
            "run": config.name,
            "seed": config.seed,
            "data": data.source,
            "episodes": data.episodes,
            "training_steps": config.optimizer.steps,
            "batch_size": config.batch_size,
        },
    )
