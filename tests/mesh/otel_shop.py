"""Three services as three OpenTelemetry SDKs in one process, exporting to the standard port with no special settings.

    python otel_shop.py REQUESTS

storefront -> cart-service -> price-service -> postgresql/prices. Price-service fails every 10th request and cart-service
with it; storefront has a fallback for cart, and fails by itself at every 25th request, three after a multiple of 25.
Prints what was sent, as JSON, when all of it was exported. OTEL_EXPORTER_OTLP_PROTOCOL chooses gRPC (the default) or
http/protobuf.
"""

import json
import os
import sys
import time

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "http/protobuf":
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

# The boundaries that the conventions recommend to instrumentation, in seconds.
BOUNDARIES = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
BUCKET_SECONDS = 300
# More than all requests take.
RUN_SECONDS = 30


class Service:
    """A service with tracing and metrics of its own."""

    def __init__(self, name):
        self.name = name
        resource = Resource.create({"service.name": name})
        self.traces = TracerProvider(resource=resource)
        self.traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self.tracer = self.traces.get_tracer("shop")
        self.metrics = MeterProvider(resource=resource, metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())])
        meter = self.metrics.get_meter("shop")
        self.duration = meter.create_histogram(
            "http.server.request.duration", unit="s", explicit_bucket_boundaries_advisory=BOUNDARIES
        )
        self.valid = self.bad = 0

    def answer(self, context, route, handle):
        """A request: a server span and a measurement. Returns the status code."""
        began = time.monotonic()
        with self.tracer.start_as_current_span(f"GET {route}", context=context, kind=SpanKind.SERVER) as span:
            status = handle(set_span_in_context(span))
            span.set_attributes({"http.request.method": "GET", "http.route": route, "http.response.status_code": status})
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            attributes = {"http.request.method": "GET", "http.route": route, "http.response.status_code": status}
            # Within the span, so that the SDK names it in its exemplars.
            self.duration.record(time.monotonic() - began, attributes)
        self.valid += 1
        self.bad += status >= 500
        return status

    def call(self, context, callee, handle):
        """A call to another service: a client span around its answer."""
        with self.tracer.start_as_current_span("GET", context=context, kind=SpanKind.CLIENT) as span:
            status = handle(set_span_in_context(span))
            span.set_attributes({"http.request.method": "GET", "server.address": callee, "http.response.status_code": status})
            if status >= 400:
                span.set_status(Status(StatusCode.ERROR))
        return status

    def ask_database(self, context):
        with self.tracer.start_as_current_span("SELECT prices", context=context, kind=SpanKind.CLIENT) as span:
            span.set_attributes({"db.system.name": "postgresql", "db.namespace": "prices", "server.address": "db-1"})

    def shutdown(self):
        self.traces.shutdown()
        self.metrics.shutdown()


def main():
    requests = int(sys.argv[1])
    # Metrics count in the bucket in which they are exported, traces in that of the request: keep the run within one.
    left = BUCKET_SECONDS - time.time() % BUCKET_SECONDS
    if left < RUN_SECONDS:
        time.sleep(left)
    storefront, cart, price = (Service(name) for name in ("storefront", "cart-service", "price-service"))

    def price_handler(number):
        def handle(context):
            price.ask_database(context)
            return 503 if number % 10 == 0 else 200

        return handle

    def cart_handler(number):
        def handle(context):
            answer = lambda inner: price.answer(inner, "/prices", price_handler(number))
            return 500 if cart.call(context, "price-service", answer) >= 500 else 200

        return handle

    def storefront_handler(number):
        def handle(context):
            storefront.call(context, "cart-service", lambda inner: cart.answer(inner, "/cart", cart_handler(number)))
            # Whatever cart says, there is a page to show.
            return 500 if number % 25 == 3 else 200

        return handle

    for number in range(1, requests + 1):
        storefront.answer(None, "/", storefront_handler(number))
    for service in (storefront, cart, price):
        service.shutdown()

    failed = price.bad
    print(
        json.dumps(
            {
                "requests": requests,
                "services": {
                    "storefront": {"valid": storefront.valid, "bad": storefront.bad, "inherited": 0},
                    "cart-service": {"valid": cart.valid, "bad": cart.bad, "inherited": failed},
                    "price-service": {"valid": price.valid, "bad": price.bad, "inherited": 0},
                },
                "edges": [
                    {"caller": "storefront", "callee": "cart-service", "calls": requests, "failures": failed, "rescued": failed},
                    {"caller": "cart-service", "callee": "price-service", "calls": requests, "failures": failed, "rescued": 0},
                    {"caller": "price-service", "callee": "postgresql/prices", "calls": requests, "failures": 0, "rescued": 0},
                ],
            }
        )
    )


if __name__ == "__main__":
    main()
