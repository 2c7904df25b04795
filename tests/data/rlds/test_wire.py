"""Where parts of a record lie, against protocol buffers' own reading."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt1_jax.data.rlds.wire import WireError, bytes_spans, feature_spans, packed_floats

VALUES = st.one_of(
    st.lists(st.binary(max_size=300), max_size=4),
    st.lists(st.floats(width=32, allow_nan=False), max_size=4),
    st.lists(st.integers(-(2**62), 2**62), max_size=4),
)


def example(content):
    from tensorflow_datasets.proto import tf_example_pb2

    message = tf_example_pb2.Example()
    for key, values in content.items():
        feature = message.features.feature[key]
        first = values[0] if values else b""
        kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}[type(first)]
        getattr(feature, kind).value.extend(values)
    return message.SerializeToString()


@given(st.dictionaries(st.text(max_size=20), VALUES, max_size=5))
def test_every_feature_is_found(content):
    from tensorflow_datasets.proto import tf_feature_pb2

    record = example(content)
    spans = feature_spans(record)
    assert spans.keys() == content.keys()
    for key, values in content.items():
        feature = tf_feature_pb2.Feature.FromString(record[slice(*spans[key])])
        found = getattr(feature, feature.WhichOneof("kind")).value if values else []
        assert list(found) == values
        if values and isinstance(values[0], bytes):
            assert [record[a:b] for a, b in bytes_spans(record, spans[key])] == values
        floats = packed_floats(record, spans[key])
        if values and isinstance(values[0], float):
            assert floats is not None
            np.testing.assert_array_equal(floats, np.asarray(values, np.float32))
        else:
            assert floats is None


def test_floats_that_are_not_packed_are_left_to_protocol_buffers():
    """Old writers tag each of them: FloatList {1: fixed32, 1: fixed32, ...}."""
    numbers = np.asarray([1.5, -2.0], "<f4")
    values = b"".join(b"\x0d" + number.tobytes() for number in numbers)
    feature = b"\x12" + bytes([len(values)]) + values
    assert packed_floats(feature, (0, len(feature))) is None
    mixed = values + b"\x0a\x04" + numbers[:1].tobytes()
    feature = b"\x12" + bytes([len(mixed)]) + mixed
    assert packed_floats(feature, (0, len(feature))) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(record):
    try:
        spans = feature_spans(record)
    except ValueError:
        return
    assert all(0 <= start <= stop <= len(record) for start, stop in spans.values())


def test_what_is_cut_off_is_refused():
    record = example({"steps/image": [b"x" * 1000]})
    with pytest.raises(WireError, match="cut off"):
        feature_spans(record[:500])
    with pytest.raises(WireError, match="kind 7"):
        feature_spans(b"\x0f")
