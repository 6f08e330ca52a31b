"""A result file is read without reading anything else, or it is one line what is wrong with it."""

import hashlib
import os
import resource

import h5py
import numpy as np
import pytest
import xarray as xr

from gradflow.results import stored
from gradflow.results.checksums import fingerprint
from gradflow.results.stored import load, save

LINE = r"r\.nc is no result, or damaged \({}\): name a file that gf\.results\.save wrote$"


@pytest.fixture
def tree():
    root = xr.Dataset({"seed": [0, 1, 2]}, attrs={"key": "0", "steps": 3, "provenance": '{"a": 1}'})
    node = xr.Dataset(
        {
            "loss": (("step", "seed"), np.arange(6.0).reshape(2, 3), {"units": "nats"}),
            "seconds": ("step", [0.5, np.nan], {"units": "seconds"}),
            "since": ("step", [1, 2], {"units": "days since 2000-01-01"}),
            "kept": ("step", [True, False]),
            "z": ("step", [1j, 2.0]),
            "none": ("none", np.zeros(0)),
        },
        {"step": [0, 10], "kind": ("step", ["", "Attention ü"])},
        {"configuration": "{}"},
    )
    return xr.DataTree.from_dict({"/": root, "a/b": node, "t5/encoder": node})


@pytest.fixture
def path(tree, tmp_path):
    return save(tree, tmp_path / "r.nc")


def test_what_was_saved_is_what_is_read(tree, path):
    xr.testing.assert_identical(load(path), tree)
    xr.testing.assert_identical(load(str(path)), tree)
    assert [file.name for file in path.parent.iterdir()] == ["r.nc"]


def unsealed(path) -> bytes:
    """The file without its seal, as others would write it."""
    return path.read_bytes()[: -len(stored.SEAL) - 64]


def hostile(path):
    """`{what: (damage, line)}`: each damage gets the open file."""
    secret = path.with_name("secret")
    secret.write_bytes(b"\1" * 64)
    with h5py.File(path.with_name("other.h5"), "w") as file:
        file["x"] = np.ones(3)
    text = h5py.string_dtype()

    def external(file):
        file.create_dataset("x", (8,), "f8", external=[(str(secret), 0, 64)])

    def virtual(file):
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "x", (3,))
        file.create_virtual_dataset("x", layout)

    def twice(file):
        file["a/again"] = file["a"]

    def deep(file):
        file.create_group("/".join("d" * 60))

    def shared(file):
        file.create_dataset("x", (10**5,), text, fillvalue="x" * 1000)

    def attribute(file):
        file.attrs.create("x", [file["a"].ref], dtype=h5py.ref_dtype)

    return {
        "external storage": (external, "the values of /x are in other files"),
        "virtual dataset": (virtual, "the values of /x are in other files"),
        "external link": (lambda f: f.update(x=h5py.ExternalLink("other.h5", "/x")), "/x is a link to elsewhere"),
        "soft link": (lambda f: f.update(x=h5py.SoftLink("/a/b")), "/x is a link to elsewhere"),
        "soft link to itself": (lambda f: f.update(x=h5py.SoftLink("/x")), "/x is a link to elsewhere"),
        "soft link deep down": (lambda f: f["a/b"].update(y=h5py.SoftLink("/")), "/a/b/y is a link to elsewhere"),
        "circle of groups": (twice, "/a/again.* is there under another name"),
        "circle to the root": (lambda f: f.update(x=f["/"]), "is there under another name"),
        "deep": (deep, "groups are more than 30 deep"),
        "a terabyte of nothing": (lambda f: f.create_dataset("x", (10**12,), "f8"), "/x claims 8000000000000 bytes"),
        "the same in chunks": (
            lambda f: f.create_dataset("x", (10**12,), "f8", chunks=(1000,)),
            "/x claims 8000000000000 bytes",
        ),
        "beyond 64 bits": (lambda f: f.create_dataset("x", (2**62, 2**30), "f8", chunks=(1, 1)), "/x claims"),
        "many small ones": (
            lambda f: [f.create_dataset(f"x{i}", (10**6,), "f8", chunks=(1000,)) for i in range(20)],
            "it is .* bytes: more than the file",
        ),
        "a wide chunk": (
            lambda f: f.create_dataset("x", (1,), "f8", chunks=(10**8,), maxshape=(None,)),
            "/x claims 800000000 bytes",
        ),
        "texts of one": (shared, "the texts of /x are more than the file"),
        "many texts": (lambda f: f.create_dataset("x", (10**6,), text), "/x is more than 200000 texts"),
        "wide fixed texts": (lambda f: f.create_dataset("x", (10**6,), "S10000"), "/x claims"),
        "packed": (lambda f: f.create_dataset("x", data=np.zeros(10**6), compression="gzip"), "/x is packed"),
        "packed by lzf": (lambda f: f.create_dataset("x", data=np.zeros(10**6), compression="lzf"), "/x is packed"),
        "compound": (lambda f: f.create_dataset("x", (3,), "i4,f8"), "/x holds neither numbers nor text"),
        "opaque": (lambda f: f.create_dataset("x", (3,), "V8"), "/x holds neither numbers nor text"),
        "references": (lambda f: f.create_dataset("x", (3,), h5py.ref_dtype), "/x holds neither numbers nor text"),
        "regions": (lambda f: f.create_dataset("x", (3,), h5py.regionref_dtype), "/x holds neither numbers nor text"),
        "ragged": (lambda f: f.create_dataset("x", (3,), h5py.vlen_dtype("i4")), "/x holds neither numbers nor text"),
        "a type": (lambda f: f.update(x=np.dtype("i4,f8")), "/x holds neither numbers nor text"),
        "a reference as attribute": (attribute, "x of the root holds neither numbers nor text"),
    }


