"""Runs `.tflite` files on LiteRT's GPU accelerator, in a process that never meets TensorFlow.

`python accelerator.py FOLDER HEADING` runs every file of the folder in half and in single
precision, on each case of the arrays beside it, `FILE.npz` with arrays `CASE/INPUT`. It writes the
outputs to `FILE.half.npz` and `FILE.single.npz` by case, and to the log what the accelerator says,
after a line with HEADING, file and precision. It computes on the accelerator alone: a file with an
operation that the GPU does not take is refused.
"""

import os
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.options import GpuOptions, Options


def say(text):
    """To the log, in line with what the accelerator writes there by itself."""
    os.write(2, f"\n{text}\n".encode())


def run(path, single):
    """Runs one file in one precision."""
    options = Options(
        hardware_accelerators=HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=single)
    )
    model = CompiledModel.from_file(str(path), options=options)
    signature = model.get_signature_by_index(0)
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    (detail,) = model.get_output_tensor_details(signature["key"]).values()
    answers = {}
    with np.load(path.with_suffix(".npz")) as arrays:
        for case in sorted({name.split("/")[0] for name in arrays}):
            for name, buffer in zip(signature["inputs"], inputs, strict=True):
                buffer.write(arrays[f"{case}/{name}"])
            model.run_by_index(0, inputs, outputs)
            values = outputs[0].read(int(np.prod(detail["shape"])), np.float32)
            answers[case] = values.reshape(detail["shape"])
    np.savez(path.with_suffix(".single.npz" if single else ".half.npz"), **answers)


def main(folder, heading):
    for path in sorted(Path(folder).glob("*.tflite")):
        for single in (False, True):
            say(f"{heading}{path.stem} {'single' if single else 'half'}")
            try:
                run(path, single)
            except RuntimeError as error:
                say(f"REFUSED: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
