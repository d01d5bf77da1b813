"""Trains the text encoder of `videogen-tiny`: each slot learns to name one attribute, or that it was left out.

A slot is pulled to one learned code per value (cross-entropy, plus the squared distance to the code), so every
wording of a value gives nearly the same embedding. Captions lose a fifth of their attributes at random, which is
what lets a user write "a red circle" and leave the rest to the seed.
"""

import argparse
import random
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from training.data import training_attributes
from training.loop import Log, set_learning_rate, trapezoid
from videogen.models.tiny_text_encoder import TinyTextEncoder
from videogen.models.tiny_tokenizer import TinyTokenizer
from videogen.world.grammar import FIELDS, TEMPLATES, WORDS, Attributes, combinations, is_held_out, vocabulary


def partial_caption(attributes: Attributes, keep: set[str], rng: random.Random) -> str:
    """A caption in a random wording with the attributes outside `keep` left out ("shape" leaves its article behind)."""
    words = {f: rng.choice(WORDS[f][getattr(attributes, f)]) if f in keep else "" for f in FIELDS}
    text = rng.choice(TEMPLATES).format(**words)
    if "background" not in keep:
        for lead in ("on", "over", "against"):
            for noun in ("background", "backdrop"):
                for article in ("a", "an"):
                    text = text.replace(f"{lead} {article}  {noun}", "")
    return " ".join(text.split())


def sample(pool: list[Attributes], count: int, drop: float, rng: random.Random) -> tuple[list[str], torch.Tensor]:
    """`count` captions and their labels (count, 5); the label of an attribute left out is its field's size."""
    texts, labels = [], []
    for attributes in rng.choices(pool, k=count):
        empty = rng.random() < drop / 4
        keep = set() if empty else {f for f in FIELDS if rng.random() >= drop}
        texts.append("" if empty else partial_caption(attributes, keep, rng))
        labels.append([i if f in keep else len(WORDS[f]) for f, i in zip(FIELDS, attributes.indices(), strict=True)])
    return texts, torch.tensor(labels)


class Codes(nn.Module):
    """One learned code per value of every attribute, and one for "left out"."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.codes = nn.ParameterList(nn.Parameter(torch.randn(len(WORDS[f]) + 1, width)) for f in FIELDS)

    def loss(self, slots: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        total = slots.new_zeros(())
        for index, codes in enumerate(self.codes):
            unit = F.layer_norm(codes, codes.shape[-1:])
            logits = slots[:, index] @ unit.T / slots.shape[-1] ** 0.5
            total = (
                total
                + F.cross_entropy(logits, labels[:, index])
                + (slots[:, index] - unit[labels[:, index]]).square().mean()
            )
        return total

    @torch.no_grad()
    def accuracy(self, slots: torch.Tensor, labels: torch.Tensor) -> float:
        hits = [
            (slots[:, i] @ F.layer_norm(c, c.shape[-1:]).T).argmax(1) == labels[:, i] for i, c in enumerate(self.codes)
        ]
        return float(torch.stack(hits).all(0).float().mean())


def train(out: Path, steps: int, batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer = TinyTokenizer(vocabulary())
    encoder = TinyTextEncoder(vocabulary=len(tokenizer.words) + 2)
    codes = Codes(encoder.config.width)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *codes.parameters()], lr=1e-3)
    optimiser.param_groups[0]["peak_lr"] = 1e-3
    seen, unseen = training_attributes(), [a for a in combinations() if is_held_out(a)]
    log = Log(out / "text_encoder.csv")
    for step in range(1, steps + 1):
        set_learning_rate([optimiser], trapezoid(step / steps))
        texts, labels = sample(seen, batch, 0.2, rng)
        loss = codes.loss(encoder(*map(torch.from_numpy, tokenizer(texts))), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 0:
            texts, labels = sample(unseen, 512, 0.2, random.Random(1))
            with torch.no_grad():
                slots = encoder(*map(torch.from_numpy, tokenizer(texts)))
            log.write(
                steps=step, samples=step * batch, loss=loss.item(), held_out_all_five=codes.accuracy(slots, labels)
            )
    encoder.save_pretrained(out / "text_encoder")
    tokenizer.save_pretrained(out / "tokenizer")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("var/training"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    train(**vars(parser.parse_args()))
