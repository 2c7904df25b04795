from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from rt1_jax.training import sharding
from rt1_jax.training.sharding import MeshError, check_batch, make_mesh, state_specs


def device(number, process=0):
    return SimpleNamespace(id=number, process_index=process, platform="cpu")


def mesh(data, fsdp):
    """Of names only: what is tested looks at the sizes."""
    devices = np.asarray([jax.devices()[0]] * (data * fsdp)).reshape(data, fsdp)
    return SimpleNamespace(shape={"data": data, "fsdp": fsdp}, size=data * fsdp, devices=devices)


def test_a_process_has_neighbouring_rows_of_the_batch(monkeypatch):
    monkeypatch.setattr(sharding, "Mesh", lambda devices, *_, **__: devices)
    found = make_mesh({"data": -1, "fsdp": 2}, [device(3, 1), device(0), device(2, 1), device(1)])
    assert [[d.id for d in row] for row in found] == [[0, 1], [2, 3]]


@pytest.mark.parametrize("config", [{"data": 3, "fsdp": 1}, {"data": -1, "fsdp": 3}])
def test_devices_that_make_no_such_mesh(config):
    with pytest.raises(MeshError, match=r"there are 4 devices: set mesh.fsdp to a divisor of 4"):
        make_mesh(config, [device(i) for i in range(4)])
    with pytest.raises(MeshError, match="one of them perhaps -1"):
        make_mesh({"data": -1, "fsdp": -1}, [device(0)])


def test_a_batch_that_does_not_divide():
    check_batch(mesh(4, 2), 32, accumulate=2, processes=2)
    with pytest.raises(
        MeshError, match=r"batch_size is 20, .*8 devices.*multiple of 8, such as 16"
    ):
        check_batch(mesh(4, 2), 20)
    with pytest.raises(MeshError, match="accumulate 3 .*multiple of 24$"):
        check_batch(mesh(4, 2), 8, accumulate=3)


PARAMS = {
    "kernel": jnp.zeros((64, 128)),
    "equal": jnp.zeros((64, 64)),
    "odd": jnp.zeros((129, 65)),
    "bias": jnp.zeros((128,)),
}


def test_the_longest_axis_of_large_arrays_is_split():
    specs = state_specs(PARAMS, mesh(2, 4), shard_from=1000)
    assert specs == {
        "kernel": PartitionSpec(None, "fsdp"),
        "equal": PartitionSpec(None, "fsdp"),
        "odd": PartitionSpec(),
        "bias": PartitionSpec(),
    }
    assert set(state_specs(PARAMS, mesh(8, 1), shard_from=0).values()) == {PartitionSpec()}
    text = sharding.table(PARAMS, specs, mesh(2, 4))
    assert "data 2 x fsdp 4 = 8 devices; 12,288 parameters split 4 ways, 8,513 on every" in text


def test_a_rule_goes_before_the_size():
    rules = (("kern.l", ("fsdp", None)), ("bias", ("fsdp",)))
    specs = state_specs(PARAMS, mesh(1, 4), shard_from=1000, rules=rules)
    assert specs["kernel"] == PartitionSpec("fsdp", None)
    assert specs["bias"] == PartitionSpec("fsdp")
    for rule, message in (
        (("nothing", ()), "no array's path has 'nothing'"),
        (("odd", ("fsdp",)), r"splits odd \(129, 65\) along 129, which fsdp = 4 does not divide"),
        (("bias", ("model",)), "axis 'model', known are"),
        (("bias", (None, "fsdp")), "names 2 axes, but bias has the shape"),
    ):
        with pytest.raises(MeshError, match=message):
            state_specs(PARAMS, mesh(1, 4), shard_from=1000, rules=(rule,))


def test_one_real_device():
    one = make_mesh({"data": -1, "fsdp": 1}, jax.devices()[:1])
    assert isinstance(one, Mesh)
    assert one.axis_types == (AxisType.Auto,) * 2
