import ctypes

from rt1_jax.serving.memory import give_back_memory


def test_free_memory_is_asked_back_where_there_is_a_call(monkeypatch):
    asked = []

    class Library:
        def __init__(self, name):
            self.malloc_trim = asked.append

    monkeypatch.setattr(ctypes, "CDLL", Library)
    give_back_memory()
    assert asked == [0]


def test_other_systems_have_no_such_call(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    give_back_memory()

    def no_library(name):
        raise OSError("not here")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    give_back_memory()
