"""Pickled and encrypted values: who can read them, who cannot, and what is never loaded."""

from __future__ import annotations

import builtins
import pickle
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from taskqd import App, ConfigError, DecodeError, JobDead, TaskFailed, current_job
from taskqd.crypto.cipher import Cipher
from taskqd.errors import SealError
from taskqd.ids import new_id
from taskqd.jobs.job import Entry, State
from taskqd.settings import CryptoSettings, LimitSettings, SchedulerSettings, StorageSettings
from tests.support.rigs.crew import Crew

SIGN, SEAL, OTHER = "sign" * 8, "seal" * 8, "other" * 8
RAN: list[str] = []
WAYS: list[dict[str, Any]] = [
    {"encryption_keys": [SEAL]},
    {"encryption_keys": [SEAL], "signing_keys": [SIGN]},
    {"serializer": "pickle", "signing_keys": [SIGN]},
    {"serializer": "pickle", "signing_keys": [SIGN], "encryption_keys": [SEAL]},
]
way = pytest.mark.parametrize(
    "options", WAYS, ids=["aes", "signed aes", "pickle", "pickle and aes"]
)


class Basket:
    """What JSON cannot carry."""

    def __init__(self, *items: str) -> None:
        self.items = items


def _go_off() -> None:
    RAN.append("a pickle was loaded")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return _go_off, ()


@pytest.fixture(autouse=True)
def nothing_has_run() -> Iterator[None]:
    RAN.clear()
    yield
    assert RAN == []


def make(url: str | None = None, **options: Any) -> App:
    app = App("shop", url or f"memory://{new_id()}", **options)

    @app.task(name="join")
    def join(first: str, *more: Any, sep: str = "-") -> str:
        return sep.join([first, *map(str, more)])

    @app.task(name="words")
    def words(text: str) -> dict[str, str]:
        return {"first": text, "sep": "+"}

    app.task(name="total")(lambda values: " ".join(map(str, values)))
    return app


def stored(app: App) -> bytes:
    """All that the storage keeps of jobs, as bytes."""
    rows = [row for state in State for row in app.storage.jobs(state)]
    return b"\n".join(part for row in rows for part in (row.record, row.answer))


@way
def test_values_come_and_go_through_calls_stages_groups_and_checkpoints(
    options: dict[str, Any],
) -> None:
    app = make(**options)

    @app.task(retries=1)
    def resume() -> str:
        job = current_job()
        if job.attempt == 1:
            job.checkpoint({"page": "SECRET"})
            assert b"SECRET" not in app.features.notes(job.id)["checkpoint"] or (
                "encryption_keys" not in options
            )
            raise OSError
        return str(job.checkpointed)

    join, words, total = (app.registry[name] for name in ("join", "words", "total"))
    one = join("SECRET", 1, sep="/")
    chain = app.enqueue(words.s("SECRET").then(join).then(join, "2"))
    chord = app.enqueue(app.chord([join.s("SECRET", 1), join.s("b", 2)], total))
    again = resume()
    assert b"SECRET" not in stored(app) or "encryption_keys" not in options
    Crew(app).drain()
    assert b"SECRET" not in stored(app) or "encryption_keys" not in options
    assert one.get(timeout=5) == "SECRET/1"
    assert chain.get(timeout=5) == [{"first": "SECRET", "sep": "+"}, "SECRET", "2-SECRET"]
    assert chord.get(timeout=5) == "SECRET-1 b-2"
    assert [r.get(timeout=5) for r in chord.results] == ["SECRET-1", "b-2"]
    assert again.get(timeout=5) == "{'page': 'SECRET'}"
    assert app.result(one.id).get(timeout=5) == "SECRET/1"
    assert list(app.storage.leftovers()) == []


def test_pickle_carries_what_json_cannot() -> None:
    app = make(serializer="pickle", signing_keys=[SIGN])

    @app.task
    def pack(basket: Basket) -> Basket:
        return Basket(*basket.items, "egg")

    result = pack(Basket("milk"))
    app.enqueue(pack.s(Basket()).then(pack))
    bad = app.registry["join"].options(id="bad")
    Crew(app).drain()
    assert result.get(timeout=5).items == ("milk", "egg")
    with pytest.raises(TypeError, match="cannot be pickled"):
        bad(lambda: 1)
    with pytest.raises(TypeError, match="missing a required argument"):
        bad()


