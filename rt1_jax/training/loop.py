"""The training loop. It reads top to bottom: data, model, state, steps."""

from __future__ import annotations

import os
import time
from typing import Any

import jax
import numpy as np
import tqdm

from rt1_jax.actions import ActionSpec
from rt1_jax.checkpoints import native
from rt1_jax.data.augmentation import Augmentation
from rt1_jax.data.loader import prefetch
from rt1_jax.data.training_data import TrainingData, open_training_data
from rt1_jax.data.windows import WindowSource
from rt1_jax.models import registry
from rt1_jax.training.config_keys import data_with_newer
from rt1_jax.training.metrics import MetricsWriter
from rt1_jax.training.optimizer import make_optimizer, make_schedule
from rt1_jax.training.pretrained import read_backbone, with_backbone
from rt1_jax.training.state import TrainState
from rt1_jax.training.step import Batch, given_actions, make_eval_step, make_train_step
from rt1_jax.training.workdir import checkpoint_path, claim_workdir, drop_old_checkpoints


class NonFiniteLossError(RuntimeError):
    """The loss or a gradient was not finite; the last good checkpoint stands."""


def train(config: Any, workdir: str | os.PathLike[str], *, progress: bool = True) -> dict[str, Any]:
    """Trains a policy, or goes on with the run that is in `workdir`.

    Args:
      config: an `ml_collections.ConfigDict` as in `configs/tabletop.py`.
      workdir: checkpoints, metrics and the run's config go here.
      progress: draw a progress bar.

    Returns:
      {"steps", "seconds", "frames_per_second", "loss", "validation_loss", "parameters"}.

    Raises:
      DatasetError, CheckpointError, WorkdirError: see there.
      ValueError: the model has other bins or action tokens than the data's action spec.
      NonFiniteLossError: training diverged.
    """
    root = claim_workdir(workdir, config.to_dict())

    # ---- Data: training windows, and a few episodes held out for validation.
    model_config = config.model.to_dict()
    if config.backbone_weights:
        backbone, model_config = read_backbone(
            config.backbone_weights, config.architecture, model_config
        )
    model = registry.build(config.architecture, model_config)
    frames = config.model.frames
    data = open_training_data(
        data_with_newer(config.data.to_dict()),
        config.loader.to_dict(),
        frames=frames,
        embedding_size=config.model.embedding_size,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    _check_actions(config.model, data.action_spec)
    # Batches are put on the device while the step before them runs.
    batches = iter(prefetch(data.stream, jax.device_put))

    # ---- State: made on the device, or the newest checkpoint's.
    optimizer = make_optimizer(config.optimizer)
    state = init_state(
        model, optimizer, data.image_size, data.action_spec, config.model, config.seed
    )
    steps_before = native.list_checkpoints(root)
    if config.backbone_weights and not steps_before:
        state = with_backbone(state, model_config, backbone)
    if steps_before:
        state, position = native.load_training(checkpoint_path(root, steps_before[-1]), state)
        data.go_to(batches, position)
    first_step = int(state.step)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    if progress:
        print(f"{config.name}: {parameters:,} parameters, {data.episodes:,} episodes", flush=True)
    description = _describe(config, model_config, data)

    # ---- The steps, compiled once.
    train_step = jax.jit(
        make_train_step(
            model,
            data.action_spec,
            optimizer,
            statistics=data.statistics,
            average_decay=config.optimizer.average_decay,
            augmentation=Augmentation.from_config(config.data),
            smoothing=config.smoothing,
        ),
        donate_argnums=0,
    )
    eval_step = jax.jit(make_eval_step(model, data.action_spec, statistics=data.statistics))
    schedule = make_schedule(config.optimizer)
    key = jax.random.key(config.seed)
    last_step = config.optimizer.steps
    chunk = data_with_newer(config.data.to_dict())["chunk"]
    frames_a_batch = config.batch_size * (frames + chunk - 1)

    def save(step: int) -> None:
        path = checkpoint_path(root, step)
        if not path.exists():
            description.step = step
            position = data.position(batches)
            native.save_checkpoint(
                path, description, state.average, training=state, iterator=position
            )
            drop_old_checkpoints(root, config.keep_checkpoints)

    def validate(step: int) -> float:
        losses = []
        for name, windows in data.validation.items():
            metrics = _mean_metrics(eval_step, state.average, windows, config)
            split = "validation" if len(data.validation) == 1 else f"validation/{name}"
            writer.write(step, split, metrics)
            losses.append(metrics["loss"])
        return float(np.mean(losses)) if losses else float("nan")

    # ---- The loop.
    writer = MetricsWriter(root, first_step)
    bar = tqdm.tqdm(
        initial=first_step, total=last_step, unit="step", disable=not progress, smoothing=0.05
    )
    started = time.perf_counter()
    loss = validation_loss = float("nan")
    window_start, window_steps = started, 0
    try:
        for step in range(first_step + 1, last_step + 1):
            state, metrics = train_step(state, next(batches), jax.random.fold_in(key, step))
            bar.update()
            window_steps += 1
            if step % config.log_every == 0 or step == last_step:
                numbers = {name: float(value) for name, value in metrics.items()}
                _check_finite(step, numbers, state, root)
                seconds = time.perf_counter() - window_start
                numbers["learning_rate"] = float(schedule(step))
                numbers["frames_per_second"] = window_steps * frames_a_batch / seconds
                window_start, window_steps = time.perf_counter(), 0
                writer.write(step, "train", numbers)
                loss = numbers["loss"]
                bar.set_postfix(
                    loss=f"{loss:.3f}",
                    accuracy=f"{numbers['token_accuracy']:.3f}",
                    frames=f"{numbers['frames_per_second']:.0f}/s",
                    refresh=False,
                )
            if step % config.checkpoint_every == 0 or step == last_step:
                _check_finite(step, {"loss": float(metrics["loss"])}, state, root)
                save(step)
                validation_loss = validate(step)
    finally:
        bar.close()
        writer.close()
        batches.close()  # its threads and worker processes
    seconds = time.perf_counter() - started
    steps = last_step - first_step
    return {
        "steps": steps,
        "seconds": seconds,
        "frames_per_second": steps * frames_a_batch / max(seconds, 1e-9),
        "loss": loss,
        "validation_loss": validation_loss,
        "parameters": parameters,
    }


def _check_actions(model: Any, spec: ActionSpec) -> None:
    """Tokens beyond a model's bins would be read as not a number."""
    for name, given in (("bins", spec.bins), ("action_tokens", spec.action_tokens)):
        expected = model.get(name, given)
        if expected != given:
            raise ValueError(
                f"model.{name} is {expected}, but the data's action spec {spec.name} has {given}: "
                f"set --config.model.{name}={given}"
            )


def init_state(
    model: Any,
    optimizer: Any,
    image_size: tuple[int, int],
    action_spec: ActionSpec,
    config: Any,
    seed: int,
) -> TrainState:
    """A fresh train state for frames of the data's size, made inside one jit."""

    def init(key: jax.Array) -> TrainState:
        images = np.zeros((1, config.frames, *image_size, 3), np.uint8)
        embeddings = np.zeros((1, config.embedding_size), np.float32)
        actions = {
            field.name: np.zeros((1, config.frames, field.size), np.float32)
            for field in action_spec.fields
        }
        given = given_actions(model, actions, action_spec)
        return TrainState.create(model.init(key, images, embeddings, **given), optimizer)

    return jax.jit(init)(jax.random.key(seed))


def _mean_metrics(
    eval_step: Any, variables: Any, windows: WindowSource, config: Any
) -> dict[str, float]:
    """Means over whole batches of the held-out windows."""
    size = min(config.batch_size, len(windows))
    sums: dict[str, float] = {}
    # Every k-th window: neighbours share all frames but one.
    order = np.arange(0, len(windows), config.model.frames)
    order = order if len(order) >= size else np.arange(len(windows))
    count = len(order) // size
    for i in range(count):
        rows: list[Batch] = [windows[int(w)] for w in order[i * size : (i + 1) * size]]
        batch = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
        for name, value in eval_step(variables, batch).items():
            sums[name] = sums.get(name, 0.0) + float(value) / count
    return sums


def _check_finite(step: int, metrics: dict[str, float], state: TrainState, root: Any) -> None:
    skipped = int(state.skipped)
    bad = [name for name, value in metrics.items() if not np.isfinite(value)]
    if bad or skipped:
        steps = native.list_checkpoints(root)
        kept = f"checkpoint {steps[-1]} stands" if steps else "there was no checkpoint yet"
        raise NonFiniteLossError(
            f"not finite by step {step}: {', '.join(bad) or 'a gradient'} ({skipped} updates were "
            f"not applied); {kept}. Lower optimizer.learning_rate or optimizer.clip_norm, or look "
            "at the data, then start again with the same --workdir"
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
