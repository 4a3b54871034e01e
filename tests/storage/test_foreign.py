from __future__ import annotations

import os
from pathlib import Path

import pytest

from pacsd.storage import foreign
from pacsd.storage.foreign import Candidate, OpenedFile, candidates, referenced_files
from pacsd.workflow.importing import Unfit, UnfitFile
from tests.storage.conftest import dataset, element, file_meta


def encode(sop_class: str, sop_instance: str, syntax: str, source_ae: str) -> bytes:
    return f"{sop_class}|{sop_instance}|{syntax}|{source_ae}".encode("latin-1")


def opened(path: Path, content: bytes) -> OpenedFile:
    path.write_bytes(content)
    return OpenedFile(str(path), encode)


def file_id(*components: str) -> bytes:
    text = "\\".join(components).encode()
    return element(0x00041500, "CS", text + b" " * (len(text) % 2))


def test_the_data_set_comes_in_pieces_without_the_file_s_own_meta(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "PIECE_BYTES", 100)
    one = opened(tmp_path / "a", file_meta() + dataset(n_pixel_bytes=250))
    pieces = list(one.pieces())
    assert b"".join(pieces) == dataset(n_pixel_bytes=250)
    assert max(map(len, pieces)) == 100
    one.close()
    one.close()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", Unfit.NOT_DICOM),
        (b"%PDF-1.7 and so on, for a while", Unfit.NOT_DICOM),
        (file_meta("")[:132] + element(0x00080016, "UI", b"1.2\0"), Unfit.NO_SOP_INSTANCE_UID),
        (element(0x00080018, "UI", b"1.2\0") + element(0x00080060, "CS", b"CT"), Unfit.NO_SOP_CLASS_UID),
        (element(0x00080016, "UI", b"1.2.840.10008.1.3.10") + file_id("A"), Unfit.DICOMDIR),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(tmp_path: Path, content: bytes, why: Unfit) -> None:
    with pytest.raises(UnfitFile) as raised:
        opened(tmp_path / "a", content)
    assert raised.value.why is why


def test_what_is_no_regular_file_or_is_gone_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("pipe", Unfit.NOT_DICOM), ("gone", Unfit.UNREADABLE)):
        with pytest.raises(UnfitFile) as raised:
            OpenedFile(str(tmp_path / name), encode)
        assert raised.value.why is why


def test_a_uid_that_no_file_meta_can_hold_is_told(tmp_path: Path) -> None:
    content = element(0x00080016, "UI", b"1.2\0") + element(0x00080018, "UI", b"1.2.\xff\xff")
    one = opened(tmp_path / "a", content)
    with pytest.raises(UnfitFile) as raised:
        one.file_meta()
    assert raised.value.why is Unfit.NO_SOP_INSTANCE_UID
    one.close()


def test_a_tree_is_walked_in_order_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a/3", "4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "b" / "9").symlink_to(tmp_path / "4")
    found = list(candidates([str(tmp_path)]))
    assert [os.path.relpath(one.path, tmp_path) for one in found] == ["4", "a/3", "b/1", "b/2", "b/9"]
    assert {one.size_bytes for one in found} == {5}


@pytest.mark.parametrize("names", [("IMAGES", "IM1"), ("images", "im1"), ("Images", "IM1.;1"), ("IMAGES", "IM1;1")])
def test_what_a_dicomdir_lists_is_found_however_the_medium_is_mounted(tmp_path: Path, names: tuple[str, str]) -> None:
    (tmp_path / names[0]).mkdir()
    (tmp_path / names[0] / names[1]).touch()
    (tmp_path / "DICOMDIR").write_bytes(file_id("IMAGES", "IM1") + file_id("IMAGES", "IM2"))
    absent = [one for one in candidates([str(tmp_path)]) if one.is_absent]
    assert absent == [Candidate(str(tmp_path / "IMAGES" / "IM2"), 0, is_absent=True)]


@pytest.mark.parametrize("components", [("..", "ETC", "PASSWD"), ("A", "..", "B"), ("/ETC", "PASSWD"), ("", "A")])
def test_a_dicomdir_cannot_point_out_of_its_medium(tmp_path: Path, components: tuple[str, ...]) -> None:
    (tmp_path / "DICOMDIR").write_bytes(file_id(*components) + file_id("GOOD"))
    assert list(referenced_files(str(tmp_path / "DICOMDIR"))) == [("GOOD",)]


@pytest.mark.parametrize("step", [64, 71, 300])
def test_file_ids_are_found_across_the_pieces_in_which_a_dicomdir_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(foreign, "PIECE_BYTES", step)
    wanted = [(f"DIR{number}", "SUB", f"IM{number}") for number in range(200)]
    (tmp_path / "DICOMDIR").write_bytes(b"".join(file_id(*one) + b"x" * (len(one[0]) % 7) for one in wanted))
    assert list(referenced_files(str(tmp_path / "DICOMDIR"))) == wanted


@pytest.mark.parametrize(
    "start", [b"\x04\x00\x00\x15CS\x04\x00", b"\x04\x00\x00\x15\x04\x00\x00\x00", b"\x00\x04\x15\x00CS\x00\x04"]
)
def test_file_ids_are_found_in_every_encoding(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "DICOMDIR").write_bytes(b"abc" + start + b"A\\B " + b"more")
    assert list(referenced_files(str(tmp_path / "DICOMDIR"))) == [("A", "B")]


def test_random_bytes_with_the_name_dicomdir_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(os.urandom(100_000) + b"\x04\x00\x00\x15CS\xff\x7f" * 1000)
    assert [one.path for one in candidates([str(tmp_path)]) if not one.is_absent] == [str(tmp_path / "DICOMDIR")]
