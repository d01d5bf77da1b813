"""`videogen keys …`: API keys of the inference service: make one, list them, revoke one."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videogen.errors import InvalidRequest, RecordNotFound
from videogen.opening import open_store
from videogen.settings import read_settings

if TYPE_CHECKING:
    from videogen.store.api_keys import ApiKey
    from videogen.store.rate_limits import RateLimit

keys = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Make, list and revoke API keys of the inference service."
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per key.")]


@keys.command()
def create(
    tenant: Annotated[str, typer.Option(help="Whose requests, videos and limits the key opens.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="user: make and see videos; admin: also swap, drain, reload. May be repeated; default user."),
    ] = None,
    note: Annotated[str, typer.Option(help="What the key is for.")] = "",
    rpm: Annotated[float | None, typer.Option(help="Requests a minute, in place of the service's own limit.")] = None,
    burst: Annotated[float | None, typer.Option(help="Requests at once; a minute's if not given.")] = None,
    read_rpm: Annotated[
        float | None, typer.Option(help="Looks a minute on each replica, in place of the service's own limit.")
    ] = None,
    read_burst: Annotated[float | None, typer.Option(help="Looks at once; a minute's if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key and print it, this once: the store keeps only its hash.

    From the first key on, every call of the service needs one, from this machine too.

    Example: `export VIDEOGEN_API_KEY=$(videogen keys create --tenant acme --rpm 60 --burst 10)`
    """
    limit, reads = _limit(rpm, burst), _limit(read_rpm, read_burst, "read-")
    with open_store(read_settings()) as store:
        granted: Any = scope or ["user"]
        text, key = store.api_keys.create(tenant, granted, note, limit, reads)
    if as_json:
        typer.echo(json.dumps({"key": text, **as_plain(key)}))
    else:
        typer.echo(text)
        typer.echo(f"key {key.id} of tenant {key.tenant}; it is not shown again", err=True)


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys by id, the oldest first: whose they are, what they may, and whether they are revoked."""
    with open_store(read_settings()) as store:
        found = store.api_keys.find_all()
    for key in found:
        typer.echo(json.dumps(as_plain(key)) if as_json else _line(key))
    if not found and not as_json:
        typer.echo("no key was made: the service serves this machine only")


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as `videogen keys list` prints it.")],
) -> None:
    """End a key for good. Every replica refuses it within five seconds."""
    with open_store(read_settings()) as store:
        try:
            key = store.api_keys.revoke(key_id)
        except RecordNotFound as error:
            raise InvalidRequest("KEY", key_id, "the id of a key, as `videogen keys list` prints it") from error
    typer.echo(f"{key.id}  revoked")


def _limit(rpm: float | None, burst: float | None, prefix: str = "") -> "RateLimit | None":
    """Raises InvalidRequest, naming the option at fault, which begins with `prefix`."""
    from videogen.store.rate_limits import RateLimit

    if rpm is None and burst is not None:
        raise InvalidRequest(f"{prefix}burst", burst, f"only with --{prefix}rpm")
    try:
        return None if rpm is None else RateLimit.per_minute(rpm, burst)
    except InvalidRequest as error:
        raise InvalidRequest(f"{prefix}{error.field}", error.given, error.allowed) from error


def as_plain(key: "ApiKey") -> dict[str, Any]:
    limit, reads = key.limit, key.reads
    return {
        "id": key.id,
        "tenant": key.tenant,
        "scopes": sorted(key.scopes),
        "note": key.note,
        "rpm": limit and round(limit.per_second * 60, 6),
        "burst": limit and limit.burst,
        "read_rpm": reads and round(reads.per_second * 60, 6),
        "read_burst": reads and reads.burst,
        "revoked": key.revoked_at is not None,
    }


def _line(key: "ApiKey") -> str:
    limits = [
        f"{limit.per_second * 60:g}{what} a minute, {limit.burst:g} at once"
        for limit, what in ((key.limit, ""), (key.reads, " looks"))
        if limit is not None
    ]
    state = "revoked" if key.revoked_at is not None else "in force"
    facts = [key.id, state, key.tenant, "+".join(sorted(key.scopes)), *limits, key.note]
    return "  ".join(fact for fact in facts if fact)
