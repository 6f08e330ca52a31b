"""A bundle that was changed in one place is found out, at level 0, or at level 1 where its manifest was changed too."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import h5py
import made
import numpy as np
import pytest

import gradflow as gf
from gradflow.report.bundle import opened
from gradflow.report.bundle.files import files_of
from gradflow.report.verification import levels, listing, rebuilt
from gradflow.report.verification.texts import difference
from gradflow.results import stored, tolerance
from gradflow.results.files import write_json
from gradflow.results.folder import MANIFEST, digests, signed
from gradflow.results.provenance import provenance
from gradflow.results.repeated import Repeated


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A bundle that nobody touches."""
    run = made.tree(steps=(0, 3), provenance=provenance())
    sweep = made.sweep(depths=(1, 2, 4), provenance=provenance())
    return gf.report.write(run, tmp_path_factory.mktemp("original") / "out", sweep=sweep)


@pytest.fixture(scope="module")
def contents(original):
    """Its results, read once."""
    return opened(original)


@pytest.fixture(scope="module")
def texts(contents):
    """What follows from them, made once."""
    return files_of(contents)


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy")


def found(folder, original, contents, texts) -> list:
    """What levels 0 and 1 find; results that are as they were are not read again, and the texts not made again."""
    wrong = list(listing.findings(folder))
    results = folder / "results.nc"
    if not results.exists() or results.read_bytes() != (original / "results.nc").read_bytes():
        try:
            opened(folder)
        except (OSError, ValueError) as error:
            return [*wrong, error]
    return [*wrong, *rebuilt.findings(folder, contents, exact=True, made=texts)]


def sign(folder: Path) -> None:
    """Lists the files in the manifest as they are now, as one would who changes them on purpose."""
    entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    sums = {name: digest for name, digest in digests(folder).items() if name != MANIFEST}
    write_json(folder / MANIFEST, signed({**entries, "outputs": sums}))


# ---- changes in one place -----------------------------------------------------------------------------------


def flip(path: Path, chance) -> None:
    """Flips one bit."""
    content = bytearray(path.read_bytes())
    content[chance.integers(len(content))] ^= 1 << chance.integers(8)
    path.write_bytes(content)


def digit(path: Path, chance) -> None:
    """Changes one digit of a text; of any other file a bit."""
    content = path.read_bytes()
    places = [i for i, byte in enumerate(content) if chr(byte).isdigit()]
    if path.suffix in (".pdf", ".png", ".nc") or not places:
        flip(path, chance)
        return
    place = int(chance.choice(places))
    other = str((int(chr(content[place])) + int(chance.integers(1, 10))) % 10)
    path.write_bytes(content[:place] + other.encode() + content[place + 1 :])


def cut(path: Path, chance) -> None:
    """Cuts some bytes off."""
    content = path.read_bytes()
    path.write_bytes(content[: -int(chance.integers(1, len(content)))])


def remove(path: Path, chance) -> None:
    path.unlink()


def swap(path: Path, chance) -> None:
    """Swaps two files of one kind that are not the same; of the only one of its kind a digit."""
    others = [one for one in path.parent.glob(f"*{path.suffix}") if one.read_bytes() != path.read_bytes()]
    if not others:
        digit(path, chance)
        return
    other = others[chance.integers(len(others))]
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def add(path: Path, chance) -> None:
    path.with_name(f"{path.stem}-{chance.integers(1000)}{path.suffix}").write_bytes(path.read_bytes())


CHANGES = (flip, digit, cut, remove, swap, add)


def test_two_hundred_changes_in_one_place_are_all_found(original, folder, contents, texts):
    chance = np.random.default_rng(0)
    names = sorted(path.relative_to(original).as_posix() for path in original.rglob("*") if path.is_file())
    missed = []
    for i in range(200):
        change, name = CHANGES[i % len(CHANGES)], names[i % len(names)]
        change(folder / name, chance)
        if not list(listing.findings(folder)):
            missed.append((change.__name__, name))
        restore(original, folder)
    assert missed == []
    assert found(folder, original, contents, texts) == []


def test_changes_that_are_signed_again_are_found_by_what_follows_from_the_numbers(original, folder, contents, texts):
    """Of a picture's own bits the hash in the manifest alone knows; that it is the picture of other numbers is found."""
    chance = np.random.default_rng(1)
    names = sorted(path.relative_to(original).as_posix() for path in original.rglob("*") if path.is_file())
    pictures = [name for name in names if name.endswith((".pdf", ".png"))]
    missed = []
    for i, name in enumerate(names * 3):
        if name in pictures:
            change = (remove, swap, add)[i % 3]
        else:
            change = CHANGES[i % len(CHANGES)]
        change(folder / name, chance)
        if (folder / MANIFEST).exists() and name != MANIFEST:
            sign(folder)
        if not found(folder, original, contents, texts):
            missed.append((change.__name__, name))
        restore(original, folder)
    assert missed == []


