"""Episodes on disk and on their way to the model."""
