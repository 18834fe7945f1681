"""Start a script in several processes with torchrun, whose arguments it takes.

If a process fails, the last line names it in place of torchrun's traceback.
"""

from __future__ import annotations

import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status of the job."""
    try:
        torchrun(argv)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        signal = f'was killed by {failure.signal_name()}' if failure.exitcode < 0 else None
        print(
            f'error: rank {rank} (process {failure.pid}) '
            f'{signal or f"ended with status {failure.exitcode}"}, so all processes were ended. '
            'Its own message is above, if it has one; a training continues with --resume.',
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
