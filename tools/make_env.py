"""Fill the virtual environment that runs this script; ``tools/make_env.sh`` calls it.

Prints one line per stage, with progress and remaining time. The output of the installers is in
``<venv>/make_env.log``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(sys.prefix)
LOG = VENV / 'make_env.log'
PIP = (sys.executable, '-m', 'pip', '--disable-pip-version-check')
# Python compiles modules when it imports them; compiling all of them here takes a minute more.
INSTALL = (*PIP, 'install', '--no-input', '--progress-bar', 'off', '--no-compile')
# Most of the time of each C++ file of MMCV is the parsing of torch's headers; g++ can do it once.
# The precompiled `torch/extension.h` covers more, but is so large that it is slower.
HEADER = '#include <torch/types.h>\n'
CHECK = """
import sys, torch, mmdet_losses, mmcv.ops, mmdet.models
assert mmdet_losses.compat.has_mmcv_ops() == (sys.argv[1:] == ['ops'])
boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.0]])
assert mmcv.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5)[1].tolist() == [0]
"""


def read_pins(name: str) -> list[str]:
    """The requirement lines of ``requirements/<name>.txt``."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


def clock(seconds: float) -> str:
    """Minutes and seconds, as in ``2:05``."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def run(
    command: Sequence[str],
    step: str = '',
    total: int = 0,
    env: dict[str, str] | None = None,
) -> None:
    """Run a command, and print its progress: the number of output lines that match ``step``.

    Args:
        total: Number of lines that will match, unless ``step`` has a group with this number.

    Raises:
        SystemExit: The command failed; prints its last lines and the name of the log.
    """
    start = shown = time.monotonic()
    done, tail = 0, []
    with (
        LOG.open('a') as log,
        subprocess.Popen(
            command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            tail = [*tail[-19:], line]
            found = re.match(step, line.strip()) if step else None
            if not found:
                continue
            done += 1
            total = int(found[1]) if found.groups() else total
            now = time.monotonic()
            if done == total or (done < total and now - shown > 10):
                shown = now
                left = (now - start) / done * (total - done)
                print(f'      {done}/{total}, about {clock(left)} left', flush=True)
    if process.returncode:
        sys.exit(
            f'{"".join(tail)}\nmake env: `{" ".join(command[:5])} ...` failed; '
            f'the full output is in {LOG}.'
        )


def install(*arguments: str, total: int = 0) -> None:
    """``pip install`` with the pinned versions as constraints."""
    constraints = ('-c', str(ROOT / 'requirements' / 'shared.txt'))
    step = 'Collecting|Requirement already' if total else ''
    run([*INSTALL, *constraints, *arguments], step, total)


def wheel_folder() -> Path:
    """Folder of the wheels for this torch version, which pip's cache does not distinguish."""
    code = (
        'import sys, sysconfig, torch; print(torch.__version__, '
        '"cp%d%d" % sys.version_info[:2], sysconfig.get_platform(), sep="-")'
    )
    name = subprocess.check_output([sys.executable, '-c', code], text=True).strip()
    cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(cache) / 'mmdet_losses' / 'wheels' / name


def precompile_header(folder: Path) -> str:
    """Compile torch's headers once, with the flags of MMCV's build.

    Returns:
        The compiler flags of the build; without the header if it does not compile.
    """
    plain = '-O2 -g0 -w'
    header = folder / 'torch_once.h'
    header.write_text(HEADER)
    code = (
        'import shlex, sysconfig\n'
        'from setuptools._distutils.ccompiler import new_compiler\n'
        'from setuptools._distutils.sysconfig import customize_compiler\n'
        'from torch.utils.cpp_extension import include_paths\n'
        'compiler = new_compiler(); customize_compiler(compiler)\n'
        'paths = [*include_paths(), sysconfig.get_path("include")]\n'
        'print(shlex.join([*compiler.compiler_so[1:], *("-I" + path for path in paths),\n'
        '    "-DTORCH_API_INCLUDE_EXTENSION_H", "-DTORCH_EXTENSION_NAME=_ext", "-std=c++17"]))'
    )
    env = {**os.environ, 'CFLAGS': plain}
    script = f'g++ -x c++-header $("{sys.executable}" -c "$1") "$2" -o "$2.gch"'
    command = ['bash', '-euo', 'pipefail', '-c', script, 'bash', code, str(header)]
    with LOG.open('a') as log:
        if subprocess.run(command, env=env, stdout=log, stderr=log, check=False).returncode:
            print('      torch_once.h does not compile here; building without it', flush=True)
            return plain
    return f'{plain} -include {header}'


def build_mmcv(pin: str) -> Path:
    """Wheel of MMCV with its operators, from the cache or built here."""
    folder = wheel_folder()
    name, version = pin.split('==')
    pattern = f'{name.replace("-", "_")}-{version}-*.whl'
    cached = sorted(folder.glob(pattern))
    if cached:
        print(f'      reusing {cached[0]}', flush=True)
        return cached[0]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        print('      compiling the headers of torch once (about half a minute)', flush=True)
        env = {
            **os.environ,
            'CFLAGS': precompile_header(Path(scratch)),
            'MMCV_WITH_OPS': '1',
            'MAX_JOBS': os.environ.get('MAX_JOBS', str(os.cpu_count() or 1)),
            'PATH': f'{VENV / "bin"}{os.pathsep}{os.environ["PATH"]}',
        }
        command = [*PIP, 'wheel', '-v', '--no-deps', '--no-cache-dir', '--no-build-isolation']
        command += ['--no-binary', name, '-w', scratch, pin]
        run(command, step=r'\[\d+/(\d+)\]', env=env)
        built = next(Path(scratch).glob(pattern))
        return built.rename(folder / built.name)


def main() -> None:
    stack, *operators = sys.argv[1:]
    torch, *rest = read_pins(stack)
    mmcv = next(pin for pin in rest if 'mmcv' in pin)
    others = [pin for pin in rest if pin != mmcv]
    lite = mmcv.replace('mmcv', 'mmcv-lite', 1)
    start = time.monotonic()

    def stage(number: int, what: str, usual: str) -> None:
        now = clock(time.monotonic() - start)
        print(f'[{number}/5] {now}  {what} (usually {usual})', flush=True)

    LOG.write_text('')
    usual = '5 to 8 minutes' if operators else '2 to 3 minutes'
    print(f'Making {VENV.name} with the {stack} stack; a first time takes {usual}.')
    stage(1, f'installing {torch}', '20 s and the download')
    install('-r', str(ROOT / 'requirements' / 'build.txt'), torch)
    stage(2, 'installing the libraries around it', '40 s')
    shared = ROOT / 'requirements' / 'shared.txt'
    install('-r', str(shared), total=len(read_pins('shared')))
    if operators:
        stage(3, f'{mmcv} with its C++ operators', '4 min on two cores, seconds when cached')
        wheel, other = str(build_mmcv(mmcv)), lite
    else:
        stage(3, f'{lite}, which has no C++ operators', 'seconds')
        wheel, other = lite, mmcv
    run([*PIP, 'uninstall', '--yes', other.partition('==')[0]])  # both contain the module mmcv
    stage(4, f'installing {", ".join(others)} and this checkout', '5 s')
    install('--no-deps', '--no-build-isolation', wheel, *others)
    install('--no-deps', '--no-build-isolation', '-e', str(ROOT))
    stage(5, 'checking that everything imports', '20 s')
    run([sys.executable, '-c', CHECK, *operators])
    print(f'{VENV.name} is ready after {clock(time.monotonic() - start)}.')


if __name__ == '__main__':
    main()
