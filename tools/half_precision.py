"""Train the small configs in half precision, and compare their losses with float32.

    python tools/half_precision.py [CONFIGS] --steps 200

Each config trains the same steps on the same images, from the same weights: in float32, in bfloat16
and in float16 with loss scaling. The table has the mean loss of the last quarter of the steps. The
column "float32 again" is float32 from weights that differ by --noise, as much as rounding to
bfloat16 changes them. Trainings drift apart by rounding, and this column shows by how much.

A GPU uses autocast. A CPU computes in float32 and rounds the inputs, weights, outputs and gradients
of the layers, as tensor cores do: CPUs without half-precision instructions need ten times as long.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from mmdet_losses import engine

# isort: split
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from mmdet_losses.registry import OPTIM_WRAPPERS
from tools.datasets.digits import make_digits
from tools.soak import soak_config

LIMIT = 0.02
LAYERS = (
    'baddbmm', 'batch_norm', 'bmm', 'conv2d', 'conv_transpose2d', 'einsum', 'linear', 'matmul',
)  # fmt: skip
"""Functions that autocast runs in half precision."""
AGAIN = 'float32 again'
RUNS = {'float32': 'float32', 'bfloat16': 'bfloat16', 'float16': 'float16', AGAIN: 'float32'}
"""Name of a training -> type of its layers."""


class RoundedLayers(TorchFunctionMode):
    """Rounds inputs, weights, outputs and gradients of layers to a type, in float32."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of PyTorch."""
        kwargs = kwargs or {}
        name = getattr(func, '__name__', '')
        if name not in LAYERS:
            return func(*args, **kwargs)
        if name != 'batch_norm':  # its weights and statistics stay in float32
            args, kwargs = tree_map(self._round, (args, kwargs))
        return self._round(func(*args, **kwargs))

    def _round(self, value: Any) -> Any:
        is_float = isinstance(value, Tensor) and value.dtype == torch.float32
        return value.to(self.dtype).float() if is_float else value


def half_context(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Context of a forward pass whose layers run in ``dtype``."""
    if dtype == torch.float32:
        return nullcontext()
    if torch.cuda.is_available():
        return torch.autocast('cuda', dtype)
    return RoundedLayers(dtype)


@OPTIM_WRAPPERS.register_module()
class HalfOptimWrapper(OptimWrapper):
    """Optimizer wrapper with layers in half precision; float16 scales the loss."""

    def __init__(self, *args: Any, dtype: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dtype = getattr(torch, dtype)
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        scaled = self.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(device, init_scale=1024.0, enabled=scaled)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of one forward pass."""
        with super().optim_context(model), half_context(self.dtype):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Gradients of the scaled loss."""
        super().backward(self.scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clip and step; a step with an overflow is skipped."""
        self.scaler.unscale_(self.optimizer)
        if self.clip_grad_kwargs:
            self._clip_grad()
        self.scaler.step(self.optimizer)
        self.scaler.update()


class LossHook(Hook):
    """Adds noise to the first weights, and records the loss of every step."""

    def __init__(self, noise: float) -> None:
        self.noise = noise
        self.losses: list[float] = []

    @torch.no_grad()
    def before_train(self, runner: Runner) -> None:
        """Add the noise."""
        generator = torch.Generator().manual_seed(0)
        for each in runner.model.parameters() if self.noise else ():
            each.mul_(1 + self.noise * torch.randn(each.shape, generator=generator).to(each))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Record one loss."""
        self.losses.append(float(outputs['loss']))


def train(cfg: Config, dtype: str, noise: float) -> list[float]:
    """Losses of a training."""
    cfg = cfg.copy()
    cfg.optim_wrapper.update(type='HalfOptimWrapper', dtype=dtype)
    cfg.experiment_name = f'{Path(cfg.filename).stem}_{dtype}_{noise}_{time.time_ns()}'
    runner = engine.build_runner(cfg)
    hook = LossHook(noise)
    runner.register_hook(hook)
    runner.train()
    return hook.losses


def final_loss(losses: Sequence[float]) -> float:
    """Mean over the last quarter of the steps.

    Example:
        >>> final_loss([9, 9, 9, 9, 9, 9, 1, 3])
        2.0
    """
    last = losses[-max(1, len(losses) // 4) :]
    return sum(last) / len(last)


def table_row(name: str, losses: dict[str, list[float]]) -> tuple[str, bool]:
    """Row of the table, and whether half precision is within the limit.

    A difference beyond the limit passes if rounding in float32 alone causes as much.
    """
    finals = {run: final_loss(values) for run, values in losses.items()}
    base = finals['float32']
    changes = {run: value / base - 1 for run, value in finals.items() if run != 'float32'}
    limit = max(LIMIT, abs(changes.get(AGAIN, 0.0)))
    fits = all(abs(change) <= limit for change in changes.values())  # a NaN does not fit
    cells = [f'{base:.3f}', *(f'{change:+.2%}' for change in changes.values())]
    return f'| {name} | {" | ".join(cells)} |', fits


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('configs', nargs='*', metavar='CONFIG', help='names such as ssd_digits; default: all')
    add('--steps', type=int, default=200, help='default: %(default)s')
    add('--batch-size', type=int, default=2, help='default: %(default)s')
    add('--noise', type=float, default=2e-3, help=f'of "{AGAIN}"; default: %(default)s')
    add('--runs', nargs='+', choices=list(RUNS), default=list(RUNS), help='default: all')
    args = parser.parse_args(argv)
    known = {path.stem: path for path in sorted(ROOT.glob('configs/[!b]*/*_digits.py'))}
    unknown = [name for name in args.configs if name not in known]
    if unknown:
        parser.error(f'{unknown[0]} is none of {", ".join(known)}')
    args.configs = [known[name] for name in args.configs or known]
    args.runs = list(dict.fromkeys(['float32', *args.runs]))
    return args


def main(argv: list[str] | None = None) -> int:
    """Returns 1 if the difference of any config is beyond the limit."""
    args = parse_args(argv)
    print(
        f'| config | loss in {" | ".join(args.runs)} |\n|---|{"---|" * len(args.runs)}', flush=True
    )
    fits = True
    with engine.quiet_console(), tempfile.TemporaryDirectory() as folder:
        images = args.steps * args.batch_size
        data = make_digits(Path(folder) / 'digits', train=images, val=1)
        for path in args.configs:
            cfg = soak_config(path, data, Path(folder) / 'work', args.steps)
            cfg.train_dataloader.batch_size = args.batch_size
            cfg.default_hooks = dict(checkpoint=None, logger=None)
            cfg.param_scheduler = Config.fromfile(path).param_scheduler[:1]  # the warm-up
            losses = {run: train(cfg, RUNS[run], args.noise * (run == AGAIN)) for run in args.runs}
            row, fit = table_row(path.stem, losses)
            print(row, flush=True)
            fits = fits and fit
    return 0 if fits else 1


if __name__ == '__main__':
    sys.exit(main())
