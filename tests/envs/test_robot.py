import numpy as np
import pytest

from rt1_jax.actions import TABLETOP
from rt1_jax.envs import robot
from rt1_jax.envs.robot import RobotCommand, quaternion
from rt1_jax.envs.state import from_frame, to_frame


def _home():
    return RobotCommand(np.zeros(3), np.array([0.44, 0.0, 0.15]), np.zeros(3), -1.0)


def _action(**fields):
    action = {field.name: np.zeros(field.size) for field in TABLETOP.fields}
    return action | {name: np.asarray(value, float) for name, value in fields.items()}


def test_the_token_next_to_zero_stands_still():
    zero = {field.name: np.zeros(field.size) for field in TABLETOP.fields}
    zero["terminate_episode"][1] = 1
    tokens = TABLETOP.tokenize(zero)
    for shift in (0, 1):  # 127 and 128
        action = TABLETOP.detokenize(np.where(tokens == 127, 127 + shift, tokens))
        assert np.any(action["world_vector"] != 0)
        moved = _home().moved(action)
        np.testing.assert_array_equal(moved.hand, _home().hand)
        np.testing.assert_array_equal(moved.rotation, np.zeros(3))
        np.testing.assert_array_equal(moved.base, np.zeros(3))


def test_the_next_token_moves():
    tokens = TABLETOP.tokenize(_action(terminate_episode=[0, 1, 0])) + 2
    action = TABLETOP.detokenize(tokens)
    assert np.all(_home().moved(action).hand > _home().hand)


def test_hand_moves_in_the_base_frame_and_base_in_its_own():
    turned = RobotCommand(
        np.array([0.0, 0.0, np.pi / 2]), np.array([0.44, 0, 0.15]), np.zeros(3), 0
    )
    moved = turned.moved(_action(base_displacement_vector=[0.05, 0.0], world_vector=[0.05, 0, 0]))
    np.testing.assert_allclose(moved.base, [0.0, 0.05, np.pi / 2], atol=1e-12)
    np.testing.assert_allclose(moved.hand, [0.49, 0, 0.15])
    position, _ = moved.hand_pose()
    np.testing.assert_allclose(position, [0.0, 0.54, 0.15], atol=1e-12)


def test_commands_beyond_the_bounds_count_as_the_bounds():
    moved = _home().moved(_action(world_vector=[1.0, 0, 0], gripper_closedness_action=[7]))
    np.testing.assert_allclose(moved.hand[0], 0.49)
    assert moved.closed == 1.0


def test_nothing_leaves_the_limits():
    rng = np.random.default_rng(0)
    command = _home()
    drift = rng.uniform(-1, 1, size=9)
    for step in rng.uniform(-1, 1, size=(200, 9)) + drift:
        command = command.moved(
            _action(
                world_vector=step[:3],
                rotation_delta=step[3:6],
                base_displacement_vertical_rotation=step[6:7],
                base_displacement_vector=step[7:],
            )
        )
        _check_limits(command)


def _check_limits(command):
    assert np.all(command.hand >= robot.REACH_LOW)
    assert np.all(command.hand <= robot.REACH_HIGH)
    assert np.all(np.abs(command.rotation) <= robot.ROTATION_LIMIT)
    assert np.all(command.base >= robot.BASE_LOW)
    assert np.all(command.base <= robot.BASE_HIGH)


def _axis_rotation(axis, angle):
    matrix = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    sign = -1.0 if axis == 1 else 1.0
    matrix[[i, j], [i, j]] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -sign * np.sin(angle), sign * np.sin(angle)
    return matrix


@pytest.mark.parametrize("angles", [(0.3, -0.4, 0.9), (0, -np.pi / 2, 0), (1.0, 0.2, -0.5)])
def test_quaternion_is_yaw_after_pitch_after_roll(angles):
    import mujoco

    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quaternion(*angles))
    roll, pitch, yaw = (_axis_rotation(axis, angle) for axis, angle in enumerate(angles))
    np.testing.assert_allclose(matrix.reshape(3, 3), yaw @ pitch @ roll, atol=1e-12)


def test_pitched_down_by_a_right_angle_the_hand_points_forward():
    import mujoco

    pointing = np.zeros(3)
    mujoco.mju_rotVecQuat(pointing, np.array([0.0, 0.0, -1.0]), quaternion(0, -np.pi / 2, 0))
    np.testing.assert_allclose(pointing, [1.0, 0.0, 0.0], atol=1e-12)


def test_frames_are_inverse():
    rng = np.random.default_rng(1)
    for point, frame in rng.uniform(-3, 3, size=(20, 2, 3)):
        there = to_frame(point, tuple(frame))
        np.testing.assert_allclose(from_frame(there, tuple(frame)), point, atol=1e-9)
    ahead = to_frame(np.array([1.0, 1.0]), (1.0, 0.0, np.pi / 2))
    np.testing.assert_allclose(ahead, [1.0, 0.0], atol=1e-12)
