"""Joins a run's processes by the environment, and prints what became of it as JSON.

python tests/support/join.py [tpu]    tpu: as if on a Cloud TPU VM
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import jax
from jax._src import cloud_tpu_init, xla_bridge
from jax._src.clusters import cloud_tpu_cluster

from rt1_jax.training import hosts

if __name__ == "__main__":
    if "tpu" in sys.argv[1:]:
        # JAX tells it by the chips on the bus, and sets a variable for want of them.
        os.environ.pop("TPU_SKIP_MDS_QUERY", None)
        cloud_tpu_init.running_in_cloud_tpu_vm = True
        cloud_tpu_cluster.running_in_cloud_tpu_vm = True
        jax.config.update("jax_platforms", None)
        initialize = jax.distributed.initialize

        def initialize_on_cpus(**options: Any) -> None:
            """Joins, and then looks for no TPU."""
            try:
                initialize(**options)
            finally:
                jax.config.update("jax_platforms", "cpu")

        jax.distributed.initialize = initialize_on_cpus
    hosts.initialize()
    print(
        json.dumps(
            {
                "process": jax.process_index(),
                "processes": jax.process_count(),
                "gpus": xla_bridge.CUDA_VISIBLE_DEVICES.value,
            }
        )
    )
