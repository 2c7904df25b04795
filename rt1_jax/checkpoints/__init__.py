"""Policies at rest: the native format, and readers of the published ones."""
