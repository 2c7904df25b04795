"""The experiments of `rt1_jax.analysis`: what is trained on what, how often, and compared on what.

python -m rt1_jax.analysis.scaling --config=configs/experiments.py:small --output=out/scaling
(likewise decoding, film_ablation and baselines)

`small` is for two CPU cores, about half an hour an experiment (the sum of its runs' times; they
share runs). `all_skills` is `small` with all seven skills and more steps, meant for film_ablation.
`accelerator` is the paper's size on all skills of the tabletop, for an accelerator; its cost has
not been measured. `smoke` only shows that all parts work. Expected: docs/experiments.md.
"""

from ml_collections import ConfigDict

from configs import bc_z, gato, rt1, tabletop
from rt1_jax.envs.tasks import SKILLS


def get_config(preset: str = "small") -> ConfigDict:
    if preset not in _PRESETS:
        raise ValueError(f"configs/experiments.py:{preset}: expected one of {[*_PRESETS]}")
    return _PRESETS[preset]()


def _small() -> ConfigDict:
    config = ConfigDict()
    config.preset = "small"

    # Generated where the directory does not hold it yet.
    config.data = ConfigDict()
    config.data.directory = "data/experiments"
    config.data.skills = ("pick",)  # 16 objects, 80 sentences
    config.data.episodes = 3_100
    config.data.image_size = (64, 64)
    config.data.seed = 0

    # Small batches and many travelling windows: what grounds the instruction soonest.
    train = ConfigDict()
    train.batch_size = 16
    train.model = ConfigDict({"embedding_size": 12})
    train.optimizer = ConfigDict({"steps": 3_000})
    train.data = ConfigDict({"directory": config.data.directory, "travel_repeats": 8})
    train.data.embedding_components = 12  # the words of these sentences vary in twelve ways
    train.checkpoint_every = 1_000
    train.keep_checkpoints = 1
    config.train = train
    config.seeds = (0, 1)  # where an experiment has none of its own
    config.parallel = 2  # runs side by side, a core each

    config.models = ConfigDict()
    config.models.rt1 = tabletop.get_config()
    config.models.bc_z = bc_z.get_config("tabletop")
    config.models.gato = gato.get_config("tabletop")

    config.evaluation = ConfigDict()
    config.evaluation.episodes = 100  # a split
    config.evaluation.splits = ("seen", "unseen_tasks")

    config.scaling = ConfigDict()
    config.scaling.episodes = (100, 300, 1_000, 3_000)
    config.scaling.tasks = (0.5, 0.375)  # shares of the tasks, for as many episodes as:
    config.scaling.tasks_episodes = 1_000

    config.decoding = ConfigDict()
    config.decoding.variants = ("rt1", "autoregressive", "continuous")
    config.decoding.seeds = (0, 1, 2)

    config.film_ablation = ConfigDict()
    config.film_ablation.variants = ("rt1", "film_end", "language_token", "no_language")
    config.film_ablation.seeds = (0, 1, 2)

    config.baselines = ConfigDict()
    config.baselines.models = ("rt1", "bc_z", "gato")
    config.baselines.variants = ("no_history", "lesson")  # of rt1
    config.baselines.splits = (
        "seen",
        "unseen_tasks",
        "unseen_objects",
        "distractors",
        "backgrounds",
    )
    return config


def _all_skills() -> ConfigDict:
    config = _small()
    config.preset = "all_skills"
    config.data.directory = "data/experiments_all_skills"
    config.data.skills = SKILLS
    config.data.episodes = 4_100
    config.train.model.embedding_size = 32
    config.train.optimizer.steps = 4_500
    config.train.data.directory = config.data.directory
    config.train.data.embedding_components = 32
    config.evaluation.episodes = 105  # 15 a skill
    config.scaling.episodes = (100, 300, 1_000, 4_000)
    config.film_ablation.seeds = (0, 1)
    return config


def _accelerator() -> ConfigDict:
    config = _small()
    config.preset = "accelerator"
    config.data.directory = "data/experiments_full"
    config.data.skills = SKILLS
    config.data.episodes = 100_500
    config.data.image_size = (256, 320)
    config.train.batch_size = 256
    config.train.optimizer.steps = 100_000
    config.train.data.directory = config.data.directory
    config.train.data.travel_repeats = 1
    config.train.data.embedding_components = 0
    config.train.model.embedding_size = 512
    config.train.checkpoint_every = 5_000
    config.seeds = (0, 1, 2)
    config.parallel = 1
    config.models = ConfigDict()
    config.models.rt1 = rt1.get_config()
    config.models.bc_z = bc_z.get_config("paper")
    config.models.bc_z_xl = bc_z.get_config("xl")
    config.models.gato = gato.get_config("paper")
    config.baselines.models = ("rt1", "bc_z", "bc_z_xl", "gato")
    config.evaluation.episodes = 500
    config.scaling.episodes = (100, 1_000, 10_000, 100_000)
    config.scaling.tasks = (0.75, 0.5, 0.25)
    config.scaling.tasks_episodes = 20_000
    return config


def _smoke() -> ConfigDict:
    config = _small()
    config.preset = "smoke"
    config.data.directory = "data/experiments_smoke"
    config.data.episodes = 150
    config.train.data.directory = config.data.directory
    config.train.data.embedding_components = 6  # few sentences have few words
    config.train.model.embedding_size = 6
    config.train.optimizer.update(steps=20, warmup_steps=5)
    config.seeds = config.decoding.seeds = config.film_ablation.seeds = (0,)
    config.evaluation.episodes = 4
    config.scaling.episodes = (10, 20, 30, 50)
    config.scaling.tasks_episodes = 15
    return config


_PRESETS = {
    "small": _small,
    "all_skills": _all_skills,
    "accelerator": _accelerator,
    "smoke": _smoke,
}
