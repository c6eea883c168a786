# Written by tools/stubs.py: edit the notebook, then run `make export`.
from typing import Any
__all__ = ['FINDINGS', 'FLAGS', 'NOTES', 'MOST_NOTE', 'SWATCHES', 'MARKS', 'EXPECTED', 'SCORES', 'VARIABLE', 'POLICY', 'Look', 'look_at', 'get_table', 'read_findings', 'join_scores', 'natural', 'sort_keys', 'pick', 'read_notes', 'waiting_lock', 'save_note', 'scores_key', 'kept_path', 'read_kept', 'keep_scores', 'option_text', 'cards_html', 'case_html', 'findings_html', 'get_ui', 'arrange', 'Explorer', 'wheel_zoom', 'drag', 'watch_pointer', 'resolve', 'find_beside', 'run_folders', 'find_evaluations', 'explore', 'show_app', 'app_template', 'get_app', 'serve']
import json, os, re, secrets, shutil, tempfile, time, webbrowser
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, NamedTuple
import ipywidgets as W, numpy as np, pandas as pd
from fastcore.basics import patch
from pydantic import BeforeValidator, Field
from .core import ASSETS, InputError, atomic_path, check_exists, digest, digest_file, folder_lock, inside, progress, read_json, to_csv, unguard, write_text
from .data import SPLITS
from .metrics import read_scores, score
from .predict import Predictor, contract_path, find_weights, soft_dice_confidence
from .preprocess import PreparedCase, read_cases
from .report import CONTOURS, LAYERS, draw_layers, esc, hex_colour, img_bytes, line_width, shorten, view, window
from .schema import Row, check_record, read_rows
from .seen import HOW
from .verify import FindingsFile

class Look(NamedTuple):
    img: np.ndarray
    truth: np.ndarray
    heat: np.ndarray | None

def look_at(case, predictor=...) -> Look:
    ...

def get_table(cases, scores=..., findings=...) -> pd.DataFrame:
    ...
FINDINGS: Any
_FINDINGS_REMEDY: Any

def read_findings(path) -> pd.DataFrame:
    ...

def join_scores(*tables) -> pd.DataFrame | None:
    ...

def natural(names) -> pd.Series:
    ...

def sort_keys(table) -> list:
    ...

def pick(table, by: str=..., descending: bool=..., split: str=..., names=...) -> pd.DataFrame:
    ...
FLAGS: Any
NOTES: Any
MOST_NOTE: Any

class _Note(Row):
    case: str
    flag: str
    note: str
    time: str

def _check_notes(path, notes):
    ...

def read_notes(path) -> pd.DataFrame:
    ...

@contextmanager
def waiting_lock(path, seconds: float=...):
    ...

def save_note(path, case: str, flag: str=..., note: str=...) -> pd.DataFrame:
    ...

def scores_key(predictor, prepared) -> str | None:
    ...

def kept_path(notes) -> Path:
    ...
_KEPT_REMEDY: Any
_Share: Any

class _Kept(Row):
    case: str = Field(min_length=1)
    key: str = Field(min_length=1)
    dice: _Share
    sdc: _Share = None

def read_kept(path, key: str | None=...) -> pd.DataFrame | None:
    ...

def keep_scores(path, key: str, scores):
    ...
_STYLE: Any
_ORANGE: Any
_BLUE: Any
SWATCHES: Any
MARKS: Any

def _value_text(v):
    ...

def option_text(case: str, value=..., flag: str=..., width: int=...) -> str:
    ...
EXPECTED: Any

def _card(k, v, note=..., name=..., title=...):
    ...

def cards_html(scores: dict) -> str:
    ...

def case_html(row, place: str=..., seen: str=...) -> str:
    ...

def findings_html(found) -> str:
    ...
_FLAG_OPTIONS: Any

def _slider(name, low, high, value, step, fmt=..., kind=..., **kw):
    ...

def _dropdown(name, options):
    ...

def _button(name):
    ...

def _list_widgets(splits, checks):
    ...

def _picture_widgets(threshold):
    ...

def _note_widgets():
    ...

def get_ui(predicts: bool, splits, checks, threshold: float=...) -> SimpleNamespace:
    ...
