"""The MuJoCo model of the tabletop: table, objects, bowl, cabinet with a drawer, gripper, camera.

One model serves every episode of an environment. It holds a fixed number of object slots, each of
which carries the geoms of all four shapes; an episode switches on the geoms of the object that the
slot plays and moves the rest out of sight (`rt1_jax/envs/setup_scene.py`). So a reset costs no
compilation and the renderer's context stays valid.

World frame: z up, the table top at z = 0. The base frame starts at the world's origin, x forward
(away from the robot, up in the picture), y to the left. Lengths in metres, masses in kilograms.
"""

from __future__ import annotations

import math

from rt1_jax.envs import objects as o

CONTROL_RATE = 3.0
"""Control steps a second."""
SUBSTEPS = 66
TIMESTEP = 1 / CONTROL_RATE / SUBSTEPS
"""Physics step, about 5 ms."""

REACH_CENTRE = 0.44
"""x of the reachable area's centre, in the base frame."""

# Camera, in the base frame: it looks at `CAMERA_AIM` from `CAMERA_DISTANCE`, steeply down.
CAMERA_PITCH = math.radians(60)
CAMERA_DISTANCE = 1.2
CAMERA_AIM = (REACH_CENTRE + 0.035, 0.0, 0.0)
CAMERA_HALF_WIDTH = 0.245  # what the picture's half height (and, square, half width) shows there

FINGER_TRAVEL = 0.05
"""A finger's way from closed (0) to open; the opening is twice that."""
FINGER_THICKNESS = 0.010

BOWL_RADIUS = 0.066
BOWL_HEIGHT = 0.040

DRAWER_TRAVEL = 0.14
DRAWER_INNER = (0.13, 0.15)
"""Inner depth (along its slide) and width of the drawer."""
DRAWER_HEIGHT = 0.055
KNOB_OFFSET = 0.034
"""How far the knob's axis stands out from the drawer's front."""
KNOB_TOP = 0.078
KNOB_RADIUS = 0.013
KNOB_GRASP_HEIGHT = 0.052
"""Of the tool centre; the pads then cover the upper half of the knob."""

# Contact classes. A pair collides if one's type bit is in the other's affinity.
_TABLE, _OBJECT, _FINGER, _FIXTURE, _KNOB = 1, 2, 4, 8, 16
_OBJECT_AFFINITY = _TABLE | _OBJECT | _FINGER | _FIXTURE | _KNOB

HIDDEN_GROUP = 4
"""Geoms of this group are not drawn."""

BACKGROUNDS = ("plain", "checker", "stripes", "wood", "dark", "pale", "green_cloth")
"""Table looks; the first is the one of every split but `backgrounds`."""


def build_mjcf(num_objects: int, max_width: int = 640, max_height: int = 640) -> str:
    """MJCF of a tabletop with `num_objects` object slots.

    Args:
      num_objects: slots for movable objects, at least 1.
      max_width, max_height: largest frame that will be rendered, in pixels.
    """
    slots = "\n".join(_object_slot(index) for index in range(num_objects))
    return f"""
<mujoco model="tabletop">
  <option timestep="{TIMESTEP}" integrator="implicitfast" cone="elliptic" impratio="10"
          tolerance="1e-7"/>
  <size memory="8M"/>
  <visual>
    <global offwidth="{max_width}" offheight="{max_height}"/>
    <quality shadowsize="0" offsamples="0"/>
    <headlight ambient="0.42 0.42 0.42" diffuse="0.28 0.28 0.28" specular="0 0 0"/>
    <map znear="0.02" zfar="10"/>
  </visual>
  <asset>{_table_materials()}
  </asset>
  <default>
    <geom friction="1 0.005 0.0001" condim="3" solref="0.01 1"/>
    <default class="visual"><geom contype="0" conaffinity="0" mass="0"/></default>
    <default class="object">
      <geom contype="{_OBJECT}" conaffinity="{_OBJECT_AFFINITY}" group="{HIDDEN_GROUP}" mass="0"
            condim="4" friction="1 0.01 0.0001"/>
    </default>
    <default class="fixture">
      <geom contype="{_FIXTURE}" conaffinity="0" mass="0.02"/>
    </default>
  </default>
  <worldbody>
    <light name="sun" directional="true" pos="0 0 2" dir="0.25 0.35 -1" castshadow="false"
           diffuse="0.45 0.45 0.45" specular="0 0 0"/>
    <geom name="table" type="plane" size="3 3 1" material="table_plain"
          contype="{_TABLE}" conaffinity="0"/>
    {_base()}
    {_gripper()}
    {_bowl()}
    {_cabinet()}
    {slots}
  </worldbody>
  <equality>
    <weld name="arm" body1="arm_target" body2="hand" solref="0.012 1" torquescale="0.3"/>
  </equality>
  <actuator>
    <position name="finger_left" joint="finger_left" kp="300" kv="12" forcerange="-8 8"/>
    <position name="finger_right" joint="finger_right" kp="300" kv="12" forcerange="-8 8"/>
  </actuator>
</mujoco>
"""


