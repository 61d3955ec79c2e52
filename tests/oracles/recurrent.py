"""Cells of recurrent networks, run over whole sequences as `keras.layers.RNN` runs them."""

import numpy as np

from tests.oracles.shared import moments

FUNCTIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "relu": lambda a: np.maximum(a, 0),
    "linear": lambda a: a,
}


def float64(weights):
    return {name: np.asarray(value, "float64") for name, value in weights.items()}


def activations(arguments):
    return (
        FUNCTIONS[arguments.get("activation", "tanh")],
        FUNCTIONS[arguments.get("recurrent_activation", "sigmoid")],
    )


def layer_norm(values, gamma, beta, epsilon):
    """One row."""
    mean, variance = moments(values)
    return gamma * (values - mean) / np.sqrt(variance + epsilon) + beta


def per_sample(x, mask, states, step):
    """Runs `step(x_t, states) -> (y, states)` over each sample; masked steps change nothing.

    What comes out of a masked step is the output before it, zeros at first.
    """
    samples, steps = x.shape[:2]
    y = np.zeros((samples, steps, states[0]))
    for sample in range(samples):
        current, last = [np.zeros(size) for size in states], np.zeros(states[0])
        for time in range(steps):
            if mask is None or mask[sample, time]:
                last, current = step(x[sample, time], current)
            y[sample, time] = last
    return y


def simple_rnn(x, weights, arguments, training, mask=None, held=None):
    w, epsilon, units = float64(weights), arguments.get("epsilon", 1e-5), arguments["units"]
    activation, _ = activations(arguments)

    def step(x_t, states):
        summed = x_t @ w["kernel"] + states[0] @ w["recurrent_kernel"]
        y = activation(layer_norm(summed, w["gamma"], w.get("bias", 0.0), epsilon))
        return y, [y]

    return per_sample(x, mask, [units], step), {}, None


def lstm(x, weights, arguments, training, mask=None, held=None):
    w, epsilon, units = float64(weights), arguments.get("epsilon", 1e-3), arguments["units"]
    activation, gate = activations(arguments)

    def step(x_t, states):
        from_x = layer_norm(x_t @ w["kernel"], w["kernel_gamma"], w["kernel_beta"], epsilon)
        from_h = states[0] @ w["recurrent_kernel"]
        from_h = layer_norm(from_h, w["recurrent_gamma"], w["recurrent_beta"], epsilon)
        z = from_x + from_h + w.get("bias", 0.0)
        i, f, g, o = (z[k * units : (k + 1) * units] for k in range(4))
        c = gate(f) * states[1] + gate(i) * activation(g)
        normalized = layer_norm(c, w["state_gamma"], w["state_beta"], epsilon)
        y = gate(o) * activation(normalized)
        return y, [y, normalized if arguments.get("layout", "paper") == "addons" else c]

    return per_sample(x, mask, [units, units], step), {}, None


def gru(x, weights, arguments, training, mask=None, held=None):
    w, epsilon, units = float64(weights), arguments.get("epsilon", 1e-3), arguments["units"]
    activation, gate = activations(arguments)
    gates, candidate = slice(0, 2 * units), slice(2 * units, None)

    def normalized(values, side, part):
        gamma = w[("kernel_gamma", "recurrent_gamma")[side]][part]
        bias = w["bias"][side][part] if "bias" in w else 0.0
        return layer_norm(values[part], gamma, bias, epsilon)

    def step(x_t, states):
        a, b = x_t @ w["kernel"], states[0] @ w["recurrent_kernel"]
        zr = gate(normalized(a, 0, gates) + normalized(b, 1, gates))
        z, r = zr[:units], zr[units:]
        proposed = activation(normalized(a, 0, candidate) + r * normalized(b, 1, candidate))
        y = z * states[0] + (1 - z) * proposed
        return y, [y]

    return per_sample(x, mask, [units], step), {}, None


ORACLES = {
    "LayerNormSimpleRNNCell": simple_rnn,
    "LayerNormLSTMCell": lstm,
    "LayerNormGRUCell": gru,
}