def restore(original: Path, folder: Path) -> None:
    """Puts the copy back as the original is."""
    kept = {path.relative_to(original) for path in original.rglob("*") if path.is_file()}
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder) not in kept:
            path.unlink()
    for name in kept:
        content = (original / name).read_bytes()
        if not (folder / name).exists() or (folder / name).read_bytes() != content:
            (folder / name).write_bytes(content)


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.long)])
def test_a_bundle_that_was_moved_is_in_order(times, original, contents, texts, tmp_path):
    for i in range(times):
        moved = shutil.copytree(original, tmp_path / f"some where {i}")
        assert found(moved, original, contents, texts) == []
        shutil.rmtree(moved)
    verified = gf.report.verify(shutil.copytree(original, tmp_path / "again"))
    assert verified.in_order
    assert [level.number for level in verified.levels] == [0, 1]
    assert str(verified).count("in order (") == 2


# ---- changes on purpose --------------------------------------------------------------------------------------


def rewritten(name: str, change):
    """Changes a text file."""

    def tampered(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return tampered


def renamed(folder):
    (folder / "tables" / "laws.csv").rename(folder / "tables" / "law.csv")


def in_other_letters(folder):
    (folder / "README.md").rename(folder / "readme.md")


def padded_swap(folder):
    """Swaps two figures, and makes them as long as each was."""
    one, other = (folder / "figures" / f"heatmap_{name}.pdf" for name in ("pre", "post"))
    mine, theirs = one.read_bytes(), other.read_bytes()
    one.write_bytes(theirs.ljust(len(mine), b"\n"))
    other.write_bytes(mine.ljust(len(theirs), b"\n"))


def linked(folder):
    path = folder / "tables" / "laws.csv"
    path.rename(folder.parent / "laws.csv")
    path.symlink_to(folder.parent / "laws.csv")


def piped(folder):
    (folder / "checklist.md").unlink()
    os.mkfifo(folder / "checklist.md")


def emptied(folder):
    (folder / "tables" / "more").mkdir()


def halved(folder):
    path = folder / "figures" / "heatmap_pre.pdf"
    path.write_bytes(path.read_bytes()[:-200])


def attribute(place: str, name: str, value: str):
    """Changes an attribute in the results, and seals them anew."""

    def tampered(folder):
        path = folder / "results.nc"
        path.write_bytes(path.read_bytes()[: -len(stored.SEAL) - 64])
        with h5py.File(path, "a") as file:
            assert name in file[place].attrs
            file[place].attrs[name] = value
        content = path.read_bytes()
        path.write_bytes(content + stored._seal(hashlib.sha256(content)))

    return tampered


def manifested(change):
    """Changes the entries of the manifest."""

    def tampered(folder):
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        change(entries)
        write_json(folder / MANIFEST, signed(entries))

    return tampered


def seeds(entries) -> None:
    entries["configuration"]["seeds"] = 30


def more(entries) -> None:
    entries["note"] = "x"


def licence(entries) -> None:
    entries["licences"]["text"] = "CC0"


LOSS = "training/post/loss"
CONFIGURATION = '{"type": "Transformer"}'
TEXTS = {
    "line ends": ("tables/laws.csv", lambda text: text.replace(b"\n", b"\r\n")),
    "a blank at the end of a line": ("body.tex", lambda text: text.replace(b"\n", b" \n", 1)),
    "a mark in front": ("README.md", lambda text: b"\xef\xbb\xbf" + text),
    "no line end at the end": ("numbers.tex", bytes.rstrip),
    "a row twice": ("tables/results.csv", lambda text: text + text.splitlines(True)[-1]),
    "an entry twice": ("gradflow.bib", lambda text: text + text[: text.index(b"\n}") + 3]),
    "a version in the lock": ("environment.lock", lambda text: text.replace(b"jax==", b"jax==9")),
    "title of a picture": ("figures/heatmap_pre.pdf", lambda text: text.replace(b"/Creator", b"/Creatos")),
    "an entry of the manifest twice": (MANIFEST, lambda text: text.replace(b"{", b'{\n  "finished": "x",', 1)),
}
PLACES = {
    "another name": ("tables/laws.csv", renamed),
    "a name in other letters": ("README.md", in_other_letters),
    "two figures, as long as before": ("figures/heatmap_pre.pdf", padded_swap),
    "a link to the same bytes": ("tables/laws.csv", linked),
    "a pipe in the place of a file": ("checklist.md", piped),
    "an empty folder": ("tables/more/", emptied),
    "a picture cut at its end": ("figures/heatmap_pre.pdf", halved),
    "units of a variable": ("results.nc", attribute(LOSS, "units", "bit")),
    "formula of a variable": ("results.nc", attribute(LOSS, "formula", "E = mc²")),
    "configuration of a model": ("results.nc", attribute("training/post", "configuration", CONFIGURATION)),
    "checksum of a variable": ("results.nc", attribute(LOSS, "sha256", "ab" * 32)),
    "seeds in the manifest": (MANIFEST, manifested(seeds)),
    "a further entry of the manifest": (MANIFEST, manifested(more)),
    "a licence in the manifest": (MANIFEST, manifested(licence)),
}
TAMPERING = PLACES | {what: (name, rewritten(name, change)) for what, (name, change) in TEXTS.items()}
HASH_ALONE = ("title of a picture", "an entry of the manifest twice")  # what only the manifest as it was gives away


FEW = (
    "another name",
    "a link to the same bytes",
    "units of a variable",
    "seeds in the manifest",
    "line ends",
    "a row twice",
)


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=() if what in FEW else pytest.mark.further) for what in TAMPERING]
)
def test_what_is_changed_on_purpose_is_found_and_the_file_is_named(what, original, folder, contents, texts):
    """Bits of a picture, its title too, are known by the manifest's hash alone, and an entry that is there twice is gone once
    the manifest is written anew. Permissions and times are no part of a bundle; whoever makes all of it anew from other results,
    sums and all, is found by computing them again, at level 2.
    """
    name, tampered = TAMPERING[what]
    tampered(folder)
    named = [str(finding) for finding in found(folder, original, contents, texts)]
    assert any(line.startswith(f"{name}: ") or f"/{name} " in line for line in named), named
    if what not in HASH_ALONE:
        if name != MANIFEST:
            sign(folder)
        assert found(folder, original, contents, texts)


