"""What the shipped model learns from: nothing that it is later asked about."""

import csv
from collections import Counter

import torch

from training.data import as_frames, held_out_attributes, render_clips, sample_attributes, training_attributes
from training.text_encoder import train


def test_no_held_out_combination_is_trained_on_and_a_tenth_is_held_out():
    seen, unseen = training_attributes(), held_out_attributes()
    assert not set(seen) & set(unseen)
    assert len(unseen) >= 0.1 * (len(seen) + len(unseen))


def test_every_combination_is_used_as_often_as_the_next():
    pool = training_attributes()[:7]
    counts = Counter(sample_attributes(pool, 23, seed=1))
    assert set(counts) == set(pool) and max(counts.values()) - min(counts.values()) <= 1
    assert sample_attributes(pool, 23, seed=1) != sample_attributes(pool, 23, seed=2)


def test_clips_are_drawn_by_seed_and_fit_the_autoencoder():
    clips = render_clips(training_attributes()[:2], seed=5)
    assert clips.shape == (2, 16, 3, 64, 64) and clips.dtype == torch.uint8
    assert torch.equal(clips, render_clips(training_attributes()[:2], seed=5))
    frames = as_frames(clips)
    assert frames.shape == (2, 3, 16, 64, 64) and frames.min() >= -1 and frames.max() <= 1


def test_the_text_encoder_learns_to_name_what_captions_name(tmp_path):
    train(tmp_path, steps=200, batch=64, seed=0)
    with (tmp_path / "text_encoder.csv").open() as file:
        early, late = [float(row["held_out_all_five"]) for row in csv.DictReader(file)]
    assert late > early and late > 0.5
    assert (tmp_path / "text_encoder" / "config.json").exists() and (tmp_path / "tokenizer").is_dir()
