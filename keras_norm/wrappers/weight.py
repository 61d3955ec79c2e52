"""Kernels as lengths and directions."""

from keras_norm.arguments import register
from keras_norm.ops.weights import direction, norm
from keras_norm.wrappers.base import WeightWrapper

@register
class WeightNormalization(WeightWrapper):
    """x

        y = layer(x)
    """

    def __init__(self, layer, data_init=False, *args, **kwargs):
        super().__init__(layer, *args, **kwargs)
        self.data_init = data_init

    def build_for(self, weight):
        self.add_own(weight, "g", weight.outputs, lambda: norm(weight.value(), weight.axes))

    def effective_weight(self, weight, training):
        return direction(weight.value(), weight.axes) * weight.spread(self.own(weight, "g"))
