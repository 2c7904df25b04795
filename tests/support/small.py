"""A dataset, a model and a config small enough to train in seconds."""

from __future__ import annotations

import itertools
import pathlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from rt1_jax.actions import TABLETOP
from rt1_jax.checkpoints.native import PolicyDescription
from rt1_jax.data.episode import Episode
from rt1_jax.data.finish import finish_dataset
from rt1_jax.data.shards import EpisodeWriter
from rt1_jax.language import CHECK_SENTENCE, EmbeddingStatistics, EncoderIdentity
from rt1_jax.models.config import (
    EfficientNetConfig,
    ImageTokenizerConfig,
    RT1Config,
    StageConfig,
    TokenLearnerConfig,
    TransformerConfig,
)
from rt1_jax.training.config_keys import complete

COLOURS = ("red", "green", "blue")


class HashEncoder:
    """Gives every text a vector of its own: 512 numbers drawn from its bytes."""

    def __init__(self) -> None:
        check = self.embed([CHECK_SENTENCE])[0]
        self.identity = EncoderIdentity("stored:hash", 512, tuple(map(float, check)))

    def embed(self, instructions):
        rows = [np.random.default_rng(list(t.encode())).normal(size=512) for t in instructions]
        return np.asarray(rows, np.float32)


def embedding_statistics(components: int) -> EmbeddingStatistics:
    """Of thirty sentences of two words, which vary in ten ways."""
    sentences = [" ".join(pair) for pair in itertools.permutations("abcdef", 2)]
    return EmbeddingStatistics.of(HashEncoder().embed(sentences), sentences, components)


def make_episode(seed: int, length: int = 5, size: tuple[int, int] = (16, 20)) -> Episode:
    """Frames of one colour; the action's x tells which, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    colour = int(rng.integers(3))
    images = np.zeros((length, *size, 3), np.uint8)
    images[..., colour] = 200
    images[:, 0, 0] = np.arange(length)[:, None]  # the step can be read from a corner
    actions = {
        field.name: rng.uniform(field.low, field.high, (length, field.size)).astype(np.float32)
        for field in TABLETOP.fields
        if field.kind == "continuous"
    }
    actions["world_vector"][:, 0] = (-0.04, 0.0, 0.04)[colour]
    terminate = np.zeros((length, 3), np.float32)
    terminate[:, 1], terminate[-1] = 1, (1, 0, 0)
    actions["terminate_episode"] = terminate
    return Episode(images, actions, f"find {COLOURS[colour]}", {"seed": seed})


def make_dataset(
    directory: pathlib.Path,
    lengths: tuple[int, ...] = (5, 2, 7, 4, 6, 3),
    shards: int = 2,
    size: tuple[int, int] = (16, 20),
) -> pathlib.Path:
    """A dataset of six short episodes in two shards."""
    paths = []
    for shard in range(shards):
        path = directory / f"shard-{shard:05d}.array_record"
        writer = EpisodeWriter(path, "png", TABLETOP)
        for seed in range(shard, len(lengths), shards):
            writer.add(make_episode(seed, lengths[seed], size))
        writer.close()
        paths.append(path)
    finish_dataset(
        directory,
        paths,
        action_spec=TABLETOP,
        frame_rate=3.0,
        source={"made": "by a test"},
        encoder=HashEncoder(),
    )
    return directory


def small_model(frames: int = 3, embedding_size: int = 512) -> RT1Config:
    """About 50,000 parameters, on 16 x 16 pixels."""
    efficientnet = EfficientNetConfig(
        stages=(StageConfig(repeats=2, kernel=3, stride=2, expand_ratio=2, filters=8),),
        stem_filters=8,
        head_filters=0,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        stochastic_depth_rate=0.0,
    )
    tokenizer = ImageTokenizerConfig(
        efficientnet=efficientnet,
        image_size=(16, 16),
        token_size=16,
        token_learner=TokenLearnerConfig(tokens=2, hidden=8),
    )
    transformer = TransformerConfig(layers=2, heads=2, key_dim=8, d_model=16, dropout_rate=0.0)
    return RT1Config(
        image_tokenizer=tokenizer,
        transformer=transformer,
        frames=frames,
        embedding_size=embedding_size,
    )


def policy_description(architecture: str, config: Any, step: int = 0) -> PolicyDescription:
    """Of a policy on 16 x 16 pixels that takes six numbers of an instruction."""
    return PolicyDescription(
        architecture=architecture,
        model=config.to_json(),
        action_spec=TABLETOP,
        encoder=HashEncoder().identity,
        embedding_statistics=embedding_statistics(components=6),
        image_size=(16, 16),
        frame_rate=3.0,
        step=step,
    )


def small_config(data: pathlib.Path, steps: int = 8) -> ConfigDict:
    """A run of a few steps."""
    return complete(
        ConfigDict(
            {
                "name": "small",
                "seed": 0,
                "architecture": "rt1",
                "model": small_model(embedding_size=1).to_json(),
                "backbone_weights": "",
                "data": {
                    "directory": str(data),
                    "validation_episodes": 1,
                    "episodes": 0,
                    "tasks": 1.0,
                    "embedding_components": 1,
                    "travel_repeats": 2,
                    "max_shift": (1, 1),
                },
                "batch_size": 4,
                "smoothing": 0.0,
                "optimizer": {
                    "steps": steps,
                    "learning_rate": 3e-3,
                    "final_learning_rate": 1e-4,
                    "warmup_steps": 2,
                    "clip_norm": 1.0,
                    "b1": 0.9,
                    "b2": 0.98,
                    "muon_rms": 0.2,
                    "weight_decay": 0.0,
                    "average_decay": 0.9,
                },
                "loader": {"workers": 0, "threads": 1, "cache_bytes": 0},
                "log_every": 4,
                "checkpoint_every": 4,
                "keep_checkpoints": 2,
            }
        )
    )
