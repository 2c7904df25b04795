"""RT-1 at the paper's size: FiLM-EfficientNet-B3 at 300x300, six frames, 35.1 M parameters.

python train.py --config=configs/rt1.py --workdir=runs/rt1 --config.data.directory=DATA

DATA is a dataset directory with RT-1's action spec. The released model was trained on 130,000
episodes from an ImageNet backbone; the paper does not state its schedule, so the optimiser's
numbers are this project's. On two CPU cores it is for trying the code out only.
"""

from ml_collections import ConfigDict

from rt1_jax.models.config import rt1_config


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "rt1"
    config.seed = 0
    config.architecture = "rt1"
    config.model = ConfigDict(rt1_config().to_json())
    config.backbone_weights = ""  # a file with ImageNet weights

    config.data = ConfigDict()
    config.data.directory = "data/fractal"
    config.data.validation_episodes = 500
    config.data.episodes = 0  # all
    config.data.tasks = 1.0  # share of the tasks
    config.data.embedding_components = 0  # the encoder's own embedding
    config.data.mixture = ()  # ((directory, weight), ...) in place of directory
    config.data.image_size = ()  # (height, width), for a mixture of frames of several sizes
    config.data.chunk = 1  # windows that share their frames
    config.data.rlds = ConfigDict()  # RLDS files as they are, in place of directory
    config.data.rlds.builder_dir = ""
    config.data.rlds.dataset = ""  # of rt1_jax.data.oxe
    config.data.rlds.actions = "physical"  # or rt1_x
    config.data.rlds.split = "train"
    config.data.rlds.encoder = ""  # the stored embeddings
    config.data.rlds.registry = ""  # a file with descriptions of your own
    config.data.travel_repeats = 1  # every window once an epoch
    config.data.max_shift = (20, 50)  # pixels (y, x) of 256 x 320, as the original
    config.data.augment_per_frame = False  # one shift and one jitter for a window
    config.data.jitter = ConfigDict()  # of colours, off: rt1_jax.data.augmentation
    config.data.jitter.brightness = 0.0  # added, of 1
    config.data.jitter.contrast = (1.0, 1.0)  # factor, from and to
    config.data.jitter.saturation = (1.0, 1.0)  # likewise
    config.data.jitter.hue = 0.0  # turns

    config.batch_size = 1024  # windows
    config.smoothing = 0.0  # bins
    config.loss = ConfigDict()
    config.loss.label_smoothing = 0.0  # share of the target spread over the bins
    config.loss.field_weights = ()  # ((field, weight), ...), 1 for those that are not named
    config.frozen = ()  # parameters' paths that are not trained: ("image_tokenizer",)
    config.start = ConfigDict()
    config.start.checkpoint = ""  # of any format, to fine-tune from
    config.start.reset_optimizer = True
    config.optimizer = ConfigDict()
    config.optimizer.steps = 300_000
    config.optimizer.learning_rate = 5e-4
    config.optimizer.final_learning_rate = 5e-6
    config.optimizer.warmup_steps = 5_000
    config.optimizer.clip_norm = 1.0
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.98
    config.optimizer.muon_rms = 0.0  # AdamW
    config.optimizer.weight_decay = 1e-4
    config.optimizer.average_decay = 0.9999

    config.mesh = ConfigDict()
    config.mesh.data = -1  # devices that share the batch alone; -1 is all that are left
    config.mesh.fsdp = 1  # devices that share the batch and the parameters
    config.mesh.shard_from = 65_536  # numbers; smaller parameters are on every device
    config.mesh.rules = ()  # ((pattern of a path, ("fsdp", None)), ...), before the size
    config.step = ConfigDict()
    config.step.accumulate = 1  # parts of a batch, one after another
    config.step.compute = "bfloat16"  # parameters and checkpoints stay float32
    config.step.remat = "largest"  # or none, blocks: what is computed again for the gradient
    config.step.batch_statistics = "replica"  # of batch normalisation, a device's; or global
    config.step.packed_images = 6  # side by side in a TPU's memory; a window's frames
    # Arrays that are fetched ahead are read, written and read again: less traffic without.
    config.step.tpu_compiler_options = (
        ("xla_vf_vmem_max_outstanding_prefetches", "0"),
        ("xla_vf_vmem_max_outstanding_evictions", "0"),
    )
    config.guards = ConfigDict()
    config.guards.max_skipped = 0  # updates with a gradient that is not finite, then stop
    config.guards.stall_seconds = 0.0  # without a step, then stop; 0 is for ever

    config.loader = ConfigDict()
    config.loader.workers = 16
    config.loader.threads = 2
    config.loader.cache_bytes = 0

    config.log_every = 100
    config.checkpoint_every = 5_000
    config.keep_checkpoints = 3
    config.keep_best = 0  # beside the newest, by validation loss
    return config
