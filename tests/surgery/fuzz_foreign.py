"""Loads files with random damage: `python -m tests.surgery.fuzz_foreign ATTEMPTS FOLDER FILE...`.

Each must load or raise `ValueError`, within a minute and 1 GB, and run no code. It ends with an
error where one does not, and leaves that file in FOLDER.
"""

import base64
import copy
import faulthandler
import json
import marshal
import random
import resource
import shutil
import sys
import zipfile
from pathlib import Path

import h5py

import keras_norm
from keras_norm.surgery.foreign.objects import is_object

# Not "compile", which Keras's signatures do anew for each call.
RUNS_CODE = "ctypes.dlopen", "exec", "import", "marshal.loads", "os.exec", "os.posix_spawn"
RUNS_CODE += "os.system", "pickle.find_class", "socket.connect", "subprocess.Popen"
CODE = [base64.b64encode(marshal.dumps(compile("1", "", "eval"))).decode(), None, None]
OWN = {"class_name": "Lambda", "config": {"name": "own", "function": CODE}}
# "this" is a module that nothing else imports.
FOREIGN = {"module": "this", "class_name": "s", "config": {}, "registered_name": "this>s"}
JUNK = None, True, -1, 0, 3, 0.5, "", "Dense", "x/y", [], [None], {}, {"class_name": "Dense"}
JUNK += OWN, FOREIGN, "this"
MAX_KILOBYTES = 10**6


def cut(data, rng):
    """The beginning of a file."""
    return data[: rng.randrange(len(data))]


def overwritten(data, rng):
    """A file with other bytes in places."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 8, 64))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def misdescribed(path, rng):
    """Puts something else into one place of a file's configuration."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            file.attrs["model_config"] = json.dumps(_changed(config, rng))
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**members, "config.json": json.dumps(_changed(config, rng))}.items():
            archive.writestr(name, data)


def _changed(config, rng):
    places = list(_places(config))
    objects = [part[key] for part, key in places if is_object(part[key])]
    if objects and rng.random() < 0.3:
        rng.choice(objects).update(rng.choice((OWN, FOREIGN)))
        return config
    holder, key = rng.choice(places)
    other, name = rng.choice(places)
    value = copy.deepcopy(other[name]) if rng.random() < 0.3 else rng.choice(JUNK)
    if isinstance(holder, dict) and rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = value
    return config


def _places(part):
    keys = part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
    for key in keys:
        yield part, key
        yield from _places(part[key])


def attempt(source, target, rng):
    """Loads a damaged copy of a file."""
    kind = rng.choice((cut, overwritten, overwritten, misdescribed, misdescribed))
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
        part = rng.choice(sorted(path for path in target.rglob("*") if path.is_file()))
        part.write_bytes(rng.choice((cut, overwritten))(part.read_bytes(), rng))
    elif kind is misdescribed:
        shutil.copy(source, target)
        misdescribed(target, rng)
    else:
        target.write_bytes(kind(source.read_bytes(), rng))
    faulthandler.dump_traceback_later(60, exit=True)
    try:
        keras_norm.load_foreign(target, verbose=False)
    except ValueError:
        pass
    finally:
        faulthandler.cancel_dump_traceback_later()


def main(attempts, folder, *files):
    ran = []

    def listen(event, arguments):
        if event in RUNS_CODE:
            ran.append((event, arguments))

    for file in files:  # so that what loads at the first call is loaded
        keras_norm.load_foreign(file, verbose=False)
    sys.addaudithook(listen)
    for number in range(int(attempts)):
        source = Path(files[number % len(files)])
        target = Path(folder) / source.name
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        attempt(source, target, random.Random(number))
        assert not ran, (number, ran)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < MAX_KILOBYTES, (number, grown)


if __name__ == "__main__":
    main(*sys.argv[1:])
