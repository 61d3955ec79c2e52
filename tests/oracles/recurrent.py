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


def batch_lstm(x, weights, arguments, training, mask=None, held=None):
    """Time outside, terms inside; each sequence counts its own steps, a masked one does not."""
    w, epsilon, units = float64(weights), arguments.get("epsilon", 1e-5), arguments["units"]
    steps, momentum = arguments["max_steps"], arguments.get("momentum", 0.99)
    padding = arguments.get("mask_value")
    activation, gate = activations(arguments)
    samples = x.shape[0]
    state = {name: value.copy() for name, value in w.items() if "_moving_" in name}
    h, c, number = np.zeros((samples, units)), np.zeros((samples, units)), np.zeros(samples, int)
    y = np.zeros((samples, x.shape[1], units))
    for time in range(x.shape[1]):
        counted = np.ones(samples, bool) if padding is None else (x[:, time] != padding).any(-1)
        longest = max(number[counted], default=steps)

        def batch_norm(values, term, counted=counted, longest=longest, number=number):
            gamma, out = w[f"{term}_gamma"], np.empty(values.shape)
            for unit in range(values.shape[1]):
                mean, variance = moments(values[counted, unit])
                for sample in range(samples):
                    if not training:
                        row = min(number[sample], steps - 1)
                        mean = w[f"{term}_moving_mean"][row, unit]
                        variance = w[f"{term}_moving_variance"][row, unit]
                    centred = values[sample, unit] - mean
                    out[sample, unit] = gamma[unit] * centred / np.sqrt(variance + epsilon)
                if training and longest < steps:
                    for name, new in (("mean", mean), ("variance", variance)):
                        old = w[f"{term}_moving_{name}"][longest, unit]
                        moved = momentum * old + (1 - momentum) * new
                        state[f"{term}_moving_{name}"][longest, unit] = moved
            return out

        from_x = x[:, time]
        if not arguments.get("sequence_wise_inputs", False):
            from_x = batch_norm(from_x @ w["kernel"], "kernel")
        z = from_x + batch_norm(h @ w["recurrent_kernel"], "recurrent") + w.get("bias", 0.0)
        i, f, g, o = (z[:, k * units : (k + 1) * units] for k in range(4))
        new_c = gate(f) * c + gate(i) * activation(g)
        new_h = gate(o) * activation(batch_norm(new_c, "state") + w["state_beta"])
        live = np.ones(samples, bool) if mask is None else np.asarray(mask)[:, time]
        h, c = np.where(live[:, None], new_h, h), np.where(live[:, None], new_c, c)
        number = number + live
        y[:, time] = h
    return y, state, None


ORACLES = {
    "LayerNormSimpleRNNCell": simple_rnn,
    "LayerNormLSTMCell": lstm,
    "LayerNormGRUCell": gru,
    "BatchNormLSTMCell": batch_lstm,
}
