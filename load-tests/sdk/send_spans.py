"""Sends the spans of some of many services with the OpenTelemetry SDK, and counts what its exporter says of them.

Every process knows every trace: which services it goes through follows from its number alone. Each emits the spans of its
own services, so that most traces arrive in pieces from several processes. A trace of three services is three SERVER and two
CLIENT spans. After every hundredth trace a SERVER span that began in 1970 follows: the receiver has to refuse it.

Prints a JSON object a line: {"acknowledged": n} as it goes, and at the end what was acknowledged, by kind, what the receiver
reported as rejected, and what the exporter gave up.
"""

import argparse
import json
import random
import sys
import threading
import time

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

CHAIN = 3
BAD_EVERY = 100
# Longer than any restart; the exporter itself ends after six attempts.
EXPORT_SECONDS = 300
QUEUE_MAX = 1_000_000
REPORT_SECONDS = 0.2


class Tally:
    """What became of the spans of this process."""

    def __init__(self):
        self.lock = threading.Lock()
        self.requests = self.calls = self.rejected = self.given_up = self.attempts = 0

    def acknowledged(self):
        with self.lock:
            return self.requests + self.calls


class Observed:
    """The exporter's own client; looks at the answers, which the exporter itself drops."""

    def __init__(self, client):
        self.client = client
        self.rejected = 0
        self.attempts = 0

    def Export(self, **arguments):
        self.attempts += 1
        answer = self.client.Export(**arguments)
        self.rejected = answer.partial_success.rejected_spans
        return answer


class CountingExporter(OTLPSpanExporter):
    """The genuine exporter; adds up what it reports."""

    def __init__(self, tally, **arguments):
        self.tally = tally
        super().__init__(**arguments)

    def _initialize_channel_and_stub(self):
        # Also when it connects anew.
        super()._initialize_channel_and_stub()
        self._client = Observed(self._client)

    def export(self, spans):
        result = super().export(spans)
        with self.tally.lock:
            if result is SpanExportResult.SUCCESS:
                calls = sum(span.kind is SpanKind.CLIENT for span in spans)
                self.tally.calls += calls
                self.tally.requests += len(spans) - calls
                self.tally.rejected += self._client.rejected
            else:
                self.tally.given_up += len(spans)
        return result


class Ids(IdGenerator):
    """Ids that every process finds by itself."""

    def __init__(self):
        self.trace = self.span = 0

    def generate_trace_id(self):
        return self.trace

    def generate_span_id(self):
        return self.span


class Service:
    def __init__(self, name, endpoint, ids, tally):
        self.provider = TracerProvider(resource=Resource.create({"service.name": name}), id_generator=ids)
        exporter = CountingExporter(tally, endpoint=endpoint, insecure=True, timeout=EXPORT_SECONDS)
        self.provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE_MAX, schedule_delay_millis=1000))
        self.tracer = self.provider.get_tracer("load-tests")


class Sender:
    def __init__(self, options):
        self.options = options
        self.tally = Tally()
        self.ids = Ids()
        own = range(options.process, options.services, options.processes)
        self.services = {
            number: Service(self.name(number), options.endpoint, self.ids, self.tally) for number in own
        }

    def name(self, number):
        return f"{self.options.run}-{number}"

    def chain(self, trace):
        """The services that a trace goes through; nobody calls itself."""
        chosen = random.Random(f"{self.options.seed}/{trace}")
        chain = [chosen.randrange(self.options.services)]
        while len(chain) < CHAIN:
            chain.append((chain[-1] + chosen.randint(1, 5)) % self.options.services)
        return chain

    def trace_id(self, trace):
        return (self.options.trace_ids << 64) | (trace + 1)

    def context(self, trace, span):
        """The parent, as it arrives in the headers of a call."""
        if span is None:
            return None
        parent = SpanContext(self.trace_id(trace), span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        return set_span_in_context(NonRecordingSpan(parent))

    def span(self, service, trace, place, kind, attributes, start_time=None):
        self.ids.trace = self.trace_id(trace)
        self.ids.span = ((trace + 1) << 4) | (place + 1)
        parent = None if place == 0 else ((trace + 1) << 4) | place
        # A root has no parent, and the SDK asks for both ids; any other takes the trace of its parent.
        context = self.context(trace, parent)
        span = self.services[service].tracer.start_span("GET /items", context, kind, attributes, start_time=start_time)
        span.end(None if start_time is None else start_time + 1)

    def send(self, trace):
        chain = self.chain(trace)
        for hop, service in enumerate(chain):
            if service not in self.services:
                continue
            attributes = {"http.request.method": "GET", "http.route": "/items", "http.response.status_code": 200}
            self.span(service, trace, 2 * hop, SpanKind.SERVER, attributes)
            if hop + 1 < CHAIN:
                callee = self.name(chain[hop + 1])
                attributes = {"http.request.method": "GET", "server.address": callee, "peer.service": callee}
                self.span(service, trace, 2 * hop + 1, SpanKind.CLIENT, attributes)
        if trace % BAD_EVERY == 0 and chain[0] in self.services:
            # A trace of its own, far behind the others.
            self.span(chain[0], trace + (1 << 40), 0, SpanKind.SERVER, {}, start_time=1)

    def run(self):
        began = time.monotonic()
        reported = 0.0
        for trace in range(self.options.traces):
            self.send(trace)
            now = time.monotonic()
            if now - reported > REPORT_SECONDS:
                reported = now
                self.report()
            ahead = began + trace / self.options.traces_per_second - now
            if ahead > 0.01:
                time.sleep(ahead)
        self.finish()

    def report(self):
        print(json.dumps({"acknowledged": self.tally.acknowledged()}), flush=True)

    def finish(self):
        flushing = [threading.Thread(target=service.provider.force_flush) for service in self.services.values()]
        for thread in flushing:
            thread.start()
        while any(thread.is_alive() for thread in flushing):
            self.report()
            time.sleep(REPORT_SECONDS)
        for service in self.services.values():
            service.provider.shutdown()
        tally = self.tally
        print(
            json.dumps(
                {
                    "acknowledged": tally.acknowledged(),
                    "requests": tally.requests,
                    "calls": tally.calls,
                    "rejected": tally.rejected,
                    "given_up": tally.given_up,
                    "done": True,
                }
            ),
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True, help="OTLP/gRPC, for example http://127.0.0.1:4317")
    parser.add_argument("--run", required=True, help="begins every service's name")
    parser.add_argument("--trace-ids", type=int, required=True, help="upper half of every trace's id, from 1")
    parser.add_argument("--services", type=int, default=50)
    parser.add_argument("--traces", type=int, required=True)
    parser.add_argument("--traces-per-second", type=float, required=True)
    parser.add_argument("--process", type=int, default=0, help="which of the processes this is, from 0")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    Sender(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