def test_pickle_without_signing_keys_is_refused() -> None:
    with pytest.raises(ConfigError, match="signing_keys"):
        App("shop", serializer="pickle")
    with pytest.raises(ConfigError, match="'json' or 'pickle'"):
        App("shop", serializer="yaml")


@pytest.mark.parametrize("encrypted", [False, True])
def test_pickle_is_not_loaded_unless_its_signature_is_right(encrypted: bool) -> None:
    keys: dict[str, Any] = {"encryption_keys": [SEAL]} if encrypted else {}
    app = make(serializer="pickle", signing_keys=[SIGN], **keys)
    forger = make(serializer="pickle", signing_keys=[OTHER], **keys)
    bombs = [
        forger.entry(forger.registry["join"].s(Bomb())),
        app.entry(app.registry["join"].s(Bomb())),
        app.entry(app.registry["join"].s(Bomb())),
        app.entry(app.registry["join"].s(Bomb())),
    ]
    unsigned = bombs[1]._replace(payload=bombs[1].payload.partition(b"\n")[0])
    moved = bombs[2]._replace(id="moved")
    changed = bombs[3]._replace(payload=bombs[3].payload.replace(b'"e":', b'"x":9,"e":'))
    for forged in (bombs[0], unsigned, moved, changed):
        app.storage.enqueue([forged])
    reasons = [outcome.reason for outcome in Crew(app).drain()]
    assert reasons == ["unsigned"] * 4


def test_json_app_loads_no_pickle_though_it_is_signed() -> None:
    app = make(signing_keys=[SIGN])
    pickling = make(serializer="pickle", signing_keys=[SIGN])
    app.storage.enqueue([pickling.entry(pickling.registry["join"].s(Bomb()))])
    [outcome] = Crew(app).drain()
    assert (outcome.reason, outcome.marks.error) == (
        "unreadable",
        "the arguments are pickled; this app reads JSON only",
    )


def test_forged_result_and_member_are_not_loaded() -> None:
    app = make(f"memory://{new_id()}", serializer="pickle", signing_keys=[SIGN])
    forger = make(serializer="pickle", signing_keys=[OTHER])
    assert forger.sealer is not None
    join, total = app.registry["join"], app.registry["total"]
    result = join("a")
    chord = app.enqueue(app.chord([join.s("b")], total))
    crew = Crew(app)

    def forged(answer: bytes, subject: str) -> bytes:
        assert forger.sealer is not None
        fields = msgspec.json.decode(answer)
        fields[6] = msgspec.Raw(forger.sealer.seal_value(subject, Bomb(), b""))
        return msgspec.json.encode(fields)

    put, settle = app.storage.group_put, app.storage.settle
    app.storage.group_put = lambda group, queue, index, answer: put(  # type: ignore[method-assign]
        group, queue, index, forged(answer, f"member {index} of {group}")
    )
    app.storage.settle = lambda worker, outcomes: settle(  # type: ignore[method-assign]
        worker,
        [
            msgspec.structs.replace(o, answer=forged(o.answer, f"result of {o.id}"))
            if o.kind == "ack"
            else o
            for o in outcomes
        ],
    )
    crew.drain()
    with pytest.raises(DecodeError, match="not among signing_keys"):
        result.get(timeout=5)
    with pytest.raises(JobDead, match="unreadable"):
        chord.get(timeout=5)


def test_changed_moved_or_plain_payload_is_a_dead_letter_where_the_app_encrypts() -> None:
    app = make(encryption_keys=[SEAL])
    app.task(name="other")(lambda first: RAN.append("another task got the arguments"))
    join = app.registry["join"]
    good, changed, moved, renamed = (app.entry(join.s("a")) for _ in range(4))
    at = changed.payload.index(b'"b":"') + 70
    flipped = b"A" if changed.payload[at : at + 1] != b"A" else b"B"
    entries = [
        good,
        changed._replace(payload=changed.payload[:at] + flipped + changed.payload[at + 1 :]),
        moved._replace(id="moved"),
        renamed._replace(payload=renamed.payload.replace(b'"t":"join"', b'"t":"other"')),
        Entry("plain", "default", b'{"t":"join","a":["a"]}'),
        Entry("empty", "default", b'{"t":"join","z":"aes"}'),
        Entry("short", "default", b'{"t":"join","z":"aes","b":"AAAA"}'),
        Entry("armour", "default", b'{"t":"join","z":"aes","b":"?"}'),
    ]
    app.storage.enqueue(entries)
    reasons = [outcome.reason for outcome in Crew(app).drain()]
    assert reasons == [""] + ["unreadable"] * 7
    letters = {row.id: row.record for row in app.dead}
    assert letters["plain"].endswith(entries[4].payload), "as it came"
    with pytest.raises(JobDead, match="unreadable"):
        app.result("moved").get(timeout=5)


