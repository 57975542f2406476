#!/usr/bin/env python3
"""Compares what Attain made of a Backstage catalogue with what that catalogue holds, then changes the catalogue, and again.

Usage: BACKSTAGE_TOKEN=… check.py GATEWAY BACKSTAGE CATALOGUE.yaml
"""
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

WITHIN_SECONDS = 120
EDGES = {
    ("tracking-site", "tracking"), ("tracking", "labels"), ("tracking", "scanner-svc"), ("tracking", "tracking-db"),
    ("tracking", "tracking-cache"), ("tracking-db", "cluster"), ("labels", "resource:default/labels"), ("labels", "fonts"),
    ("depot/sorter", "scanner-svc"),
    ("api:default/labels-api", "labels"), ("api:default/tracking-api", "tracking"), ("api:depot/scans", "scanner-svc"),
    ("system:default/parcels", "labels"), ("system:default/parcels", "resource:default/labels"),
    ("system:default/parcels", "tracking"), ("system:default/parcels", "tracking-db"),
    ("system:default/parcels", "tracking-site"),
}
# id: kind, tier, owner, system, lifecycle, the catalogue's name
SERVICES = {
    "tracking": ("service", "1", "dispatch", "parcels", "production", "component:default/tracking"),
    "tracking-site": ("service", None, "user:default/ida", "parcels", "production", "component:default/tracking-site"),
    "labels": ("service", None, "dispatch", "parcels", "deprecated", "component:default/labels"),
    "scanner-svc": ("service", "2", "depot/crew", "", "experimental", "component:depot/scanner"),
    "depot/sorter": ("service", None, "depot/crew", "", "experimental", "component:depot/sorter"),
    "tracking-db": ("datastore", None, "dispatch", "parcels", "", "resource:default/tracking-db"),
    "tracking-cache": ("cache", None, "dispatch", "", "", "resource:default/tracking-cache"),
    "resource:default/labels": ("datastore", None, "dispatch", "parcels", "", "resource:default/labels"),
    "cluster": ("infrastructure", None, "dispatch", "", "", "resource:default/cluster"),
    "depot/beacon": ("infrastructure", None, "depot/crew", "", "", "resource:depot/beacon"),
    "fonts": ("infrastructure", None, "", "", "", "resource:default/fonts"),
    "system:default/parcels": ("system", None, "dispatch", "", "", "system:default/parcels"),
    "api:default/customs-api": ("api", None, "dispatch", "", "production", "api:default/customs-api"),
    "api:default/labels-api": ("api", None, "dispatch", "parcels", "production", "api:default/labels-api"),
    "api:default/tracking-api": ("api", None, "dispatch", "parcels", "production", "api:default/tracking-api"),
    "api:depot/scans": ("api", None, "depot/crew", "", "production", "api:depot/scans"),
}


def get(address, token=None):
    request = urllib.request.Request(address, headers={"authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


class Attain:
    def __init__(self, gateway):
        self.gateway = gateway

    def services(self):
        found = get(f"{self.gateway}/api/v1/services?page_size=500")["services"]
        word = lambda text, prefix: (text or "").lower().removeprefix(prefix)
        return {
            s["id"]: (
                word(s.get("kind"), "entity_kind_") or "service",
                word(s.get("tier"), "tier_").replace("unspecified", "") or None,
                s.get("owner", ""), s.get("system", ""), s.get("lifecycle", ""), s.get("catalogue_ref", ""),
            )
            for s in found
        }

    def edges(self, services):
        edges = set()
        for service in services:
            path = urllib.parse.quote(service, safe="")
            answer = get(f"{self.gateway}/api/v1/services/{path}/dependencies?direction=downstream&depth=1")
            edges |= {(e["caller_id"], e["callee_id"]) for e in answer.get("dependencies", [])}
        return edges

    def status(self):
        return get(f"{self.gateway}/api/v1/catalogue")

    def wait(self, what, reached):
        """Waits until something holds of services and edges; how long it took."""
        began = time.monotonic()
        while True:
            services, edges = {}, set()
            try:
                services = self.services()
                edges = self.edges(services)
                if reached(services, edges):
                    return time.monotonic() - began
            except urllib.error.HTTPError as error:
                if error.code not in (404, 503):
                    raise
            if time.monotonic() - began > WITHIN_SECONDS:
                print(f"{what}: not within {WITHIN_SECONDS} s", json.dumps(services, indent=1), sorted(edges), self.status())
                sys.exit(1)
            time.sleep(0.2)


def references(backstage, token):
    """Everything of the catalogue that is a node, asked in another way than Attain does."""
    kinds = "&".join(f"filter=kind={kind}" for kind in ("component", "resource", "system", "api"))
    found = get(f"{backstage}/api/catalog/entities?{kinds}", token)
    return {f"{e['kind']}:{e['metadata']['namespace']}/{e['metadata']['name']}".lower() for e in found}


def main():
    attain, backstage, path = Attain(sys.argv[1]), sys.argv[2], sys.argv[3]
    token = os.environ["BACKSTAGE_TOKEN"]

    # Relations appear some seconds after the entities that they lead to.
    took = attain.wait("first state", lambda services, edges: services == SERVICES and edges == EDGES)
    known = {words[5] for words in attain.services().values()}
    held = references(backstage, token)
    assert held - known == {"component:default/barcode"}, "a library is no node"
    assert known - held == {"resource:default/fonts"}, "only a relation names it"
    status = attain.status()
    assert status["current"] and status["entity_count"] == 16, status
    assert {p["code"] for p in status["problems"]} == {
        "api_without_provider", "name_collision", "not_in_catalogue", "tier_unknown", "type_ignored", "type_unknown",
    }, status
    print(f"{len(SERVICES)} services and {len(EDGES)} dependencies as in the catalogue, after {took:.1f} s")

    # Nothing changes while the catalogue does not: the same sweep stays applied.
    time.sleep(3)
    later = attain.status()
    assert later["applied_time"] == status["applied_time"] and later["attempt_time"] != status["attempt_time"], later
    print("an unchanged catalogue was read again and nothing was written")

    # One entity changes, two go.
    with open(path) as file:
        documents = file.read().split("---\n")
    documents = [d for d in documents if "name: sorter" not in d and "name: beacon" not in d]
    text = "---\n".join(documents).replace("lifecycle: deprecated", "lifecycle: retired")
    text = text.replace("consumesApis: [tracking-api]", "consumesApis: [tracking-api, labels-api]")
    with open(path, "w") as file:
        file.write(text)
    services = {id: words for id, words in SERVICES.items() if id not in ("depot/sorter", "depot/beacon")}
    services["labels"] = services["labels"][:4] + ("retired",) + services["labels"][5:]
    edges = EDGES - {("depot/sorter", "scanner-svc")} | {("tracking-site", "labels")}
    took = attain.wait("changed state", lambda s, e: s == services and e == edges)
    print(f"a change and two deletions followed, {took:.1f} s after the file changed (Backstage itself takes most of it)")


main()
