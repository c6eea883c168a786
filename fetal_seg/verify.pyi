# Written by tools/stubs.py: edit the notebook, then run `make export`.
from typing import Any
__all__ = ['SEVERITIES', 'CHECKS', 'MEASURES', 'SPECK_PX', 'THIN', 'FILLED', 'Finding', 'MeasuredFolder', 'Check', 'add_check', 'each_case', 'run_checks', 'Parts', 'raw_parts', 'prepared_parts', 'add_measure', 'is_prepared', 'see', 'thinness', 'filled_share', 'pieces', 'robust_z', 'strokes', 'contrast', 'edge_band', 'duplicates', 'near_pairs', 'correlation', 'alike', 'regions_differ', 'name_rule', 'plot_distributions', 'Verification', 'FindingsFile', 'verify']
import math, sys, warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, NamedTuple
import numpy as np, pandas as pd
from fastcore.basics import patch
from PIL import Image
from scipy import ndimage, sparse
from .core import InputError, counted, digest, pmap, printable, write_json, write_text
from .copies import copy_groups, look
from .data import SPLITS, add_exams, by_study, few_exams, find_cases, named_exams, read_pair, settle_region, split_cases
from .exchange import is_entry, read_entry
from .images import dhash, read_img, read_picture, to_uint8
from .labels import check_classes, read_annotation, read_classed, region_name
from .geometry import circumference, edge_points, fill, fit_ellipse, picture_part, warp_mask
from .preprocess import AFFINE, KINDS, case_path, check_kind, check_region, enclosed_share, find_changes, get_kind, hull_change, read_about, read_cases, read_manifest, to_mask
from .results import check_ours
from .schema import Record
SEVERITIES: Any
_REMAKE: Any

class Finding(NamedTuple):
    case: str
    value: str
    remedy: str = None
    also: tuple = ()

@dataclass
class MeasuredFolder:
    cases: pd.DataFrame
    info: dict = field(default_factory=dict)
    kind: str = 'prepared'
    others: pd.DataFrame = None
    margin: float = 0.2
    least_d: float = 0.05
    least_edge: float = 0.2
    most_z: float = 3.5

    @cached_property
    def pictures(self) -> pd.DataFrame:
        ...

    @cached_property
    def alike(self) -> list:
        ...

    @cached_property
    def copies(self) -> list:
        ...

def _positions(group):
    ...

@dataclass
class Check:
    name: str
    reason: str
    severity: str
    remedy: dict
    find: Callable
CHECKS: Any

def add_check(severity: str, remedy: str, raw: str | None=..., checks: dict | None=..., reason: str | None=...):
    ...

def each_case(cases: pd.DataFrame, say: Callable) -> list:
    ...

def run_checks(seen: MeasuredFolder, checks: dict | None=...) -> pd.DataFrame:
    ...

class Parts(NamedTuple):
    img: np.ndarray
    mask: np.ndarray
    full: np.ndarray
    facts: dict
    problems: list

def _wxh(shape):
    ...

def _try_picture(raw, file, problems):
    ...

def _picture_facts(p):
    ...

def _try_entry(raw, entry, shape, region, problems):
    ...

def _try_mask(raw, file, shape, region, problems):
    ...

def _try_annotation(raw, file, shape, region, problems):
    ...

def _diagnose(case, raw, region=...):
    ...

def _raw_mask(case, ann, kind, facts, problems):
    ...
_COLOURED: Any

def _colour_share(path, mode):
    ...

def raw_parts(case: dict, raw, kind: str=..., region=...) -> Parts:
    ...

def _read_part(prepared, case, kind):
    ...

def _dice(a, b):
    ...

def prepared_parts(case: dict, prepared, size) -> Parts:
    ...
MEASURES: Any

def add_measure(needs: str, gives: str):
    ...

def _thumbnail(img):
    ...

def _measure_case(case, read):
    ...

def _measure_rows(rows, read):
    ...

def _measure_cases(table, read, workers=..., rows=...):
    ...
_NEEDED: Any
_KEPT: Any

def _check_table(file, cases):
    ...

def _read_prepared(prepared):
    ...

def _split_of(cases, exams=..., split=..., seed=..., fractions=...):
    ...
_LOOKS: Any

def _look_at(file, raw):
    ...

def _unannotated_pictures(raw, left, workers):
    ...
_READ: Any

def _see_raw(raw, workers=..., layout=..., exams=..., split=..., seed=..., fractions=..., annotation=..., region=..., **limits):
    ...

def is_prepared(folder) -> bool:
    ...
_OPTIONS: Any

def see(folder, workers: int=..., **options) -> MeasuredFolder:
    ...

def _add_table(severity, find, **table):
    ...

def _problems_of(s, name):
    ...

@add_check('error', 'say which is the region: --region VALUE, or --region any for all')
def _check_mixed_classes(s):
    ...

def _left_out(s, *kinds):
    ...

def _unannotated(s):
    ...

def _as_findings(left):
    ...

@add_check('warning', 'look for its other half', reason='A picture without annotation among others that have one, or an annotation without picture, is not used.')
def _check_missing_pair(s):
    ...
