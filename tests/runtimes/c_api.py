"""TensorFlow through its C interface: what a server in C, Go, Java or Rust calls.

Nothing here imports TensorFlow's Python package; of its wheel only the library is loaded.
"""

import ctypes
from importlib.util import find_spec
from pathlib import Path

import numpy as np

TYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64, 10: np.bool_}
"""NumPy's types by TensorFlow's numbers for them (tensorflow/core/framework/types.proto)."""

NUMBERS = {np.dtype(dtype): number for number, dtype in TYPES.items()}


class Output(ctypes.Structure):
    """`TF_Output`: an operation of a graph and which of its outputs."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


def library():
    """TensorFlow's library, told which functions return pointers or long numbers."""
    folder = Path(find_spec("tensorflow").origin).parent
    loaded = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"))
    pointers = ["NewStatus", "NewGraph", "NewSessionOptions", "LoadSessionFromSavedModel"]
    pointers += ["GraphOperationByName", "AllocateTensor", "TensorData"]
    for name in pointers:
        getattr(loaded, f"TF_{name}").restype = ctypes.c_void_p
    for name in ["TensorByteSize", "Dim"]:
        getattr(loaded, f"TF_{name}").restype = ctypes.c_int64
    loaded.TF_Message.restype = loaded.TF_Version.restype = ctypes.c_char_p
    return loaded


class SavedModel:
    """A session of the SavedModel in a folder.

    Args:
        folder: The SavedModel.
    """

    def __init__(self, folder):
        self.tf = library()
        self.status = ctypes.c_void_p(self.tf.TF_NewStatus())
        self.graph = ctypes.c_void_p(self.tf.TF_NewGraph())
        options = ctypes.c_void_p(self.tf.TF_NewSessionOptions())
        tags = (ctypes.c_char_p * 1)(b"serve")
        self.session = ctypes.c_void_p(
            self.tf.TF_LoadSessionFromSavedModel(
                options, None, str(folder).encode(), tags, 1, self.graph, None, self.status
            )
        )
        self._check()

    def run(self, inputs, names):
        """The outputs of one run.

        Args:
            inputs: Arrays by the name of the tensor they are fed to, such as `"x:0"`.
            names: Names of the tensors to fetch.

        Returns:
            One array per name.
        """
        feeds = (Output * len(inputs))(*map(self._output, inputs))
        values = (ctypes.c_void_p * len(inputs))(*map(self._tensor, inputs.values()))
        fetches = (Output * len(names))(*map(self._output, names))
        results = (ctypes.c_void_p * len(names))()
        arguments = (feeds, values, len(inputs), fetches, results, len(names))
        self.tf.TF_SessionRun(self.session, None, *arguments, None, 0, None, self.status)
        self._check()
        return [self._array(ctypes.c_void_p(result)) for result in results]

    def _check(self):
        if self.tf.TF_GetCode(self.status):
            raise RuntimeError(self.tf.TF_Message(self.status).decode())

    def _output(self, name):
        operation, index = name.rsplit(":", 1)
        found = self.tf.TF_GraphOperationByName(self.graph, operation.encode())
        assert found, f"no operation {operation}"
        return Output(found, int(index))

    def _tensor(self, array):
        array = np.ascontiguousarray(array)
        sizes = (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor = self.tf.TF_AllocateTensor(
            NUMBERS[array.dtype], sizes, array.ndim, ctypes.c_size_t(array.nbytes)
        )
        data = self.tf.TF_TensorData(ctypes.c_void_p(tensor))
        ctypes.memmove(data, array.ctypes.data, array.nbytes)
        return tensor

    def _array(self, tensor):
        shape = [self.tf.TF_Dim(tensor, axis) for axis in range(self.tf.TF_NumDims(tensor))]
        data = self.tf.TF_TensorData(tensor)
        content = ctypes.string_at(data, self.tf.TF_TensorByteSize(tensor))
        return np.frombuffer(content, TYPES[self.tf.TF_TensorType(tensor)]).reshape(shape)
