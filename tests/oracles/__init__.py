"""The papers in NumPy float64, one function per layer. Imports nothing of the package.

Every oracle has the signature `(x, weights, arguments, training, mask, held)` and returns
`(y, state, held)`: the output, the non-trainable weights after the call, and what the paper keeps
constant under differentiation (r and d of batch renormalization). Handing `held` back in evaluates
the same function at another x, which is what finite differences need.

`x` is an array, or a tuple of them where a layer takes several inputs. `weights` maps names to
arrays; `arguments` are the constructor's, a layer among them as its config with `class_name`.
`mask` has the input's shape without the channel axis. Loops are welcome: these are read, not run at
scale. A file here is named as the file of the package that it judges.
"""

from tests.oracles import (
    activations,
    batch,
    conditional,
    cosine,
    data,
    features,
    groups,
    mixtures,
    pointwise,
    recurrent,
    whitening,
    wrappers,
)

FILES = (
    activations,
    batch,
    conditional,
    cosine,
    data,
    features,
    groups,
    mixtures,
    pointwise,
    recurrent,
    whitening,
    wrappers,
)

ORACLES = {name: oracle for file in FILES for name, oracle in file.ORACLES.items()}
