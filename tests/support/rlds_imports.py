"""Imports of small RLDS datasets, and episodes that are odd."""

from __future__ import annotations

import rlds

from rt1_jax.data import oxe
from rt1_jax.data.rlds.importer import import_rlds

FRACTAL = "fractal20220817_data"


def run(builder_dir, output, **options):
    options = {"dataset": oxe.get(FRACTAL), "progress": False, **options}
    return import_rlds(options.pop("dataset"), builder_dir, output, **options)


def files_of(root):
    return {path.name: path.read_bytes() for path in root.iterdir()}


def odd_rlds(directory, change, episodes=4, shards=1, name=FRACTAL):
    """Episodes of which `change(number, episode)` has had its way with."""

    def make(number):
        episode = rlds.make_episode(name, number, 3)
        return change(number, episode) or episode

    return rlds.write_rlds(directory, name, episodes, episode_fn=make, shards=shards)


def set_in_steps(path, value):
    def change(number, episode):
        if number == 1:
            for step in episode["steps"]:
                part = step
                *parents, last = path.split("/")
                for key in parents:
                    part = part[key]
                part[last] = value

    return change
