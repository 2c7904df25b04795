"""The policy server: a checkpoint behind a websocket, for one robot or many.

    python -m rt1_jax.serving.server --checkpoint=tabletop-small --port=8000

It speaks the protocol of openpi's policy server, so that the PyPI package `openpi-client` drives it
unchanged; `rt1_jax.serving.client` is a client without JAX. docs/serving.md describes both ends.
"""
