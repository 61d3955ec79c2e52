"""Models of Keras 2, TensorFlow Addons and keras-contrib, read as models of Keras 3."""
