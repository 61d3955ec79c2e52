"""Norms for GPUs compute the same on a CPU, and leave no operation to slow kernels there."""

from keras_norm import audit, export_litert, verify
from tests.conformance.test_export import EVERYWHERE, UNWANTED, convolutions_between_norms


def test_between_convolutions(norm, tmp_path):
    model = convolutions_between_norms(norm)
    path = export_litert(model, tmp_path / "model.tflite", target="gpu")
    found = audit(path, require=EVERYWHERE)
    assert found.passed and found.partitions == 1, str(found)
    assert not UNWANTED & set(found.histogram)
    result = verify(model, path)
    assert result.passed, str(result)
