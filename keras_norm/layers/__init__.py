"""The layers, by what their statistics run over."""
