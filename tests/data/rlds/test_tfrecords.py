import struct

import google_crc32c
import pytest

from rt1_jax.data.rlds.tfrecords import read_records


def masked(data):
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data):
    """A record as the format describes it."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some.tfrecord"
    path.write_bytes(b"".join(frame(data) for data in (b"first", b"", b"third" * 1000, b"last")))
    return path


def test_what_was_written(file):
    found = list(read_records(file))
    assert [r.data for r in found] == [b"first", b"", b"third" * 1000, b"last"]
    assert [r.number for r in found] == [0, 1, 2, 3]
    assert [r.offset for r in found] == [0, 21, 37, 5053]


def test_what_tensorflow_writes(tmp_path):
    import tensorflow as tf

    path = tmp_path / "tf.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"abc")
        writer.write(b"d" * 70_000)
    assert [r.data for r in read_records(path)] == [b"abc", b"d" * 70_000]


def test_skipping(file):
    assert [r.data for r in read_records(file, skip=3)] == [b"last"]
    assert list(read_records(file, skip=9)) == []


class TestDamage:
    def test_a_flipped_byte_costs_one_record(self, file):
        content = bytearray(file.read_bytes())
        content[37 + 12 + 7] ^= 1
        file.write_bytes(content)
        found = list(read_records(file))
        assert [r.data for r in found] == [b"first", b"", None, b"last"]
        assert "checksum" in found[2].problem

    def test_a_damaged_length_ends_the_file(self, file):
        content = bytearray(file.read_bytes())
        content[37] ^= 1
        file.write_bytes(content)
        found = list(read_records(file))
        assert [r.data for r in found] == [b"first", b"", None]
        assert found[2].offset == 37
        assert "the rest of the file" in found[2].problem

    @pytest.mark.parametrize("size", [5, 40, 60, 5060])
    def test_a_truncated_file(self, file, size):
        file.write_bytes(file.read_bytes()[:size])
        *whole, last = read_records(file)
        assert all(r.data is not None for r in whole)
        assert last.data is None
        assert "the file ends inside" in last.problem

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            next(read_records(tmp_path / "none"))
