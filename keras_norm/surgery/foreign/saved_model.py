"""SavedModel folders of Keras 2: their Keras metadata and variables. No graph of theirs is run."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from keras_norm.surgery.foreign.reading import LARGEST, NUMBERS, broken, parsed

_METADATA = "keras_metadata.pb"
# What TensorFlow raises over a damaged checkpoint.
_DAMAGED = tf.errors.OpError, DecodeError, IndexError, RuntimeError, TypeError, ValueError


def config_of(folder):
    """What the Keras metadata of a folder say of the model, a dictionary.

    Raises:
        ValueError: If it has none.
    """
    file = Path(folder) / _METADATA
    if not file.is_file() or file.stat().st_size > LARGEST:
        raise broken(folder, f"a folder without {_METADATA}, which only Keras 2 writes")
    metadata = _metadata_class()()
    try:
        metadata.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise broken(folder, f"whose {_METADATA} is damaged") from error
    roots = [node for node in metadata.nodes if node.node_path == "root"]
    if len(roots) != 1:
        raise broken(folder, f"whose {_METADATA} says nothing of a model")
    return parsed(roots[0].metadata, folder)


def _metadata_class():
    """The message that Keras 2 wrote; Keras 3 knows it no more."""
    fields = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="keras_norm_metadata.proto")
    node = file.message_type.add(name="KerasNormSavedObject")
    node.field.add(name="node_path", number=3, type=fields.TYPE_STRING, label=fields.LABEL_OPTIONAL)
    node.field.add(name="metadata", number=5, type=fields.TYPE_STRING, label=fields.LABEL_OPTIONAL)
    whole = file.message_type.add(name="KerasNormSavedMetadata")
    whole.field.add(
        name="nodes",
        number=1,
        type=fields.TYPE_MESSAGE,
        type_name="KerasNormSavedObject",
        label=fields.LABEL_REPEATED,
    )
    file.syntax = "proto3"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("KerasNormSavedMetadata"))


class Checkpoint:
    """Variables of a checkpoint, by the names of attributes that lead to them.

    Args:
        prefix: Path of its files without their endings.

    Raises:
        ValueError: If it is damaged, or none of objects.
    """

    def __init__(self, prefix):
        self.prefix = prefix
        self._used: set[str] = set()
        try:
            self._reader = tf.train.load_checkpoint(str(prefix))
            graph = self._reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
            self._nodes = TrackableObjectGraph.FromString(graph).nodes
        except _DAMAGED as error:
            raise broken(prefix, "a checkpoint that TensorFlow cannot read") from error
        if not self._nodes:
            raise broken(prefix, "a checkpoint without objects")

    def node(self, *names, start=0):
        """The number of the object that names lead to, from the root or another, or `None`."""
        number = start
        for name in names:
            number = self.children(number).get(name)
            if number is None or not 0 <= number < len(self._nodes):
                return None
        return number

    def children(self, number):
        """Numbers of the objects that an object holds, by name."""
        return {child.local_name: child.node_id for child in self._nodes[number].children}

    def value(self, number):
        """The array of a variable.

        Raises:
            ValueError: If the object is none, or its data are damaged.
        """
        try:
            keys = [one.checkpoint_key for one in self._nodes[number].attributes]
            self._used.update(keys)
            value = self._reader.get_tensor(keys[0])
        except _DAMAGED as error:
            raise broken(self.prefix, "a checkpoint without one of its variables") from error
        if getattr(value, "dtype", np.dtype(object)).kind not in NUMBERS:
            raise broken(self.prefix, f"a checkpoint whose {keys[0]!r} holds no numbers")
        return value

    def listed(self):
        """All weights of a SavedModel's root, in the order that Keras 2 gave them.

        Raises:
            ValueError: If it has no such list.
        """
        place = self.node("variables")
        if place is None:
            raise broken(self.prefix, "a checkpoint without a list of the model's weights")
        parts = self.children(place)
        names = sorted(filter(str.isdecimal, parts), key=int)
        return [self.value(parts[name]) for name in names]

    def read(self, view, number=0):
        """Reads the weights of a layer and the layers within by their attributes' names.

        Args:
            view: The layer's `View`.
            number: The object that it was.

        Raises:
            ValueError: If one is missing.
        """
        attributes = self.children(number)
        for slot in view.own:
            found = attributes.get(slot.name, attributes.get(f"depthwise_{slot.name}"))
            if found is not None:
                slot.take(self.value(found), view.origin.name)
            elif not slot.optional:
                raise broken(
                    self.prefix, f"a checkpoint without {slot.name!r} of a {view.origin.name}"
                )
        within = [(name, part) for name, part in view.within if part.legacy_slots()]
        for place, (name, part) in enumerate(within):
            name = f"layer_with_weights-{place}" if view.is_model else name
            inner = self.node(*name.split("/"), start=number)
            if inner is not None:
                self.read(part, inner)
            elif not all(slot.optional for slot in part.slots()):
                raise broken(self.prefix, f"a checkpoint without {name!r}")

    def left(self):
        """Names of the layers' weights that nobody asked for."""
        names = self._reader.get_variable_to_shape_map()
        return sorted(name for name in names.keys() - self._used if name.startswith("layer"))
