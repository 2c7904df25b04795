"""Collectives counted in hand-made texts and in programs that XLA compiled."""

from __future__ import annotations

import importlib.util
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rt1_jax.training.hlo_collectives import Collective, read_collectives, shape_bytes
from rt1_jax.training.libtpu_environment import ordinary_scheduling

HEAD = "HloModule jit_step, is_scheduled=true, num_partitions=8\n\n"
ADD = """%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

"""


def entry(*lines: str) -> str:
    body = "".join(f"  {line}\n" for line in lines)
    return f"ENTRY %main (p: f32[4,8]) -> f32[4,8] {{\n{body}}}\n"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("f32[]", 4),
        ("bf16[4,8]{1,0:T(8,128)(2,1)S(1)}", 64),
        ("(f32[512,512]{1,0:T(8,128)S(1)}, f32[512]{0:T(512)S(1)})", 512 * 512 * 4 + 2048),
        ("(f32[2], /*index=1*/s8[3], (pred[5], u32[]))", 8 + 3 + 5 + 4),
        ("s4[3]", 2),
        ("f8e4m3fn[7]", 7),
        ("c64[2]", 16),
        ("f32[<=8,2]", 64),
        ("token[]", 0),
        ("()", 0),
    ],
)
def test_bytes_of_shapes(shape, expected):
    assert shape_bytes(shape) == expected


_ARRAYS = st.tuples(
    st.sampled_from([("f32", 4), ("bf16", 2), ("s8", 1), ("f64", 8), ("pred", 1)]),
    st.lists(st.integers(0, 9), max_size=4),
)


@given(st.lists(_ARRAYS, min_size=1, max_size=5))
def test_a_tuple_has_the_bytes_of_its_arrays(arrays):
    texts = [f"{name}[{','.join(map(str, sizes))}]{{0:T(8)}}" for (name, _), sizes in arrays]
    expected = sum(width * math.prod(sizes) for (_, width), sizes in arrays)
    assert shape_bytes(f"({', '.join(texts)})") == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "%a = f32[4,8]{1,0} all-reduce(%p), replica_groups={{0,1,2,3},{4,5,6,7}}, "
            "to_apply=%add",
            Collective("all-reduce", 128, 4),
        ),
        (
            "%a = (f32[4,8]{1,0}, bf16[2]{0}) all-reduce(%p, %q), replica_groups={}, to_apply=%add",
            Collective("all-reduce", 132, 8),
        ),
        (
            "ROOT %a = f32[4]{0} reduce-scatter(%p), replica_groups=[2,4]<=[8], dimensions={0}",
            Collective("reduce-scatter", 64, 4),
        ),
        (
            "%a = f32[64]{0} all-gather(%p), replica_groups=mesh['data'=4,'fsdp'=2] {'fsdp'}",
            Collective("all-gather", 256, 2),
        ),
        (
            "%a = f32[64]{0} all-gather(%p), replica_groups=mesh['x'=8] {'x':(1)4}",
            Collective("all-gather", 256, 4),
        ),
        (
            "%a = f32[64]{0} all-to-all(%p), replica_groups={{0,1}}, dimensions={0}",
            Collective("all-to-all", 256, 2),
        ),
        (
            "%a = f32[64]{0} collective-permute(%p), source_target_pairs={{0,1},{1,0}}",
            Collective("collective-permute", 256, 8),
        ),
    ],
)
def test_one_instruction(line, expected):
    program = read_collectives(HEAD + ADD + entry(line))
    assert program.collectives == (expected,)
    assert program.unknown_loops == 0


def test_asynchronous_pairs_count_once_and_with_the_result():
    program = read_collectives(
        HEAD
        + ADD
        + """%wrapped (q: f32[64]) -> f32[8] {
  %q = f32[64]{0} parameter(0)
  ROOT %rs = f32[8]{0} reduce-scatter(%q), replica_groups=[1,8]<=[8], dimensions={0}
}

"""
        + entry(
            "%r = (f32[4]{0}, f32[2]{0}) all-reduce-start(%p, %q), replica_groups=[1,8]<=[8], "
            "to_apply=%add",
            "%rd = (f32[4]{0}, f32[2]{0}) all-reduce-done(%r)",
            "%g = (f32[4]{0}, f32[32]{0}) all-gather-start(%p), replica_groups=[1,8]<=[8]",
            "%gd = f32[32]{0} all-gather-done(%g)",
            "%t = ((f32[4], f32[2]), (f32[32], f32[16])) all-gather-start(%p, %q), "
            "replica_groups=[1,8]<=[8]",
            "%td = (f32[32], f32[16]) all-gather-done(%t)",
            "%c = (f32[4]{0}, f32[4]{0}, u32[], u32[]) collective-permute-start(%p), "
            "source_target_pairs={{0,1}}",
            "%cd = f32[4]{0} collective-permute-done(%c)",
            "%s = ((f32[64]{0}), f32[8]{0}, s32[]) async-start(%p), calls=%wrapped",
            "%u = ((f32[64]{0}), f32[8]{0}, s32[]) async-update(%s), calls=%wrapped",
            "ROOT %sd = f32[8]{0} async-done(%u), calls=%wrapped",
        )
    )
    assert program.by_kind() == {
        "all-reduce": {"instructions": 1, "executions": 1, "bytes": 24},
        "reduce-scatter": {"instructions": 1, "executions": 1, "bytes": 256},
        "all-gather": {"instructions": 2, "executions": 2, "bytes": 128 + 192},
        "collective-permute": {"instructions": 1, "executions": 1, "bytes": 16},
    }


