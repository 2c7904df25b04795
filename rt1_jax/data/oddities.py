"""What is odd in a dataset: often a mistake in making or importing it, sometimes meant."""

from __future__ import annotations

from typing import Any

import numpy as np

from rt1_jax.data.store import StepStore

MOST_CLIPPED = 0.01
"""Share of a number's steps beyond its bounds from which on it is told."""

_EXAMPLES = 5


def find_oddities(store: StepStore, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Oddities as {"kind", "text", "examples"}.

    Kinds: "one_step", "still", "clipped", "never_chosen", "empty_instruction", "near_duplicate".

    Args:
      store: the dataset.
      summary: its numbers, see `rt1_jax.data.summary`.
    """
    return [
        *_short_episodes(store),
        *_fields(summary),
        *_instructions(store),
    ]


def _short_episodes(store: StepStore) -> list[dict[str, Any]]:
    short = np.flatnonzero(store.lengths == 1)
    if not len(short):
        return []
    text = f"{_count(len(short), 'episode')} of one step: there is no motion to learn from"
    return [_oddity("one_step", text, short[:_EXAMPLES].tolist())]


def _fields(summary: dict[str, Any]) -> list[dict[str, Any]]:
    still: dict[float, list[str]] = {}
    found = []
    for name, field in summary["fields"].items():
        elements = field["elements"]
        if field["kind"] == "one_hot":
            never = [e for e, numbers in elements.items() if numbers["max"] == 0]
            if next(iter(elements)) in never:
                text = f"{name}: its first entry is never 1, so that nothing teaches it"
                found.append(_oddity("never_chosen", text, [next(iter(elements))]))
            continue
        for element, numbers in elements.items():
            if numbers["min"] == numbers["max"]:
                still.setdefault(numbers["min"], []).append(element)
            if (numbers["clipped"] or 0) > MOST_CLIPPED:
                text = (
                    f"{element}: {numbers['clipped']:.1%} of the steps lie beyond its bounds and "
                    "are clipped (1% and 99% quantiles "
                    f"{numbers['q01']:.4g}, {numbers['q99']:.4g} {_unit(field['unit'])}): widen "
                    "the bounds, or check the unit"
                )
                found.append(_oddity("clipped", text, [element]))
    for value, names in still.items():
        verb = "moves" if len(names) == 1 else "move"
        text = f"{_count(len(names), 'number')} of the actions never {verb} from {value:g}: "
        text += ", ".join(names)
        found.append(_oddity("still", text, names))
    return found


def _instructions(store: StepStore) -> list[dict[str, Any]]:
    counts = np.bincount(store.instruction_ids, minlength=len(store.instructions))
    told = [(text, int(n)) for text, n in zip(store.instructions, counts, strict=True) if n]
    found = []
    empty = sum(n for text, n in told if not text.strip())
    if empty:
        text = f"{_count(empty, 'episode')} with an empty instruction"
        found.append(_oddity("empty_instruction", text, []))
    alike: dict[str, list[str]] = {}
    for text, _ in told:
        if text.strip():
            alike.setdefault(" ".join(text.casefold().split()), []).append(text)
    groups = [texts for texts in alike.values() if len(texts) > 1]
    if groups:
        text = (
            f"{_count(len(groups), 'instruction')} in several spellings that differ in case or "
            "space alone: each is embedded as another sentence"
        )
        found.append(_oddity("near_duplicate", text, groups[:_EXAMPLES]))
    return found


def _oddity(kind: str, text: str, examples: list[Any]) -> dict[str, Any]:
    return {"kind": kind, "text": text, "examples": examples}


def _unit(unit: str) -> str:
    return unit if len(unit) < 8 else "in its unit"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
