import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt1_jax.actions import TABLETOP
from rt1_jax.data.quantiles import QuantileSketch
from rt1_jax.data.statistics import ActionMoments


def actions_of(world_vector):
    steps = len(world_vector)
    found = {f.name: np.zeros((steps, f.size), np.float32) for f in TABLETOP.fields}
    found["terminate_episode"][:, 1] = 1
    found["world_vector"] = np.asarray(world_vector, np.float32)
    return found


@hypothesis.given(
    hnp.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6)),
    st.floats(0, 1),
)
@hypothesis.settings(deadline=None, max_examples=50)
def test_quantiles_are_within_one_percent(values, q):
    sketch = QuantileSketch()
    sketch.add(values)
    want = np.sort(values)[int(np.floor(q * (len(values) - 1)))]
    assert sketch.quantile(q) == pytest.approx(want, rel=0.0101, abs=1e-9)


def test_sketches_add_up():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=500), rng.normal(size=300)
    both, first, second = QuantileSketch(), QuantileSketch(), QuantileSketch()
    both.add(np.concatenate([x, y]))
    first.add(x)
    second.add(y)
    first.merge(QuantileSketch.from_json(json.loads(json.dumps(second.to_json()))))
    assert first.to_json() == both.to_json()


def test_no_numbers_have_no_quantile():
    assert np.isnan(QuantileSketch().quantile(0.5))


def test_what_is_clipped_is_counted_and_the_bound_itself_is_not():
    moments = ActionMoments(TABLETOP)
    # The bound is 0.05 m, which float32 holds as a little more.
    moments.add(actions_of([[0.05, 0.0, 0.0], [0.06, -0.05, 0.0], [-0.2, 0.01, 0.0], [0, 0, 0]]))
    assert moments.summary()["world_vector"]["clipped"] == [0.5, 0.0, 0.0]
    assert moments.clipped_share()["world_vector"] == 0.5
    assert "terminate_episode" not in moments.clipped_share()


def test_merging_is_adding():
    rng = np.random.default_rng(1)
    parts = [rng.normal(0, 0.04, size=(n, 3)) for n in (5, 50, 9)]
    whole, merged = ActionMoments(TABLETOP), ActionMoments()
    whole.add(actions_of(np.concatenate(parts)))
    for part in parts:
        one = ActionMoments(TABLETOP)
        one.add(actions_of(part))
        merged.merge(ActionMoments.from_json(json.loads(json.dumps(one.to_json()))))
    merged.merge(ActionMoments(TABLETOP))  # an empty shard changes nothing
    want, found = whole.summary(), merged.summary()
    assert set(found["world_vector"]) == {
        "mean",
        "std",
        "min",
        "max",
        "q01",
        "q50",
        "q99",
        "clipped",
    }
    for field, rows in want.items():
        for key, row in rows.items():
            np.testing.assert_allclose(found[field][key], row, atol=1e-7, err_msg=f"{field} {key}")


def test_shards_of_an_older_version_have_no_quantiles():
    old = ActionMoments(TABLETOP)
    old.add(actions_of([[0.01, 0, 0]]))
    data = old.to_json()
    del data["sketches"]
    for part in data["fields"].values():
        part.pop("clipped", None)
    merged = ActionMoments.from_json(data)
    new = ActionMoments(TABLETOP)
    new.add(actions_of([[0.03, 0, 0]]))
    for first, second in ((merged, new), (ActionMoments.from_json(new.to_json()), merged)):
        first.merge(second)
        assert set(first.summary()["world_vector"]) == {"mean", "std", "min", "max"}
