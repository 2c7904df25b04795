"""Where the facts in the datasets' descriptions were read: repository and file."""

from __future__ import annotations

NOTEBOOK = (
    "google-deepmind/open_x_embodiment: colabs/Minimal_Training_Example.ipynb "
    "(mappings, rescaling, terminate, cameras, weights)"
)
OCTO = (
    "octo-models/octo: octo/data/oxe/oxe_standardization_transforms.py "
    "(sign of the gripper, absolute or relative), oxe_dataset_configs.py (cameras)"
)
RATES = "huggingface/lerobot: lerobot/common/datasets/push_dataset_to_hub/openx/configs.yaml (rate)"
RT1_X_ENCODER = (
    "google-deepmind/open_x_embodiment: colabs/Minimal_example_for_running_inference_using_"
    "RT_1_X_TF_using_tensorflow_datasets.ipynb (sentence encoder of RT-1-X)"
)


def catalog(name: str) -> str:
    """The dataset's page in TFDS's catalogue: keys, types, sizes."""
    return f"tensorflow/datasets: docs/catalog/{name}.md (keys, types, sizes)"


def converted(name: str) -> str:
    """The page of the dataset's copy in LeRobot's format: how many tasks it has."""
    return f"huggingface.co/datasets/lerobot/{name}: README.md (number of tasks)"
