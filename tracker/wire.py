"""The formats that outlive a process: the record of one click, the receipt of one postback, the frame of one batch, the entry of a stream.

Rules: fields are only ever appended to `Record` and `Receipt`; a frame carries its own checksum from the journal to the click writer, so
that damage anywhere on the way is an error and never a wrong record. Golden bytes: tests/unit/test_wire.py.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from tracker.domain.intervals import SeqSet
from tracker.domain.old_reports import OldReport
from tracker.domain.postback import Postback
from tracker.errors import CorruptData, UnknownVersion

ENTRY_VERSION = b"1"
RECORD_MAX_BYTES = 8192
_BUDGET_BYTES = 7900  # RECORD_MAX_BYTES less what the numbers and lengths of a record take
FRAME = struct.Struct("<IIQIQ")  # payload length, CRC-32 of all that follows, seq, number of records, records of the boot so far
_CHECKED = struct.Struct("<QIQ")
FRAME_MAX_BYTES = 16 * 1024 * 1024


class Record(msgspec.Struct, array_like=True, gc=False):
    """One request as the redirector saw it. Bytes are kept raw; the click writer makes text of them.

    `received_at_us` is microseconds since 1970. Ids are None when nothing identified the link. `ip`, `country` and `network`
    are what the IP mode keeps. `extra` is for what has no field yet.
    """

    click_id: bytes
    received_at_us: int
    kind: str
    method: str
    host: bytes
    target: bytes
    link_id: int | None
    campaign_id: int | None
    partner_id: int | None
    advertiser_id: int | None
    creative: str
    outcome: str
    verdict: str
    rule_version: int
    counted: bool
    destination: bytes
    ip: str
    country: str
    network: str
    user_agent: bytes
    referrer: bytes
    language: bytes
    subs: tuple[bytes, ...] = ()
    ref: bytes = b""
    visitor_key: bytes = b""
    platform: str = ""
    old_partner: bytes = b""
    old_offer: bytes = b""
    old_creative: bytes = b""
    old_click_id: bytes = b""
    truncated: bool = False
    extra: dict[str, bytes] = {}


class Receipt(msgspec.Struct, array_like=True, gc=False):
    """One report of a store, kept until PostgreSQL has it: one that was read and checked (`postback`), or one of an old host (`old`)."""

    postback: Postback | None
    old: OldReport | None = None


R = TypeVar("R", Record, Receipt)

_encoder = msgspec.msgpack.Encoder()
_raw_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
_batch_decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {of: msgspec.msgpack.Decoder(list[of]) for of in (Record, Receipt)}  # type: ignore[valid-type]
_record_decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {of: msgspec.msgpack.Decoder(of) for of in (Record, Receipt)}

# What a field may take, in bytes; the sum may still be too much, see `fit`.
LIMITS = {
    "host": 255,
    "target": 2048,
    "destination": 2048,
    "user_agent": 512,
    "referrer": 1024,
    "language": 64,
    "ref": 255,
    "old_partner": 255,
    "old_offer": 255,
    "old_creative": 255,
    "old_click_id": 255,
}
SUB_MAX_BYTES = 255
_SPENDABLE = ("referrer", "target", "destination", "user_agent")


def _size(record: Record) -> int:
    fixed = sum(len(getattr(record, name)) for name in LIMITS)
    return fixed + sum(map(len, record.subs)) + sum(len(key) + len(value) for key, value in record.extra.items())


def fit(record: Record) -> Record:
    """Cut over-long fields in place and flag the record `truncated`, so that it never takes more than RECORD_MAX_BYTES."""
    for name, limit in LIMITS.items():
        if len(getattr(record, name)) > limit:
            setattr(record, name, getattr(record, name)[:limit])
            record.truncated = True
    if record.subs and max(map(len, record.subs)) > SUB_MAX_BYTES:
        record.subs = tuple(sub[:SUB_MAX_BYTES] for sub in record.subs)
        record.truncated = True
    excess = _size(record) - _BUDGET_BYTES
    if excess > 0:
        record.truncated, record.extra = True, {}
        excess = _size(record) - _BUDGET_BYTES
    for name in _SPENDABLE:
        if excess > 0:
            value = getattr(record, name)
            setattr(record, name, value[: max(256, len(value) - excess)])
            excess = _size(record) - _BUDGET_BYTES
    return record


def encode_frame(seq: int, records: Sequence[Record | Receipt], accepted: int = 0) -> bytes:
    """The frame of one batch, as it stands in the journal and in a stream entry.

    `accepted` counts the boot's records up to and including this batch, so that the size of a gap can be told from its
    neighbours; 0: not known.
    """
    payload = _encoder.encode(records)
    checked = _CHECKED.pack(seq, len(records), accepted) + payload
    return FRAME.pack(len(payload), zlib.crc32(checked), seq, len(records), accepted) + payload


@dataclass(frozen=True, slots=True)
class Frame:
    """One batch found in a buffer: its seq, its record count, the boot's records so far, and where it lies."""

    seq: int
    records: int
    accepted: int
    start: int
    stop: int


