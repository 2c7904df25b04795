"""Films as pictures: frames with the action drawn beneath, as an animation and as a strip."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rt1_jax.actions import ActionSpec
from rt1_jax.evaluation.film import Film

_PANEL, _INK, _FAINT, _BAR = (24, 26, 30), (240, 240, 240), (110, 114, 120), (140, 200, 255)
_ALARM, _GOAL = (255, 196, 84), (120, 225, 150)
_LAST_FRAME_MS = 1500


def animation(film: Film, spec: ActionSpec, frame_rate: float, width: int = 256) -> bytes:
    """An endless animated WebP at the control rate; each frame as `annotate` draws it."""
    count = len(film.images)
    pictures = [
        annotate(film, i, spec, width, caption=f"step {i + 1}/{count}") for i in range(count)
    ]
    period = round(1000 / frame_rate)
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "webp",
        save_all=True,
        append_images=pictures[1:],
        duration=[period] * (count - 1) + [_LAST_FRAME_MS],
        loop=0,
        quality=75,
    )
    return buffer.getvalue()


def strip(film: Film, spec: ActionSpec, columns: int = 6, width: int = 170) -> bytes:
    """A WebP of evenly spaced steps side by side, the first and last among them."""
    count = len(film.images)
    chosen = np.unique(np.linspace(0, count - 1, min(columns, count)).round().astype(int))
    pictures = [annotate(film, int(i), spec, width, caption=f"step {i + 1}") for i in chosen]
    gap = 4
    height = pictures[0].height
    sheet = Image.new("RGBA", (columns * (width + gap) - gap, height))  # gaps see-through
    for column, picture in enumerate(pictures):
        sheet.paste(picture, (column * (width + gap), 0))
    sheet = sheet.crop((0, 0, len(pictures) * (width + gap) - gap, height))
    buffer = io.BytesIO()
    sheet.save(buffer, "webp", quality=82)
    return buffer.getvalue()


def annotate(film: Film, step: int, spec: ActionSpec, width: int, caption: str) -> Image.Image:
    """One frame, enlarged, with the action that followed it drawn beneath.

    A bar for each continuous element reaches up or down to the element's bound; words say when the
    policy terminates and when the goal physically held after the action.
    """
    frame = _enlarge(film.images[step], width)
    font_size = max(12, width // 17)
    panel = font_size * 4
    picture = Image.new("RGB", (width, frame.height + panel + font_size + 6), _PANEL)
    picture.paste(frame, (0, 0))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=font_size)
    _draw_bars(draw, spec, film.actions[step], (0, frame.height, width, frame.height + panel), font)
    y = frame.height + panel + 2
    draw.text((4, y), caption, _INK, font)
    words = []
    if _terminates(spec, film.actions[step]):
        words.append(("terminate", _ALARM))
    if film.goal_holds[step]:
        words.append(("goal", _GOAL))
    x = width - 4
    for text, colour in words:
        x -= int(draw.textlength(text, font))
        draw.text((x, y), text, colour, font)
        x -= font_size // 2
    return picture


def data_uri(data: bytes, kind: str = "image/webp") -> str:
    """Bytes as a URI that an HTML file can hold."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def bar_legend(spec: ActionSpec) -> str:
    """What the bars under the frames are, in their order."""
    parts = [
        f"{' '.join(_letters(spec, field.name))} = {field.name.replace('_', ' ')} "
        f"(±{field.high[0]:.3g}{' ' + field.unit if len(field.unit) < 4 else ': ' + field.unit})"
        for field in spec.fields
        if field.kind == "continuous"
    ]
    return "; ".join(parts)


def _enlarge(image: np.ndarray, width: int) -> Image.Image:
    picture = Image.fromarray(image)
    height = round(picture.height * width / picture.width)
    # Small frames are shown as the pixels that the policy sees.
    small = picture.width * 2 <= width
    method = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return picture.resize((width, height), method)


def _draw_bars(
    draw: ImageDraw.ImageDraw,
    spec: ActionSpec,
    action: Mapping[str, np.ndarray],
    box: tuple[int, int, int, int],
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    fields = [field for field in spec.fields if field.kind == "continuous"]
    left, top, right, bottom = box
    places = (
        sum(field.size for field in fields) + (len(fields) - 1) * 0.6
    )  # 0.6: gap between fields
    pitch = (right - left - 8) / max(places, 1)
    label = int(getattr(font, "size", 10)) + 2
    middle = (top + bottom - label) / 2 + 1
    reach = (bottom - label - top) / 2 - 3
    x = left + 4.0
    for field in fields:
        for i, letter in enumerate(_letters(spec, field.name)):
            half = (field.high[i] - field.low[i]) / 2
            centre = (field.high[i] + field.low[i]) / 2
            share = float(np.clip((action[field.name][i] - centre) / half, -1, 1))
            x0, x1 = x + pitch * 0.15, x + pitch * 0.85
            draw.rectangle((x0, middle - reach, x1, middle + reach), outline=_FAINT)
            tip = middle - share * reach
            draw.rectangle((x0, min(tip, middle), x1, max(tip, middle)), fill=_BAR)
            draw.line((x0, middle, x1, middle), fill=_INK)
            draw.text((x + pitch / 2, bottom - label), letter, _INK, font, anchor="ma")
            x += pitch
        x += pitch * 0.6


def _letters(spec: ActionSpec, name: str) -> list[str]:
    """A letter for each element of a field: its axis, or the field's initial."""
    names = [n for n in spec.token_names if n.split("/")[0] == name]
    return [n.rsplit("/", 1)[-1][0] for n in names]


def _terminates(spec: ActionSpec, action: Mapping[str, np.ndarray]) -> bool:
    one_hot = [field.name for field in spec.fields if field.kind == "one_hot"]
    return any(int(np.argmax(action[name])) == 0 and np.any(action[name]) for name in one_hot)
