#!/usr/bin/env python3
"""Records what a Backstage catalogue answers to the questions that Attain asks, page by page, as JSON on standard output.

Usage: BACKSTAGE_TOKEN=… record.py http://127.0.0.1:7007 > services/ingestion/tests/recorded/parcels.json
"""
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

FIELDS = [
    "kind", "metadata.namespace", "metadata.name", "metadata.title", "metadata.etag", "spec.type", "spec.lifecycle",
    "spec.owner", "spec.system", "relations",
]
MARKS = ["attain.dev/lifecycle", "attain.dev/service-id", "attain.dev/tier"]
PAGE_SIZE = 5


def ask(base, query, token):
    address = f"{base}/api/catalog/entities/by-query?{urllib.parse.urlencode(query)}"
    request = urllib.request.Request(address)
    if token is not None:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers.get("etag"), json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, None, json.load(error)


def main():
    base, token = sys.argv[1], os.environ["BACKSTAGE_TOKEN"]
    marked = [f"metadata.{folder}.{mark}" for mark in MARKS for folder in ("annotations", "labels")]
    always = [("fields", ",".join(FIELDS + marked)), ("limit", str(PAGE_SIZE))]
    first = [("filter", f"kind={kind}") for kind in ("component", "resource", "api", "system")]
    query, cursor, pages = always + first + [("orderField", "metadata.uid,asc")], None, []
    while True:
        status, etag, body = ask(base, query, token)
        assert status == 200 and etag, (status, body)
        pages.append({"cursor": cursor, "etag": etag, "body": body})
        cursor = body["pageInfo"].get("nextCursor")
        if cursor is None:
            break
        query = always + [("cursor", cursor)]
    refusals = []
    for sent, query in [(None, []), ("not-a-token", []), (token, [("cursor", "x")])]:
        status, _, body = ask(base, query, sent)
        # It repeats the address that was asked, and may hold a stack.
        refusals.append({"status": status, "body": {"error": {k: body["error"][k] for k in ("name", "message")}}})
    json.dump({"pages": pages, "refusals": refusals}, sys.stdout, indent=1)
    print()


main()
