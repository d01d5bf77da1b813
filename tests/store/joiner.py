"""A process of its own that wants one video: makes it, waits for who makes it, or leaves. Says on stdout what it saw.

`python -m tests.store.joiner URL lead|wait|leave NAME`; who leads publishes once stdin has a line.
"""

import sys
import threading
import time

from tests.store.builders import accepted
from videogen.errors import LeaseLost
from videogen.store.store import Store

LEASE_S = 4.0


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def lead(store: Store, request_id: str) -> None:
    """Gets a quarter of the way and keeps its lease until it may go on, then publishes."""
    (claim,) = store.claim([request_id], "leader", LEASE_S)
    store.renew([claim], 0.25)
    say("leads", claim.attempt)
    go_on = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), go_on.set()), daemon=True).start()
    while not go_on.wait(LEASE_S / 8):
        store.renew([claim])
    try:
        say("published", store.publish(claim, b"of the first leader", {}).digest)
    except LeaseLost:
        say("refused")


def wait(store: Store, request_id: str, name: str) -> None:
    """Follows the request until it ends; takes it over when nobody makes it any more."""
    seen = -1.0
    while (record := store.request(request_id)).is_live:
        if record.state == "running" and record.progress != seen:
            seen = record.progress
            say("sees", seen)
        for claim in store.claim([request_id], name, LEASE_S):
            say("takes over", claim.attempt)
            store.publish(claim, b"of " + name.encode(), {})
        time.sleep(0.05)
    say(record.state, record.video, record.attempts)


if __name__ == "__main__":
    url, role, name = sys.argv[1:]
    with Store.open(url) as opened:
        mine = opened.submit(accepted(7)).id
        say("submitted", mine)
        if role == "lead":
            lead(opened, mine)
        elif role == "wait":
            wait(opened, mine, name)
        else:
            say(opened.request(mine).state, opened.request(mine).progress)
            say(opened.cancel(mine).state)
