"""Start a script in several processes with torchrun, whose arguments it takes.

If a process fails, one message is printed last, in place of torchrun's traceback: the error that
the process reported, or the name of the process.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path

from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

FAULTS = 'MMDET_LOSSES_FAULTS'
"""Name of ``mmdet_losses.engine.console.FAULTS``; the import would take seconds."""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status of the job."""
    logging.disable(logging.CRITICAL)  # torchrun logs every step of ending the processes
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FAULTS] = folder
        try:
            torchrun(argv)
        except ChildFailedError as error:
            print(first_fault(folder) or describe(error), file=sys.stderr)
            return 1
        except SignalException as error:
            print(
                f'error: the launcher received {error.sigval.name}, so all processes were ended; a '
                'training continues with --resume.',
                file=sys.stderr,
            )
            return 1
        except DistError as error:
            print(
                f'error: the processes cannot connect ({str(error).splitlines()[0]}): set PORT to '
                'a free port, and MASTER_ADDR and PORT to the same values on all machines.',
                file=sys.stderr,
            )
            return 1
        finally:
            logging.disable(logging.NOTSET)
            del os.environ[FAULTS]
    return 0


def first_fault(folder: str) -> str | None:
    """The first explained error that a process reported, or else the first other one."""
    found = sorted(Path(folder).iterdir())
    return found[0].read_text(encoding='utf-8') if found else None


def describe(error: ChildFailedError) -> str:
    """Message about a process that ended without a report."""
    rank, failure = error.get_first_failure()
    signal = f'was killed by {failure.signal_name()}' if failure.exitcode < 0 else None
    return (
        f'error: rank {rank} (process {failure.pid}) '
        f'{signal or f"ended with status {failure.exitcode}"}, so all processes were ended. '
        'Its own message is above, if it has one; a training continues with --resume.'
    )


if __name__ == '__main__':
    sys.exit(main())
