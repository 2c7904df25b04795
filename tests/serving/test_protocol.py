import contextlib

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt1_jax.serving import protocol
from rt1_jax.serving.protocol import ProtocolError, pack, unpack

NUMBERS = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
)


@settings(deadline=None)
@given(array=hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
def test_arrays_come_back_as_they_were(array):
    back = unpack(pack({"a": [array]}))["a"][0]
    assert back.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, array)


def test_the_layout_is_that_of_the_public_client():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    packed = msgpack.packb(
        {
            "x": {
                b"__ndarray__": True,
                b"data": array.tobytes(),
                b"dtype": "<f4",
                b"shape": (2, 3),
            },
            "n": {b"__npgeneric__": True, b"data": 2.5, b"dtype": "<f8"},
            "s": {b"__npgeneric__": True, b"data": "pick", b"dtype": "<U4"},
        }
    )
    message = unpack(packed)
    np.testing.assert_array_equal(message["x"], array)
    assert message["n"] == 2.5
    assert message["s"] == "pick"
    del message["s"]
    assert unpack(pack(message)).keys() == {"x", "n"}
    assert msgpack.unpackb(pack({"x": array}))["x"][b"shape"] == [2, 3]


def test_maps_with_text_keys_are_arrays_too():
    parts = {"__ndarray__": True, "data": b"\1\2", "dtype": "|u1", "shape": [2]}
    np.testing.assert_array_equal(unpack(msgpack.packb({"a": parts}))["a"], [1, 2])


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(ProtocolError):
        unpack(data)


def ndarray(**changes):
    parts = {b"__ndarray__": True, b"data": b"\0" * 12, b"dtype": "|u1", b"shape": [2, 2, 3]}
    return {**parts, **{key.encode(): value for key, value in changes.items()}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": b"\0" * 11}, "takes 12 bytes, got 11 bytes"),
        ({"data": "text"}, "got str"),
        ({"dtype": "|O"}, "dtype"),
        ({"dtype": "f4,f4"}, "dtype"),
        ({"dtype": "(1000000000,)f4"}, "dtype"),
        ({"dtype": "<c8"}, "dtype"),
        ({"dtype": 3}, "dtype"),
        ({"dtype": None}, "dtype"),
        ({"shape": [2, -2, -3]}, "shape"),
        ({"shape": [2**40, 2**40]}, "takes"),
        ({"shape": [1] * 9}, "shape"),
        ({"shape": [2.0, 6.0]}, "shape"),
        ({"shape": [True, 12]}, "shape"),
        ({"shape": 12}, "shape"),
        ({"shape": ["x" * 10_000]}, "shape"),
    ],
)
def test_a_broken_array_is_named(changes, words):
    with pytest.raises(ProtocolError, match="^image: ") as caught:
        unpack(msgpack.packb({"image": ndarray(**changes)}))
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("scalar", "dtype"),
    [(300, "|u1"), ("x", "<f4"), (None, "<f4"), (1.5, "|O"), ([1], "<i8"), (1, 7)],
)
def test_a_broken_scalar_is_named(scalar, dtype):
    parts = {b"__npgeneric__": True, b"data": scalar, b"dtype": dtype}
    with pytest.raises(ProtocolError, match="^reset: "):
        unpack(msgpack.packb({"reset": parts}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        pack({"a": 1})[:-1],
        pack({"a": 1}) + b"\0",
        msgpack.packb({1: 2}),
        msgpack.packb({"a": msgpack.ExtType(4, b"x")}),
        msgpack.packb({"a": msgpack.Timestamp(1, 0)}),
        b"\x81\xa1\xff\x01",  # a key that is not UTF-8
        b"\x91" * 600 + b"\xc0",
        b"\x81\xa1a" * 20 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",  # a list of 2^32 - 1 items
        b"\xdf\xff\xff\xff\xff",
        (b"\xdc\x04\x00" + b"\x90" * 1024) * 10,
    ],
)
def test_malformed_messages_are_refused(data):
    with pytest.raises(ProtocolError):
        unpack(data)


def test_many_small_containers_are_refused():
    lists = msgpack.packb([[] for _ in range(1000)])
    with pytest.raises(ProtocolError, match="lists and maps"):
        unpack(lists)
    assert len(unpack(msgpack.packb([0] * protocol.MAX_ITEMS))) == protocol.MAX_ITEMS
    with pytest.raises(ProtocolError):
        unpack(msgpack.packb([0] * (protocol.MAX_ITEMS + 1)))


@pytest.mark.parametrize("value", [np.array(["a"]), np.array([None]), object(), 1j, {1, 2}])
def test_only_numbers_are_packed(value):
    with pytest.raises(TypeError):
        pack({"a": value})
