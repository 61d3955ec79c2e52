"""Norms for GPUs compute the same on a CPU, and leave no operation to slow kernels there."""

from keras_norm import audit, export_litert, verify
from keras_norm.export import samples
from tests.conformance.test_export import EVERYWHERE, UNWANTED, convolutions_between_norms


def test_between_convolutions(norm, tmp_path):
    model = convolutions_between_norms(norm)
    path = export_litert(model, tmp_path / "model.tflite", target="gpu")
    found = audit(path, require=EVERYWHERE)
    assert found.passed and found.partitions == 1, str(found)
    assert not UNWANTED & set(found.histogram)
    # Data given, so that no process is needed to ask the file for its sizes.
    result = verify(model, path, data=samples.drawn(model))
    assert result.passed, str(result)
