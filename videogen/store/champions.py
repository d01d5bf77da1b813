"""Which version of a model is served: one record per model, moved by compare-and-swap, with its whole history in it."""

import dataclasses
import json

from videogen.errors import RecordDamaged, RecordNotFound, StoreConflict
from videogen.store.primitives import Add, Is, MapPut, RecordStore, Set, Write
from videogen.store.records import Champion, ChampionMove, ServedEngine


class Champions:
    """The champion pointers of all models."""

    kind = "champion"

    def __init__(self, records: RecordStore) -> None:
        self.records = records

    def get(self, model: str) -> Champion | None:
        record = self.records.read(self.kind, model)
        return None if record is None else self._champion(model, record.count("revision"))

    def generation(self, model: str) -> int:
        """How often the pointer was moved, 0 if never."""
        record = self.records.read(self.kind, model)
        return 0 if record is None else record.count("revision")

    def promote(self, model: str, champion: Champion, expected_generation: int) -> Champion:
        """Moves the pointer if it still stands at `expected_generation` (0: there is none yet).

        Promoting what already is champion changes nothing; the same version on other engines keeps what was before
        it, so that a rollback leads to another version. Raises StoreConflict if somebody else moved it.
        """
        now = self.get(model)
        if now is not None and _same(now, champion):
            return now
        before = now and now.generation
        if now is not None and now.version_digest == champion.version_digest:
            before = self._entry(model, now.generation)["before"]
        entry = {"champion": _plain(champion), "action": "promote", "before": before}
        return self._move(model, entry, expected_generation)

    def rollback(self, model: str, expected_generation: int | None = None) -> Champion:
        """Brings back what was champion before, one step further each time. Raises RecordNotFound or StoreConflict."""
        now = self.get(model)
        before = None if now is None else self._entry(model, now.generation)["before"]
        if now is None or not before:
            raise RecordNotFound(f"{model} has no previous champion to go back to")
        target = self._entry(model, before)
        entry = {"champion": target["champion"], "action": "rollback", "before": target["before"]}
        return self._move(model, entry, now.generation if expected_generation is None else expected_generation)

    def history(self, model: str) -> list[ChampionMove]:
        """Every move of the pointer, oldest first."""
        moves = []
        for key, text in self.records.map_range(self.kind, model, limit=100_000):
            entry = json.loads(text)
            moves.append(ChampionMove(_parsed(entry["champion"], int(key)), entry["action"], entry["at"]))
        return moves

    def _move(self, model: str, entry: dict, expected: int) -> Champion:
        text = json.dumps(entry | {"at": self.records.now()}, sort_keys=True)
        operations = (Set("model", model), Add("revision", 1), MapPut(_key(expected + 1), text))
        write = Write(self.kind, model, operations, "never", Is("revision", expected))
        if expected == 0:
            write = Write(self.kind, model, operations, "only")
        if self.records.write(write) is None:
            now = self.get(model)
            where = f"at generation {now.generation} ({now.label})" if now else "not set"
            raise StoreConflict(f"{model}: the champion pointer is {where}, not at generation {expected}")
        self.records.flush()
        return self._champion(model, expected + 1)

    def _champion(self, model: str, revision: int) -> Champion:
        entry = self._entry(model, revision)
        champion = _parsed(entry["champion"], revision)
        if not entry["before"]:
            return champion
        before = _parsed(self._entry(model, entry["before"])["champion"], entry["before"])
        return dataclasses.replace(champion, previous=before)

    def _entry(self, model: str, revision: int) -> dict:
        found = self.records.map_range(self.kind, model, after=_key(revision - 1), limit=1)
        if not found or found[0][0] != _key(revision):
            raise RecordDamaged(f"champion {model}: its history lacks generation {revision}")
        return json.loads(found[0][1])


def _key(revision: int) -> str:
    return f"{revision:012d}"


def _plain(champion: Champion) -> dict:
    engines = {target: dataclasses.asdict(engine) for target, engine in champion.targets.items()}
    return {"version_digest": champion.version_digest, "label": champion.label, "targets": engines}


def _parsed(plain: dict, revision: int) -> Champion:
    targets = {target: ServedEngine(**engine) for target, engine in plain["targets"].items()}
    return Champion(plain["version_digest"], plain["label"], targets, None, revision)


def _same(one: Champion, other: Champion) -> bool:
    return _plain(one) == _plain(other)
