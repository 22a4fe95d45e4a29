"""API keys: what they are made of, where they are kept, and how they are looked up."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from dcao_server.security.key_sources import KeyFile, Keys, KeySourceError
from dcao_server.security.keyring import Keyring
from dcao_server.security.keys import ApiKey, Scope, create_key, digest_of, id_of


def test_a_key_names_itself_and_hides_192_random_bits() -> None:
    key, record = create_key({"vision": Scope.WRITE})
    prefix, key_id, secret = key.split("_")
    assert (prefix, key_id, len(secret) * 4) == ("dcao", record.id, 192)
    assert id_of(key.encode()) == record.id
    assert record.digest == digest_of(key.encode())
    assert secret not in record.model_dump_json()


def test_two_keys_have_nothing_in_common() -> None:
    keys = {create_key({"*": Scope.READ})[0] for _ in range(100)}
    assert len({key.split("_")[1] for key in keys}) == len({key.split("_")[2] for key in keys}) == 100


@pytest.mark.parametrize(
    "text", [b"", b"dcao", b"dcao_a", b"other_abcd_ef", b"dcao_abcd_ef_01", b"dcao__ef", b"dcao_\xff\xfe_1"]
)
def test_what_is_not_shaped_like_a_key_has_no_id(text: bytes) -> None:
    assert id_of(text) is None


def test_scopes_are_written_by_name_and_read_back() -> None:
    _, record = create_key({"vision": Scope.WRITE, "*": Scope.READ}, expires_in=60, note="cluster", now=1000)
    text = record.model_dump_json()
    assert json.loads(text)["grants"] == {"vision": "write", "*": "read"}
    assert ApiKey.model_validate_json(text) == record


@pytest.mark.parametrize("grants", [{}, {"vision": "owner"}, {"no/slash": "read"}, {"vision": 7}])
def test_grants_that_mean_nothing_are_refused(grants: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ApiKey.model_validate({"id": "abcd", "sha256": "0" * 64, "grants": grants, "created": 0})


def test_the_wider_of_two_grants_counts() -> None:
    _, record = create_key({"vision": Scope.WRITE, "*": Scope.READ})
    assert record.scope_in("vision") == Scope.WRITE
    assert record.scope_in("speech") == Scope.READ
    _, narrow = create_key({"vision": Scope.ADMIN})
    assert narrow.scope_in("speech") == 0
    assert narrow.scope_in(None) == Scope.ADMIN


def test_a_key_expires() -> None:
    _, record = create_key({"*": Scope.READ}, expires_in=60, now=1000)
    assert not record.expired(1059.9)
    assert record.expired(1060)


class TestKeyFile:
    def test_keys_are_added_found_and_removed(self, tmp_path: Path) -> None:
        file = KeyFile(tmp_path / "sub" / "keys.jsonl")
        records = [create_key({"*": Scope.READ})[1] for _ in range(3)]
        for record in records:
            file.add(record)
        assert file.load_now() == {record.id: record for record in records}
        assert file.remove(records[1].id)
        assert not file.remove(records[1].id)
        assert set(file.load_now() or {}) == {records[0].id, records[2].id}

    def test_only_its_owner_can_read_it(self, tmp_path: Path) -> None:
        file = KeyFile(tmp_path / "keys.jsonl")
        file.add(create_key({"*": Scope.READ})[1])
        assert file.path.stat().st_mode & 0o777 == 0o600

    def test_an_unchanged_file_is_not_read_again(self, tmp_path: Path) -> None:
        file = KeyFile(tmp_path / "keys.jsonl")
        file.add(create_key({"*": Scope.READ})[1])
        assert file.load_now() is not None
        assert file.load_now() is None

    def test_comments_survive_a_removal(self, tmp_path: Path) -> None:
        path = tmp_path / "keys.jsonl"
        _, record = create_key({"*": Scope.READ})
        path.write_text(f"# whose keys these are\n\n{record.model_dump_json()}\n")
        KeyFile(path).remove(record.id)
        assert path.read_text() == "# whose keys these are\n\n"

    def test_a_wrong_line_is_named_but_not_quoted(self, tmp_path: Path) -> None:
        path = tmp_path / "keys.jsonl"
        path.write_text("# first\ndcao_abcd_somebody_pasted_a_key_here\n")
        with pytest.raises(KeySourceError, match=r"keys\.jsonl, line 2.*dcao-controller keys create") as caught:
            KeyFile(path).load_now()
        assert "pasted" not in str(caught.value)

    def test_a_missing_file_says_how_to_make_one(self, tmp_path: Path) -> None:
        with pytest.raises(KeySourceError, match="dcao-controller keys create"):
            KeyFile(tmp_path / "none.jsonl").load_now()


class Source:
    """Keys that a test changes at will; None stands for a source that cannot be read."""

    def __init__(self, keys: Keys | None) -> None:
        self.keys = keys
        self.loads = 0

    async def load(self) -> Keys | None:
        self.loads += 1
        await asyncio.sleep(0)
        if self.keys is None:
            raise KeySourceError("away")
        return self.keys


class TestKeyring:
    async def test_finds_the_key_and_says_why_it_finds_none(self) -> None:
        key, record = create_key({"*": Scope.READ})
        old, expired = create_key({"*": Scope.READ}, expires_in=1, now=time.time() - 10)
        keyring = Keyring([Source({record.id: record, expired.id: expired})], refresh=5)
        await keyring.reload()
        assert keyring.find(key.encode()) == (record, "")
        assert keyring.find(key[:-1].encode() + b"x") == (None, "wrong-secret")
        assert keyring.find(b"dcao_abcdef_123") == (None, "unknown")
        assert keyring.find(b"something else") == (None, "malformed")
        assert keyring.find(old.encode()) == (None, "expired")

    async def test_a_change_counts_after_the_refresh_time(self) -> None:
        key, record = create_key({"*": Scope.READ})
        now = 0.0
        source = Source({})
        keyring = Keyring([source], refresh=5, clock=lambda: now)
        assert keyring.due()
        await keyring.reload()
        source.keys = {record.id: record}
        assert not keyring.due()
        now = 5.0
        assert keyring.due()
        await keyring.reload()
        assert keyring.find(key.encode())[0] == record
        source.keys = {}
        now = 10.0
        await keyring.reload()
        assert keyring.find(key.encode()) == (None, "unknown")

    async def test_requests_at_the_same_time_share_one_reading(self) -> None:
        source = Source({})
        keyring = Keyring([source], refresh=5)
        await asyncio.gather(*(keyring.reload() for _ in range(20)))
        assert source.loads == 1

    async def test_a_source_that_goes_away_takes_no_key_with_it(self) -> None:
        key, record = create_key({"*": Scope.READ})
        source = Source({record.id: record})
        keyring = Keyring([source, Source({})], refresh=5)
        await keyring.reload()
        source.keys = None
        await keyring.reload()
        assert keyring.find(key.encode())[0] == record
        assert keyring.known

    async def test_a_source_never_read_leaves_the_keys_unknown(self) -> None:
        keyring = Keyring([Source(None), Source({})], refresh=5)
        await keyring.reload()
        assert not keyring.known

    async def test_a_cancelled_request_does_not_stop_the_reading_for_others(self) -> None:
        key, record = create_key({"*": Scope.READ})
        keyring = Keyring([Source({record.id: record})], refresh=5)
        first, second = asyncio.create_task(keyring.reload()), asyncio.create_task(keyring.reload())
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert keyring.find(key.encode())[0] == record

    def test_the_comparison_takes_constant_time(self) -> None:
        """A secret wrong from its first character on is refused no faster than one wrong in its last.

        The median over interleaved lookups differs by far less than the lookup takes; a comparison of the texts
        themselves would not.
        """
        key, record = create_key({"*": Scope.READ})
        keyring = Keyring([Source({record.id: record})], refresh=5)
        asyncio.run(keyring.reload())
        head, _, secret = key.rpartition("_")
        early = f"{head}_{'z' + secret[1:]}".encode()
        late = f"{head}_{secret[:-1] + 'z'}".encode()
        times: dict[bytes, list[int]] = {early: [], late: []}
        for _ in range(4000):
            for candidate, measured in times.items():
                started = time.perf_counter_ns()
                found = keyring.find(candidate)
                measured.append(time.perf_counter_ns() - started)
                assert found == (None, "wrong-secret")
        low, high = sorted(sorted(measured)[len(measured) // 2] for measured in times.values())
        assert (high - low) / low < 0.1
