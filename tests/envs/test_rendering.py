import numpy as np
import pytest

from rt1_jax.envs import rendering


def test_missing_libraries_name_the_packages(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "_loadable", lambda name: False)
    with pytest.raises(rendering.RenderingError, match="apt-get install libegl1") as caught:
        rendering.select_gl()
    assert "libosmesa6" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("present", "chosen"),
    [({"EGL", "OpenGL"}, "egl"), ({"OSMesa"}, "osmesa"), ({"EGL", "OSMesa"}, "osmesa")],
)
def test_the_best_back_end_that_is_there(monkeypatch, present, chosen):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "_loadable", present.__contains__)
    assert rendering.select_gl() == chosen


def test_the_users_choice_wins(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.setattr(rendering, "_loadable", lambda name: True)
    assert rendering.select_gl() == "glfw"


def test_a_failing_context_is_one_line(monkeypatch):
    import mujoco

    def fail(*args, **kwargs):
        raise RuntimeError("no display\nlong traceback")

    rendering.select_gl()
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    monkeypatch.setattr(mujoco, "Renderer", fail)
    with pytest.raises(rendering.RenderingError, match="no display") as caught:
        rendering.FrameRenderer(model, 8, 8)
    assert "\n" not in str(caught.value)


def test_closing_twice_is_harmless():
    from rt1_jax.envs.simulation import Simulation

    renderer = rendering.FrameRenderer(Simulation(1, 16, 16).model, 16, 16)
    renderer.close()
    renderer.close()


def test_frames_are_lit():
    import mujoco

    from rt1_jax.envs.simulation import Simulation

    simulation = Simulation(1, 16, 24)
    mujoco.mj_forward(simulation.model, simulation.data)
    renderer = rendering.FrameRenderer(simulation.model, 16, 24)
    frame = renderer.render(simulation.data)
    renderer.close()
    assert frame.shape == (16, 24, 3)
    assert frame.dtype == np.uint8
    assert frame.mean() > 60