def scan(buffer: bytes | memoryview, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
    """The good frames of `buffer` from `start` on, up to the first damaged or unfinished one (see where the last one stops)."""
    view = memoryview(buffer)
    at, end = start, len(view) if stop is None else stop
    while end - at >= FRAME.size:
        length, checksum, seq, records, accepted = FRAME.unpack_from(view, at)
        after = at + FRAME.size + length
        if length == 0 or length > FRAME_MAX_BYTES or after > end or zlib.crc32(view[at + 8 : after]) != checksum:
            return
        yield Frame(seq, records, accepted, at, after)
        at = after


def decode_frame(frame: bytes | memoryview, of: type[R]) -> tuple[list[R], list[bytes]]:
    """The records of one good frame, and the bytes of those that cannot be read. CorruptData when the frame itself is not good."""
    view = memoryview(frame)
    found = next(scan(view), None)
    if found is None or found.stop != len(view):
        raise CorruptData("frame: wrong length or checksum")
    payload = view[FRAME.size :]
    try:
        records, unreadable = _batch_decoders[of].decode(payload), list[bytes]()
    except (msgspec.DecodeError, UnicodeDecodeError):
        records, unreadable = _decode_one_by_one(payload, of)
    if len(records) + len(unreadable) != found.records:
        raise CorruptData(f"frame: holds {len(records) + len(unreadable)} records, says {found.records}")
    return records, unreadable


def _decode_one_by_one(payload: memoryview, of: type[R]) -> tuple[list[R], list[bytes]]:
    try:
        items = _raw_decoder.decode(payload)
    except msgspec.DecodeError as exc:
        raise CorruptData(f"frame: payload is no list of records ({exc})") from exc
    records, unreadable = list[R](), list[bytes]()
    for item in items:
        try:
            records.append(_record_decoders[of].decode(item))
        except (msgspec.DecodeError, UnicodeDecodeError):
            unreadable.append(bytes(item))
    return records, unreadable


@dataclass(frozen=True, slots=True)
class Entry:
    """What one stream entry says: a run of consecutive batches of one boot, `[seq_from, seq_to]`, or a boot's opening or closing.

    `accepted` counts all records of the boot up to and including `seq_to`. `closed_seq` is the boot's last seq, given once the
    boot can make no more; `unrecorded` is then final, and `lost` names the batches of it, a multirange in PostgreSQL's text form.
    `sent_at_ms` is the node's clock.
    """

    node: str
    boot: bytes
    host_id: str
    seq_from: int
    seq_to: int
    counts: tuple[int, ...]
    accepted: int
    sent_at_ms: int
    payload: bytes = b""
    closed_seq: int | None = None
    unrecorded: int = 0
    lost: str = "{}"

    @property
    def records(self) -> int:
        return sum(self.counts)

    def fields(self) -> dict[bytes, bytes]:
        """The stream entry's fields (contract: `v node boot seq_from seq_to counts n b`, and ours after them)."""
        fields = {
            b"v": ENTRY_VERSION,
            b"node": self.node.encode(),
            b"boot": self.boot.hex().encode(),
            b"seq_from": b"%d" % self.seq_from,
            b"seq_to": b"%d" % self.seq_to,
            b"counts": ",".join(map(str, self.counts)).encode(),
            b"n": b"%d" % self.records,
            b"b": self.payload,
            b"host": self.host_id.encode(),
            b"accepted": b"%d" % self.accepted,
            b"at": b"%d" % self.sent_at_ms,
        }
        if self.closed_seq is not None:
            fields |= {b"closed": b"%d" % self.closed_seq, b"unrecorded": b"%d" % self.unrecorded, b"lost": self.lost.encode()}
        return fields

    @classmethod
    def read(cls, fields: Mapping[bytes, bytes]) -> "Entry":
        """The entry that `fields` stand for. CorruptData when a field is missing, malformed or contradicts another; UnknownVersion."""
        try:
            if fields[b"v"] != ENTRY_VERSION:
                raise UnknownVersion(f"entry: version {fields[b'v']!r} is unknown, this code reads {ENTRY_VERSION!r}")
            entry = cls(
                node=fields[b"node"].decode(),
                boot=bytes.fromhex(fields[b"boot"].decode()),
                host_id=fields[b"host"].decode(),
                seq_from=int(fields[b"seq_from"]),
                seq_to=int(fields[b"seq_to"]),
                counts=tuple(map(int, fields[b"counts"].split(b","))) if fields[b"counts"] else (),
                accepted=int(fields[b"accepted"]),
                sent_at_ms=int(fields[b"at"]),
                payload=fields[b"b"],
                closed_seq=int(fields[b"closed"]) if b"closed" in fields else None,
                unrecorded=int(fields.get(b"unrecorded", b"0")),
                lost=str(SeqSet.parse(fields.get(b"lost", b"{}").decode())),
            )
        except (KeyError, ValueError) as exc:
            raise CorruptData(f"entry: {exc!r}") from exc
        if len(entry.boot) != 16 or len(entry.counts) != max(0, entry.seq_to - entry.seq_from + 1) or min(entry.counts, default=1) < 1:
            raise CorruptData("entry: boot, seq range and counts contradict each other")
        return entry

    def frames(self) -> list[Frame | None]:
        """One item a batch of the run, in seq order: where its frame lies in `payload`, or None when it is damaged or missing."""
        found = {frame.seq: frame for frame in scan(self.payload)}
        batches = zip(range(self.seq_from, self.seq_to + 1), self.counts, strict=True)
        return [found[seq] if seq in found and found[seq].records == count else None for seq, count in batches]


# Redis keys beside the streams; each has a TTL. `{kind}` is `clicks` or `conversions`, `{boot}` 32 hex digits.
BOOTS_KEY = "turnout:boots"  # sorted set: `{kind}:{boot}` by unix seconds last heard of
REPORT_KEY = "turnout:boot:{boot}"  # a NodeReport, written each second by whoever holds the boot's journal
COVERED_KEY = "turnout:covered:{boot}"  # a CoveredState, written each second by every writer
BOOTS_TTL_S = 7 * 86400
REPORT_TTL_S = 120
COVERED_TTL_S = 60
GROUP = "writers"


def stream_key(kind: str, shard: int) -> str:
    """`turnout:clicks:{0}`: the braces are literal, a Redis Cluster hash tag."""
    return f"turnout:{kind}:{{{shard}}}"


def shard_of(boot: bytes, shards: int) -> int:
    """The one shard of a boot."""
    return int.from_bytes(boot[:4], "big") % shards


class NodeReport(msgspec.Struct):
    """What the holder of a boot's journal says of it. `held` is a multirange in PostgreSQL's text form: seqs on its disk or in its
    memory that it has not seen covered. `lost`: those it had to give up. `accepted` counts all records given a seq so far, `at_ms` is
    the Redis server's clock."""

    node: str
    boot: str
    kind: str
    host_id: str
    pid: int
    last_seq: int
    accepted: int
    unrecorded: int
    held: str
    held_bytes: int
    kept_bytes: int
    closed: bool
    at_ms: int
    lost: str = "{}"


class CoveredState(msgspec.Struct):
    """What PostgreSQL says of a boot, with that PostgreSQL's identity: another identity or a decrease means *re-ship from there*."""

    system_id: str
    timeline: int
    covered: str
    accepted: int
    stored: int
    duplicate: int
    rejected: int
    unrecorded: int
    closed_seq: int | None
    at_ms: int


report_encoder = msgspec.json.Encoder()
report_decoder = msgspec.json.Decoder(NodeReport)
covered_decoder = msgspec.json.Decoder(CoveredState)