def _table_materials() -> str:
    def texture(name: str, builtin: str, one: str, two: str, size: int = 64, mark: str = "") -> str:
        return (
            f'<texture name="{name}" type="2d" builtin="{builtin}" rgb1="{one}" rgb2="{two}" '
            f'width="{size}" height="{size}" {mark}/>'
        )

    def material(name: str, repeat: str, uniform: bool = True) -> str:
        return (
            f'<material name="table_{name}" texture="{name}" texrepeat="{repeat}" '
            f'texuniform="{str(uniform).lower()}" specular="0" reflectance="0"/>'
        )

    return f"""
    <material name="table_plain" rgba="0.60 0.58 0.55 1" specular="0" reflectance="0"/>
    <material name="table_dark" rgba="0.22 0.23 0.26 1" specular="0" reflectance="0"/>
    <material name="table_pale" rgba="0.82 0.80 0.74 1" specular="0" reflectance="0"/>
    {texture("checker", "checker", "0.52 0.52 0.50", "0.72 0.70 0.66")}
    {material("checker", "8 8")}
    {texture("stripes", "gradient", "0.45 0.45 0.50", "0.74 0.72 0.68")}
    {material("stripes", "1 12")}
    {texture("wood", "gradient", "0.46 0.31 0.18", "0.62 0.45 0.28")}
    {material("wood", "1 7")}
    {
        texture(
            "green_cloth",
            "flat",
            "0.33 0.43 0.37",
            "0.33 0.43 0.37",
            128,
            'mark="random" markrgb="0.45 0.53 0.46" random="0.06"',
        )
    }
    {material("green_cloth", "6 6")}"""


def _base() -> str:
    sin, cos = math.sin(CAMERA_PITCH), math.cos(CAMERA_PITCH)
    x = CAMERA_AIM[0] - CAMERA_DISTANCE * cos
    z = CAMERA_DISTANCE * sin
    fovy = math.degrees(2 * math.atan(CAMERA_HALF_WIDTH / CAMERA_DISTANCE))
    return f"""
    <body name="base" mocap="true">
      <camera name="front" pos="{x} 0 {z}" xyaxes="0 -1 0 {sin} 0 {cos}" fovy="{fovy}"/>
    </body>"""


