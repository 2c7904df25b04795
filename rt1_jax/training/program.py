"""What a run executes: the model's step, compiled for a mesh, and the state's place on it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding

from rt1_jax.actions import ActionSpec
from rt1_jax.data.augmentation import Augmentation
from rt1_jax.language import EmbeddingStatistics
from rt1_jax.models import registry
from rt1_jax.models.training_options import TrainingOptions
from rt1_jax.platforms import traced_for
from rt1_jax.training import hosts, sharding
from rt1_jax.training.config_keys import data_with_newer, with_newer
from rt1_jax.training.loss import check_label_smoothing, token_weights
from rt1_jax.training.optimizer import make_optimizer
from rt1_jax.training.state import TrainState
from rt1_jax.training.step import StepOptions, given_actions, make_eval_step, make_train_step


@dataclasses.dataclass(frozen=True)
class Program:
    """The step of a run on a mesh; nothing is computed or compiled until it is called.

    Attributes:
      model, optimizer, mesh: what it is made of.
      platform: what it is compiled for, "cpu", "gpu" or "tpu".
      init: () -> TrainState, made where it belongs.
      train_step: (state, batch, key) -> (state, metrics), jitted; the state is donated.
      eval_step: ({"params", "batch_stats"}, batch) -> metrics, jitted.
      abstract_state, abstract_batch, abstract_key: shapes, types and shardings of its arguments.
      specs: the `PartitionSpec` of each array of the state.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    mesh: Mesh
    platform: str
    init: Callable[[], TrainState]
    train_step: Any
    eval_step: Any
    abstract_state: TrainState
    abstract_batch: dict[str, Any]
    abstract_key: Any
    specs: TrainState

    def lower(self) -> Any:
        """The training step, lowered for `platform`: `jax.stages.Lowered`."""
        with self.tracing():
            return self.train_step.lower(
                self.abstract_state, self.abstract_batch, self.abstract_key
            )

    @contextlib.contextmanager
    def tracing(self) -> Iterator[None]:
        """In which the step is traced for its platform."""
        with traced_for(self.platform):
            yield

    def place(self, state: TrainState) -> TrainState:
        """A state of any placement where this program wants it."""
        return jax.device_put(state, jax.tree.map(lambda a: a.sharding, self.abstract_state))

    def table(self) -> str:
        """Where the parameters are, for people."""
        return sharding.table(self.abstract_state.params, self.specs.params, self.mesh)


