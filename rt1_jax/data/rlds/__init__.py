"""Reading RLDS datasets: TFDS directories whose records are episodes."""
