# Written by tools/stubs.py: edit the notebook, then run `make export`.
from typing import Any
__all__ = ['USES', 'UNKNOWN', 'FINGERPRINT', 'HOW', 'fingerprint', 'same_picture', 'Seen', 'SeenRow', 'seen_cases', 'seen_table', 'read_seen', 'is_seen', 'judged', 'seen_note']
import re
from pathlib import Path
from typing import Annotated, Literal
import numpy as np, pandas as pd
from fastcore.basics import patch
from pydantic import Field
from .core import InputError, counted, digest, write_text
from .data import MAX_BITS, hash_distances
from .images import dhash, to_uint8
from .schema import Row, read_rows
USES: Any
UNKNOWN: Any
FINGERPRINT: Any

def fingerprint(img) -> pd.DataFrame:
    ...

def same_picture(hashes, known, chunk: int=...) -> np.ndarray:
    ...

class Seen:
    table: Any
    file: Any

    def __init__(self, table=...):
        ...

    @property
    def known(self) -> pd.DataFrame:
        ...

    def __len__(self):
        ...

    def __or__(self, other):
        ...

    @property
    def whole(self) -> bool:
        ...

    def of(self, cases) -> np.ndarray:
        ...

    def save(self, folder) -> Path:
        ...
_Hash: Any

class SeenRow(Row):
    image: _Hash
    dhash: _Hash
    use: Literal[*USES, UNKNOWN]

def seen_cases(cases, use: str | None=...) -> Seen:
    ...

def seen_table(table) -> Seen:
    ...

def _as_table(columns):
    ...

def read_seen(folder) -> Seen:
    ...

def is_seen(scores) -> np.ndarray:
    ...

def judged(scores) -> pd.DataFrame:
    ...
HOW: Any

def _were(n):
    ...

def _all_seen_note(n, how):
    ...

def seen_note(scores) -> str:
    ...
