"""Verbs that take a model to a file that runs without this package, and check the file."""

from keras_norm.export.audit import Audit, audit
from keras_norm.export.litert import export_litert
from keras_norm.export.saved_model import export_saved_model
from keras_norm.export.verify import Verification, verify

__all__ = ["Audit", "Verification", "audit", "export_litert", "export_saved_model", "verify"]
