# Written by tools/stubs.py: edit the notebook, then run `make export`.
from typing import Any
__all__ = ['ANNOTATIONS', 'FORMAT', 'KINDS', 'AFFINE', 'WORK', 'MAY_BE_EMPTY', 'FLOATS', 'TEXT', 'declared_kind', 'enclosed_share', 'looks_like', 'find_kind', 'get_kind', 'check_kind', 'choose_mask', 'to_mask', 'close_border', 'to_canvas', 'to_input', 'hull_change', 'check_kinds', 'check_region', 'case_key', 'prepare_case', 'to_line', 'to_png', 'save_png', 'read_mask', 'commit', 'replay', 'prepare', 'read_cases', 'case_path', 'PreparedCase', 'read_prepared']
import io, json, math, os, platform, re, shutil, warnings
from collections import defaultdict
from contextlib import contextmanager
from fastcore.basics import patch
from functools import partial
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pandas as pd
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from .core import InputError, NotFoundError, WriteError, atomic_path, check_exists, digest, digest_file, folder_lock, plain, pmap, read_json, to_json, write_json, write_text, writing
from .data import ANNOTATION, LAYOUTS, SPLITS, Layout, add_exams, annotation_digest, find_cases, given_exams, given_spacing, raise_all, read_pair, settle_region, split_cases
from .geometry import CANVAS, bounding_box, dice, edge_points, fill, fit_affine, fit_ellipse, in_ellipse, invert, outer_edge, warp, warp_mask
from .images import read_img, scale_intensity, to_uint8
from .labels import BACKGROUND, check_classes, read_labels, region_name
ANNOTATIONS: Any

def declared_kind(cases, layout=...) -> str:
    ...

def enclosed_share(ann) -> float:
    ...

def looks_like(ann) -> str:
    ...

def find_kind(raw, cases, region=..., workers: int=..., most: int=...) -> tuple:
    ...

def _look(case, raw, region):
    ...

def get_kind(annotation: str, raw, cases, layout=..., region=..., workers: int=...) -> tuple:
    ...

def check_kind(kind: str, known=...):
    ...

def choose_mask(ann, kind: str=...) -> tuple:
    ...

def to_mask(ann, kind: str=...) -> tuple:
    ...
SPECK: Any

def _outline_mask(ann):
    ...

def _overlap(a, b):
    ...

def _open_pieces(ann):
    ...

def _encloses(ann):
    ...

def _is_solid(piece):
    ...

def _joined(pieces):
    ...

def _shared(a, b):
    ...

def _is_one(ann):
    ...

def _one_outline(ann, alone=...):
    ...

def _near(ann, ellipse):
    ...

def _reach(ann, ellipse):
    ...

def close_border(ann, ellipse) -> np.ndarray:
    ...

def _border_walk(shape):
    ...

def to_canvas(img, size=..., mode: str=...) -> tuple:
    ...

def _to_bytes(img):
    ...

def to_input(canvas, size, intensity: str=..., part=...) -> tuple:
    ...

def hull_change(ann, mask, method: str) -> float:
    ...

def _hull_change(ann, mask, method):
    ...

def _drawn_area(ann):
    ...

def _drawn_parts(ann):
    ...

def check_kinds(records, kind: str, why: str):
    ...

def check_region(methods, region, raw, cases):
    ...
FORMAT: Any
KINDS: Any
AFFINE: Any
WORK: Any

def case_key(recipe: dict, case: str, image: str, annotation: str) -> str:
    ...

def _recipe_key(recipe):
    ...

def prepare_case(job: tuple, raw, out, recipe: dict) -> dict:
    ...

def _no_region(raw, case):
    ...

def _make(case, raw, out, recipe):
    ...

def _stage(path, data):
    ...

def _find(case, known, raw, out, recipe):
    ...

def _file_key(case, raw, recipe):
    ...

def _lies(name, key, at, kind):
    ...

def to_line(record: dict) -> str:
    ...

def to_png(img) -> bytes:
    ...

def save_png(path, img) -> Path:
    ...

def read_mask(path) -> np.ndarray:
    ...

def commit(folder, park, drop, place):
    ...

def replay(folder) -> bool:
    ...

def _move(a, b):
    ...

def prepare(raw, out, size=..., mode: str=..., seed: int=..., fractions=..., workers: int=..., split=..., exams=..., annotation: str=..., region=..., layout=..., scheduler: str | None=..., spacing=...) -> pd.DataFrame:
    ...

def _check_shape(size, mode):
    ...

def _check_words(cases, exams, split, fractions, seed, spacing):
    ...

def _check_mixed(records, raw):
    ...

def _check_folders(raw, out):
    ...

def _ours(out):
    ...

@contextmanager
def _staging(out):
    ...

def _prepare_cases(cases, raw, out, recipe, workers, scheduler):
    ...

def _known(out, recipe):
    ...

def _splits(out):
    ...

def _lines(path, recipe):
    ...
MAY_BE_EMPTY: Any
FLOATS: Any
TEXT: Any

def read_cases(prepared) -> pd.DataFrame:
    ...

def case_path(prepared, case, kind: str=...) -> Path:
    ...

def _table(cases, records, exams, split, fractions, seed, spacing=...):
    ...

def _texts(cases, records, about):
    ...

def _settle(out, cases, records, about):
    ...

def _plan(out, cases, records, texts):
    ...

def _moves(cases, records):
    ...

class PreparedCase:
    prepared: Any
    row: Any

    def __init__(self, prepared, row):
        ...

    def __getattr__(self, name):
        ...

    def __repr__(self):
        ...

    @property
    def affine(self) -> tuple:
        ...

    @property
    def shape(self) -> tuple:
        ...

    @property
    def spacing(self) -> tuple:
        ...

    def path(self, kind: str=...) -> Path:
        ...

    @property
    def canvas(self) -> np.ndarray:
        ...

    @property
    def mask(self) -> np.ndarray:
        ...

    @property
    def full_mask(self) -> np.ndarray:
        ...

    def original(self) -> np.ndarray:
        ...

def read_prepared(prepared, split: str | None=...) -> list:
    ...