def test_app_without_keys_says_what_it_lacks() -> None:
    app, sealed = make(), make(encryption_keys=[SEAL])
    app.storage.enqueue([sealed.entry(sealed.registry["join"].s("a"))])
    [outcome] = Crew(app).drain()
    assert "this app has no encryption_keys" in outcome.marks.error


@pytest.mark.parametrize("what", ["encryption_keys", "signing_keys"])
def test_keys_are_rotated_one_side_after_the_other(what: str) -> None:
    url = f"memory://{new_id()}"
    base: dict[str, Any] = {"serializer": "pickle", "signing_keys": [SIGN]}
    old = make(url, **base | {what: [SIGN]})
    reads_both = make(url, **base | {what: [SIGN, OTHER]})
    writes_new = make(url, **base | {what: [OTHER, SIGN]})
    new = make(url, **base | {what: [OTHER]})
    by_old = old.registry["join"]("a", 1)
    Crew(reads_both).drain()
    by_new = writes_new.registry["join"]("b", 2)
    Crew(reads_both).drain()
    assert (by_old.get(timeout=5), by_new.get(timeout=5)) == ("a-1", "b-2")
    late = old.registry["join"]("c", 3)
    Crew(new).drain()
    with pytest.raises(JobDead):
        late.get(timeout=5)


def test_daemon_is_told_its_keys_and_keeps_those_of_the_app_otherwise() -> None:
    app = make(signing_keys=[SIGN])
    adopt = (StorageSettings(), LimitSettings(), SchedulerSettings())
    before = app.signer
    app.adopt(*adopt)
    assert app.signer is before
    app.adopt(*adopt, CryptoSettings(encryption_keys=(SEAL,)))
    result = app.registry["join"]("SECRET")
    assert b"SECRET" not in stored(app)
    Crew(app).drain()
    assert result.get(timeout=5) == "SECRET"


def test_equal_arguments_of_a_unique_task_are_known_under_encryption() -> None:
    app = make(encryption_keys=[SEAL])
    task = app.task(name="once", unique="args")(lambda text: text)
    first, again, other = task("SECRET"), task("SECRET"), task("else")
    assert (first.id == again.id, first.id == other.id) == (True, False)


def test_failures_are_told_as_ever() -> None:
    app = make(encryption_keys=[SEAL])
    fail = app.task(name="fail")(lambda: 1 / 0)
    result = fail()
    Crew(app).drain()
    with pytest.raises(TaskFailed, match="ZeroDivisionError"):
        result.get(timeout=5)


def test_plain_json_app_has_no_sealer_and_its_payloads_are_as_before() -> None:
    app = make(signing_keys=[SIGN])
    assert app.sealer is None
    assert b'"a":["x"]' in app.entry(app.registry["join"].s("x")).payload


def test_frames_differ_each_time_and_open_for_their_subject_only() -> None:
    cipher = Cipher([SEAL])
    frames = {cipher.close(b"job 1", b"data") for _ in range(100)}
    assert len(frames) == 100
    frame = frames.pop()
    assert cipher.open(b"job 1", frame) == b"data"
    wrong = [(b"job 2", frame), (b"job 1", frame[:-1]), (b"job 1", b""), (b"job 1", b"\0" * 80)]
    wrong += [
        (b"job 1", frame[:i] + bytes([frame[i] ^ 1]) + frame[i + 1 :]) for i in range(len(frame))
    ]
    for subject, data in wrong:
        with pytest.raises(SealError):
            cipher.open(subject, data)


def test_short_key_and_missing_package_are_clear_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="a key has 5 bytes; expected at least 16"):
        App("shop", encryption_keys=["short"])
    with pytest.raises(ConfigError, match="at least one key"):
        App("shop", encryption_keys=[])
    load = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError("No module named 'cryptography'")
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'taskqd\[crypto\]'"):
        App("shop", encryption_keys=[SEAL])


def test_bomb_goes_off_when_its_pickle_is_loaded() -> None:
    """Without this the others could not fail."""
    pickle.loads(pickle.dumps(Bomb()))
    assert RAN.pop() == "a pickle was loaded"
