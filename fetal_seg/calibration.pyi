# Written by tools/stubs.py: edit the notebook, then run `make export`.
from typing import Any
__all__ = ['LEVELS', 'ONE_REGION', 'ANY_REGIONS', 'PRICE', 'PIXELS', 'WHEN', 'nll', 'fit_temperature', 'grid_logits', 'Sweep', 'one_region_each', 'post_candidates', 'choose_post', 'calibrate', 'reliability', 'calibration_error', 'Calibration', 'plot_reliability', 'plot_sweep', 'risk_coverage', 'plot_risk']
from contextlib import nullcontext
from functools import partial
import warnings
from pathlib import Path
import numpy as np, pandas as pd
from fastcore.basics import patch
from scipy import ndimage
from .core import InputError, digest_file, folder_lock, write_json
from .metrics import score
from .predict import Predictor, check_post, fit_familiar, prepared_facts, sigmoid
from .geometry import boundary_band, picture_part, warp_mask
from .preprocess import PreparedCase, case_path, read_cases, read_mask, to_input
from .report import OKABE_ITO, hex_colour
from .seen import USES, seen_cases

def nll(logits, targ, temperature: float=...) -> float:
    ...

def fit_temperature(logits, targ) -> float:
    ...

def grid_logits(predictor, prepared, cases) -> tuple:
    ...
LEVELS: Any

class Sweep:
    dices: Any
    levels: Any
    to_mask: Any

    def __init__(self, to_mask, levels=...):
        ...

    def add(self, heatmap, truth, **_):
        ...

    def table(self) -> pd.DataFrame:
        ...

    def best(self) -> tuple:
        ...

def one_region_each(prepared, cases, others: float=..., speck: float=...) -> bool:
    ...
ONE_REGION: Any
ANY_REGIONS: Any

def post_candidates(one: bool, own=...) -> list:
    ...
PRICE: Any

def _compared(sweeps):
    ...

def choose_post(sweeps: dict, least: float=..., price: float=...) -> tuple:
    ...

def calibrate(run, prepared, split: str=..., levels=..., post=..., candidates=...) -> dict:
    ...

def _fit_run(run, prepared, split, levels, post, candidates):
    ...

def _sweep_cases(predictor, prepared, cases, candidates, levels):
    ...

def _fit_post(predictor, prepared, table, split, candidates, levels):
    ...

def _sweep_facts(sweep):
    ...

def _familiar(predictor, prepared, table):
    ...

def _note_tuned(run, predictor, cases) -> int:
    ...

def _bin_sums(p, y, bins):
    ...

def _reliability(sums):
    ...

def reliability(heatmap, targ, bins: int=...) -> pd.DataFrame:
    ...

def calibration_error(table) -> float:
    ...
PIXELS: Any
WHEN: Any

class Calibration:
    bins: Any
    cases: Any
    changed: Any
    sums: Any
    temperature: Any
    width: Any

    def __init__(self, temperature: float, bins: int=..., width: int=...):
        ...

    def add(self, logits, truth, exam: str, **_):
        ...

    def _total(self):
        ...

    def reliability(self, pixels: str=..., when: str=...) -> pd.DataFrame:
        ...

    def table(self) -> pd.DataFrame:
        ...

    def change(self, pixels: str=..., n: int=..., seed: int=...) -> tuple:
        ...
_STYLES: Any

def plot_reliability(calibration, pixels: str=...):
    ...

def _figure(width, height, **kw):
    ...

def plot_sweep(table, threshold: float, fitted: dict | None=...):
    ...

def risk_coverage(scores, by: str=...) -> tuple:
    ...

def plot_risk(curve):
    ...