# ---- what it says -------------------------------------------------------------------------------------------


def test_a_finding_names_the_file_and_the_number_as_it_stands_and_as_it_should(folder):
    path = folder / "tables" / "total_depth.csv"
    rows = path.read_text().splitlines()
    cells = rows[1].split(",")
    rows[1] = ",".join([*cells[:2], "9.25", *cells[3:]])
    path.write_text("\n".join(rows) + "\n")
    sign(folder)
    verified = gf.report.verify(folder)
    assert [len(level.findings) for level in verified.levels] == [0, 1]
    expected = f"tables/total_depth.csv: line 2: it is 9.25, and should be {cells[2]}"
    assert str(verified.findings[0]) == expected
    assert expected in str(verified)


def test_a_number_changed_in_the_results_is_named_by_its_variable(folder):
    path = folder / "results.nc"
    path.write_bytes(path.read_bytes()[: -len(stored.SEAL) - 64])
    with h5py.File(path, "a") as file:
        file["training/post/loss"][0, 1] *= 2
    content = path.read_bytes()
    path.write_bytes(content + stored._seal(hashlib.sha256(content)))
    sign(folder)
    verified = gf.report.verify(folder, level=1)
    (finding,) = verified.findings
    assert "results.nc: " in str(finding)
    assert "loss of training/post is not what was written" in str(finding)


@pytest.mark.further
def test_levels_go_on_after_a_finding_unless_it_is_to_stop(folder):
    (folder / "README.md").write_text("other")
    reported = []
    both = gf.report.verify(folder, report=reported.append)
    assert [bool(level.findings) for level in both.levels] == [True, True]
    assert reported == both.levels
    assert len(gf.report.verify(folder, stop=True).levels) == 1


def test_what_is_beside_a_bundle_is_no_part_of_it(folder):
    (folder / "checkpoints" / "pre").mkdir(parents=True)
    (folder / "checkpoints" / "pre" / "x").touch()
    (folder / ".gradflow.lock").touch()
    (folder / "appendix.aux").touch()
    assert gf.report.verify(folder, level=0).in_order
    (folder / "notes").mkdir()
    assert [finding.file for finding in gf.report.verify(folder, level=0).findings] == ["notes/"]


def test_a_text_that_is_given_has_to_be_the_one_that_was_read(original, tmp_path):
    (tmp_path / "text").write_text("another")
    (finding,) = gf.report.verify(original, level=0, text=tmp_path / "text").findings
    assert finding.should == made.TEXT["sha256"]
    (finding,) = gf.report.verify(original, level=0, weights=tmp_path).findings
    assert "no SHA-256 of the weights was recorded" in str(finding)


def test_what_is_no_bundle_is_one_line(tmp_path, original):
    with pytest.raises(FileNotFoundError, match="there is no folder .*: name a bundle"):
        gf.report.verify(tmp_path / "no")
    assert [str(finding) for finding in gf.report.verify(tmp_path).findings][:1] == [
        "manifest.json: it is missing, or of no finished run"
    ]
    with pytest.raises(ValueError, match="level is 4: at most 3 is possible"):
        gf.report.verify(original, level=4)
    with pytest.raises(ValueError, match=r"level 2 computes again: give recompute=gf\.recompute"):
        gf.report.verify(original, level=2)


