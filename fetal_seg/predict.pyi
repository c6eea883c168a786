# Written by tools/stubs.py: edit the notebook, then run `make export`.
from typing import Any
__all__ = ['POST', 'DISTURBED', 'WAIT', 'ELLIPSE', 'COLUMNS', 'STEPS', 'sigmoid', 'largest_component', 'roundest_component', 'remove_specks', 'keep_sure', 'to_ellipse', 'check_post', 'postprocess', 'picture_facts', 'prepared_facts', 'fit_familiar', 'distance', 'Predictor', 'find_weights', 'contract_path', 'load_model', 'fold_norms', 'load_torch', 'check_onnx', 'load_onnx', 'Ensemble', 'unlike_rates', 'soft_dice_confidence', 'predict_files', 'result_names', 'PredictionRow', 'JournalLine', 'predict_file', 'is_one_region', 'measure_ellipse', 'measure', 'known_spacing', 'export']
import json, math, mmap, os, re, shutil
from collections import Counter
from contextlib import contextmanager, suppress
from functools import lru_cache, partial, reduce
from operator import or_
from pathlib import Path
from typing import Annotated
import fetal_seg
import numpy as np, pandas as pd
from fastcore.basics import patch
from fastcore.meta import FixSigMeta
from pydantic import AfterValidator, BeforeValidator, Field, field_validator
from scipy import ndimage
from .core import SHIPPED, InputError, check_exists, digest, digest_file, folder_lock, plain, pstream, read_json, read_text, to_csv, to_json, unguard, write_json, write_text, writing
from .data import match_table, provenance
from .images import dhash, read_img, read_picture, split_suffix
from .metrics import head_circumference
from .geometry import compose, edge_points, fill, fit_ellipse, in_ellipse, invert, picture_part, warp
from .preprocess import PreparedCase, save_png, to_canvas, to_input
from .runs import MOST_NUMBERS, check_finite, check_weights, read_contract
from .schema import Record, Row, check_record, read_rows
from .seen import USES, Seen, fingerprint, read_seen, seen_table

def sigmoid(z) -> np.ndarray:
    ...

def largest_component(mask) -> np.ndarray:
    ...

def _own_ellipse(inside):
    ...

def roundest_component(mask, power: float=...) -> np.ndarray:
    ...

def remove_specks(mask, size: float=...) -> np.ndarray:
    ...

def keep_sure(mask, height: float=..., heatmap=...) -> np.ndarray:
    ...

def to_ellipse(mask) -> np.ndarray:
    ...
POST: Any
_SIZED: Any

def _is_share(text):
    ...

def check_post(steps) -> tuple:
    ...

def _step(step, mask, heatmap=...):
    ...

def postprocess(mask, steps=..., heatmap=...) -> np.ndarray:
    ...

def picture_facts(x, part=...) -> np.ndarray:
    ...

def _grid_part(part, canvas, affine):
    ...

def _canvas_facts(canvas, affine, shape, size):
    ...

def prepared_facts(prepared, cases, size) -> np.ndarray:
    ...

def fit_familiar(facts, share: float=...) -> dict:
    ...

def distance(facts, familiar: dict) -> float:
    ...

class Predictor(metaclass=FixSigMeta):
    canvas: Any
    contract: Any
    device: Any
    familiar: Any
    flips: Any
    forward: Any
    intensity: Any
    mode: Any
    post: Any
    size: Any
    temperature: Any
    threshold: Any
    weights: Any
    known: Any
    members: Any

    def __new__(cls, weights=..., *args, **kwargs):
        ...

    def __init__(self, weights=..., flips: bool=..., device: str=..., network=...):
        ...

    def __call__(self, img) -> np.ndarray:
        ...

    def _read(self, img):
        ...

    def from_canvas(self, canvas, affine, shape) -> np.ndarray:
        ...

    def canvas_logits(self, canvas, affine, shape) -> np.ndarray:
        ...

    def network(self, x) -> np.ndarray:
        ...

    def to_mask(self, heatmap, threshold: float | None=..., post=...) -> np.ndarray:
        ...

    def unlike(self, img) -> float:
        ...

    def seen(self, cases) -> np.ndarray:
        ...

    def heatmap(self, case) -> np.ndarray:
        ...

    def logits(self, case) -> np.ndarray:
        ...

def _get_forward(weights, contract, device, network):
    ...

def _check_fitted(weights, contract):
    ...

def find_weights(given=...) -> Path:
    ...

def contract_path(weights: Path) -> Path:
    ...

def _contract_post(weights, contract):
    ...

def _contract_seen(weights, contract):
    ...

def load_model(path, config: dict, network=...):
    ...

def fold_norms(model):
    ...

def load_torch(path, config: dict, device: str=..., network=...) -> Any:
    ...
_FILE: Any
_NODES: Any
_HIDDEN: Any

def check_onnx(path, size=...) -> bytes:
    ...

def _onnx_fault(onnx, model):
    ...

def _attribute_kinds(onnx, a):
    ...

