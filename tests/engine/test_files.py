"""Files are whole under their final name, or not there."""

from __future__ import annotations

import pytest

from bcseg_edge.errors import DataError
from bcseg_edge.files import atomic_path, write_bytes_atomic, write_text_atomic


def test_bytes_and_text_are_written(tmp_path):
    write_bytes_atomic(tmp_path / "a.bin", b"\x00\xff")
    write_text_atomic(tmp_path / "a.txt", "5 µm\n")
    assert (tmp_path / "a.bin").read_bytes() == b"\x00\xff"
    assert (tmp_path / "a.txt").read_bytes() == "5 µm\n".encode()


def test_folders_are_made_and_old_files_replaced(tmp_path):
    path = tmp_path / "deep" / "er" / "a.txt"
    write_text_atomic(path, "old")
    write_text_atomic(path, "new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_the_temporary_keeps_the_suffix_and_the_folder(tmp_path):
    with atomic_path(tmp_path / "clip.mp4") as temporary:
        assert temporary.suffix == ".mp4"
        assert temporary.parent == tmp_path
        assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_what_was_there(tmp_path, interruption):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise interruption

    with pytest.raises(interruption):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write") as caught:
        write_text_atomic(tmp_path / "file" / "a.txt", "x")
    assert "folder" in caught.value.hint


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="it is a folder"):
        write_text_atomic(tmp_path, "x")
    assert list(tmp_path.iterdir()) == []