# ---- computed again -----------------------------------------------------------------------------------------


def computed(change):
    """A recomputation whose numbers of `post` are changed."""

    def recompute(trees, record, folder, files, *, part_only):
        again = trees["training"]["post"].to_dataset().copy(deep=True)
        if part_only:
            again = again.isel(step=[0])
        change(again)
        yield Repeated("training/post", trees["training"]["post"], again, whole=not part_only)

    return recompute


def nothing(node) -> None:
    pass


def last_bit(node) -> None:
    node["loss"][0, 1] = np.nextafter(node["loss"].values[0, 1], 9)


def a_tenth(node) -> None:
    node["stream_gradient"][-1, 1, 2] *= 1.1


@pytest.mark.parametrize(("change", "level", "here", "elsewhere"), [
    (nothing, 2, None, None),
    (last_bit, 2, "loss of training/post at seed 1, step 0 (allowed: the same bits)", None),
    (a_tenth, 2, "at seed 1, depth 2, step 0", "at seed 1, depth 2, step 0 (allowed: 0.001 of the number"),
    (a_tenth, 3, "at seed 1, depth 2, step 3 (allowed: the same bits)", None),
])  # fmt: skip
def test_numbers_computed_again_have_the_same_bits_here_and_are_near_elsewhere(
    change, level, here, elsewhere, original, contents, monkeypatch
):
    checked = levels._checked(level, original, contents, {}, computed(change))
    assert [here in str(finding) for finding in checked.findings] == ([] if here is None else [True])
    assert (checked.missed, checked.notes) == ([], [])
    monkeypatch.setattr(levels, "provenance", dict)
    checked = levels._checked(level, original, contents, {}, computed(change))
    assert "another environment" in checked.notes[0]
    assert [elsewhere in str(finding) for finding in checked.findings] == ([] if elsewhere is None else [True])


def without_loss(node) -> None:
    del node["loss"]


def test_what_was_not_computed_again_is_said_and_is_no_finding(original):
    done = gf.report.verify(original, level=3, recompute=computed(without_loss))
    assert done.in_order
    assert done.missed == ["training/post: loss, which none of its readings yields"]
    assert "level 3, everything, computed again: in order, 1 not computed again (" in str(done)
    assert "\n  not computed again: training/post: loss, which" in str(done)


@pytest.mark.further
def test_a_level_that_computes_again_says_how_long_it_took(original):
    done = gf.report.verify(original, level=2, recompute=computed(a_tenth))
    assert [bool(level.findings) for level in done.levels] == [False, False, True]
    assert "level 2, the first steps, computed again: 1 not in order (" in str(done)


def test_late_numbers_are_compared_by_their_intervals():
    run = made.tree(("pre",), seeds=4, steps=(0, 100))["pre"]
    stands = run["stream_gradient"]
    again = stands.copy(deep=True)
    again[1] = again[1].roll(seed=1, roll_coords=False)  # other seeds' numbers: far one by one, and the same interval
    assert tolerance.apart(stands, again, exact=False) is None
    assert tolerance.apart(stands, again, exact=True).place == "seed 0, depth 0, step 100"
    again[1] *= 3
    apart = tolerance.apart(stands, again, exact=False)
    assert "intervals over seeds that meet" in apart.allowed
    assert apart.again == pytest.approx(3 * apart.stands)


@pytest.mark.parametrize(("stands", "should", "near"), [
    ("a 0.1234567890123", "a 0.1234567890124", True),
    ("a 0.12345678", "a 0.12349678", False),
    ("slope 0.52 [0.48, 0.57]", "slope 0.53 [0.48, 0.57]", True),
    ("slope 0.52", "slope 0.55", False),
    ("at 3", "at 4", False),
    ("pre", "post", False),
    ("1.0\n2.0", "1.0", False),
])  # fmt: skip
def test_texts_of_another_environment_are_the_same_but_for_rounding(stands, should, near):
    assert (difference("x", stands, should, exact=False) is None) == near
    assert difference("x", stands, should, exact=True) is not None


@pytest.mark.parametrize("taken", ["abc", {"wall_seconds": "x"}, {"cpu_seconds": 1.0}, 5, None])
def test_a_recorded_time_that_is_no_number_is_none(taken, contents):
    """The bar of level 3 begins with it; anybody may have written it."""
    run = contents.run.copy()
    run.attrs = {**run.attrs, "provenance": json.dumps({"resources": taken})}
    assert levels._recorded_seconds(contents._replace(trees={"training": run})) == 0.0