def make_program(
    config: Any,
    mesh: Mesh,
    *,
    action_spec: ActionSpec,
    image_size: tuple[int, int],
    statistics: EmbeddingStatistics | None = None,
    model_config: dict[str, Any] | None = None,
    embedding_dimensions: int = 0,
    platform: str | None = None,
) -> Program:
    """Builds a run's step from its config.

    Args:
      config: as in `configs/rt1.py`.
      mesh: of `make_mesh`.
      action_spec: of the data.
      image_size: (height, width) of the data's frames.
      statistics: standardise the embeddings, or None.
      model_config: in place of `config.model`, as JSON.
      embedding_dimensions: of the data's embeddings; by default what the model takes, or with
        `statistics` what they are computed from.
      platform: of the mesh's devices by default.

    Raises:
      MeshError: the batch or a rule does not fit the mesh.
      ValueError: a setting of the step that is not known.
    """
    complete = with_newer(config.to_dict())
    step, where = complete["step"], complete["mesh"]
    sharding.check_batch(mesh, config.batch_size, step["accumulate"], jax.process_count())
    built = dict(model_config or config.model.to_dict())
    if step["compute"]:
        built["dtype"] = step["compute"]
    model = registry.build(config.architecture, built)
    optimizer = make_optimizer(config.optimizer)
    data = data_with_newer(config.data.to_dict())
    embedding_size = config.model.embedding_size

    options = _options(config, complete, mesh, action_spec)

    def init(key: jax.Array) -> TrainState:
        images = jnp.zeros((1, config.model.frames, *image_size, 3), jnp.uint8)
        embeddings = jnp.zeros((1, embedding_size), jnp.float32)
        actions = _actions(action_spec, (1, config.model.frames), jnp.zeros)
        given = given_actions(model, actions, action_spec)
        return TrainState.create(
            model.init(key, images, embeddings, **given), optimizer, options.frozen
        )

    # ---- Shapes first, then shardings, then the functions onto them.
    abstract = jax.eval_shape(init, jax.random.key(config.seed))
    specs = sharding.state_specs(
        abstract, mesh, shard_from=where["shard_from"], rules=where["rules"]
    )
    places = sharding.shardings(specs, mesh)
    whole, rows = sharding.replicated(mesh), sharding.batch_sharding(mesh)

    kind = platform or mesh.devices.flat[0].platform
    train = make_train_step(
        model,
        action_spec,
        optimizer,
        statistics=statistics,
        average_decay=config.optimizer.average_decay,
        augmentation=Augmentation.from_config(data),
        options=options,
    )
    train_step = jax.jit(
        _for_platform(train, kind),
        in_shardings=(places, rows, whole),
        out_shardings=(places, whole),
        donate_argnums=0,
        compiler_options=dict(step["tpu_compiler_options"]) if kind == "tpu" else None,
    )
    evaluated = jax.jit(
        _for_platform(make_eval_step(model, action_spec, statistics=statistics), kind),
        in_shardings=(places.average, rows),
        out_shardings=whole,
    )

    def start() -> TrainState:
        with traced_for(kind):
            made = jax.jit(init, out_shardings=places)
            hosts.compile_together("init", made, jax.random.key(config.seed))
            return made(jax.random.key(config.seed))

    steps = config.model.frames + data["chunk"] - 1
    dimensions = embedding_dimensions or (512 if statistics is not None else embedding_size)
    batch: dict[str, Any] = {
        "images": _array((config.batch_size, steps, *image_size, 3), jnp.uint8, rows),
        "embedding": _array((config.batch_size, dimensions), jnp.float32, rows),
        "mask": _array((config.batch_size, steps), jnp.float32, rows),
        "actions": _actions(
            action_spec, (config.batch_size, steps), lambda s: _array(s, jnp.float32, rows)
        ),
    }
    if data["chunk"] > 1:
        batch["windows"] = _array((config.batch_size, data["chunk"]), jnp.float32, rows)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.tree.map(lambda a, place: _array(a.shape, a.dtype, place), abstract, places)
    return Program(
        model=model,
        optimizer=optimizer,
        mesh=mesh,
        platform=kind,
        init=start,
        train_step=train_step,
        eval_step=evaluated,
        abstract_state=state,
        abstract_batch=batch,
        abstract_key=_array(key.shape, key.dtype, whole),
        specs=specs,
    )


def _options(
    config: Any, complete: dict[str, Any], mesh: Mesh, action_spec: ActionSpec
) -> StepOptions:
    """The step's options, checked before anything is compiled."""
    step, loss = complete["step"], complete["loss"]
    weights = tuple((str(name), float(weight)) for name, weight in loss["field_weights"])
    check_label_smoothing(loss["label_smoothing"])
    token_weights(action_spec, weights)
    return StepOptions(
        accumulate=step["accumulate"],
        model=TrainingOptions(
            remat=step["remat"],
            statistics_groups=mesh.size if _is_replica(step["batch_statistics"]) else 1,
            packed_images=step["packed_images"],
        ),
        smoothing=config.smoothing,
        label_smoothing=loss["label_smoothing"],
        field_weights=weights,
        frozen=tuple(complete["frozen"]),
    )


def _for_platform(function: Callable[..., Any], platform: str) -> Callable[..., Any]:
    """The function, traced for a platform whenever it is."""

    def traced(*arguments: Any) -> Any:
        with traced_for(platform):
            return function(*arguments)

    traced.__name__ = getattr(function, "__name__", "step")
    return traced


def _array(shape: tuple[int, ...], dtype: Any, place: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=place)


def _actions(spec: ActionSpec, lead: tuple[int, ...], make: Callable[..., Any]) -> dict[str, Any]:
    return {field.name: make((*lead, field.size)) for field in spec.fields}


def _is_replica(choice: str) -> bool:
    if choice not in ("global", "replica"):
        raise ValueError(
            f'step.batch_statistics is {choice!r}, expected "global" (of the whole batch) or '
            '"replica" (of each device\'s share)'
        )
    return choice == "replica"
