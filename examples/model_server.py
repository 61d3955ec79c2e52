"""A model server in small, which knows neither Keras nor keras_norm: it answers with the newest
version in a folder, takes up newer ones while it runs, and speaks the REST protocol of TensorFlow
Serving. `07_serve_saved_model.py` starts it."""

import argparse
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def load(path):
    # TensorFlow imports Keras where it finds it; a SavedModel must do without.
    sys.modules.update(dict.fromkeys(["keras", "keras_norm"]))
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]
    ((name, spec),) = serve.structured_input_signature[1].items()

    def predict(instances, owner=loaded):  # The signature alone does not keep its weights.
        (output,) = serve(**{name: tf.constant(instances, spec.dtype)}).values()
        return output.numpy().tolist()

    return predict


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        # Whatever comes up meanwhile, this request ends with the version that it began with.
        version, predict = self.server.newest
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # TensorFlow Serving leaves out the version.
        answer = {"version": version, "predictions": predict(question["instances"])}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path)
folder = parser.parse_args().folder
server = ThreadingHTTPServer(("localhost", 0), Handler)
server.newest = 0, None
while True:
    # What is still being written lies in a hidden folder, whose name is no number.
    version = max(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    if version > server.newest[0]:
        first = not server.newest[0]
        server.newest = version, load(folder / str(version))
        if first:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://localhost:{server.server_port} serves version {version}", flush=True)
    time.sleep(0.05)
