"""From a dataset directory to checkpoints: loss, train state, step, loop."""
