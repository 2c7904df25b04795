"""A description that makes other data of the files has another fingerprint, and no other has."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import rt1_jax
from rt1_jax.data import oxe
from rt1_jax.data.oxe import registry
from rt1_jax.data.oxe.fingerprint import fingerprint

PACKAGE = pathlib.Path(rt1_jax.__file__).parent
OWN = """
    import dataclasses
    import helper
    from rt1_jax.data import oxe

    SCALE = 2.0
    BASE = oxe.get("bridge")

    def mapping(steps):
        actions = BASE.mapping(steps)
        return {**actions, "world_vector": helper.scaled(actions["world_vector"], SCALE)}

    DATASETS = [dataclasses.replace(BASE, name="mine", mapping=mapping)]
"""
HELPER = """
    def scaled(value, factor):
        return value * factor
"""


@pytest.fixture(autouse=True)
def _forget_own(monkeypatch):
    monkeypatch.setattr(registry, "_own", {})


class TestOnesOwn:
    @pytest.fixture
    def describe_own(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(str(tmp_path))
        # A file that is changed within a second would be taken from Python's cache.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)

        def run(own=OWN, helper=HELPER):
            (tmp_path / "helper.py").write_text(textwrap.dedent(helper))
            (tmp_path / "mine.py").write_text(textwrap.dedent(own))
            monkeypatch.delitem(sys.modules, "helper", raising=False)
            (dataset,) = oxe.load_user_file(tmp_path / "mine.py")
            return fingerprint(dataset, rt1_x=False)

        return run

    def test_it_is_plain_and_says_where(self, describe_own):
        found = describe_own()
        assert json.loads(json.dumps(found)) == found
        # Of this package, what bridge's mapping is made of.
        assert {"mine.py", "helper.py", "rt1_jax.data.oxe.other_arms"} <= set(found["code"])
        assert found == describe_own()
        assert "numpy" not in str(set(found["code"]))

    def test_which_others_are_known_makes_no_difference(self, describe_own):
        own = OWN.replace("BASE.mapping", 'oxe.get("bridge").mapping')
        before = describe_own(own)
        oxe.register(dataclasses.replace(oxe.get("toto"), name="another"))
        assert describe_own(own) == before

    def test_the_file_counts_as_a_whole(self, describe_own):
        before, after = describe_own(), describe_own(OWN.replace("2.0", "3.0"))
        assert before["code"].pop("mine.py") != after["code"].pop("mine.py")
        assert before == after

    def test_so_does_a_file_that_it_imports(self, describe_own):
        before, after = describe_own(), describe_own(helper=HELPER.replace("*", "/"))
        assert before["code"].pop("helper.py") != after["code"].pop("helper.py")
        assert before == after

    def test_names_and_bounds(self, describe_own):
        spec = 'action_spec=oxe.dataset_spec("mine", world_vector=(-1, 1))'
        before = describe_own()
        for change in (spec, 'image="observation/other"', "frame_rate=7.0"):
            after = describe_own(OWN.replace('name="mine"', f'name="mine", {change}'))
            key = change.split("=")[0]
            assert before[key] != after[key]

    def test_numbers_that_were_read_from_elsewhere(self, tmp_path, describe_own):
        own = OWN.replace(
            "SCALE = 2.0", f"import numpy; SCALE = numpy.load({str(tmp_path / 's.npy')!r})"
        )
        np.save(tmp_path / "s.npy", np.float32([1, 2, 3]))
        before = describe_own(own)
        np.save(tmp_path / "s.npy", np.float32([1, 2, 4]))
        assert describe_own(own)["code"] != before["code"]


class TestCallables:
    def describe(self, mapping):
        return fingerprint(dataclasses.replace(oxe.get("bridge"), name="m", mapping=mapping), False)

    def test_what_an_argument_is_bound_to(self):
        def mapping(factor, steps):
            return factor * steps

        one, two = (self.describe(functools.partial(mapping, n)) for n in (1, 2))
        assert one["code"] != two["code"]

    def test_what_an_object_holds(self):
        class Scaled:
            def __init__(self, factor):
                self.factor = factor

            def __call__(self, steps):
                return self.factor * steps

        assert self.describe(Scaled(1))["code"] != self.describe(Scaled(2))["code"]
        assert (
            self.describe(Scaled(1).__call__)["code"] != self.describe(Scaled(2).__call__)["code"]
        )
        assert self.describe(Scaled(1)) == self.describe(Scaled(1))


class TestAnotherRelease:
    """The package's own descriptions, in a copy of it that has been changed."""

    @pytest.fixture
    def describe_all(self, tmp_path):
        copy = tmp_path / "rt1_jax"
        shutil.copytree(
            PACKAGE,
            copy,
            ignore=lambda _, names: {n for n in names if "." in n and n[-3:] != ".py"},
        )
        script = (
            "import json; from rt1_jax.data import oxe\n"
            "from rt1_jax.data.oxe.fingerprint import fingerprint\n"
            "print(json.dumps({n: fingerprint(oxe.get(n), True) for n in oxe.names()}))"
        )

        def run(file="", old="", new=""):
            path = copy / "data/oxe" / file
            text = path.read_text() if file else ""
            if file:
                assert text.count(old) == 1, old
                path.write_text(text.replace(old, new))
            done = subprocess.run(
                [sys.executable, "-B", "-c", script],
                cwd=tmp_path,
                env={"PYTHONPATH": str(tmp_path)},
                capture_output=True,
                text=True,
                check=True,
            )
            if file:
                path.write_text(text)
            return json.loads(done.stdout)

        return run

    @pytest.mark.parametrize(
        ("file", "old", "new", "changed"),
        [
            # A mapping, a rescaling, a constant of one, and what many share.
            ("franka.py", "-pose[:, 6:7]", "pose[:, 6:7]", {"taco_play"}),
            ("franka.py", "lambda x: x * 1.75", "lambda x: x * 1.5", {"viola"}),
            ("other_arms.py", "0.12234575", "0.2", {"jaco_play"}),
            ("mapping.py", "1.0 - 2.0 *", "1.0 - 3.0 *", {"bridge", "toto"}),
            # Neither words about the data nor a new line in the file make other data.
            ("franka.py", "All instructions are one", "All of them are one", set()),
            ("mapping.py", "import numpy as np\n", "import numpy as np\n\n# A word.\n", set()),
        ],
    )
    def test_only_what_it_changed(self, describe_all, file, old, new, changed):
        before, after = describe_all(), describe_all(file, old, new)
        assert {name for name in before if before[name] != after[name]} == changed
