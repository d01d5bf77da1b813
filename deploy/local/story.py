"""The parts of the demo: each looks first at what is there already, and waits with a clear end for what is not."""

import contextlib
import json
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape

from deploy.local import environment
from deploy.local.activity import Activity
from deploy.local.following import Follower, Standstill, StepEnd, checks_of, failure_of, have_ended, runs_of
from deploy.local.orphans import fail_orphans
from deploy.local.processes import Child, running
from deploy.local.timings import Timings
from videogen.errors import ArtifactMissing, VideogenError
from videogen.opening import open_artifacts, open_registry, open_store
from videogen.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

    from videogen.registry import ModelVersion

ANSWER_SECONDS = 900.0
LIFECYCLE = "model_lifecycle"


class DemoFailed(VideogenError):
    """The story took another turn than it should."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evaluation of a version came to, and why."""

    outcome: Literal["promoted", "refused", "failed", "open"]
    reasons: tuple[str, ...] = ()


class Story:
    """Tells its parts on `console`. The daemon runs from the first part that needs it to the end of the block."""

    def __init__(self, settings: Settings, variables: Mapping[str, str], console: Console, timings: Timings) -> None:
        self.settings, self.variables, self.console, self.timings = settings, variables, console, timings
        self.store, self.artifacts = open_store(settings), open_artifacts(settings)
        self.registry, self._stack = open_registry(settings), contextlib.ExitStack()

    def __enter__(self) -> "Story":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @cached_property
    def daemon(self) -> Child:
        """Started when it is first needed."""
        log = self.settings.home / "logs" / "dagster-daemon.log"
        fail_orphans(self.instance, self.settings.dagster_home, self.say)
        self.say(f"starting the Dagster daemon; it writes to {log}")
        self._stack.callback(environment.forget_daemon, self.settings)
        return self._stack.enter_context(running("dagster-daemon", environment.daemon_command(), self.variables, log))

    @cached_property
    def instance(self) -> "dg.DagsterInstance":
        return environment.open_instance(self.settings)

    def part(self, number: int, title: str) -> None:
        self.console.print(f"\n[bold]{number}. {escape(title)}[/bold]")

    def say(self, text: str) -> None:
        self.console.print(f"   {text}", markup=False)

    def at_work(self, what: str) -> Activity:
        """Says that `what` goes on, for the length of the block."""
        return Activity(self.console, what)

    def fetch_metrics(self) -> None:
        """Fetches the weights of I3D, unless they are here: no version is promoted over another without FVD's features.

        Raises MetricUnavailable, which says how to get them.
        """
        from videogen.quality.i3d_weights import KEY, KIND, i3d_weights

        with self.timings.phase("fetch I3D") as phase:
            phase["reused"] = self.artifacts.path(KIND, KEY).exists()
            with self.at_work("the weights of I3D"):
                i3d_weights(self.artifacts, fetch=True)
        self.say(f"✓ the weights of I3D, for FVD and KVD, {'are here' if phase['reused'] else 'fetched and verified'}")

    def register(self, name: str, folder: Path, what: str) -> "ModelVersion":
        """Makes `folder` a version, or finds that it is one."""
        if not (folder / "model_index.json").exists():
            raise ArtifactMissing(f"{folder} holds no model; it ships with the project: git checkout models")
        with self.timings.phase(f"register {folder.name}") as phase, self.at_work(f"registering {folder.name}"):
            before = {version.digest for version in self.registry.versions(name)}
            version = self.registry.register(name, folder, what)
            phase["reused"] = version.digest in before
        how = "is registered already" if phase["reused"] else "registered"
        self.say(f"✓ {version.label} {how}: {what} (digest {(version.digest or '')[:12]})")
        return version

    def follow(self, version: "ModelVersion", expected: Literal["promoted", "refused"]) -> Verdict:
        """Waits until the version's run has ended. Raises DemoFailed if its verdict is not the expected one."""
        with self.timings.phase(f"evaluate {version.label}") as phase:
            verdict = self.verdict(version)
            phase["reused"] = verdict.outcome == expected
            if verdict.outcome != expected:
                self._wait_for_run(version.label)
                verdict = self.verdict(version)
        earlier = ", as it was before" if phase["reused"] else ""
        if verdict.outcome != expected:
            reasons = "; ".join(verdict.reasons) or "no check says why"
            raise DemoFailed(f"{version.label} was to be {expected} and is {verdict.outcome}: {reasons}")
        self.say(f"{'✓' if expected == 'promoted' else '✗'} {version.label} is {verdict.outcome}{earlier}")
        for reason in verdict.reasons:
            self.say(f"    {reason}")
        return verdict

    def _wait_for_run(self, label: str) -> None:
        runs = runs_of(self.instance, label)
        if have_ended(runs):
            self.say(f"the last run of {label} ended otherwise; it is started again")
            with self.at_work("starting it"):
                self._run("dagster", "job", "backfill", "-w", str(environment.WORKSPACE), "-j", LIFECYCLE,
                          "--partitions", label, "--noprompt")  # fmt: skip
        known = [run.run_id for run in runs if run.is_finished]
        daemon = self.daemon
        with self.at_work(f"{label}: waiting for the version sensor") as activity:
            Follower(self.instance, daemon, self._tell_step, activity.tell).wait(label, known)

    def verdict(self, version: "ModelVersion") -> Verdict:
        """What is known about a version by now."""
        if any(move.champion.version_digest == version.digest for move in self.store.champion_history(version.name)):
            return Verdict("promoted")
        if not have_ended(runs_of(self.instance, version.label)):
            return Verdict("open")
        failed = [check for check in checks_of(self.instance, version.label) if not check.passed]
        if failed:
            return Verdict("refused", tuple(f"{check.check_name}: {check.description}" for check in failed))
        return Verdict("failed", (failure_of(self.instance, version.label),))

    def _tell_step(self, end: StepEnd) -> None:
        self.say(f"  {'✓' if end.is_success else '✗'} {end.name:<28} {end.seconds:6.1f} s")

    def answer(self, requests: Path) -> list[str]:
        """Submits a file of requests on the command line and waits for their videos."""
        with self.timings.phase("answer requests") as phase:
            self.say(f"$ videogen submit --file {requests}")
            with self.at_work("submitting"):
                submitted = self._run("videogen", "submit", "--file", str(requests), "--json")
            records = [json.loads(line) for line in submitted.splitlines()]
            ids = [record["id"] for record in records]
            phase["reused"] = all(record["state"] == "done" for record in records)
            if phase["reused"]:
                self.say(f"✓ all {len(ids)} were answered before, with the same seeds: the same videos")
                return ids
            self.say(f"✓ {len(ids)} requests for {records[0]['label']}")
            self._wait_for_answers(ids)
        return ids

    def _run(self, command: str, *arguments: str) -> str:
        """Runs a command as a user would and returns what it printed. Raises DemoFailed with what it complained of."""
        whole = [environment.script(command), *arguments]
        done = subprocess.run(whole, env=dict(self.variables), capture_output=True, text=True)
        if done.returncode:
            raise DemoFailed(f"{command} {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _wait_for_answers(self, ids: list[str]) -> None:
        with self.at_work("waiting for the request sensor") as activity:
            self._answered(ids, activity)

    def _answered(self, ids: list[str], activity: Activity) -> None:
        start, told = time.monotonic(), set[str]()
        while True:
            self.daemon.check()
            records = [self.store.request(one) for one in ids]
            counts = Counter(record.state for record in records)
            states = ", ".join(f"{count} {state}" for state, count in counts.items())
            activity.tell(f"requests: {states}, {time.monotonic() - start:.0f} s")
            for batch in {record.batch for record in records if record.batch} - told:
                told.add(batch)
                members = sum(record.batch == batch for record in records)
                self.say(f"  batch {batch} sealed with {members} requests")
            bad = [record for record in records if not record.is_live and record.state != "done"]
            if bad:
                raise DemoFailed(f"request {bad[0].id} {bad[0].state}: {bad[0].error}")
            if all(record.state == "done" for record in records):
                self.say(f"✓ {len(ids)} videos in {time.monotonic() - start:.0f} s")
                return
            if time.monotonic() - start > ANSWER_SECONDS:
                waiting = sum(record.state != "done" for record in records)
                raise Standstill(f"{waiting} requests wait after {ANSWER_SECONDS:.0f} s; see {self.daemon.log}")
            time.sleep(0.5)

    def publish(self, folder: Path, verdicts: "Sequence[tuple[ModelVersion, Verdict]]", ids: list[str]) -> None:
        """Writes videos, contact sheet and report, and says where they are."""
        from deploy.local import publication

        with self.timings.phase("report"), self.at_work("writing videos and report"):
            records = [self.store.request(one) for one in ids]
            videos = publication.save_videos(self.store, records, folder / "videos")
            prompts = [publication.prompt_of(record) for record in records]
            sheet = publication.write_contact_sheet(videos, prompts, folder / "contact-sheet.png")
            champion = self.store.champion(verdicts[0][0].name)
            versions = [
                publication.version_section(
                    self.artifacts,
                    self.registry.version(version.name, version.version),  # with the tags that its evaluation wrote
                    "champion" if champion and champion.version_digest == version.digest else verdict.outcome,
                    checks_of(self.instance, version.label),
                )
                for version, verdict in verdicts
            ]
            batches = publication.batch_sections(self.store, records)
            page = publication.write_page(folder / "report.html", versions, batches)
        self.say(f"videos         {videos[0].parent}")
        self.say(f"contact sheet  {sheet}")
        self.say(f"report         {page}")
