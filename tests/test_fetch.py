"""Fetching: official bytes or an error, resumed where it broke off, from a real HTTP server on this machine or from a mirror."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import re
import shutil
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field

import pytest

from timetrial.data_pipelines import fetch as fetching
from timetrial.data_pipelines.fetch import Archive, RemoteFile, check_file, download, fetch, mirror_folder
from timetrial.suite.errors import ChecksumMismatch, DataError, DataMissing

CONTENT = bytes(range(256)) * 20_000  # 5 MB
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@dataclass
class Server:
    """Serves ``content``; ``breaks`` holds after how many bytes the next connections drop, ``statuses`` their answers."""

    content: bytes = CONTENT
    understands_range: bool = True
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    says_length: bool = True
    url: str = ""


@pytest.fixture
def server():
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            state.ranges.append(wanted)
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and state.understands_range else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            if state.says_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body[: state.breaks.pop(0)] if state.breaks else body)

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_port}/file.bin"
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def get(server, path, *, pauses=None, **changes):
    about = {"digest": SHA256, "size_bytes": len(CONTENT)} | changes
    download(server.url, path, pause=(pauses if pauses is not None else []).append, **about)


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_download_is_verified_and_alone_in_its_folder(server, tmp_path):
    seen = []
    get(server, tmp_path / "file.bin", on_progress=lambda *step: seen.append(step))
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert files_in(tmp_path) == ["file.bin"]
    assert seen[0] == ("download file.bin", 0, len(CONTENT))
    assert seen[-1] == ("download file.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_a_verified_file_is_not_downloaded_again(server, tmp_path):
    get(server, tmp_path / "file.bin")
    get(server, tmp_path / "file.bin")
    assert len(server.ranges) == 1


def test_a_file_damaged_since_is_downloaded_again(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(CONTENT[:-1] + b"x")
    get(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_dropped_connection_is_resumed_where_it_broke_off(server, tmp_path):
    server.breaks = [1_000_000, 2_000_000]
    pauses = []
    get(server, tmp_path / "file.bin", pauses=pauses)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000000-", "bytes=3000000-"]
    assert pauses == [1.0, 2.0]


def test_the_next_call_continues_what_an_interrupted_one_left(server, tmp_path):
    def interrupt(what, done, total):
        if done > 2_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path / "file.bin", on_progress=interrupt)
    assert files_in(tmp_path) == ["file.bin.part"]
    left = (tmp_path / "file.bin.part").stat().st_size
    get(server, tmp_path / "file.bin")
    assert server.ranges == [None, f"bytes={left}-"]
    assert files_in(tmp_path) == ["file.bin"]


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.understands_range = False
    server.breaks = [1_000_000]
    get(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_an_old_part_of_another_file_costs_one_more_download_and_no_more(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"something else")
    get(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.ranges == ["bytes=14-", None]


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 1])
def test_a_part_that_cannot_be_continued_is_judged_by_its_checksum(server, tmp_path, length):
    (tmp_path / "file.bin.part").write_bytes((CONTENT + b"!")[:length])
    get(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(server.ranges) == (0 if length == len(CONTENT) else 1)


def test_other_bytes_of_the_same_length_are_refused_and_not_kept(server, tmp_path):
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(ChecksumMismatch, match=r"not the official file.*expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}"):
        get(server, tmp_path / "file.bin")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("says_length", [True, False])
@pytest.mark.parametrize("content", [CONTENT + b"more", b"<html>not found, but status 200</html>"])
def test_other_lengths_are_refused_and_not_kept(server, tmp_path, content, says_length):
    server.content, server.says_length = content, says_length
    cut_off = len(content) < len(CONTENT) and not says_length  # indistinguishable from a connection that drops again and again
    with pytest.raises(DataMissing if cut_off else ChecksumMismatch, match=str(len(CONTENT))):
        get(server, tmp_path / "file.bin")
    assert "file.bin" not in files_in(tmp_path)


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.statuses = [503, 429, 500]
    get(server, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_missing_file_is_reported_at_once(server, tmp_path):
    server.statuses = [404]
    with pytest.raises(DataMissing, match="the server answers 404"):
        get(server, tmp_path / "file.bin")
    assert len(server.ranges) == 1
    assert files_in(tmp_path) == []


def test_no_connection_is_reported_after_some_attempts_and_names_the_way_out(tmp_path):
    pauses = []
    with pytest.raises(DataMissing, match=r"5 attempts failed.*TIMETRIAL_MIRROR"):
        download("http://127.0.0.1:9/file.bin", tmp_path / "file.bin", digest=SHA256, size_bytes=5, pause=pauses.append)
    assert pauses == [1.0, 2.0, 4.0, 8.0]
    assert files_in(tmp_path) == []


def test_a_server_that_breaks_off_for_ever_says_what_is_kept(server, tmp_path):
    server.breaks = [10] * 5
    with pytest.raises(DataMissing, match="50 bytes are kept"):
        get(server, tmp_path / "file.bin")


def test_a_file_without_a_published_size_or_checksum_arrives_whole(server, tmp_path):
    server.breaks = [1_000_000]
    get(server, tmp_path / "file.bin", digest=None, size_bytes=None)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000000-"]
    (tmp_path / "file.bin").rename(tmp_path / "file.bin.part")  # killed between the last byte and the rename
    get(server, tmp_path / "file.bin", digest=None, size_bytes=None)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert files_in(tmp_path) == ["file.bin"]


def test_a_silent_server_is_given_up(server, tmp_path, monkeypatch):
    import socket

    monkeypatch.setattr(fetching, "_TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DataMissing, match="timed out"):
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file.bin"
        download(url, tmp_path / "file.bin", digest=SHA256, size_bytes=5, pause=lambda seconds: None)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/file.bin"])
def test_only_the_web_is_fetched(tmp_path, url):
    with pytest.raises(DataMissing, match="only http and https"):
        download(url, tmp_path / "file.bin", digest=SHA256, size_bytes=5)


def test_a_full_disk_is_noticed_before_the_download(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(DataError, match=r"no space under .*: 5 MB needed, 1 MB free"):
        get(server, tmp_path / "file.bin")
    assert files_in(tmp_path) == []


def test_a_disk_that_fills_up_meanwhile_keeps_nothing(server, tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))  # writing beyond 2 MB fails as on a full disk
    try:
        with pytest.raises(DataError, match="cannot write"):
            get(server, tmp_path / "file.bin")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_in(tmp_path) == []


def archived(kind):
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
            bundle.writestr("folder/inner.bin", CONTENT)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as bundle:
            about = tarfile.TarInfo("folder/inner.bin")
            about.size = len(CONTENT)
            bundle.addfile(about, io.BytesIO(CONTENT))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_member_of_an_archive_is_fetched_by_the_archive_and_checked_itself(server, tmp_path, kind):
    server.content = archived(kind)
    archive = Archive(server.url, f"md5:{hashlib.md5(server.content).hexdigest()}", len(server.content))
    file = RemoteFile("inner.bin", server.url, SHA256, len(CONTENT), "nowhere", archive, "folder/inner.bin")
    for _ in range(2):
        paths = fetch([file], tmp_path, mirror=None)
        assert paths["inner.bin"].read_bytes() == CONTENT
    assert len(server.ranges) == 1
    assert files_in(tmp_path) == ["file.bin", "inner.bin"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize(
    ("member", "digest", "error"), [("folder/other", SHA256, DataError), ("folder/inner.bin", "md5:0", ChecksumMismatch)]
)
def test_an_archive_without_the_promised_member_leaves_no_half_file(server, tmp_path, kind, member, digest, error):
    server.content = archived(kind)
    archive = Archive(server.url, f"md5:{hashlib.md5(server.content).hexdigest()}", len(server.content))
    with pytest.raises(error, match=r"holds no file|expected md5 0"):
        fetch([RemoteFile("inner.bin", server.url, digest, len(CONTENT), "nowhere", archive, member)], tmp_path, mirror=None)
    assert files_in(tmp_path) == ["file.bin"]


def test_a_file_whose_official_form_is_not_decoded_says_where_to_get_it(tmp_path):
    file = RemoteFile(
        "a.npy", "https://example.org/a.zip", SHA256, 5, "set/a.npy", form="made from the official pictures by halving their side"
    )
    with pytest.raises(DataMissing, match=r"halving their side .*https://example.org/a.zip.* set TIMETRIAL_MIRROR .* set/a.npy"):
        fetch([file], tmp_path, mirror=None)


def test_a_mirror_replaces_the_network_completely(server, tmp_path):
    mirror = tmp_path / "mirror"
    file = RemoteFile("file.bin", server.url, SHA256, len(CONTENT), "set/file.bin")
    with pytest.raises(DataMissing, match=r"set/file.bin: not in the mirror"):
        fetch([file], tmp_path / "downloads", mirror=mirror)
    (mirror / "set").mkdir(parents=True)
    (mirror / "set" / "file.bin").write_bytes(CONTENT)
    assert fetch([file], tmp_path / "downloads", mirror=mirror) == {"file.bin": mirror / "set" / "file.bin"}
    (mirror / "set" / "file.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(ChecksumMismatch, match=rf"expected {len(CONTENT)} bytes, found {len(CONTENT) - 1}"):
        fetch([file], tmp_path / "downloads", mirror=mirror)
    assert server.ranges == []
    assert not (tmp_path / "downloads").exists()


def test_what_decode_must_check_may_be_a_folder_in_a_mirror(tmp_path):
    (tmp_path / "mirror" / "pictures").mkdir(parents=True)
    file = RemoteFile("pictures.tar.gz", "https://example.org/pictures.tar.gz", None, None, "pictures")
    assert fetch([file], tmp_path, mirror=tmp_path / "mirror") == {"pictures.tar.gz": tmp_path / "mirror" / "pictures"}


def test_the_mirror_is_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("TIMETRIAL_MIRROR", raising=False)
    assert mirror_folder() is None
    monkeypatch.setenv("TIMETRIAL_MIRROR", str(tmp_path))
    assert mirror_folder() == tmp_path
    monkeypatch.setenv("TIMETRIAL_MIRROR", str(tmp_path / "absent"))
    with pytest.raises(DataMissing, match="absent is not a folder"):
        mirror_folder()


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_both_kinds_of_published_checksums_are_checked(tmp_path, algorithm):
    (tmp_path / "file").write_bytes(b"abc")
    check_file(tmp_path / "file", f"{algorithm}:{hashlib.new(algorithm, b'abc').hexdigest()}", 3)
    with pytest.raises(ChecksumMismatch, match=f"expected {algorithm} 00, found"):
        check_file(tmp_path / "file", f"{algorithm}:00", None)
