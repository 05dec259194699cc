"""What an institution without a ledger remembers of sums, and its keys, outlive its processes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from confide.client.secure_sums.memory import (
    MaskedBefore,
    SumMemory,
    SumsInFolder,
    SumsInMemory,
    run_key_in,
)
from confide.errors import ProtocolError, UnreadableError
from confide.protocol.masked_sums import OpenedBefore
from confide.protocol.refusals import Refusal
from tests.seats import cohort, seat

DIGESTS = [bytes([number]) * 32 for number in range(3)]
MASKED = MaskedBefore(
    update="u",
    values="v",
    scores=("s", "t"),
    threshold=3,
    signers={"a": "02ab", "é": "03cd"},
    unproved=(bytes(32),),
)


@pytest.fixture(params=["memory", "folder"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> SumMemory:
    return SumsInMemory() if request.param == "memory" else SumsInFolder(tmp_path / "job")


def test_sums_are_remembered_in_their_order(memory: SumMemory) -> None:
    for digest in reversed(DIGESTS):
        memory.mask(digest, MASKED)
    memory.open(DIGESTS[1], ["a", "é"])
    assert [digest for digest, _ in memory.all()] == DIGESTS[::-1]
    opened = memory.get(DIGESTS[1])
    assert opened is not None
    assert opened.survivors == ("a", "é")
    assert memory.get(DIGESTS[0]) == MASKED
    assert memory.get(bytes(5)) is None


def test_another_process_knows_at_once(tmp_path: Path) -> None:
    one, two = SumsInFolder(tmp_path / "job"), SumsInFolder(tmp_path / "job")
    assert two.get(DIGESTS[0]) is None
    one.mask(DIGESTS[0], MASKED)
    assert two.get(DIGESTS[0]) == MASKED
    two.open(DIGESTS[0], ["a"])
    assert dict(one.all()) == dict(two.all())


def test_of_two_processes_the_second_may_not_say_otherwise(tmp_path: Path) -> None:
    one, two = SumsInFolder(tmp_path / "job"), SumsInFolder(tmp_path / "job")
    one.mask(DIGESTS[0], MASKED)
    two.mask(DIGESTS[0], MASKED)
    with pytest.raises(ProtocolError) as raised:
        two.mask(DIGESTS[0], MaskedBefore(update="other", values="other"))
    assert raised.value.code == Refusal.SUM_COHORT
    one.open(DIGESTS[0], ["a", "b"])
    two.open(DIGESTS[0], ["a", "b"])
    with pytest.raises(ProtocolError) as raised:
        two.open(DIGESTS[0], ["a"])
    assert raised.value.code == Refusal.SUM_SURVIVORS
    assert len((tmp_path / "job" / "sums.jsonl").read_text().splitlines()) == 2


def test_damage_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    SumsInFolder(tmp_path).mask(DIGESTS[0], MASKED)
    path = tmp_path / "sums.jsonl"
    path.write_bytes(path.read_bytes().replace(b"02ab", b"02aa"))
    with pytest.raises(UnreadableError, match=r"sums.jsonl cannot be read.*another job"):
        SumsInFolder(tmp_path).get(DIGESTS[0])


def test_a_seat_that_comes_back_goes_on_with_what_it_remembers(tmp_path: Path) -> None:
    asked = cohort(4)
    asked.seats["h00"] = seat(
        "h00", run_key=run_key_in(tmp_path / "keys", "job"), memory=SumsInFolder(tmp_path / "job")
    )
    asked = asked.enrolled_again("h00")
    under_way = asked.collected()
    told = asked.answers(under_way, ["h00"])
    asked.seats["h00"] = seat(
        "h00", run_key=run_key_in(tmp_path / "keys", "job"), memory=SumsInFolder(tmp_path / "job")
    )
    asked = asked.enrolled_again("h00")
    assert asked.answers(under_way, ["h00"]) == told
    fewer = OpenedBefore(
        digest=asked.context.digest, survivors=under_way.survivors[:3], signatures={}
    )
    with pytest.raises(ProtocolError) as raised:
        asked.seats["h00"].check(asked.next_context(), [fewer])
    assert raised.value.code == Refusal.SUM_SURVIVORS


def test_a_key_is_each_jobs_own_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(lambda _: run_key_in(folder, "job/1"), range(4)))
    assert len({key.private_bytes_raw() for key in keys}) == 1
    assert run_key_in(folder, "job/2").private_bytes_raw() != keys[0].private_bytes_raw()
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.key")} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "binary"])
def test_a_damaged_key_is_no_key(tmp_path: Path, damage: str) -> None:
    run_key_in(tmp_path, "job")
    path = tmp_path / "job.key"
    text = path.read_text()
    changed = {
        "cut": text[:70].encode(),
        "changed": (text[:9] + ("a" if text[9] != "a" else "b") + text[10:]).encode(),
        "empty": b"",
        "binary": bytes(range(256)),
    }[damage]
    path.write_bytes(changed)
    with pytest.raises(UnreadableError, match=r"job.key is no key.*another job"):
        run_key_in(tmp_path, "job")