_TITLE: Any

def _box(kind, names, *children):
    ...

def _picture_column(ui):
    ...

def _control_column(ui):
    ...

def arrange(ui) -> W.VBox:
    ...

class Explorer:
    by: Any
    case: Any
    cases: Any
    centre: Any
    findings: Any
    key: Any
    known: Any
    listed: Any
    load: Any
    look: Any
    mask: Any
    message: Any
    notes: Any
    notes_path: Any
    pointer: Any
    predictor: Any
    prepared: Any
    quiet: Any
    rows: Any
    scores: Any
    scores_path: Any
    seen: Any
    split: Any
    table: Any
    ui: Any
    widget: Any
    zoom: Any

    def __init__(self, prepared, predictor=..., scores=..., findings=..., notes=..., split: str | None=..., keep: int=...):
        ...

    def _ipython_display_(self):
        ...

    def _read_cases(self, findings):
        ...

    def _read_files(self, notes, scores):
        ...

    def _build(self, split):
        ...

    def _wire(self):
        ...

    def _try(self, f):
        ...

    def _say(self, text, warn=...):
        ...

    def _quietly(self):
        ...

    def _retable(self):
        ...

    def _flags(self):
        ...

    def _names(self):
        ...

    def _relist(self, _=...):
        ...

    def _options(self):
        ...

    def step(self, by: int=...):
        ...

    def _unscored(self):
        ...

    def _score(self, heat, mask, truth):
        ...

    def _score_case(self, name):
        ...

    def score_listed(self):
        ...

    def _add(self, new):
        ...

    def _show(self, _=...):
        ...

    def _show_none(self):
        ...

    def _read_notes(self):
        ...

    def _show_note(self, name):
        ...

    def _open(self):
        ...

    def _compare(self, name):
        ...

    def _predict(self, _=...):
        ...

    def figure(self) -> np.ndarray:
        ...

    def _draw(self, _=...):
        ...

    def _move(self, change=...):
        ...

    def save(self, path=...) -> Path:
        ...

    def reset(self):
        ...

    def judge(self, flag: str=..., note: str=...) -> pd.DataFrame:
        ...

    def _note(self, _=...):
        ...

    def _set_case(self, name):
        ...

    def _set_layers(self, names):
        ...

    def _set_centre(self, rc):
        ...

    def _zoom_to(self, zoom, centre):
        ...

def _ends(w):
    ...

def _check_value(name, w, v):
    ...

def _state(name, widget=...):
    ...

def wheel_zoom(zoom: float, centre, at, turns: float, most: float=...) -> tuple:
    ...

def drag(zoom: float, centre, start, at) -> tuple:
    ...
_EVENTS: Any

def _handle(explorer, drags, e):
    ...

def watch_pointer(explorer):
    ...

def resolve(run_or_weights=..., prepared=...) -> tuple:
    ...

def find_beside(name: str, *folders) -> Path | None:
    ...

def run_folders(run) -> tuple:
    ...
SCORES: Any

def _is_of(how, predictor):
    ...

def find_evaluations(predictor, prepared) -> pd.DataFrame | None:
    ...

def explore(run_or_weights=..., prepared=..., notes=..., scores=..., findings=..., split: str | None=...) -> Explorer:
    ...
VARIABLE: Any
_REFUSAL: Any

def show_app():
    ...

@contextmanager
def app_template(variables: dict):
    ...

def _identity():
    ...

def _handlers():
    ...

def _kernels():
    ...

def _app_class(token, started):
    ...
POLICY: Any
_HEADERS: Any
_EXTENSIONS: Any

def _app_config(port, token, theme):
    ...

def get_app(port: int, token: str, theme: str=..., started=...):
    ...

def _as_list(paths):
    ...

def _absolute(paths):
    ...

def _check_served(run, prepared, notes, scores, findings, split, theme):
    ...

def _run_app(app):
    ...
_WHERE: Any

def serve(run_or_weights=..., prepared=..., port: int=..., notes=..., scores=..., findings=..., split: str | None=..., theme: str=..., browser: bool=..., say=...):
    ...
