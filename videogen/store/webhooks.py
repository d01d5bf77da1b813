"""Calls to webhooks that are still to be made: any process on the store goes on with them, a restart forgets none.

Which are due when stands in the ordered maps of a few records, beside how often each was tried: taking one moves its
entry to a later time under the condition that it stands where it was read, so of several that see it one gets it, and
one that dies leaves it to be due again. A webhook's own record says where to, and how it ended.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Literal
from zlib import crc32

from videogen.store.index import Journal
from videogen.store.primitives import Is, MapIs, MapPut, MapRemove, Record, RecordStore, Set, Write

SHARDS = 16
PAGE = 64
YOUNG = 60
"""Looks, a second apart, before a turn without a record is taken for what a crash left."""
DIGITS = 15
KEEP_S = 7 * 86_400.0
WebhookState = Literal["pending", "delivered", "dead"]


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where the end of a request is to be told. `id` is the request's; `key_id` says which key asked, if one did."""

    id: str
    url: str
    tenant: str
    key_id: str | None = None
    state: WebhookState = "pending"
    attempts: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One's place among what is due. `attempts`: calls that were made before; `waited`: looks that found no end yet."""

    id: str
    due_ms: int
    attempts: int
    waited: int

    @property
    def key(self) -> str:
        return f"{self.due_ms:0{DIGITS}d}{self.id}"

    @property
    def value(self) -> str:
        return f"{self.attempts} {self.waited}"


class Webhooks:
    """What is to be called, by the time at which it is due by the store's clock."""

    kind, due_kind = "webhook", "webhooks-due"

    def __init__(self, records: RecordStore, keep_s: float = KEEP_S) -> None:
        self.records, self.keep_s = records, keep_s
        self.dead = Journal(records, "webhooks", keep_s)

    def add(self, webhook: Webhook) -> None:
        """Records it; the same id twice is one webhook, the first.

        One that was given up before any call, for want of its request, waits for the request again.
        """
        if (found := self.get(webhook.id)) is not None:
            if found.state == "dead" and found.attempts == 0:
                self.call_again(webhook.id)
                self.records.flush()
            return
        where = (Set("url", webhook.url), Set("tenant", webhook.tenant), Set("key_id", webhook.key_id))
        turn = Turn(webhook.id, self._ms(0.0), 0, 0)
        self._place(turn)
        operations = (Set("state", "pending"), *where)
        self.records.write(Write(self.kind, webhook.id, operations, create="only", ttl=self.keep_s))
        self.records.flush()

    def take(self, limit: int, hold_s: float) -> list[tuple[Turn, Webhook]]:
        """Up to `limit` that are due, for whoever calls: nobody else gets them for `hold_s`."""
        taken: list[tuple[Turn, Webhook]] = []
        now, shards = f"{self._ms(0.0):0{DIGITS}d}", [f"{shard:02d}" for shard in range(SHARDS)]
        for head in self.records.map_heads(self.due_kind, shards, min(limit, PAGE)):
            due = [_turn(key, value) for key, value in head if key[:DIGITS] <= now][: limit - len(taken)]
            if not due:
                continue
            for turn, record in zip(due, self.records.read_many(self.kind, [t.id for t in due]), strict=True):
                webhook = _read(turn.id, record) if isinstance(record, Record) else None
                if record is None and turn.waited < YOUNG:
                    self._move(turn, 1.0, turn.attempts, turn.waited + 1)  # its record is written after its turn
                elif webhook is None or webhook.state != "pending":
                    self._drop(turn)
                elif (held := self._move(turn, hold_s, turn.attempts, turn.waited)) is not None:
                    taken.append((held, webhook))
        return taken

    def later(self, turn: Turn, in_s: float, attempts: int, waited: int) -> None:
        """Lets one that was taken be due in `in_s`; without effect if it is another's by now."""
        self._move(turn, in_s, attempts, waited)

    def end(self, turn: Turn, state: WebhookState, attempts: int, error: str | None = None) -> None:
        """Ends one that was taken. Dead ones are listed for as long as they are kept."""
        if state == "dead":
            self.records.write(self.dead.put(turn.id))
        operations = (Set("state", state), Set("attempts", attempts), Set("error", error))
        self.records.write(Write(self.kind, turn.id, operations, "never", Is("state", "pending"), self.keep_s))
        self._drop(turn)

    def get(self, webhook_id: str) -> Webhook | None:
        """How one stands, None if there is none. Raises RecordDamaged."""
        record = self.records.read(self.kind, webhook_id)
        return None if record is None else _read(webhook_id, record)

    def list_dead(self, limit: int = 100) -> list[Webhook]:
        """Those that were given up, latest hour first."""
        dead: list[Webhook] = []
        latest = self.dead.latest()
        while len(dead) < limit and (ids := list(islice(latest, PAGE))):
            found = zip(ids, self.records.read_many(self.kind, ids), strict=True)
            webhooks = (_read(one, record) for one, record in found if isinstance(record, Record))
            dead += [one for one in webhooks if one.state == "dead"]
        return dead[:limit]

    def call_again(self, webhook_id: str) -> bool:
        """Lets one that was given up be due in a second, as if it were new; False if it was not given up."""
        found = self.get(webhook_id)
        if found is None or found.state != "dead":
            return False
        self._place(Turn(webhook_id, self._ms(1.0), 0, 0))  # should the next write fail, it is dropped, still dead
        operations = (Set("state", "pending"), Set("attempts", 0), Set("error", None))
        write = Write(self.kind, webhook_id, operations, "never", Is("state", "dead"), self.keep_s)
        return self.records.write(write) is not None

    def _place(self, turn: Turn) -> None:
        self.records.write(Write(self.due_kind, shard_of(turn.id), (MapPut(turn.key, turn.value),)))

    def _move(self, turn: Turn, in_s: float, attempts: int, waited: int) -> Turn | None:
        """Where it stands now, None if it no longer stood where it was read."""
        due_ms = self._ms(in_s)
        moved = Turn(turn.id, due_ms + (due_ms == turn.due_ms), attempts, waited)
        operations = (MapRemove(turn.key), MapPut(moved.key, moved.value))
        held = MapIs(turn.key, turn.value)
        write = Write(self.due_kind, shard_of(turn.id), operations, "never", held)
        return moved if self.records.write(write) is not None else None

    def _drop(self, turn: Turn) -> None:
        self.records.write(Write(self.due_kind, shard_of(turn.id), (MapRemove(turn.key),)))

    def _ms(self, in_s: float) -> int:
        return round(1000 * (self.records.now() + in_s))


def shard_of(webhook_id: str) -> str:
    return f"{crc32(webhook_id.encode()) % SHARDS:02d}"


def _turn(key: str, value: str) -> Turn:
    attempts, _, waited = value.partition(" ")
    return Turn(key[DIGITS:], int(key[:DIGITS]), int(attempts), int(waited or 0))


def _read(webhook_id: str, record: Record) -> Webhook:
    state = record.text("state")
    return Webhook(
        webhook_id,
        record.text("url"),
        record.text("tenant"),
        record.optional_text("key_id"),
        state if state in ("delivered", "dead") else "pending",
        record.count("attempts"),
        record.optional_text("error"),
    )
