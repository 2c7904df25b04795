"""LeRobot datasets (v3.0): reading them, and writing them.

    layout.py           names, limits and features of the format
    source.py           a LeRobot dataset's metadata and rows
    video.py            frames of videos by their time; videos of frames
    action_mapping.py   which entries of `action` are which of our fields
    episodes.py         one LeRobot episode -> one of ours, or why it is left out
    import_plan.py      what an import depends on, and the mark that it leaves
    writer.py           the tables and files of an export
    feature_statistics.py   the statistics that LeRobot normalises with

The commands are `rt1_jax.data.import_lerobot` and `rt1_jax.data.export_lerobot`.
"""
