# Written by tools/stubs.py: edit the notebook, then run `make export`.
from typing import Any
__all__ = ['ANNOTATIONS', 'FORMAT', 'KINDS', 'AFFINE', 'WORK', 'TABLES', 'REMAKE', 'MOST_PIXELS', 'MAY_BE_EMPTY', 'FLOATS', 'TEXT', 'declared_kind', 'enclosed_share', 'looks_like', 'find_kind', 'get_kind', 'check_kind', 'choose_mask', 'to_mask', 'close_border', 'to_canvas', 'to_input', 'hull_change', 'check_kinds', 'check_region', 'case_key', 'prepare_case', 'NotedCase', 'to_line', 'to_png', 'save_png', 'read_mask', 'commit', 'Journal', 'replay', 'prepare', 'CaseRow', 'PreparedAbout', 'read_about', 'read_cases', 'case_path', 'find_changes', 'read_manifest', 'check_digests', 'PreparedCase', 'read_prepared']
import csv, io, json, math, os, platform, re, shutil, warnings
from collections import defaultdict
from contextlib import contextmanager
from fastcore.basics import patch
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal
import numpy as np, pandas as pd
from PIL import Image
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from .bounds import limit
from .core import InputError, NotFoundError, WriteError, atomic_path, check_exists, counted, digest, digest_file, folder_lock, inside, plain, pmap, read_text, to_csv, to_json, unguard, write_json, write_text, writing
from .data import ANNOTATION, LAYOUTS, SPLITS, Layout, add_exams, annotation_digest, find_cases, given_exams, given_spacing, raise_all, read_pair, settle_region, split_cases
from .geometry import CANVAS, MODES, bounding_box, dice, edge_points, fill, fit_affine, fit_ellipse, in_ellipse, invert, outer_edge, warp, warp_mask
from .images import read_img, scale_intensity, to_uint8
from .labels import BACKGROUND, check_classes, read_labels, region_name
from .schema import Record, Row, fault_text, read_record, read_rows
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
TABLES: Any
REMAKE: Any

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

def _log(path, record):
    ...

def _stage(path, data):
    ...

def _find(case, known, raw, out, recipe):
    ...

def _file_key(case, raw, recipe):
    ...

def _lies(name, key, at, kind):
    ...
MOST_PIXELS: Any

def _file_name(name):
    ...

def _few_pixels(width, info):
    ...
_NUMBER: Any

def _digits(v):
    ...
_number: Any
_whole: Any
_FileName: Any
_Digest: Any
_Side: Any
_Scale: Any
_Area: Any
_Offset: Any
_empty: Any
_Bits: Any
_Share: Any
_Change: Any
_Spacing: Any

class _Measured(BaseModel):
    case: _FileName
    height: _Side
    width: _Side
    scale_row: _Scale
    scale_col: _Scale
    offset_row: _Offset
    offset_col: _Offset
    mode: str = ''
    bits: _Bits = None
    image_sha256: _Digest = ''
    annotation_sha256: _Digest = ''
    image_file_sha256: _Digest = ''
    annotation_file_sha256: _Digest = ''
    dhash: Annotated[str, Field(pattern='^([0-9a-f]{16})?$')] = ''
    look: Annotated[str, Field(pattern='^([A-Za-z0-9._]{256})?$')] = ''
    method: str = ''
    disagreement: _Share = None
    enclosed: _Share = None
    change: _Change = None
    area: _Area = None
    spacing_row: _Spacing = None
    spacing_col: _Spacing = None

    @field_validator('width')
    @classmethod
    def _few(cls, width, info):
        ...

class NotedCase(_Measured, Record):
    key: str
    recipe: str
    images: _Digest = ''
    masks: _Digest = ''
    full_masks: _Digest = ''

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

def _own_name(name):
    ...
_OwnName: Any
_Pair: Any

class Journal(Record):
    phase: Annotated[int, Field(ge=1, le=2)]
    park: list[_Pair]
    drop: list[_OwnName]
    place: list[_Pair]

def replay(folder) -> bool:
    ...

def _read_journal(folder, path):
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

def _check_places(out):
    ...

def _check_place(path, folder):
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

def _vouched(out):
    ...

def _lines(path, recipe):
    ...
MAY_BE_EMPTY: Any
FLOATS: Any
TEXT: Any

class CaseRow(_Measured, Row):
    split: Literal[SPLITS]
    exam: Annotated[str, Field(min_length=1)]

class PreparedAbout(Record):
    formats: Any
    size: Annotated[list[_Side], Field(min_length=2, max_length=2)]
    mode: Literal[MODES]
    digest: _Digest
    key: _Digest
    annotation: str | None = None
    annotation_by: str | None = None
    region: str | None = None
    layout: str | None = None
    split: str | None = None
    exams: str | None = None
    raw: str | None = None
    seed: int | None = None
    cases: Annotated[int | None, Field(ge=0)] = None
    left_out: list[dict] = []

    @field_validator('size')
    @classmethod
    def _few(cls, size):
        ...

def read_about(prepared) -> dict:
    ...

def read_cases(prepared) -> pd.DataFrame:
    ...

def _header(path):
    ...

def _unguarded(cases):
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

def find_changes(prepared, splits=..., kinds=...) -> list:
    ...

def _changed_tables(prepared):
    ...

def _changed_files(prepared, row, noted, kinds):
    ...

def read_manifest(prepared) -> dict:
    ...

def check_digests(prepared, splits=..., kinds=...):
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
