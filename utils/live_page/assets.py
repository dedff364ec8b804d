"""The browser files of visdom 0.2.4, in a static folder of our own.

    python -m utils.live_page.assets     # once, after visdom is installed; `make install` does it

visdom's release carries no JavaScript libraries: its server fetches them at each start, without a
time limit, and dies when it cannot. We fetch them once, from npm with pinned checksums, or else
with visdom's own downloader. Nothing that is fetched is executed here.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it also runs as a script

from config import as_command

if __name__ == "__main__":
    as_command()

import argparse
import base64
import hashlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import tarfile
import tempfile

VERSION = "0.2.4"  # the release that the table below belongs to
INSTALL = (  # quoted as cmd.exe wants it, too
    'pip install "setuptools<82" wheel, then '
    "pip install --no-build-isolation -r requirements-visdom.txt"
)
MARKER = "complete"  # written last; not visdom's version.built, which half a download leaves too
NPM_TIMEOUT = 180  # seconds; 25 MB
DOWNLOAD_TIMEOUT = 60  # seconds; visdom's downloader has no limit of its own

PACKAGES = {  # npm package: (sha512 of its tarball, {file in the package: file in static/})
    "jquery@3.1.1": (
        "zuiWRmx65Kd1oFGdWLvAjbsumdOBFvs3r1vuqCyKFF79R7exBHNbiNEJ8LR+xkzgfxqBznMD/4Cv6PHXS6mvEw==",
        {"dist/jquery.min.js": "js/jquery.min.js"},
    ),
    "bootstrap@3.3.7": (
        "qcFaisBrcBhTFkz1IUnGDYnX6ZWfFzH8zOixUDtHW9Ip+r+7MfMFav2rzy7cIHc7rgIg7xjhWBoo1mS/U26j4g==",
        {
            "dist/js/bootstrap.min.js": "js/bootstrap.min.js",
            "dist/css/bootstrap.min.css": "css/bootstrap.min.css",
            # the one kind that browsers of this decade ask for; visdom fetches eot, ttf and svg too
            "dist/fonts/glyphicons-halflings-regular.woff2": (
                "fonts/glyphicons-halflings-regular.woff2"
            ),
        },
    ),
    "react@16.2.0": (
        "ZmIomM7EE1DvPEnSFAHZn9Vs9zJl5A9H7el0EGTE6ZbW9FKe/14IYAlPbC8iH25YarEQxZL+E8VW7Mi7kfQrDQ==",
        {"umd/react.production.min.js": "js/react-react.min.js"},
    ),
    "react-dom@16.2.0": (
        "zpGAdwHVn9K0091d+hr+R0qrjoJ84cIBFL2uU60KvWBPfZ7LPSrfqviTxGHWN0sjPZb2hxWzMexwrvJdKePvjg==",
        {"umd/react-dom.production.min.js": "js/react-dom.min.js"},
    ),
    "react-modal@3.1.10": (
        "7b77AGWCkdg0YOf/qcYIGCpuwbxRwOA8P3UrUovk4grUNv+idOmHovJAx/Dcd3fuwHtgixxVjpcjVG60985MSA==",
        {"dist/react-modal.min.js": "js/react-modal.min.js"},
    ),
    "plotly.js-dist-min@2.11.1": (
        "F9WWNht0D3yBLZGHbLoJNfvplXvy+GUPSsA/lCbMuYd/UwzSu6Vmyprxlps9Einw1LDS1hYBrJeioK0lE3ieXA==",
        {"plotly.min.js": "js/plotly-plotly.min.js"},
    ),
    "sjcl@1.0.7": (
        "xQbiwKfiAj6vyk44ANJ5RRymALRdRZOuRoKNYkWUU404p/RFXmMaay1Z5vRn30GJjkD+psox4Jd38jZojSuNYA==",
        {"sjcl.js": "js/sjcl.js"},
    ),
    "layout-bin-packer@1.4.0": (
        "dQOZnajbOBGIcS9YlzKrkRtMCGa2oEpyf1zGRn93suphSvPclJe54Sbgtb053GJ21DUk84IBzaeQvjn+Gb10fA==",
        {"dist/layout-bin-packer.js": "js/layout_bin_packer.js"},
    ),
    "d3@3.5.17": (
        "yFk/2idb8OHPKkbAL8QaOaqENNoMhIaSHZerk3oQsECwkObkCpJyjYwCe+OHiq6UEdhe1m8ZGARRRO3ljFjlKg==",
        {"d3.min.js": "js/d3.v3.min.js"},
    ),
    "d3-selection-multi@1.0.1": (
        "mEnRkJ6A+Otd1LuRPV3az+s/RLDmIEhuz/MnT21O2nPcWNH7wZotdIlRjMA4Wpr+n7AESQ5fD8v1J3nL2Mnw9g==",
        {"build/d3-selection-multi.js": "js/d3-selection-multi.v1.js"},
    ),
    "save-svg-as-png@1.4.17": (
        "7QDaqJsVhdFPwviCxkgHiGm9omeaMBe1VKbHySWU6oFB2LtnGCcYS13eVoslUgq6VZC6Tjq/HddBd1K6p2PGpA==",
        {"lib/saveSvgAsPng.js": "js/saveSvgAsPng.js"},
    ),
    "react-resizable@1.4.6": (
        "4zLORO51u0/mlDsrVCAA4p266d+3mb2ZMNdiWOotAh/PdnfrRzZhgePmKE08PSQatXVIfMjmyD+Sapay8tmxdQ==",
        {"css/styles.css": "css/react-resizable-styles.css"},
    ),
    "react-grid-layout@0.16.3": (
        "ytP92EqUjqcFhGzvdeKrK610dQ04GdFwRCWtD6PoeL5wR3liETcFISO7k8RBqnosV86JtXf/DwIfrL0COLs0gg==",
        {"css/styles.css": "css/react-grid-layout-styles.css"},
    ),
    "classnames@2.2.5": (
        "DTt3GhOUDKhh4ONwIJW4lmhyotQmV2LjNlGK/J2hkwUcqcbKkCLAdJPtxQnxnlc7SR3f1CEXCyMmc7WLUsWbNA==",
        {"index.js": "fonts/classnames"},
    ),
    "mathjax@2.7.5": (
        "OzsJNitEHAJB3y4IIlPCAvS0yoXwYjlo2Y4kmm9KQzyIBZt2d8yKRalby3uTRNN4fZQiGL2iMXjpdP1u2Rq2DQ==",
        {
            name: f"js/mathjax/2.7.5/{name}"
            for name in (
                *("MathJax.js", "config/Safe.js", "config/TeX-AMS-MML_HTMLorMML.js"),
                *("extensions/Safe.js", "jax/output/SVG/jax.js", "jax/output/SVG/config.js"),
                "jax/output/SVG/fonts/TeX/fontdata.js",
                "jax/output/SVG/fonts/TeX/Size1/Regular/Main.js",
            )
        },
    ),
}


class AssetsError(Exception):
    """Why the files could not be fetched; the message is for the user."""


class WrongChecksum(AssetsError):
    """A tarball is not the pinned one: the fetch stops here, no other way is tried."""


def static_dir() -> Path:
    """The static folder; it belongs to the environment that visdom is installed in."""
    return Path(sys.prefix) / "share" / "video_classification_pytorch" / "visdom_static"


def visdom_folder() -> Path | None:
    """Where visdom is installed, found without importing it; None where it is not."""
    spec = importlib.util.find_spec("visdom")
    # no origin: just some folder of that name on the path
    return Path(spec.origin).parent if spec and spec.origin else None


def ready() -> bool:
    """Whether the static folder is complete."""
    marker = static_dir() / MARKER
    return marker.is_file() and marker.read_text() == VERSION and not missing(static_dir())


def missing(static: Path) -> list[str]:
    """Files of the table that are not in `static`, or are error pages saved under their names."""
    names = [name for _, files in PACKAGES.values() for name in files.values()]
    return [name for name in names if not _is_sound(static / name)]


def _is_sound(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(1) not in (b"", b"<")  # empty, or HTML


def install() -> str:
    """Make the static folder complete, all of it or nothing, and say in a sentence what was done.

    Raises:
        AssetsError: visdom is not there in the right version, or no way to the files worked.
    """
    visdom, target = visdom_folder(), static_dir()
    if visdom is None:
        raise AssetsError(f"visdom is not installed: {INSTALL}")
    version = importlib.metadata.version("visdom")
    if version != VERSION:
        raise AssetsError(f"visdom {version} is installed, the files are {VERSION}'s: {INSTALL}")
    if ready():
        return f"visdom's browser files are complete in {target}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        static = Path(folder) / "static"
        shutil.copytree(visdom / "static", static)
        way = _fetch_missing(static)
        # tornado 6.6 refuses ".." in static_url and would answer 403 for every page
        text = (static / "index.html").read_text(encoding="utf-8")
        text = text.replace('{{ static_url("../user/style.css") }}', '"/user/style.css"')
        (static / "index.html").write_text(text, encoding="utf-8")
        (static / MARKER).write_text(VERSION)
        shutil.rmtree(target, ignore_errors=True)
        static.rename(target)  # same file system, so a reader sees all of it or nothing
    return f"visdom's browser files are now in {target} ({way})"


def _fetch_missing(static: Path) -> str:
    # from npm, or by visdom's own downloader: machines that train seldom have npm, and would have
    # no page; that it pins no checksums is why it comes second
    if not missing(static):
        return "copied from visdom's own folder"
    try:
        _from_npm(static)
        return "from npm, checksums verified"
    except WrongChecksum:
        raise
    except AssetsError as error:
        reason = str(error)
    try:
        _from_visdom(static)
        return f"by visdom's own downloader, because {reason}"
    except AssetsError as error:
        raise AssetsError(
            f"visdom's page cannot be shown, its browser files are missing ({reason}; {error}): "
            "once npm is installed and the network is there, run python -m utils.live_page.assets"
        ) from None


def _from_npm(static: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise AssetsError("there is no npm")
    with tempfile.TemporaryDirectory() as folder:
        options = ["--ignore-scripts", "--no-update-notifier", "--fetch-retries=1"]
        _run_command([npm, "pack", *options, *PACKAGES], "npm", NPM_TIMEOUT, cwd=folder)
        for spec, (checksum, files) in PACKAGES.items():
            tarball = Path(folder) / f"{spec.replace('@', '-')}.tgz"
            if not tarball.is_file():
                raise AssetsError(f"npm did not deliver {spec}")
            digest = hashlib.sha512(tarball.read_bytes()).digest()
            if base64.b64encode(digest).decode() != checksum:  # nothing of `static` will be used
                raise WrongChecksum(
                    f"npm delivered a {spec} whose sha512 is not the pinned one; refused"
                )
            with tarfile.open(tarball) as tar:
                for source, name in files.items():
                    (static / name).parent.mkdir(parents=True, exist_ok=True)
                    file = tar.extractfile(f"package/{source}")
                    assert file is not None  # the pinned tarball holds a file of that name
                    (static / name).write_bytes(file.read())


def _from_visdom(static: Path) -> None:
    code = (
        "import sys; from visdom.server.build import download_scripts; "
        "download_scripts(install_dir=sys.argv[1])"
    )
    command = [sys.executable, "-c", code, str(static.parent)]
    _run_command(command, "visdom's own downloader", DOWNLOAD_TIMEOUT)
    lost = missing(static)  # it goes on after most failures, and saves error pages
    if lost:
        raise AssetsError(f"visdom's own downloader left out {len(lost)} files, first {lost[0]}")


def _run_command(command: list[str], name: str, timeout: float, cwd: str | None = None) -> None:
    try:
        subprocess.run(command, cwd=cwd, timeout=timeout, check=True, capture_output=True)
    except subprocess.TimeoutExpired:
        raise AssetsError(f"{name} took more than {timeout} s") from None
    except subprocess.CalledProcessError as error:
        raise AssetsError(f"{name} failed with status {error.returncode}") from None
    except OSError as error:
        raise AssetsError(f"{name} cannot be run: {error}") from None


def main() -> int:
    """Install, tell, and return the exit status."""
    try:
        print(install())
    except (AssetsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()  # knows --help alone
    sys.exit(main())
