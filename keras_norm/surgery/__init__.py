"""Verbs that turn a model into another model."""
