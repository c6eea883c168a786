# Written by tools/stubs.py: edit the notebook, then run `make export`.
from typing import Any
__all__ = ['RECIPE', 'PAPER', 'BASELINE', 'PRESETS', 'LOGGERS', 'case_counts', 'CaseMetric', 'MeanDice', 'MinDice', 'PooledDice', 'MeanIoU', 'PooledIoU', 'RegionDice', 'FalseAlarm', 'ChannelsLast', 'SegLearner', 'get_metrics', 'get_learner', 'Mirrored', 'EMA', 'set_seeds', 'EpochSeed', 'RunFolder', 'save_weights', 'EpochRow', 'ScalerRecord', 'Checkpoint', 'SmallFirst', 'Bar', 'get_recipe', 'get_augment', 'RowLogger', 'TensorBoard', 'WandB', 'get_loggers', 'train', 'get_network', 'get_callbacks', 'data_facts', 'note_seen', 'overfit_one', 'FoundLR', 'find_lr']
import json, math, os, platform, random, secrets, shutil, sys, tempfile, time
import torch.nn.functional as F
import fastai, fastai.callback.schedule
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
import numpy as np, pandas as pd, torch
from torch import nn
from fastai.callback.core import Callback, CancelFitException, CancelValidException
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.training import GradientClip
from fastai.learner import CancelBackwardException, CancelStepException, Learner, Metric
from fastai.optimizer import SGD, Adam, average_grad, average_sqr_grad, step_stat
from fastcore.basics import noop, patch
from fastcore.foundation import L
from functools import partial
from importlib.util import find_spec
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
import fetal_seg
from .core import SHIPPED, InputError, atomic_path, check_exists, digest, digest_file, hold_folder, inside, read_text, to_json, write_json, write_text
from .distributed import distributed, get_rank, share, unwrap
from .images import INTENSITIES
from .loaders import Augment, get_block, get_dls
from .losses import BCEDiceLoss, fit_loss, get_loss, like
from .networks import NETWORKS, build_network, check_device, factory_name, fit_network, load_network, network_entry
from .preprocess import read_about, read_cases
from .runs import check_finite, check_weights, read_contract, read_log, read_training
from .schema import Record, check_record
from .seen import Seen, read_seen, seen_cases
from .tiles import Tiles
from .unet import TwoPaths, UNet

def case_counts(logits, targ) -> tuple:
    ...

class CaseMetric(Metric):
    counts: Any

    def reset(self):
        ...

    def accumulate(self, learn):
        ...

    @property
    def table(self):
        ...

    @property
    def value(self):
        ...

def _ratio(a, b):
    ...

class MeanDice(CaseMetric):
    name: Any

    def cases(self):
        ...

    def figure(self):
        ...

class MinDice(MeanDice):
    name: Any

    def figure(self):
        ...

class PooledDice(CaseMetric):
    name: Any

    def figure(self):
        ...

class MeanIoU(CaseMetric):
    name: Any

    def figure(self):
        ...

class PooledIoU(CaseMetric):
    name: Any

    def figure(self):
        ...

class RegionDice(MeanDice):
    name: Any

    def figure(self):
        ...

class FalseAlarm(CaseMetric):
    name: Any

    def figure(self):
        ...

class ChannelsLast(Callback):
    order: Any

    def before_fit(self):
        ...

    def before_batch(self):
        ...

class SegLearner(Learner):
    loss: Any
    loss_grad: Any
    pred: Any
    xb: Any
    yb: Any
    parts: Any
    part: Any

    def _do_one_batch(self):
        ...

    def _in_parts(self, xb, yb):
        ...

    def tta(self, ds_idx: int=..., dl=..., n: int=...) -> tuple:
        ...

def get_metrics(dls) -> list:
    ...

def get_learner(dls, model=..., loss=..., wd: float=..., cbs=..., opt_func=...) -> SegLearner:
    ...

class Mirrored(Callback):

    def before_batch(self):
        ...

    def after_pred(self):
        ...

class EMA(Callback):
    avg: Any
    decay: Any
    held: Any
    n: Any
    order: Any

    def __init__(self, decay: float=...):
        ...

    def live(self):
        ...

    def before_fit(self):
        ...

    def after_step(self):
        ...

    def state_dict(self):
        ...

    def load_state_dict(self, s):
        ...

    def before_validate(self):
        ...

    def put_back(self):
        ...

    def after_epoch(self):
        ...

    def after_cancel_validate(self):
        ...

def _like(t, weight):
    ...

def set_seeds(seed: int, dls=...):
    ...

class EpochSeed(Callback):
    seed: Any
    order: Any

    def __init__(self, seed: int=...):
        ...

    def before_train(self):
        ...

class RunFolder(Callback):
    best: Any
    ema: Any
    losses: Any
    next: Any
    patience: Any
    rows: Any
    run: Any
    scaler: Any
    t: Any
    order: Any

    def __init__(self, run, ema: EMA, patience: int | None=...):
        ...

    def before_fit(self):
        ...

    def before_train(self):
        ...

    def after_batch(self):
        ...

    def after_epoch(self):
        ...

    def after_validate(self):
        ...

    def write(self):
        ...

    def write_log(self):
        ...

    def resume(self, learn):
        ...

    def since_best(self) -> int:
        ...

    def done(self, epochs: int) -> bool:
        ...

    def finished(self, epochs: int) -> bool:
        ...

def save_weights(path, model) -> Path:
    ...
_Figure: Any

class EpochRow(Record):
    __pydantic_extra__: dict[str, _Figure]
    epoch: Annotated[int, Field(ge=0)]
    dice: Annotated[float, Field(ge=0, le=1)]

