"""The whole look at some episodes: maps and attention, drawn, measured and written down."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tqdm

from rt1_jax.analysis import map_charts, map_pictures
from rt1_jax.analysis.attention import Looker, Looks
from rt1_jax.analysis.map_measures import grid_of
from rt1_jax.analysis.map_numbers import DEFINITIONS, measure, summarize
from rt1_jax.analysis.map_text import result_tables, summary_lines
from rt1_jax.analysis.report import write_analysis
from rt1_jax.analysis.scenes import OWN, Scene, SceneError
from rt1_jax.figures import save_figure
from rt1_jax.files import write_atomically


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Everything that was looked at.

    Attributes:
      scenes: the episodes.
      looks: for each scene, for each of its instructions.
      grid: (rows, columns) of the positions.
    """

    scenes: list[Scene]
    looks: list[list[Looks]]
    grid: tuple[int, int]


def analyse(
    policy: Any,
    name: str,
    scenes: Sequence[Scene],
    embed: Callable[[str], np.ndarray],
    output: str | pathlib.Path,
    *,
    step: int | None = None,
    settings: dict[str, Any] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Looks at scenes with a policy, draws and writes everything; gives what results.json holds.

    Args:
      policy: from `rt1_jax.load_policy`.
      name: what the checkpoint is called.
      scenes: the episodes; the first is drawn.
      embed: an instruction's embedding, float32 [d], by the policy's encoder.
      output: directory, made if missing.
      step: of the first scene, the frame to draw, from 0; by default the first with a full window.
      settings: how the scenes were had, for the record.
      progress: draw a progress bar.

    Raises:
      NoSuchPartError: the policy has neither TokenLearner nor transformer.
      SceneError: the first scene has no such step.
    """
    started = time.perf_counter()
    directory = pathlib.Path(output)
    count = len(scenes[0].images)
    if step is not None and not 0 <= step < count:
        raise SceneError(f"--step={step}: {scenes[0].name} has {count} frames, 0 to {count - 1}")
    if step is None:
        step = min(policy.config.frames, count) - 1
    looker = Looker(policy, name)
    looks: list[list[Looks]] = []
    total = sum(len(scene.told) for scene in scenes)
    with tqdm.tqdm(total=total, desc="looking", unit="look", disable=not progress) as bar:
        for scene in scenes:
            looks.append([])
            for told in scene.told:
                looks[-1].append(looker.look(scene.images, embed(told.text)))
                bar.update()
    first = looks[0][0]
    positions = first.maps.shape[-1] if first.maps is not None else _tokens(first)
    found = Analysis(list(scenes), looks, grid_of(positions, _model_size(policy, scenes[0])))
    per_scene = [measure(s, seen, found.grid) for s, seen in zip(scenes, looks, strict=True)]
    numbers = summarize(per_scene)
    figures = _draw(found, numbers, step, list(policy.action_spec.token_names), directory)
    _save_arrays(directory / "maps.npz", found)
    problems = [p for p in (looker.maps_problem, looker.attention_problem) if p]
    results = {
        "checkpoint": {
            "name": name,
            "architecture": policy.description.architecture,
            "step": policy.description.step,
        },
        "settings": settings or {},
        "grid": found.grid,
        "image_size": scenes[0].image_size,
        "drawn": {"scene": scenes[0].name, "step": step},
        "problems": problems,
        "definitions": DEFINITIONS,
        "means": {key: value.to_json() for key, value in numbers.items()},
        "scenes": [
            {
                "name": scene.name,
                "frames": len(scene.images),
                "success": scene.success,
                "told": [dataclasses.asdict(told) for told in scene.told],
                "numbers": own,
            }
            for scene, own in zip(scenes, per_scene, strict=True)
        ],
        "seconds": round(time.perf_counter() - started, 1),
    }
    return write_analysis(
        directory,
        f"Where {name} looks",
        [*(f"{problem}." for problem in problems), *summary_lines(numbers, len(scenes), positions)],
        figures,
        result_tables(numbers, policy.action_spec.token_names),
        results,
        [f"{key.replace('_', ' ')}: {text}" for key, text in DEFINITIONS.items()],
    )


def _draw(
    found: Analysis, numbers: Any, step: int, names: list[str], directory: pathlib.Path
) -> list[tuple[str, str]]:
    """Saves every figure that can be drawn; gives stems and captions."""
    scene, looks, grid = found.scenes[0], found.looks[0], found.grid
    own, episodes = looks[0], len(found.scenes)
    rows, columns = grid
    ring = " The ring marks the object that the instruction names." if scene.places else ""
    over = f"Means over {episodes} episodes" + (", 95% intervals." if episodes > 1 else ".")
    figures: list[tuple[str, str]] = []

    def keep(stem: str, figure: Any, caption: str) -> None:
        save_figure(figure, directory / stem)
        figures.append((stem, caption))

    if own.maps is not None:
        keep(
            "tokens", map_pictures.draw_tokens(scene, own, grid, step),
            f"The maps of one frame ({scene.name}), drawn bilinearly from the {rows}×{columns} "
            f"grid over the camera's picture; brighter is more weight.{ring}",
        )  # fmt: skip
        keep(
            "over_time", map_pictures.draw_over_time(scene, own, grid),
            f"The same episode over time.{ring}",
        )  # fmt: skip
        keep(
            "instructions", map_pictures.draw_instructions(scene, looks, grid, step),
            "The same frame told other instructions. Beneath each map: the share of its weight "
            f"that moved away from the first row's (total variation).{ring}",
        )  # fmt: skip
        keep("shapes", map_charts.draw_shapes(numbers, rows * columns), over)
        keep("movement", map_charts.draw_movement(numbers), over)
    if {"share/all frames/named", "attention/all frames/named"} & set(numbers):
        keep(
            "objects", map_charts.draw_shares(numbers),
            f"Weight around the object that the instruction names and around the others. {over}",
        )  # fmt: skip
    if own.attention is not None:
        full = [
            look[0].attention[look[0].position == look[0].attention.shape[3] - 1]
            for look in found.looks
            if look[0].attention is not None
        ]
        steps = np.concatenate(full)  # [steps, layers, action_tokens, frames, tokens]
        if len(steps):
            keep(
                "window", map_charts.draw_window_attention(steps.mean(0), names),
                "Attention from the positions that action tokens are read from to the image "
                f"tokens of the window; mean over the {len(steps)} steps with a full window.",
            )  # fmt: skip
        keep(
            "actions", map_pictures.draw_action_attention(scene, own, grid, step, names),
            "Attention of action tokens put on the newest frame: attention × the tokens' maps, "
            f"brought to a sum of 1. Below, through all layers (attention rollout).{ring}",
        )  # fmt: skip
    return figures


def _save_arrays(path: pathlib.Path, found: Analysis) -> None:
    """`maps.npz`: for scene i told instruction j, "i/j/maps" [t, tokens, positions]; for the own
    instruction "i/0/attention", "i/0/rollout", "i/0/position" (see `Looks`) and "i/images".
    """
    arrays: dict[str, Any] = {"grid": np.asarray(found.grid)}
    for i, (scene, looks) in enumerate(zip(found.scenes, found.looks, strict=True)):
        arrays[f"{i}/images"] = scene.images
        for j, (told, look) in enumerate(zip(scene.told, looks, strict=True)):
            kept = {"maps": look.maps}
            if told.kind == OWN:
                kept |= {
                    "attention": look.attention, "rollout": look.rollout, "position": look.position
                }  # fmt: skip
            arrays |= {f"{i}/{j}/{k}": v for k, v in kept.items() if v is not None}
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def _tokens(look: Looks) -> int:
    assert look.attention is not None
    return int(look.attention.shape[-1])


def _model_size(policy: Any, scene: Scene) -> tuple[int, int]:
    """(height, width) that the grid covers: what the model resizes to."""
    height, width = getattr(policy.config.image_tokenizer, "image_size", scene.image_size)
    return height, width