def _gripper() -> str:
    """The hand's frame is its tool centre, midway between the pads, x forward, z up."""

    def finger(side: str, sign: int) -> str:
        y = sign * FINGER_THICKNESS / 2
        return f"""
      <body name="finger_{side}" gravcomp="1">
        <joint name="finger_{side}" type="slide" axis="0 {sign} 0" range="0 {FINGER_TRAVEL}"
               limited="true" damping="1"/>
        <geom name="pad_{side}" type="box" pos="0 {y} 0" size="0.015 {FINGER_THICKNESS / 2} 0.018"
              mass="0.04" rgba="0.10 0.10 0.11 1" contype="{_FINGER}" conaffinity="{_KNOB}"
              condim="4" friction="1.2 0.02 0.0001" solref="0.01 1"/>
        <geom class="visual" type="box" pos="0 {y} 0.044" size="0.006 0.005 0.027"
              rgba="0.16 0.16 0.17 1"/>
      </body>"""

    return f"""
    <body name="arm_target" mocap="true" pos="{REACH_CENTRE} 0 0.15"/>
    <body name="hand" pos="{REACH_CENTRE} 0 0.15" gravcomp="1">
      <joint name="hand" type="free"/>
      <inertial pos="0 0 0.07" mass="0.6" diaginertia="0.001 0.001 0.001"/>
      <geom name="palm" type="box" pos="0 0 0.079" size="0.013 0.062 0.009"
            rgba="0.93 0.93 0.95 1" contype="{_FINGER}" conaffinity="0"/>
      <geom class="visual" type="cylinder" pos="0 0 0.30" size="0.011 0.215"
            rgba="0.93 0.93 0.95 1"/>
      {finger("left", 1)}{finger("right", -1)}
    </body>
    <body name="hand_shadow" mocap="true" pos="{REACH_CENTRE} 0 0.0006">
      <geom class="visual" type="cylinder" size="0.034 0.0004" rgba="0.03 0.03 0.03 0.62"/>
    </body>"""


def _bowl() -> str:
    """A ring of flat walls around a floor; it stands fast on the table."""
    sides = 10
    half_length = BOWL_RADIUS * math.tan(math.pi / sides) * 1.06
    walls = []
    for index in range(sides):
        angle = 2 * math.pi * index / sides
        x, y = BOWL_RADIUS * math.cos(angle), BOWL_RADIUS * math.sin(angle)
        walls.append(
            f'<geom class="fixture" type="box" pos="{x} {y} {BOWL_HEIGHT / 2}" '
            f'size="0.0035 {half_length} {BOWL_HEIGHT / 2}" euler="0 0 {math.degrees(angle)}" '
            'rgba="0.96 0.96 0.98 1"/>'
        )
    return f"""
    <body name="bowl" pos="0 0 -1">
      <geom class="fixture" type="cylinder" pos="0 0 0.002" size="{BOWL_RADIUS} 0.002"
            rgba="0.80 0.80 0.84 1"/>
      {"".join(walls)}
    </body>"""


def _cabinet() -> str:
    """The frame's origin is on the table below the middle of the front; x points into it."""
    depth, width = DRAWER_INNER[0] + 0.012, DRAWER_INNER[1] + 0.012
    wood, light = 'rgba="0.40 0.25 0.15 1"', 'rgba="0.78 0.62 0.44 1"'
    dark = 'rgba="0.30 0.18 0.11 1"'
    height = DRAWER_HEIGHT + 0.02

    def box(cls: str, pos: tuple[float, ...], size: tuple[float, ...], look: str) -> str:
        p, s = " ".join(map(str, pos)), " ".join(map(str, size))
        return f'<geom class="{cls}" type="box" pos="{p}" size="{s}" {look}/>\n'

    half_w, middle = width / 2 + 0.012, depth / 2 + 0.012
    shell = (
        box("fixture", (middle, 0, height + 0.004), (middle, half_w, 0.006), wood)
        + box("visual", (middle, half_w, height / 2), (middle, 0.006, height / 2), wood)
        + box("visual", (middle, -half_w, height / 2), (middle, 0.006, height / 2), wood)
        + box("visual", (2 * middle, 0, height / 2), (0.006, half_w, height / 2), wood)
    )
    wall = 0.004
    z = 0.004 + DRAWER_HEIGHT / 2
    drawer = (
        box("fixture", (depth / 2, 0, 0.005), (depth / 2, width / 2, 0.003), dark)
        + box("fixture", (depth / 2, width / 2, z), (depth / 2, wall, DRAWER_HEIGHT / 2), light)
        + box("fixture", (depth / 2, -width / 2, z), (depth / 2, wall, DRAWER_HEIGHT / 2), light)
        + box("fixture", (depth, 0, z), (wall, width / 2, DRAWER_HEIGHT / 2), light)
        + box("fixture", (-0.003, 0, z + 0.004), (0.006, half_w, DRAWER_HEIGHT / 2 + 0.004), light)
        + box("visual", (-KNOB_OFFSET / 2, 0, 0.035), (KNOB_OFFSET / 2, 0.006, 0.006), dark)
    )
    return f"""
    <body name="cabinet" pos="0.46 0.48 0">
      {shell}
      <body name="drawer">
        <joint name="drawer" type="slide" axis="-1 0 0" range="0 {DRAWER_TRAVEL}" limited="true"
               damping="4" frictionloss="0.4" armature="0.1"/>
        {drawer}
        <geom name="knob" type="cylinder" pos="-{KNOB_OFFSET} 0 {(KNOB_TOP + 0.015) / 2}"
              size="{KNOB_RADIUS} {(KNOB_TOP - 0.015) / 2}" contype="{_KNOB}"
              conaffinity="{_FINGER}" condim="4" friction="1.2 0.02 0.0001" mass="0.05"
              rgba="0.12 0.12 0.14 1"/>
      </body>
    </body>"""


