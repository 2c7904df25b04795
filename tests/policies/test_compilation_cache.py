"""Where compiled programs are kept."""

import jax
import pytest

from rt1_jax.policies.compilation_cache import use_compilation_cache
from rt1_jax.policies.load import load_policy


@pytest.fixture
def settings(monkeypatch):
    """JAX's own settings, put back afterwards."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.usefixtures("settings")
def test_the_directory_is_the_given_one_jaxs_or_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    assert use_compilation_cache() == tmp_path / "users" / "rt1_jax" / "compiled"
    assert use_compilation_cache(tmp_path / "given") == tmp_path / "given"
    assert use_compilation_cache() == tmp_path / "given"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "given")
    assert (tmp_path / "given").is_dir()


@pytest.mark.usefixtures("settings")
def test_a_policy_warmed_up_at_load_has_its_steps_compiled(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    policy = load_policy("tabletop-small", warm_up=2)
    assert policy._full._cache_size() == 1
    assert jax.config.jax_compilation_cache_dir.startswith(str(tmp_path))
    assert load_policy("tabletop-small")._full._cache_size() == 0
