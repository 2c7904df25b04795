"""Experiments on trained policies, each a command: token maps, and the paper's ablations."""