LOOP = """%body (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t = (s32[], f32[8]{0}) parameter(0)
  %ar = f32[8]{0} all-reduce(%t), replica_groups={}, to_apply=%add
  ROOT %r = (s32[], f32[8]{0}) tuple(%ar)
}

%condition (t: (s32[], f32[8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(LIMIT)
  %t.1 = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%t.1), index=0
  ROOT %less = pred[] compare(%i, %limit), direction=DIRECTION
}

"""


@pytest.mark.parametrize(
    ("direction", "attributes", "turns", "unknown"),
    [
        ("LT", "", 5, 0),
        ("LT", ', backend_config={"known_trip_count":{"n":"7"}}', 7, 0),
        ("NE", "", 1, 1),
    ],
)
def test_a_loop_runs_its_body(direction, attributes, turns, unknown):
    loop = LOOP.replace("LIMIT", "5").replace("DIRECTION", direction)
    while_ = "%w = (s32[], f32[8]{0}) while(%p), condition=%condition, body=%body" + attributes
    program = read_collectives(HEAD + ADD + loop + entry(while_))
    assert program.by_kind() == {
        "all-reduce": {"instructions": 1, "executions": turns, "bytes": turns * 32}
    }
    assert program.unknown_loops == unknown
    assert program.trip_counts == (() if unknown else (turns,))


def test_loops_in_loops_multiply():
    outer = LOOP.replace("%body", "%outer").replace("%condition", "%outer_condition")
    outer = outer.replace(
        "all-reduce(%t), replica_groups={}, to_apply=%add",
        "while(%t), condition=%condition, body=%body",
    )
    text = (LOOP + outer).replace("DIRECTION", "LT").replace("LIMIT", "3")
    while_ = "%w = f32[8] while(%p), condition=%outer_condition, body=%outer"
    program = read_collectives(HEAD + ADD + text + entry(while_))
    assert [c.executions for c in program.collectives] == [9]


def test_both_branches_and_fusions_are_read():
    branches = "".join(
        f"%{name} (q: f32[8]) -> f32[8] {{\n"
        f"  ROOT %r = f32[8] all-reduce(%q), replica_groups={{}}, to_apply=%add\n}}\n\n"
        for name in ("yes", "no", "fused")
    )
    lines = (
        "%c = f32[8] conditional(%p), branch_computations={%yes, %no}",
        "%f = f32[8] fusion(%p), kind=kCustom, calls=%fused",
    )
    program = read_collectives(HEAD + ADD + branches + entry(*lines))
    assert program.by_kind()["all-reduce"]["instructions"] == 3


def test_names_of_collectives_in_metadata_do_not_count():
    line = '%a = f32[4] add(%all-reduce.1, %p), metadata={op_name="all-reduce(x)"}'
    assert read_collectives(HEAD + entry(line)).collectives == ()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("all-reduce", 150.0),
        ("reduce-scatter", 75.0),
        ("all-gather", 75.0),
        ("all-to-all", 75.0),
        ("collective-permute", 100.0),
    ],
)
def test_bytes_that_leave_a_chip(kind, expected):
    assert Collective(kind, 100, 4).wire_bytes == expected
    if kind != "collective-permute":
        assert Collective(kind, 100, 1).wire_bytes == 0


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="no libtpu: pip install 'rt1_jax[fit]'"
)
class TestCompiledForTpu:
    """A gradient over four chips: the loop's body is counted once by XLA, and here four times."""

    @ordinary_scheduling()
    def compile(self, turns: int, split: bool = False, function=lambda gradient: gradient):
        from rt1_jax.training.topology import make_topology

        mesh = Mesh(np.asarray(make_topology("v5e:2x2").devices), ("d",))
        place = lambda *spec: NamedSharding(mesh, PartitionSpec(*spec))

        def step(w, x):
            def body(total, part):
                loss = lambda w: jnp.sum(jnp.square(jnp.tanh(part @ w)))
                return total + function(jax.grad(loss)(w)), None

            return w - jax.lax.scan(body, jnp.zeros_like(w), x)[0]

        kept = place("d") if split else place()
        w = jax.ShapeDtypeStruct((512, 512), jnp.float32, sharding=kept)
        x = jax.ShapeDtypeStruct((turns, 256, 512), jnp.float32, sharding=place(None, "d"))
        return jax.jit(step, out_shardings=kept).lower(w, x).compile()

    def test_a_sum_over_chips_in_the_loop(self):
        compiled = self.compile(turns=4, function=jnp.tanh)
        program = read_collectives(compiled.as_text())
        assert program.trip_counts == (4,)
        assert program.by_kind() == {
            "all-reduce": {"instructions": 1, "executions": 4, "bytes": 4 * 512 * 512 * 4}
        }
        assert {c.group for c in program.collectives} == {4}
        cost = compiled.cost_analysis()
        flops = (cost if isinstance(cost, dict) else cost[0])["flops"]
        of_one_turn = 2 * 2 * 64 * 512 * 512
        assert flops == pytest.approx(of_one_turn, rel=0.1)

    def test_a_sum_of_sums_is_made_after_the_loop(self):
        program = read_collectives(self.compile(turns=4).as_text())
        assert program.by_kind() == {
            "all-reduce": {"instructions": 1, "executions": 1, "bytes": 512 * 512 * 4}
        }

    def test_split_parameters_are_gathered(self):
        program = read_collectives(self.compile(turns=4, split=True).as_text())
        kinds = program.by_kind()
        assert "all-gather" in kinds
        assert {"reduce-scatter", "all-reduce"} & set(kinds)
        assert program.wire_bytes > 0