_KIND_OF: Any

def _left_out_as(s, name):
    ...

@add_check('warning', 'download or copy the file again, or take it out')
def _check_unreadable_unannotated(s):
    ...

@add_check('note', 'nothing to do: they can be predicted on')
def _check_unannotated_class(s):
    ...

@add_check('error', _REMAKE)
def _check_changed_file(s):
    ...

@add_check('note', _REMAKE + '; then files that change are found')
def _check_contents_unknown(s):
    ...

def thinness(mask) -> float:
    ...

def _bounding_box(mask, grow=...):
    ...

def filled_share(mask) -> float:
    ...

def _piece_sizes(mask):
    ...

def pieces(mask) -> tuple:
    ...
SPECK_PX: Any

def _count_specks(mask):
    ...

def _border_share(mask):
    ...

def _centroid(mask):
    ...

@add_measure('full', 'full_area border row col pieces crumbs specks thinness filled_share')
def _measure_mask(full):
    ...

@add_measure('mask', 'mask_area mask_thinness mask_filled_share')
def _measure_canvas_mask(mask):
    ...
_NONE_IS_RIGHT: Any

@add_check('note', 'nothing to do')
def _check_no_region(s):
    ...

@add_check('warning', 'draw the annotation, or keep it if there really is no region')
def _check_empty_mask(s):
    ...
THIN: Any
FILLED: Any

def _are_outlines(s):
    ...

@add_check('error', _REMAKE + '; if it stays so, draw the annotation anew', raw='draw the annotation anew, as a closed outline or filled')
def _check_hollow_mask(s):
    ...

@add_check('note', 'nothing to do; look at it if its score is low')
def _check_hollow_closed(s):
    ...

@add_check('warning', 'look at the picture: is the region where it should be? If not, draw the annotation anew', reason='A region that was closed or fitted, and is a fifth larger or smaller than what was drawn, is in part a guess.')
def _check_changed_area(s):
    ...
_DRAWN: Any

@add_check('warning', 'if they are outlines, prepare them as such: fetal_seg_prepare --annotation outline')
def _check_filled_or_outline(s):
    ...

@add_check('note', 'nothing to do; look at it if its score is low', reason='An outline among filled annotations, or a filled one among outlines, was made by another hand.')
def _check_mixed_annotations(s):
    ...

@add_check('warning', 'take the specks out of the annotation, or keep them if there really are several regions')
def _check_several_pieces(s):
    ...

@add_check('warning', 'swap region and background in the annotation')
def _check_inverted_mask(s):
    ...

@add_check('note', 'nothing to do; look at it if its score is low')
def _check_touches_border(s):
    ...

@add_check('note', 'nothing to do; look at it if its score is low')
def _check_near_border(s):
    ...

def robust_z(x, least: float=...) -> np.ndarray:
    ...

@add_check('warning', 'look whether the annotation is the region, at the right scale')
def _check_area_outlier(s):
    ...

@add_measure('img', 'low high p99 white')
def _measure_levels(img):
    ...

@add_check('error', 'take it out, or find the picture that belongs there')
def _check_constant(s):
    ...

@add_check('warning', 'see whether values of 12 bits lie in a file of 16: scale them when you export')
def _check_nearly_black(s):
    ...

@add_check('warning', 'export it with less gain')
def _check_saturated(s):
    ...

@add_check('note', 'nothing to do: it is read as grey, by its type')
def _check_other_mode(s):
    ...

@add_check('warning', 'see what the colour is; take the mark out, or the picture')
def _check_colour(s):
    ...

def strokes(img, jump: int=..., widest: int=...) -> np.ndarray:
    ...

@add_measure('img', 'across down')
def _measure_strokes(img):
    ...

@add_check('warning', 'cover it, or leave the picture out; see that no name of a patient is in it')
def _check_burned_in(s):
    ...

def contrast(img, mask) -> tuple:
    ...

def edge_band(mask, share: float=...) -> np.ndarray:
    ...

@add_measure('img mask', 'diff cohen_d edge_diff edge_d')
def _measure_contrast(img, mask):
    ...

@add_check('note', 'nothing to do; if there are many, see whether masks and pictures belong together')
def _check_low_contrast(s):
    ...

@add_check('warning', 'look whether the outline follows the edge; draw it anew where it does not', reason='Where inside and outside of the boundary look alike, there is no edge, or the annotation is beside it.')
def _check_faint_edge(s):
    ...
_TELLS: Any

def _pictures_of(s):
    ...

def _n_splits(group):
    ...

def _n_classes(group):
    ...

def _group(group, why):
    ...

@add_check('error', f'mix no folders of two runs; {_REMAKE}, which splits by exam', raw='let prepare split by exam (--split hash), or move all pictures of an exam to one split')
def _check_exam_in_two_splits(s):
    ...

@add_check('warning', 'name them: --exams CSV or --exams REGEX of fetal_seg_prepare')
def _check_exam_unknown(s):
    ...

@add_check('warning', 'name the patients: --exams CSV or --exams REGEX of fetal_seg_prepare', reason='A header that names the study and no patient: two visits of one patient count as two exams, and may lie on both sides.')
def _check_exam_by_study(s):
    ...

