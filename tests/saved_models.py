"""What a call of a SavedModel can run, read from its file: nothing is loaded."""

import re

from tensorflow.core.protobuf import saved_model_pb2


def assignments(path, endpoint="serving_default"):
    """Types of the operations that change a variable when the signature is called."""
    changing = re.compile(r"Assign|^Resource(Sparse)?(Apply|Scatter)|^Scatter[A-Z]|^Rng")
    return {operation for operation in operations(path, endpoint) if changing.search(operation)}


def operations(path, endpoint="serving_default"):
    """Types of all operations that the signature's outputs need, and of those in functions."""
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    (meta,) = saved.meta_graphs
    graph = {field.name: value for field, value in meta.graph_def.ListFields()}
    nodes = {node.name: node for node in graph["node"]}
    bodies = {body.signature.name: body for body in graph["library"].function}
    waiting = [output.name for output in meta.signature_def[endpoint].outputs.values()]
    waiting, seen, functions = list(map(node_name, waiting)), set(), []
    types = set()
    while waiting:
        node = nodes[waiting.pop()]
        if node.name not in seen:
            seen.add(node.name)
            types.add(node.op)
            waiting += map(node_name, node.input)
            functions += called(node)
    while functions:
        name = functions.pop()
        if name not in seen:
            seen.add(name)
            for node in bodies[name].node_def:  # what has effects runs, needed or not
                types.add(node.op)
                functions += called(node)
    return types


def node_name(tensor):
    return tensor.removeprefix("^").split(":")[0]


def called(node):
    """Names of the functions that a node's attributes hold."""
    for value in node.attr.values():
        for function in (value.func, *value.list.func):
            if function.name:
                yield function.name
