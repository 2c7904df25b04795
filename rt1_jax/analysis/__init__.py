"""Experiments on trained policies, each a command: what the tokens look at, and the paper's ablations."""
