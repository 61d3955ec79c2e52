"""Layers around a layer, which use it with other weights than it stores."""
