"""Runs cases and keeps what they answer, also when the run is cut short."""

import datetime
import json
import os
import platform
from pathlib import Path

from benchmarks.cases import key, process_of
from benchmarks.peers.method import cores
from benchmarks.processes import Peers, python_of

SAME = ("least", "most", "budget", "contestants")  # of a case, what a record need not repeat


def processor():
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def about():
    """Where and when the run took place."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "cores": cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def replace(path, write):
    """Writes a file under another name and moves it into place: it is whole or it is not there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new{path.suffix}")
    write(temporary)
    os.replace(temporary, path)


class Results:
    """The records so far, and their file if they have one."""

    def __init__(self, file=None, resume=False):
        self.file, self.about, self.records = file, about(), []
        if resume and file is not None and file.exists():
            self.records = [r for r in load(file).records if "error" not in r]
        self.done = {record["key"] for record in self.records}

    def add(self, record):
        self.records.append(record)
        self.done.add(record["key"])
        self.save()

    def save(self):
        if self.file is None:
            return
        text = json.dumps({"about": self.about, "records": self.records}, indent=1)
        replace(self.file, lambda path: path.write_text(text + "\n"))


def load(file):
    """Results as a file has them."""
    results, content = Results(), json.loads(Path(file).read_text())
    results.about, results.records = content["about"], content["records"]
    return results


def with_floor(answer):
    """An answer whose copy and read stand apart from the contestants."""
    if "times" not in answer:
        return answer
    times = dict(answer["times"])
    copy, read = times.pop("copy", None), times.pop("read", None)
    apart = {"times": times, "copies": dict.fromkeys(times, copy)}
    return answer | apart | {"reads": dict.fromkeys(times, read)}


def joined(ours, theirs, library, layer):
    """One answer of two processes, the library's contestant under the library's name."""
    for answer in (ours, theirs):
        if "error" in answer:
            return answer
    parts = {
        name: {layer: ours[name][layer], library: theirs[name][layer]}
        for name in ("times", "copies", "reads", "repeats")
    }
    return parts | {"versions": ours["versions"] | theirs["versions"]}


def answer(case, peers):
    """What the processes say to a case."""
    name = process_of(case)
    ours = with_floor(peers.ask("keras", case, name))
    if case["part"] != "others":
        return ours
    library, layer = case["library"], case["layer"]
    theirs = with_floor(peers.ask(library, case, name))
    theirs["versions"] = {library: theirs.get("versions", {}).get(library)}
    return joined(ours, theirs, library, layer)


def missing(library):
    """Whether the environment of a library is not there."""
    return not python_of(library).exists()


def run(cases, results, shared=False, step=lambda case: None):
    """Answers all cases that the results do not have yet; calls `step` before each."""
    peers = Peers(shared)
    try:
        for case in cases:
            step(case)
            if key(case) in results.done:
                continue
            told = {name: value for name, value in case.items() if name not in SAME}
            results.add({"key": key(case), **told, **answer(case, peers)})
    finally:
        peers.close()