def _onnx_tensors(model):
    ...

def _onnx_shapes(onnx, model, size=...):
    ...

def _sides(v):
    ...

def load_onnx(path, contract: dict | None=...) -> Any:
    ...

def _no_onnx(path, e):
    ...

def _check_session(path, session, forward, contract):
    ...

class Ensemble(Predictor):
    canvas: Any
    contract: Any
    device: Any
    familiar: Any
    flips: Any
    intensity: Any
    known: Any
    members: Any
    mode: Any
    post: Any
    size: Any
    temperature: Any
    threshold: Any
    weights: Any

    def __init__(self, weights, flips: bool=..., device: str=...):
        ...

    def _first_checked(self):
        ...

    def canvas_logits(self, canvas, affine, shape) -> np.ndarray:
        ...
DISTURBED: Any

def unlike_rates(predictor, imgs) -> pd.DataFrame:
    ...

def soft_dice_confidence(heatmap, mask) -> float:
    ...
WAIT: Any
ELLIPSE: Any
COLUMNS: Any

def predict_files(predictor, paths, out, spacing: float | None=..., desc: str | None=..., workers: int=..., scheduler: str | None=...) -> pd.DataFrame:
    ...

@lru_cache(1)
def _predictor(weights, digests, flips, device, threshold, post):
    ...

def _recipe(predictor):
    ...

def _predict_job(job, make, out, spacing, settings):
    ...

def _stamp(path):
    ...

def result_names(paths, out=...) -> list:
    ...

def _names(paths, given):
    ...

def _stem(p):
    ...
_NAMINGS: Any

def _utf8(text):
    ...

def _picture(path):
    ...

def _safe(name):
    ...

def _one_name(name):
    ...

def _number(low, high):
    ...
_Name: Any
_Side: Any
_Share: Any
_Length: Any
_Place: Any

class PredictionRow(Row):
    problem: str
    name: _Name
    file: str = Field(min_length=1)
    width: _Side
    height: _Side
    area: _Share
    confidence: _Share
    sdc: _Share = None
    circumference_mm: _Length = None
    spacing_mm: _Length = None
    ellipse_row: _Place = None
    ellipse_col: _Place = None
    ellipse_a: _Length = None
    ellipse_b: _Length = None
    ellipse_a_mm: _Length = None
    ellipse_b_mm: _Length = None
    ellipse_angle_deg: _number(0, 180) = None
    unlike: _number(0, 1e+300) = None
    post: str | None = None
    warnings: str | None = None

    @field_validator('width', 'height', 'area')
    @classmethod
    def _given(cls, v, info):
        ...
_MEND: Any
_TEXTS: Any

def _not_ours(path):
    ...

def _is_regular(path):
    ...

def _as_row(cells):
    ...

def _read_table(path):
    ...
_LOCK: Any
_JOURNAL: Any
_Digest: Any

class JournalLine(Record):
    begin: dict[_Name, str] = {}
    row: PredictionRow | None = None
    key: Annotated[str, Field(pattern='^([0-9a-f]{64})?$')] = ''
    files: list[_Digest] = Field([], max_length=3)

def _read_line(path, n, line):
    ...

def _read_journal(path):
    ...

def _settings(predictor, spacing):
    ...

def _result_files(out, name):
    ...

def _is_done(line, path, out, settings):
    ...

def _check_free(out, names, ours):
    ...

class _Results:
    begun: Any
    call: Any
    done: Any
    file: Any
    out: Any
    rows: Any
    size: Any

    def __init__(self, out):
        ...

    def __enter__(self):
        ...

    def __exit__(self, *error):
        ...

    def names(self):
        ...

    def begin(self, paths, settings):
        ...

    def _append(self, doc):
        ...

    def add(self, row, key, files):
        ...

    def finish(self):
        ...

def _open_journal(path, size):
    ...

def _sweep(out, names):
    ...

def _warnings(predictor, img, unlike):
    ...

def predict_file(predictor, path, out, name: str, spacing: float | None=...) -> dict:
    ...

def _predict_one(predictor, path, out, name, spacing=...):
    ...

def _save_pictures(out, name, img, heat, mask):
    ...

def is_one_region(post) -> bool:
    ...

def measure_ellipse(mask, spacing: float=...) -> dict:
    ...

def measure(heatmap, mask, spacing: float=..., components: int=..., one: bool=...) -> dict:
    ...

def known_spacing(picture) -> float:
    ...

def _largest_difference(onnx, weights, entry, size, network=...):
    ...

def _exportable(model, size):
    ...

def export(weights=..., out=..., tolerance: float=..., network=...) -> dict:
    ...
STEPS: Any

def _onnx_contract(weights, size, difference, sha256):
    ...

def _check_export(weights, out):
    ...

@contextmanager
def _export_folder(out):
    ...

def _exported(contract):
    ...

def _check_replaced(out):
    ...

def _has_our_names(path):
    ...

def _check_pair(onnx, contract):
    ...