class ScalerRecord(Record):
    scale: Annotated[float, Field(gt=0)]
    growth_factor: Annotated[float, Field(gt=1)]
    backoff_factor: Annotated[float, Field(gt=0, lt=1)]
    growth_interval: Annotated[int, Field(ge=1)]
    growth_tracker: Annotated[int, Field(ge=0, alias='_growth_tracker')]

class Checkpoint(Record):
    formats: Any
    next: Annotated[int, Field(ge=1, le=10 ** 6)]
    best: Annotated[float, Field(ge=-1, le=1)]
    rows: list[EpochRow]
    average_steps: Annotated[int, Field(ge=0)]
    optimizer: list[dict[str, bool | int | float]]
    hypers: list[dict[str, float]]
    scaler: ScalerRecord | None

def _tensors(model, average, opt):
    ...

def _as_text(v):
    ...

def _record(keep, learn):
    ...

def _read_checkpoint(f, learn):
    ...

def _wanted(record, learn, tensors):
    ...

def _kind(t):
    ...

def _check_fits(record, tensors, learn, fault):
    ...

class SmallFirst(Callback):
    stages: Any
    order: Any

    def __init__(self, stages=...):
        ...

    def factor(self):
        ...

    def before_batch(self):
        ...

class Bar(Callback):
    desc: Any
    steps: Any
    tty: Any
    order: Any

    def __init__(self, desc: str=...):
        ...

    def before_fit(self):
        ...

    def before_train(self):
        ...

    def after_batch(self):
        ...

    def after_epoch(self):
        ...

    def after_fit(self):
        ...
RECIPE: Any
PAPER: Any
BASELINE: Any
PRESETS: Any

def get_recipe(preset: str=..., **changes) -> dict:
    ...

def _check_numbers(recipe):
    ...

def _check_scale(scale):
    ...

def _check_choices(recipe):
    ...

def _own_entries(network):
    ...

def _check_network(recipe):
    ...

def _check_sides(name, sides, depth):
    ...

def _augment_arguments(given):
    ...

def _augment_entries(given, scale, asked):
    ...

def get_augment(recipe: dict) -> Augment:
    ...

class RowLogger(Callback):
    folder: Any
    sent: Any
    writer: Any
    order: Any

    def __init__(self, folder):
        ...

    def open(self) -> int:
        ...

    def write(self, row: dict):
        ...

    def close(self):
        ...

    def give(self, rows):
        ...

    def before_fit(self):
        ...

    def after_epoch(self):
        ...

    def after_fit(self):
        ...

    def replay(self, rows):
        ...

def _missing(name):
    ...

class TensorBoard(RowLogger):
    writer: Any

    def __init__(self, folder):
        ...

    def open(self):
        ...

    def write(self, row):
        ...

    def close(self):
        ...
_WANDB: Any

class WandB(RowLogger):
    writer: Any

    def __init__(self, folder):
        ...

    def open(self):
        ...

    def write(self, row):
        ...

    def close(self):
        ...

    def name_of_run(self) -> str:
        ...

    def start(self, resume):
        ...
LOGGERS: Any

def get_loggers(names, run) -> list:
    ...

def train(prepared, run, preset: str=..., seed: int=..., init=..., desc: str=..., device=..., cbs=..., loggers=..., check: bool=..., model=..., **changes) -> pd.DataFrame:
    ...

def _named(model):
    ...

def _finish(run, learn, log):
    ...

def _write_onnx(run, net):
    ...
_OURS: Any

@contextmanager
def _held(run):
    ...

def _check_free(run):
    ...

def _fit(learn, keep, recipe, loggers):
    ...

def _save_curve(log, path):
    ...
_RUN_FORMAT: Any

def _setup(prepared, recipe, seed, init):
    ...
_BEFORE: Any

def _check_run(run, setup):
    ...

def _weights_file(run):
    ...

def _config_of(weights):
    ...
_NETWORK: Any

def get_network(recipe: dict, init=...) -> torch.nn.Module:
    ...

def _network_args(recipe):
    ...

def _get_recipe(preset, init, changes):
    ...

def _network_of(init, changes):
    ...

def _recipe_entries(entry):
    ...

def _get_learner(prepared, recipe, seed, init, device, first=..., last=..., check=..., model=...):
    ...
_OPT: Any

def _get_tiles(recipe):
    ...

def _get_loss(recipe, dls):
    ...

def get_callbacks(recipe: dict, device) -> list:
    ...

def data_facts(prepared) -> dict:
    ...

def note_seen(run, prepared, init=...) -> Seen:
    ...

def _environment():
    ...

def _contract(model, setup, given=...):
    ...

def _entry_of(model, setup, given):
    ...

def _write_setup(run, learn, setup, prepared, keep, init, model=...):
    ...

def overfit_one(prepared, steps: int=..., model=..., loss=..., preset: str=..., case: str | None=..., goal: float=..., seed: int=..., device=..., **changes) -> pd.DataFrame:
    ...

def _one_case_dls(prepared, case, steps, recipe, device):
    ...

@contextmanager
def _kept_seeds():
    ...

class _OneCase(Callback):
    goal: Any
    rows: Any
    order: Any

    def __init__(self, goal):
        ...

    def after_loss(self):
        ...

    def after_batch(self):
        ...

    def before_validate(self):
        ...

def _unmoved():
    ...

def _remedy(curve, model):
    ...

def _check_learned(curve, goal, model):
    ...

class FoundLR(NamedTuple):
    suggestion: float
    curve: pd.DataFrame

    def figure(self, lr: float | None=...):
        ...

def find_lr(prepared, preset: str=..., steps: int=..., low: float=..., high: float=..., seed: int=..., init=..., device=..., **changes) -> FoundLR:
    ...
