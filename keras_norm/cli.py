"""The command `keras-norm`: one subcommand per verb. It parses and prints, and no more."""

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

_TELLING = (ImportError, OSError, RuntimeError, TypeError, ValueError)
"""Errors whose messages say what is wrong without their kind."""


class _Group(typer.core.TyperGroup):
    """Turns an error into one red line and exit code 2: 1 says that a file did not pass."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise  # These two are RuntimeErrors, by which commands end as they mean to.
        except Exception as error:
            if hasattr(error, "format_message"):
                raise  # Errors of usage, whose base is click's or typer's own by its version.
            # The rule comes first, and the cause last: between them stands a file's traceback.
            lines = str(error).splitlines()
            line = " ".join(lines[:1] + lines[1:][-1:])
            if not line or not isinstance(error, _TELLING):
                line = f"{type(error).__name__}: {line}"
            typer.secho(f"Error: {line}", fg=typer.colors.RED, err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    help="Normalization layers of Keras: what there is, and models with them as files.",
)


def _keras_file(out: Path) -> Path:
    """Refuses a file that Keras would not write, before there is work to lose."""
    if out.suffix != ".keras":
        raise ValueError(
            "`OUT.keras` must be a file that ends in `.keras`. "
            f"Received: {str(out)!r}. Choose such a name."
        )
    return out


Model = Annotated[Path, typer.Argument(metavar="MODEL.keras", help="A model that Keras saved.")]
Out = Annotated[
    Path,
    typer.Argument(metavar="OUT.keras", help="The file to write.", callback=_keras_file),
]


def main() -> None:
    """Runs the command line; the console script `keras-norm` calls it."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        from keras_norm import __version__

        typer.echo(f"keras_norm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command("list")
def list_layers() -> None:
    """Show every layer: what its statistics run over, its defaults, its paper."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.table import Table

    from keras_norm.catalog import catalog

    table = Table(box=SIMPLE, pad_edge=False)
    for heading in catalog.COLUMNS:
        # A name that is cut off cannot be looked up; everything else may wrap.
        table.add_column(heading, no_wrap=heading == "layer", overflow="fold")
    for *cells, paper in catalog.cells():
        table.add_row(*cells, Markdown(paper))
    Console().print(table)


@app.command()
def invariances(
    layers: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LAYER]...", help="Names of `keras-norm list`; all if none."),
    ] = None,
) -> None:
    """Measure which changes of weights and data leave a layer's output alone."""
    from keras_norm import report
    from keras_norm.catalog import catalog

    if not layers:
        typer.echo(report.invariance_table())
    for row in [catalog[name] for name in layers or []]:
        typer.echo(report.invariances(row.example(), row.input_shape))


@app.command()
def export_saved_model(
    model: Model,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
    version: Annotated[
        str | None,
        typer.Option(
            metavar="N|next",
            help="Write to OUT/N, as TensorFlow Serving expects, beside the versions that are "
            "there; `next` counts on.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Write to OUT/NAME/N; needs a version.")
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(metavar="N", help="Add N random requests that TensorFlow Serving runs first."),
    ] = None,
) -> None:
    """Write a model as a TensorFlow SavedModel folder for serving."""
    from keras_norm import export

    number: Any = int(version) if version and version.isdecimal() else version
    path = export.export_saved_model(_load(model), out, version=number, name=name, warmup=warmup)
    typer.echo(f"Wrote {path}")


@app.command()
def export_litert(
    model: Model,
    out: Annotated[Path, typer.Argument(metavar="OUT.tflite", help="The file to write.")],
    input_shape: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES",
            help="The input's shape with its batch size, such as 1,28,28,1; `none` leaves a size "
            "free. The model's own with a batch size of 1 if not given.",
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            metavar="MODE", help="float16, dynamic, int8 or int16x8; float32 if not given."
        ),
    ] = None,
    target: Annotated[
        str, typer.Option(metavar="TARGET", help="What will run the file: any, gpu or int8-only.")
    ] = "any",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Inputs to calibrate int8 and int16x8 on: a .npy file, or a .npz file with an "
            "array per input, by name.",
        ),
    ] = None,
) -> None:
    """Write a model as a LiteRT (.tflite) file for phones and microcontrollers."""
    from keras_norm import export

    written = export.export_litert(
        _load(model),
        out,
        quantize=quantize,
        representative_data=None if data is None else _arrays(data),
        input_shape=None if input_shape is None else _shape(input_shape),
        target=target,
    )
    typer.echo(f"Wrote {written}")


@app.command()
def accelerate(model: Model, out: Out) -> None:
    """Exchange Keras's own norms in a model for those of this package, which train faster."""
    from keras_norm.surgery.accelerate import accelerate

    _save(accelerate(_load(model, compiled=True), print_fn=typer.echo), out)


