"""The physics of one tabletop: sets an episode up, moves the robot, reads the state."""

from __future__ import annotations

import numpy as np

from rt1_jax.envs import scene
from rt1_jax.envs.layout import Layout
from rt1_jax.envs.objects import COLOURS, ObjectType
from rt1_jax.envs.rendering import select_gl
from rt1_jax.envs.robot import RobotCommand, quaternion
from rt1_jax.envs.state import SceneState

select_gl()
import mujoco  # noqa: E402

_SEGMENTS = 11
"""The command is moved in so many pieces a control step; the physics runs in between."""
_MOVING = 9
"""The last pieces hold still, so that the hand has arrived when the frame is taken."""
_AWAY = np.array([0.0, 0.0, -1.0])


class Simulation:
    """Owns the MuJoCo model and data of a tabletop with a fixed number of objects.

    Args:
      num_objects: objects on the table.
      max_height, max_width: largest frame that will be rendered, in pixels.
    """

    def __init__(self, num_objects: int, max_height: int, max_width: int) -> None:
        self.model = mujoco.MjModel.from_xml_string(
            scene.build_mjcf(num_objects, max_width, max_height)
        )
        self.data = mujoco.MjData(self.model)
        self._num_objects = num_objects
        self._find_names()
        self._light = self.model.light_diffuse[0].copy()
        self._headlight = np.array(self.model.vis.headlight.diffuse)
        self._ambient = np.array(self.model.vis.headlight.ambient)

    def reset(self, objects: tuple[ObjectType, ...], layout: Layout, command: RobotCommand) -> None:
        """Sets up an episode; nothing of an earlier one remains."""
        model, data = self.model, self.data
        for slot, kind in enumerate(objects):
            self._dress(slot, kind)
        self._place_furniture(layout)
        mujoco.mj_setConst(model, data)  # masses changed
        mujoco.mj_resetData(model, data)
        for slot, kind in enumerate(objects):
            start = self._object_qpos[slot]
            lying = bool(layout.lying[slot])
            height = kind.geometry.radius if lying else kind.geometry.half_height
            data.qpos[start : start + 3] = (*layout.positions[slot], height)
            pitch = np.pi / 2 if lying else 0.0
            data.qpos[start + 3 : start + 7] = quaternion(0.0, pitch, layout.yaws[slot])
        position, turn = command.hand_pose()
        data.qpos[self._hand_qpos : self._hand_qpos + 3] = position
        data.qpos[self._hand_qpos + 3 : self._hand_qpos + 7] = turn
        data.qpos[self._finger_qpos] = self._finger_target(command)
        data.qpos[self._drawer_qpos] = layout.drawer_opening
        self._follow(command)
        self._settle_views(command)
        mujoco.mj_forward(model, data)

    def advance(self, before: RobotCommand, after: RobotCommand) -> None:
        """One control step: moves the command from one to the other and runs the physics."""
        for segment in range(_SEGMENTS):
            self._follow(before.between(after, min(1.0, (segment + 1) / _MOVING)))
            mujoco.mj_step(self.model, self.data, scene.SUBSTEPS // _SEGMENTS)
        self._settle_views(after)
        mujoco.mj_forward(self.model, self.data)

    def state(self, command: RobotCommand, layout: Layout) -> SceneState:
        """Reads the physical state."""
        data = self.data
        touches = self._touches()
        touched_by, on_knob = touches[:-1], touches[-1]
        cabinet = layout.cabinet
        return SceneState(
            positions=data.xpos[self._object_body].copy(),
            up_axes=data.xmat[self._object_body][:, [2, 5, 8]].copy(),
            held=touched_by[:, 0] & touched_by[:, 1],
            touched=np.any(touched_by, axis=1),
            knob_held=bool(on_knob[0] and on_knob[1]),
            opening=float(data.qpos[self._finger_qpos].sum()),
            hand=data.xpos[self._hand_body].copy(),
            drawer_opening=float(data.qpos[self._drawer_qpos]),
            cabinet=cabinet,
            bowl=None if layout.bowl is None else layout.bowl.copy(),
            base=(float(command.base[0]), float(command.base[1]), float(command.base[2])),
            command_hand=command.hand.copy(),
            command_rotation=command.rotation.copy(),
            command_closed=command.closed,
        )

    def _touches(self) -> np.ndarray:
        """bool [objects + 1, 3]: in contact with left finger, right finger, palm; last the knob."""
        touches = np.zeros((self._num_objects + 1, 3), bool)
        pairs = self.data.contact.geom  # [contacts, 2]
        owner = self._owner[pairs]
        robot, thing = owner.min(axis=1), owner.max(axis=1)
        mine = (robot < 0) & (thing > 0)
        touches[thing[mine] - 1, robot[mine] + 3] = True
        return touches

    def _follow(self, command: RobotCommand) -> None:
        position, turn = command.hand_pose()
        self.data.mocap_pos[self._arm_mocap] = position
        self.data.mocap_quat[self._arm_mocap] = turn
        self.data.ctrl[:] = self._finger_target(command)

    def _settle_views(self, command: RobotCommand) -> None:
        """Moves what is only looked at or looked from: camera and blob shadow."""
        data = self.data
        position, turn = command.base_pose()
        data.mocap_pos[self._base_mocap] = position
        data.mocap_quat[self._base_mocap] = turn
        hand = data.qpos[self._hand_qpos : self._hand_qpos + 2]
        data.mocap_pos[self._shadow_mocap] = (hand[0], hand[1], 0.0006)

    @staticmethod
    def _finger_target(command: RobotCommand) -> float:
        return scene.FINGER_TRAVEL * (1.0 - command.closed) / 2

    def _dress(self, slot: int, kind: ObjectType) -> None:
        model, shape = self.model, kind.geometry
        for name, geom in self._object_geoms[slot].items():
            active = name in scene.PART_GEOMS[kind.shape]
            model.geom_group[geom] = 0 if active else scene.HIDDEN_GROUP
            solid = active and name in scene.SOLID_GEOMS
            contype, affinity = scene.OBJECT_CONTACT if solid else (0, 0)
            model.geom_contype[geom], model.geom_conaffinity[geom] = contype, affinity
            if name in scene.COLOURED_GEOMS:
                model.geom_rgba[geom] = (*COLOURS[kind.colour], 1.0)
        body = self._object_body[slot]
        model.body_mass[body] = shape.mass
        model.body_inertia[body] = shape.inertia
        model.body_ipos[body] = (0.0, 0.0, shape.com_z)

    def _place_furniture(self, layout: Layout) -> None:
        model = self.model
        bowl = _AWAY if layout.bowl is None else np.array([*layout.bowl, 0.0])
        model.body_pos[self._bowl_body] = bowl
        x, y, yaw = layout.cabinet
        model.body_pos[self._cabinet_body] = (x, y, 0.0)
        model.body_quat[self._cabinet_body] = quaternion(0.0, 0.0, yaw)
        look = layout.look
        material = mujoco.mjtObj.mjOBJ_MATERIAL
        name = f"table_{look.background}"
        model.geom_matid[self._table_geom] = mujoco.mj_name2id(model, material, name)
        light = np.asarray(look.light)
        model.light_diffuse[0] = self._light * light
        model.light_dir[0] = np.asarray(look.sun) / np.linalg.norm(look.sun)
        model.vis.headlight.diffuse[:] = self._headlight * light
        model.vis.headlight.ambient[:] = self._ambient * light

    def _find_names(self) -> None:
        model = self.model

        def joint(name: str) -> int:
            return int(model.jnt_qposadr[model.joint(name).id])

        slots = range(self._num_objects)
        names = [name for names in scene.PART_GEOMS.values() for name in names]
        self._object_body = np.array([model.body(f"object_{slot}").id for slot in slots])
        self._object_qpos = [joint(f"object_{slot}") for slot in slots]
        self._object_geoms = [
            {name: model.geom(f"object_{slot}_{name}").id for name in names} for slot in slots
        ]
        self._hand_body = model.body("hand").id
        self._hand_qpos = joint("hand")
        self._finger_qpos = np.array([joint("finger_left"), joint("finger_right")])
        self._drawer_qpos = joint("drawer")
        self._bowl_body = model.body("bowl").id
        self._cabinet_body = model.body("cabinet").id
        self._table_geom = model.geom("table").id
        self._arm_mocap = model.body("arm_target").mocapid[0]
        self._base_mocap = model.body("base").mocapid[0]
        self._shadow_mocap = model.body("hand_shadow").mocapid[0]
        # Who a geom belongs to: slot + 1 for objects, then the knob; -3, -2, -1 for left finger,
        # right finger and palm.
        self._owner = np.zeros(model.ngeom, int)
        self._owner[model.geom("knob").id] = self._num_objects + 1
        for slot, geoms in enumerate(self._object_geoms):
            self._owner[list(geoms.values())] = slot + 1
        for code, name in ((-3, "pad_left"), (-2, "pad_right"), (-1, "palm")):
            self._owner[model.geom(name).id] = code