def test_a_file_that_refers_to_others_or_claims_more_than_it_holds_is_refused(tree, tmp_path, monkeypatch):
    read = []
    whole = unsealed(save(tree, tmp_path / "whole.nc"))
    path = tmp_path / "r.nc"
    opened = xr.open_datatree
    monkeypatch.setattr(
        xr, "open_datatree", lambda *given, **options: (read.append(what), opened(*given, **options))[1]
    )
    for what, (damage, line) in hostile(path).items():
        path.write_bytes(whole)
        with h5py.File(path, "a") as file:
            damage(file)
        with pytest.raises(OSError, match=LINE.format(f".*{line}.*")) as refused:
            load(path)
        assert len(str(refused.value).splitlines()) == 1, what
    assert read == []  # each is refused before a value is read


def test_the_texts_of_attributes_are_counted_as_they_are_in_memory(tree, path):
    """In the file such a text is a place, which many attributes can name."""
    tree.to_netcdf(path, engine="h5netcdf")
    with h5py.File(path, "a") as file:
        file.attrs["x"] = ["x" * 10**6] * 3
        group = file.create_group("many")
        for i in range(50):
            group.attrs[f"x{i}"] = "x" * 10**6
    with h5py.File(path, "r") as file, pytest.raises(ValueError, match=r"with /many it is 530\d+ bytes"):
        stored._check_contents(file, 2**25)
    assert len(load(path)["many"].attrs) == 50


def test_what_is_no_file_of_hdf5_is_one_line(path):
    whole = path.read_bytes()
    for text in (
        b"",
        b"text",
        b"CDF\1" + bytes(100),
        whole[:100],
        whole[: len(whole) // 2],
        whole[:-100],
        whole[8:-90],
    ):
        path.write_bytes(text)
        with pytest.raises(OSError, match=LINE.format(".*")) as refused:
            load(path)
        assert len(str(refused.value).splitlines()) == 1
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="r.nc is a FIFO: a regular file is expected"):
        load(path)
    for name, line in (("missing", "there is no file"), (".", "is a directory"), ("/dev/zero", "is a device")):
        with pytest.raises(OSError, match=line):
            load(path.parent / name)


def test_a_flipped_bit_is_one_line_wherever_it_is(path):
    """In a number it would be another one, and in a header the library may read in circles."""
    whole, chance = path.read_bytes(), np.random.default_rng(0)
    for place in [0, len(whole) - 1, *chance.integers(len(whole) - 72, size=20)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.integers(8)
        path.write_bytes(damaged)
        line = LINE.format("its bytes are not those that were written")
        with pytest.raises(OSError, match=line):
            load(path)


def changed():
    """`{what: (change, the line's beginning)}` of a file that is sealed again after the change."""

    def value(name, index, new):
        def change(file):
            file[name][index] = new

        return change

    return {
        "a number": (value("a/b/loss", (1, 2), 5.5), "loss of a/b is not what was written"),
        "a NaN": (value("a/b/seconds", 1, 0.0), "seconds of a/b is not what was written"),
        "a truth value": (value("a/b/kept", 0, 0), "kept of a/b is not what was written"),
        "a text": (value("a/b/kind", 1, "attention ü"), "kind of a/b is not what was written"),
        "a coordinate": (value("seed", 2, 3), "seed of . is not what was written"),
        "a unit": (lambda f: f["a/b/loss"].attrs.modify("units", "bits"), "loss of a/b is not what was written"),
        "a setting": (lambda f: f["a/b"].attrs.modify("configuration", "[]"), "an attribute of a/b, or what it holds"),
        "of the root": (lambda f: f.attrs.modify("steps", 4), "an attribute of ., or what it holds"),
        "one more": (lambda f: f["a/b"].attrs.create("more", 1), "an attribute of a/b, or what it holds"),
        "one less": (lambda f: f["a/b"].__delitem__("loss"), "an attribute of a/b, or what it holds"),
        "a node less": (lambda f: f["t5"].__delitem__("encoder"), "an attribute of t5, or what it holds"),
        "no checksum": (lambda f: f["a/b/loss"].attrs.__delitem__("sha256"), "loss of a/b is not what was written"),
    }


def test_a_change_that_is_sealed_again_is_one_line_that_names_the_variable(tree, path):
    whole = unsealed(path)
    for change, line in changed().values():
        path.write_bytes(whole)
        with h5py.File(path, "a") as file:
            change(file)
        damaged = path.read_bytes()
        path.write_bytes(damaged + stored._seal(hashlib.sha256(damaged)))
        with pytest.raises(OSError, match=LINE.format(f"{line}.*")):
            load(path)


def test_the_fingerprint_of_a_result_is_that_of_its_numbers_names_and_settings(tree, path):
    assert fingerprint(load(path)) == fingerprint(tree)
    other = tree.copy(deep=True)
    other["a/b"]["loss"][0, 0] = np.nextafter(0.0, 1.0)
    assert fingerprint(other) != fingerprint(tree)
    assert "sha256" not in tree.attrs


def test_a_file_that_others_wrote_is_read_without_a_seal(tree, path):
    path.write_bytes(unsealed(path))
    xr.testing.assert_identical(load(path), tree)
    tree.to_netcdf(path, engine="h5netcdf")
    xr.testing.assert_identical(load(path), tree)
    with h5py.File(path, "a") as file:
        file["bare"] = np.ones(3)
    assert load(path)["bare"].shape == (3,)


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(tree, tmp_path):
    """HDF5 itself never writes to the disk: it crashes where that is full."""
    files = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, files[1]))
    try:
        with pytest.raises(OSError, match=r"^can't write to .*r\.nc \(File too large\): free some space, or"):
            save(tree, tmp_path / "r.nc")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, files)
    assert list(tmp_path.iterdir()) == []
