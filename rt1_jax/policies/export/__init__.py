"""Policies for programs without this package: StableHLO, TensorFlow's SavedModel, ONNX."""
