"""Verifies an exported audit log with nothing but Python: python3 verify_audit.py FILE [SEQUENCE:SHA256].

FILE is what `attain audit export` writes, from the first record on; the second argument is an anchor that the log has to lead
to. Written from docs/recommendation/audit.md alone, so that the product's verification has somebody to disagree with.
"""

import hashlib
import json
import sys


def length_prefixed(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(8, "big") + field for field in fields)


def expected_sha256(record: dict) -> str:
    if record["encoding"] == 1:
        fields = ("sequence", "time_ms", "caller", "action", "service_id", "detail_json")
        array = json.dumps([record[field] for field in fields], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(record["previous_sha256"].encode() + array.encode()).hexdigest()
    if record["encoding"] != 2:
        raise ValueError(f"record {record['sequence']}: there is no encoding {record['encoding']}")
    return hashlib.sha256(
        length_prefixed(
            b"attain-audit-2",
            record["tenant_id"].encode(),
            record["sequence"].to_bytes(8, "big"),
            record["time_ms"].to_bytes(8, "big", signed=True),
            record["caller"].encode(),
            record["action"].encode(),
            record["service_id"].encode(),
            record["detail_json"].encode(),
            bytes.fromhex(record["previous_sha256"]),
        )
    ).hexdigest()


def verify(lines: list[str], anchor: tuple[int, str] | None) -> str:
    sequence, sha256, encoding, tenant_id = 0, "0" * 64, 1, None
    for line in lines:
        record = json.loads(line)
        sequence += 1
        tenant_id = tenant_id or record["tenant_id"]
        if record["sequence"] != sequence or record["tenant_id"] != tenant_id or record["previous_sha256"] != sha256:
            raise ValueError(f"record {sequence}: it is missing, or does not follow the one before")
        if record["encoding"] < encoding or record["sha256"] != expected_sha256(record):
            raise ValueError(f"record {sequence}: it was changed")
        sha256, encoding = record["sha256"], record["encoding"]
        if anchor and anchor[0] == sequence and anchor[1] != sha256:
            raise ValueError(f"record {sequence}: the anchor says another hash")
    if anchor and anchor[0] > sequence:
        raise ValueError(f"record {sequence + 1}: it is missing, the tail was cut off")
    return f"{sequence} records hold together and end at {sequence}:{sha256}"


def main() -> int:
    anchor = None
    if len(sys.argv) > 2:
        position, sha256 = sys.argv[2].split(":")
        anchor = (int(position), sha256)
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = [line for line in file.read().split("\n") if line]
    try:
        print(verify(lines, anchor))
    except (ValueError, KeyError, TypeError) as broken:
        print(f"broken: {broken}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
