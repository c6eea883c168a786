# Written by tools/stubs.py: edit the notebook, then run `make export`.
from typing import Any
__all__ = ['NORMS', 'group_norm', 'double_conv', 'n_incoming', 'init_he', 'crop', 'TwoPaths', 'check_batch', 'lost_pixels', 'fits', 'fitting_size', 'output_size', 'check_size', 'UNet2015', 'count_parameters', 'mirror', 'tile_starts', 'predict_tiles', 'UNet', 'pad_to_multiple', 'layer_table', 'count_flops', 'receptive_field', 'field_of_logit', 'export_onnx']
import math
from itertools import product
import pandas as pd
import torch, torch.nn as nn, torch.nn.functional as F
from fastcore.basics import patch
from torch import Tensor
from .core import InputError, atomic_path
from .runs import check_network

def group_norm(c: int) -> nn.GroupNorm:
    ...
NORMS: Any

def double_conv(c_in: int, c_out: int, norm: str=..., padding: int=...) -> nn.Sequential:
    ...

def n_incoming(m: nn.Module) -> int:
    ...

def init_he(m: nn.Module):
    ...

def crop(x: Tensor, size) -> Tensor:
    ...

class TwoPaths(nn.Module):
    down: Any
    drop: Any
    fuse: Any
    head: Any
    n_drop: Any
    pool: Any
    up: Any

    def __init__(self, c_in: int, c_out: int, width: int, depth: int, norm: str=..., padding: int=..., dropout: float=..., n_drop: int=...):
        ...

    def paths(self, x: Tensor) -> Tensor:
        ...

def check_batch(x: Tensor, c_in: int):
    ...

def lost_pixels(depth: int=...) -> int:
    ...

def fits(n: int, depth: int=...) -> bool:
    ...

def fitting_size(n: int, depth: int=..., nearest: bool=...) -> int:
    ...

def output_size(n: int, depth: int=...) -> int:
    ...

def check_size(h: int, w: int, depth: int=...):
    ...

class UNet2015(TwoPaths):
    config: Any

    def __init__(self, c_in: int=..., n_classes: int=..., width: int=..., depth: int=..., dropout: float=...):
        ...

    def forward(self, x: Tensor) -> Tensor:
        ...

def count_parameters(model: nn.Module) -> int:
    ...

def mirror(start: int, n: int, size: int) -> Tensor:
    ...

def tile_starts(n: int, tile: int, depth: int=...) -> tuple:
    ...

def _check_eval(model):
    ...

@torch.no_grad()
def predict_tiles(model: UNet2015, x: Tensor, tile: int=...) -> Tensor:
    ...

class UNet(TwoPaths):
    config: Any

    def __init__(self, c_in: int=..., c_out: int=..., width: int=..., depth: int=..., norm: str=..., dropout: float=...):
        ...

    def forward(self, x: Tensor) -> Tensor:
        ...

    def check_norm(self, x: Tensor):
        ...

def pad_to_multiple(x: Tensor, k: int) -> Tensor:
    ...

def layer_table(model: nn.Module, size=...) -> pd.DataFrame:
    ...

def count_flops(model: nn.Module, size=...) -> int:
    ...

def receptive_field(depth: int=...) -> int:
    ...

def field_of_logit(at: int, depth: int=...) -> tuple:
    ...

def export_onnx(model: nn.Module, path, size=...) -> str:
    ...
