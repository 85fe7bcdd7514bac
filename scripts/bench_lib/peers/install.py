"""Install the peers' packages beside imgserve's own, when they are asked for.

Nothing of it touches imgserve's environment: Python packages go to virtual environments, Node's to
a folder of their own, all below bench-output/peers. Programs of the system are not installed but
asked for, by the name of Debian's package.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench_lib.report import BenchError

ROOT = Path(__file__).resolve().parents[3]
HOME = ROOT / "bench-output" / "peers"
SHARP = Path(__file__).parent / "sharp"


def program(name: str, package: str) -> str:
    """Return where a program is.

    Raises:
        BenchError: when it is missing, with the Debian package that has it.
    """
    path = shutil.which(name)
    if path is None:
        raise BenchError(f"{name} is not installed; on Debian: apt-get install {package}")
    return path


def python(name: str) -> Path:
    """Return the interpreter of an environment that holds requirements/NAME.txt, made when needed.

    Raises:
        BenchError: when it cannot be installed.
    """
    wanted = ROOT / "requirements" / f"{name}.txt"
    folder = HOME / f"venv-{name}"
    interpreter = folder / "bin" / "python"
    stamp = _stamp(sys.version.encode(), wanted)
    if _installed(folder) != stamp:
        _say(f"installing requirements/{name}.txt in {folder.relative_to(ROOT)}")
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], ROOT)
        pip = [str(interpreter), "-m", "pip", "--disable-pip-version-check", "-qq", "install"]
        _run([*pip, "--require-hashes", "-r", str(wanted)], ROOT)
        (folder / "installed").write_text(stamp)
    return interpreter


def sharp() -> Path:
    """Return a folder that holds the Node script and the packages of its lock, made when needed.

    Raises:
        BenchError: when node or npm is missing, or npm cannot install.
    """
    npm = program("npm", "npm")
    folder = HOME / "sharp"
    script = folder / "thumbnails.mjs"
    stamp = _stamp(b"", SHARP / "package.json", SHARP / "package-lock.json")
    if _installed(folder) != stamp:
        _say(f"installing sharp in {folder.relative_to(ROOT)}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SHARP / name, folder)
        # The compiled parts come as packages; no script of a stranger needs to run.
        _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
        (folder / "installed").write_text(stamp)
    shutil.copy(SHARP / script.name, script)
    return script


def _installed(folder: Path) -> str:
    stamp = folder / "installed"
    return stamp.read_text() if stamp.is_file() else ""


def _stamp(first: bytes, *files: Path) -> str:
    return hashlib.sha256(first + b"".join(each.read_bytes() for each in files)).hexdigest()


def _run(words: Sequence[str], folder: Path) -> None:
    ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        lines = (ended.stderr or ended.stdout).strip().splitlines() or ["it did not say why"]
        what = " ".join([Path(words[0]).name, *words[1:]])
        raise BenchError(f"{what} failed: {lines[-1]}")


def _say(sentence: str) -> None:
    print(f"  {sentence}", file=sys.stderr, flush=True)
