"""The training loop. It reads top to bottom: data, model, state, steps."""

from __future__ import annotations

import os
import time
from typing import Any

import jax
import numpy as np
import tqdm

from rt1_jax.checkpoints import native
from rt1_jax.data.augmentation import Augmentation
from rt1_jax.data.loader import WindowSource, make_loader
from rt1_jax.data.store import StepStore
from rt1_jax.data.subset import choose_episodes, split_validation
from rt1_jax.language import EmbeddingStatistics
from rt1_jax.models import registry
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
      ValueError: model.embedding_size is not what the data's embeddings are conditioned to.
      NonFiniteLossError: training diverged.
    """
    root = claim_workdir(workdir, config.to_dict())

    # ---- Data: training windows, and a few episodes held out for validation.
    store = StepStore.open(config.data.directory, cache_bytes=config.loader.cache_bytes)
    training_part, validation_part = split_validation(store, config.data.validation_episodes)
    less = config.data.episodes > 0 or config.data.tasks < 1
    if less:
        chosen = choose_episodes(
            store,
            config.data.validation_episodes,
            episodes=config.data.episodes,
            tasks=config.data.tasks,
            seed=config.seed,
        )
        training_part = store.select(chosen)
    model_config = config.model.to_dict()
    if config.backbone_weights:
        backbone, model_config = read_backbone(
            config.backbone_weights, config.architecture, model_config
        )
    model = registry.build(config.architecture, model_config)
    frames = config.model.frames
    stream = make_loader(
        training_part,
        frames=frames,
        batch_size=config.batch_size,
        seed=config.seed,
        workers=config.loader.workers,
        threads=config.loader.threads,
        travel_repeats=config.data.travel_repeats,
    )
    batches = iter(stream)
    statistics = None
    components = config.data.embedding_components
    if config.model.embedding_size != (components or store.encoder.dimensions):
        raise ValueError(
            f"model.embedding_size is {config.model.embedding_size}, but the model will be given "
            f"{components or store.encoder.dimensions} numbers a sentence "
            f"(data.embedding_components is {components}, the encoder of "
            f"{config.data.directory} gives {store.encoder.dimensions}): set them alike"
        )
    if components:
        told, counts = np.unique(training_part.instruction_ids, return_counts=True)
        sentences = [store.instructions[row] for row in told]
        # Little data has few words: the components that there are not are zeros then.
        statistics = EmbeddingStatistics.of(
            store.embeddings[told], sentences, components, counts, pad=less
        )

    # ---- State: made on the device, or the newest checkpoint's.
    optimizer = make_optimizer(config.optimizer)
    state = init_state(model, optimizer, store, config.model, config.seed)
    steps_before = native.list_checkpoints(root)
    if config.backbone_weights and not steps_before:
        state = with_backbone(state, model_config, backbone)
    if steps_before:
        state, position = native.load_training(checkpoint_path(root, steps_before[-1]), state)
        batches.set_state(position)
    first_step = int(state.step)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    if progress:
        print(
            f"{config.name}: {parameters:,} parameters, {len(training_part):,} episodes", flush=True
        )
    description = _describe(config, model_config, store, statistics, len(training_part))

    # ---- The steps, compiled once.
    train_step = jax.jit(
        make_train_step(
            model,
            store.action_spec,
            optimizer,
            statistics=statistics,
            average_decay=config.optimizer.average_decay,
            augmentation=Augmentation.from_config(config.data),
            smoothing=config.smoothing,
        ),
        donate_argnums=0,
    )
    eval_step = jax.jit(make_eval_step(model, store.action_spec, statistics=statistics))
    schedule = make_schedule(config.optimizer)
    key = jax.random.key(config.seed)
    last_step = config.optimizer.steps

    def save(step: int) -> None:
        path = checkpoint_path(root, step)
        if not path.exists():
            description.step = step
            position = batches.get_state()
            native.save_checkpoint(
                path, description, state.average, training=state, iterator=position
            )
            drop_old_checkpoints(root, config.keep_checkpoints)

    def validate(step: int) -> float:
        metrics = _mean_metrics(eval_step, state.average, validation_part, config)
        writer.write(step, "validation", metrics)
        return metrics["loss"]

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
                numbers["frames_per_second"] = window_steps * config.batch_size * frames / seconds
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
    seconds = time.perf_counter() - started
    steps = last_step - first_step
    return {
        "steps": steps,
        "seconds": seconds,
        "frames_per_second": steps * config.batch_size * frames / max(seconds, 1e-9),
        "loss": loss,
        "validation_loss": validation_loss,
        "parameters": parameters,
    }


def init_state(model: Any, optimizer: Any, store: StepStore, config: Any, seed: int) -> TrainState:
    """A fresh train state for frames of the dataset's size, made inside one jit."""

    def init(key: jax.Array) -> TrainState:
        images = np.zeros((1, config.frames, *store.image_size, 3), np.uint8)
        embeddings = np.zeros((1, config.embedding_size), np.float32)
        actions = {
            field.name: np.zeros((1, config.frames, field.size), np.float32)
            for field in store.action_spec.fields
        }
        given = given_actions(model, actions, store.action_spec)
        return TrainState.create(model.init(key, images, embeddings, **given), optimizer)

    return jax.jit(init)(jax.random.key(seed))


def _mean_metrics(
    eval_step: Any, variables: Any, store: StepStore | None, config: Any
) -> dict[str, float]:
    """Means over whole batches of the held-out windows."""
    if store is None:
        return {"loss": float("nan")}
    windows = WindowSource(store, config.model.frames)
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


def _describe(
    config: Any,
    model: dict[str, Any],
    store: StepStore,
    statistics: EmbeddingStatistics | None,
    episodes: int,
) -> native.PolicyDescription:
    return native.PolicyDescription(
        architecture=config.architecture,
        model=model,
        action_spec=store.action_spec,
        encoder=store.encoder,
        embedding_statistics=statistics,
        image_size=store.image_size,
        frame_rate=store.description["frame_rate"],
        step=0,
        source={
            "run": config.name,
            "seed": config.seed,
            "data": store.description["source"],
            "episodes": episodes,
            "training_steps": config.optimizer.steps,
            "batch_size": config.batch_size,
        },
    )