@add_check('warning', 'add cases of other exams, or give a share of 0 to a split that is not wanted: --fractions of fetal_seg_prepare')
def _check_too_few_exams(s):
    ...

def duplicates(pictures) -> list:
    ...
_ONE_ALONE: Any
_ONE_CLASS: Any

def _same_pixels(s, fits):
    ...

@add_check('error', **_ONE_ALONE)
def _check_duplicate_in_two_splits(s):
    ...

@add_check('warning', _ONE_CLASS)
def _check_duplicate_in_two_classes(s):
    ...

@add_check('warning', 'keep the one with the better annotation')
def _check_duplicate(s):
    ...

def _count_bits(x):
    ...

def near_pairs(hashes, bits: int=...) -> np.ndarray:
    ...

def correlation(a: bytes, b: bytes) -> float:
    ...

def _connected(links, n):
    ...

def alike(hashes, thumbs, bits: int=..., least: float=...) -> list:
    ...

def _several_versions(s, groups):
    ...

def _near(s, fits):
    ...

@add_check('error', **_ONE_ALONE)
def _check_near_duplicate_in_two_splits(s):
    ...

@add_check('warning', _ONE_CLASS)
def _check_near_duplicate_in_two_classes(s):
    ...

@add_check('note', 'nothing to do: they count more than once, in one split')
def _check_near_duplicate(s):
    ...

@add_check('warning', 'find the annotation that was drawn on each picture')
def _check_same_annotation(s):
    ...

@add_check('note', 'if you know the patients, name them: --exams CSV or --exams REGEX of fetal_seg_prepare', reason='Nobody says which exam these pictures are of; near duplicates were taken for one exam, so that none is on both sides of a split.')
def _check_exams_of_copies(s):
    ...

def regions_differ(group, ratio: float=..., apart: float=...) -> bool:
    ...

def _copies(s):
    ...

def _beyond(groups, *said):
    ...

def _copies_of(group, said):
    ...

@add_check('error', **_ONE_ALONE)
def _check_copies_in_two_splits(s):
    ...

@add_check('warning', _ONE_CLASS)
def _check_copies_in_two_classes(s):
    ...

@add_check('warning', 'look at them side by side, and keep the one with the better annotation')
def _check_copies_differ(s):
    ...

def _usual_size(cases):
    ...

@add_check('note', 'nothing to do')
def _check_odd_size(s):
    ...

@add_check('note', 'nothing to do: they were paired by name')
def _check_across_folders(s):
    ...

def _is_hc18(cases):
    ...

@add_check('note', 'call the region what it is: a fetal head')
def _check_label_provenance(s):
    ...

@add_measure('full', 'ellipse_px')
def _ellipse_px(full):
    ...
_UNITS: Any

def _sized(r):
    ...

@add_check('warning', "correct the size of a pixel in the raw folder's table, or give it: fetal_seg_prepare --spacing")
def _check_size_against_circumference(s):
    ...

def _pairs_of(keys):
    ...

def name_rule(cases) -> dict:
    ...

def _names(found):
    ...

def _near_border(s):
    ...

def _summarise(s):
    ...

def _exam_facts(s):
    ...

def _case_facts(s):
    ...

def _get_facts(s):
    ...

def _files_of(s, folder, name):
    ...

def _drawn_mask(file, shape):
    ...

def _show_case(s, folder, name, marks=...):
    ...

def _finding_figures(v, f, width):
    ...

def _html_findings(v, few=..., width=...):
    ...

def _plot_shares(ax, x, bins, **style):
    ...

def _plot_areas(ax, c, colours):
    ...

def _plot_contrasts(ax, c, colours, least):
    ...

def _plot_centroids(ax, c, m):
    ...

def _finish(ax, title, x, y, room=...):
    ...

def plot_distributions(s: MeasuredFolder, width: float=...):
    ...

@dataclass(repr=False)
class Verification:
    findings: pd.DataFrame
    summary: pd.DataFrame
    facts: dict
    checks: dict
    folder: str
    seen: MeasuredFolder

    @property
    def ok(self) -> bool:
        ...

    @property
    def counts(self) -> str:
        ...

    def __str__(self):
        ...

    def __repr__(self):
        ...

    @property
    def about_labels(self) -> str:
        ...

    @property
    def checked(self) -> pd.DataFrame:
        ...

    def to_dict(self) -> dict:
        ...

    def save(self, path) -> Path:
        ...

    def save_html(self, path, few: int=...) -> Path:
        ...

    def print(self, few: int=...):
        ...

class _Listed(Record):
    check: str
    severity: Literal[SEVERITIES]
    case: str = ''
    value: str = ''
    remedy: str = ''
    also: list[str] | None = None

class FindingsFile(Record):
    findings: list[_Listed]

def _cards(v):
    ...

def _splits_section(v):
    ...

def _pictures_section(v, few):
    ...

def _head(v):
    ...

def _finding_lines(v, severity, name, g, few):
    ...

def _format_report(v, few=...):
    ...

def verify(folder, workers: int=..., checks: dict | None=..., **options) -> Verification:
    ...
