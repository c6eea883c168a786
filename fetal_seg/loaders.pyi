# Written by tools/stubs.py: edit the notebook, then run `make export`.
from typing import Any
__all__ = ['NO_AUGMENT', 'GreyImage', 'Region', 'CaseFile', 'NewPicture', 'ReadCase', 'draw_affine', 'draw_elastic', 'resample', 'tone', 'shadow', 'speckle', 'Augment', 'CasePath', 'get_block', 'repeat_small', 'get_dls']
import math
import fastai.vision.data
from dataclasses import dataclass
from pathlib import Path
import numpy as np, pandas as pd, torch, torch.nn.functional as F
from torch import Tensor
from fastai.data.all import DataBlock, DataLoaders, ItemTransform, Transform, TransformBlock
from fastai.vision.core import TensorImageBW, TensorMask
from fastcore.basics import patch
from PIL import Image
from .core import InputError
from .images import read_img, to_grey
from .geometry import picture_part, warp_mask
from .preprocess import AFFINE, case_path, check_digests, read_about, read_cases, read_mask, to_canvas, to_input

class GreyImage(TensorImageBW):
    _show_args: Any

class Region(TensorMask):

    def show(self, ctx=..., **kwargs):
        ...

@dataclass
class CaseFile:
    path: Path
    affine: tuple
    shape: tuple

    def open(self):
        ...

@dataclass
class NewPicture:
    source: object
    canvas: tuple
    mode: str

    def pixels(self):
        ...

    def open(self):
        ...

class ReadCase:
    cache: Any
    cache_mb: Any
    intensity: Any
    kind: Any
    size: Any
    used: Any

    def __init__(self, kind: str, size, cache_mb: float=..., intensity: str=...):
        ...

    def __getstate__(self):
        ...

    def __call__(self, file):
        ...

    def read(self, file):
        ...

def _uniform(*shape, low=..., high=...):
    ...

def _some(n, p):
    ...

def draw_affine(n: int, shape, flip_h: float=..., flip_v: float=..., degrees: float=..., scale=..., shift: float=...) -> Tensor:
    ...

def draw_elastic(n: int, shape, sd: float=..., p: float=..., px: float=...) -> Tensor:
    ...

def resample(xb: Tensor, yb: Tensor, affine: Tensor, elastic: Tensor | None | None=...) -> tuple:
    ...

def tone(xb: Tensor, gain: float=..., gamma: float=..., depth: float=...) -> Tensor:
    ...

def shadow(xb: Tensor, p: float=...) -> Tensor:
    ...

def speckle(xb: Tensor, most: float=...) -> Tensor:
    ...

class Augment(ItemTransform):
    bend: Any
    place: Any
    shadow_p: Any
    speckle: Any
    tone: Any
    split_idx: Any
    order: Any

    def __init__(self, flip_h: float=..., flip_v: float=..., degrees: float=..., scale=..., shift: float=..., elastic: float=..., elastic_p: float=..., elastic_px: float=..., gain: float=..., gamma: float=..., depth: float=..., shadow_p: float=..., speckle: float=...):
        ...

    def encodes(self, xy):
        ...

    @property
    def args(self) -> dict:
        ...

    def check(self):
        ...
NO_AUGMENT: Any

class CasePath(Transform):
    canvas: Any
    kind: Any
    mode: Any
    prepared: Any
    new: Any
    input_types: Any

    def __init__(self, prepared, kind: str):
        ...

    def __call__(self, row, **_):
        ...

    def picture(self, source):
        ...

def _split_rows(cases):
    ...

def get_block(prepared, size, augment=..., cache_mb: float=..., intensity: str=..., more=...) -> DataBlock:
    ...

def repeat_small(cases, small: float=..., most: int=..., empty: int=...) -> pd.DataFrame:
    ...

def get_dls(prepared, size=..., bs: int=..., augment=..., cache_mb: float=..., device=..., intensity: str=..., small: float=..., empty: int=..., more=..., check: bool=...) -> DataLoaders:
    ...