def _object_slot(index: int) -> str:
    body_z = -o.BOTTLE_HEIGHT / 2 + o.BOTTLE_BODY_HEIGHT / 2
    neck_half = (o.BOTTLE_HEIGHT - o.BOTTLE_BODY_HEIGHT) / 2
    neck_z = o.BOTTLE_HEIGHT / 2 - neck_half
    shoulder_z = o.BOTTLE_HEIGHT / 2 - 2 * neck_half
    geoms = (
        ("block", f'type="box" size="{o.BLOCK_HALF} {o.BLOCK_HALF} {o.BLOCK_HALF}"'),
        ("ball", f'type="sphere" size="{o.BALL_RADIUS}"'),
        ("can", f'type="cylinder" size="{o.CAN_RADIUS} {o.CAN_HEIGHT / 2}"'),
        (
            "can_lid",
            f'type="cylinder" size="{o.CAN_RADIUS - 0.006} 0.002" pos="0 0 {o.CAN_HEIGHT / 2}" '
            'rgba="0.75 0.75 0.78 1"',
        ),
        (
            "bottle",
            f'type="cylinder" size="{o.BOTTLE_RADIUS} {o.BOTTLE_BODY_HEIGHT / 2}" '
            f'pos="0 0 {body_z}"',
        ),
        (
            "bottle_shoulder",
            f'type="ellipsoid" size="{o.BOTTLE_RADIUS} {o.BOTTLE_RADIUS} 0.014" '
            f'pos="0 0 {shoulder_z}"',
        ),
        ("bottle_neck", f'type="cylinder" size="{o.NECK_RADIUS} {neck_half}" pos="0 0 {neck_z}"'),
        (
            "bottle_cap",
            f'type="cylinder" size="{o.NECK_RADIUS + 0.002} 0.006" '
            f'pos="0 0 {o.BOTTLE_HEIGHT / 2 - 0.005}" rgba="0.95 0.95 0.95 1"',
        ),
    )
    lines = "\n".join(
        f'<geom class="object" name="object_{index}_{name}" {text}/>' for name, text in geoms
    )
    return f"""
    <body name="object_{index}" pos="{0.3 + 0.2 * index} -2 0.05">
      <joint name="object_{index}" type="free" damping="0.0004"/>
      <inertial pos="0 0 0" mass="0.08" diaginertia="4e-5 4e-5 4e-5"/>
      {lines}
    </body>"""


PART_GEOMS = {
    "block": ("block",),
    "ball": ("ball",),
    "can": ("can", "can_lid"),
    "bottle": ("bottle", "bottle_shoulder", "bottle_neck", "bottle_cap"),
}
"""Geoms that each shape switches on."""
SOLID_GEOMS = ("block", "ball", "can", "bottle", "bottle_neck")
"""Geoms that collide; the others are only looked at."""
COLOURED_GEOMS = ("block", "ball", "can", "bottle", "bottle_shoulder", "bottle_neck")
"""Geoms that take the object's colour."""
OBJECT_CONTACT = (_OBJECT, _OBJECT_AFFINITY)
"""Contact type and affinity of a solid geom that is switched on."""
