# Written by tools/stubs.py: edit the notebook, then run `make export`.
from typing import Any
__all__ = ['FOUND', 'COUNTS', 'RATES', 'components', 'lesion_ious', 'new_hits', 'count_lesions', 'share_interval', 'share_of', 'auc', 'auc_interval', 'detection', 'by_class', 'Froc', 'plot_froc']
import math
import numpy as np, pandas as pd
from fastcore.basics import patch
from scipy import ndimage
from .core import InputError
from .metrics import bootstrap_mean
from .report import OKABE_ITO, hex_colour

def components(mask) -> tuple:
    ...

def lesion_ious(mask, truth) -> np.ndarray:
    ...

def new_hits(near) -> np.ndarray:
    ...
FOUND: Any

def count_lesions(mask, truth, iou: float=...) -> dict:
    ...

def share_interval(values, exams, level: float=..., **kw) -> tuple:
    ...

def share_of(values, exams, **kw) -> dict:
    ...

def auc(worth, positive, weights=...) -> float:
    ...

def auc_interval(worth, positive, exams, n: int=..., level: float=..., seed: int=...) -> tuple:
    ...
COUNTS: Any

def _counted(scores):
    ...

def _of_lesions(scores, **kw):
    ...

def _of_pictures(scores, **kw):
    ...

def detection(scores, iou: float=..., **kw) -> dict:
    ...

def _class_row(name, g, **kw):
    ...

def by_class(scores, column: str=..., **kw) -> pd.DataFrame:
    ...
RATES: Any

class Froc:
    at: Any
    by: Any
    exams: Any
    hit: Any
    iou: Any
    lesions: Any
    level: Any
    to_mask: Any
    worth: Any

    def __init__(self, to_mask=..., level: float=..., by: str=..., iou: float=...):
        ...

    def add(self, heatmap, truth, exam: str=..., **_):
        ...

    def _sums(self, weights):
        ...

    def curve(self) -> pd.DataFrame:
        ...

    def _at_rates(self, weights):
        ...

    def _drawn(self, n, seed):
        ...

    def figures(self, n: int=..., level: float=..., seed: int=...) -> dict:
        ...

def plot_froc(froc, detected: dict | None=...):
    ...
