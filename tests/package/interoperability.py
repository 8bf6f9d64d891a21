"""Files of the safetensors package and of fprnn, each read by the other.

interoperability.py TESTS        writes files with the package, lets `TESTS rewrite` read and write them again, and
                                 reads the result with the package. Exit code 77: skipped, with the reason.
interoperability.py --make DIR   writes the same files, which tests/test_safetensors.cpp reads.
"""
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import safetensors
    from safetensors.numpy import load_file, save_file
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)


def cases():
    """name -> (tensors, metadata)"""
    f32, f64, i32, i64 = np.float32, np.float64, np.int32, np.int64
    dtypes = {
        "f32": np.array([[1.5, -2.25, 0.1], [np.inf, -0.0, 3e38]], f32),
        "f64": np.array([0.1, -1e300, 5e-324], f64),
        "i64": np.array([-(2**31), 2**31 - 1, 7], i64),
        "i32": np.array([[-5], [2**31 - 1]], i32),
        "scalar.f32": np.array(2.5, f32),
        "scalar.i64": np.array(-9, i64),
        "empty.f32": np.zeros((0,), f32),
        "empty.f64": np.zeros((3, 0, 2), f64),
        "empty.i32": np.zeros((0, 4), i32),
    }
    names = {
        "größe.重み": np.array([1, 2], f32),
        "emoji 🙂": np.array([3], i32),
        'quote " backslash \\ newline \n tab \t': np.array([4], f32),
        "": np.array([5], f32),
        "\x01\x1f\x7f": np.array([6], i64),
    }
    metadata = {"größe": "重み 🙂", 'quote "': "line\nline", "": "", "format": "np"}
    layers = {f"layers.{i}.weight": np.arange(8 * (i + 1), dtype=f32).reshape(i + 1, 8) / 8 for i in range(12)}
    return {
        "dtypes": (dtypes, None),
        "names": (names, metadata),
        "nothing": ({}, None),
        "metadata": ({}, {"only": "metadata"}),
        "layers": (layers, None),
    }


def metadata_of(path):
    with safetensors.safe_open(path, "np") as file:
        return file.metadata() or {}


def same(expected, got):
    """Equal bits after conversion to what our build writes: F32 or F64, and I32."""
    narrow = got.dtype in (np.float32, np.float64) if expected.dtype.kind == "f" else got.dtype == np.int32
    with np.errstate(over="ignore", under="ignore"):
        converted = expected.astype(got.dtype)
    return narrow and got.shape == expected.shape and got.tobytes() == converted.tobytes()


def exchange(tests, folder):
    for name, (tensors, metadata) in cases().items():
        ours, theirs = folder / "ours", folder / "theirs"
        save_file(tensors, theirs, metadata)
        subprocess.run([tests, "rewrite", theirs, ours], check=True)
        got = load_file(ours)
        assert got.keys() == tensors.keys(), f"{name}: other tensors: {sorted(got)}"
        for tensor, expected in tensors.items():
            assert same(expected, got[tensor]), f"{name}: {tensor!r}: {expected} became {got[tensor]}"
        assert metadata_of(ours) == (metadata or {}), f"{name}: other metadata: {metadata_of(ours)}"
        print(f"{name}: {len(tensors)} tensors there and back")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--make":
        for name, (tensors, metadata) in cases().items():
            save_file(tensors, pathlib.Path(sys.argv[2]) / f"{name}.safetensors", metadata)
    elif len(sys.argv) == 2:
        with tempfile.TemporaryDirectory() as folder:
            exchange(sys.argv[1], pathlib.Path(folder))
    else:
        sys.exit(__doc__)