@app.command()
def replace(
    model: Model,
    out: Out,
    exchanges: Annotated[
        list[str],
        typer.Argument(
            metavar="OLD=NEW...",
            help="Names of classes: layers of class OLD, of Keras or this package, become NEW, of "
            "this package if it has one of that name, else of Keras.",
        ),
    ],
) -> None:
    """Exchange layers of a model for layers of other classes, with the weights that both have."""
    from keras_norm.surgery.replace import replace

    table: dict[Any, Any] = {}
    for text in exchanges:
        old, _, name = text.partition("=")
        new = _classes(name)[0]
        table |= {kind: new for kind in _classes(old) if kind is not new}
    _save(replace(_load(model, compiled=True), table, print_fn=typer.echo), out)


@app.command()
def fold(model: Model, out: Out) -> None:
    """Fold norms into the layers beside them, for inference, and say what did not fold and why."""
    from keras_norm.surgery.fold import fold

    _save(fold(_load(model, compiled=True), print_fn=typer.echo), out)


@app.command()
def recalibrate(
    model: Model,
    out: Out,
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA.npy|.npz",
            help="The inputs, an array; or in a .npz file one for each input, by its name.",
        ),
    ],
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a batch.")] = 32,
) -> None:
    """Put the true moments of a data set in place of each norm's moving averages."""
    from keras_norm.surgery.recalibrate import recalibrate

    arrays = _arrays(data)
    if isinstance(arrays, dict) and len(arrays) == 1:
        (arrays,) = arrays.values()  # whatever its name: there is nothing to confuse it with
    _save(recalibrate(_load(model, compiled=True), arrays, batch_size=batch_size), out)


@app.command()
def migrate(
    old: Annotated[
        Path,
        typer.Argument(metavar="OLD", help="A .h5 or .keras file or SavedModel folder of Keras 2."),
    ],
    out: Out,
) -> None:
    """Turn a model of Keras 2 and TensorFlow Addons or keras-contrib into one of Keras 3."""
    from keras_norm.surgery.foreign.load import load_foreign

    _save(load_foreign(old, print_fn=typer.echo), out)


@app.command()
def audit(
    file: Annotated[Path, typer.Argument(metavar="FILE.tflite", help="A LiteRT file.")],
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What every operation must do, any of builtin, rank, static, xnnpack, gpu, int8; "
            "may be repeated. The first four if not given.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a LiteRT file asks of its device (exit status 1: more than it may)."""
    import json

    from keras_norm import export

    result = export.audit(file, **({"require": require} if require else {}))
    typer.echo(json.dumps(result.as_dict(), indent=2) if as_json else result)
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def verify(
    model: Model,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A .keras, .h5, .tflite, .onnx or .xml file, or a SavedModel."
        ),
    ],
    bound: Annotated[
        float | None,
        typer.Option(
            help="The largest difference that passes, relative to the largest expected number. "
            "The format's own if not given."
        ),
    ] = None,
    sqnr: Annotated[
        float | None,
        typer.Option(help="The lowest SQNR in dB that passes, for quantized files."),
    ] = None,
) -> None:
    """Run a file in a process of its own and compare it with the model (exit status 1: differs)."""
    from keras_norm import export

    result = export.verify(model, file, bound=bound, sqnr=sqnr)
    typer.echo(result)
    if not result.passed:
        raise typer.Exit(1)


def _load(path: Path, compiled: bool = False) -> Any:
    import keras

    return keras.saving.load_model(path, compile=compiled)


def _arrays(path: Path) -> Any:
    """The array of a `.npy` file, or the arrays of a `.npz` file by name."""
    from zipfile import BadZipFile

    import numpy as np

    try:
        loaded = np.load(path)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (BadZipFile, EOFError, ValueError) as error:
        raise ValueError(
            "Data must be a .npy file, or a .npz file with an array per input. "
            f"Received: {str(path)!r}. Write it with `numpy.save` or `numpy.savez`."
        ) from error


def _save(model: Any, out: Path) -> None:
    """Writes a model as a file that is whole or not there."""
    from keras_norm.export.placing import placed

    with placed(out) as path:
        whole = path.with_name("new.keras")  # Keras insists on the suffix
        try:
            model.save(whole)
            whole.rename(path)
        finally:
            whole.unlink(missing_ok=True)
    typer.echo(f"Wrote {out}")


def _classes(name: str) -> list[Any]:
    """The layer classes of a name, ours before Keras's."""
    import keras

    from keras_norm.catalog import catalog

    found = [row.layer for row in catalog if row.name == name]
    theirs = getattr(keras.layers, name, None)
    found += [theirs] if isinstance(theirs, type) else []
    if not found:
        raise ValueError(
            "`OLD=NEW` must be two names of layer classes, of this package or of Keras. "
            f"Received: {name!r}. See `keras-norm list`."
        )
    return found


def _shape(text: str) -> tuple[int | None, ...]:
    """`1,28,none,1` as a tuple of sizes."""
    sizes = [size.strip().lower() for size in text.split(",")]
    if not all(size == "none" or size.isdecimal() for size in sizes):
        raise ValueError(
            "`--input-shape` must be sizes with commas between them, each a positive integer or "
            f"`none`. Received: {text!r}. Pass for example 1,28,28,1."
        )
    return tuple(None if size == "none" else int(size) for size in sizes)
