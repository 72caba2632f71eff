"""A collector of OpenTelemetry: it takes OTLP over HTTP on a port of its own and decodes what comes."""

from __future__ import annotations

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

PATIENCE_S = 20.0


class Collector:
    """Keeps every span and every metric that it was sent."""

    def __init__(self):
        self.spans = []
        self.metrics = {}
        self.services = set()
        self.changed = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                answer = collector.take(self.path, body).SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "100",
        }

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_S)

    def take(self, path, body):
        """Decode one request; a path or a body of another form fails."""
        with self.changed:
            if path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    self._note(resource.resource)
                    self.spans += [span for scope in resource.scope_spans for span in scope.spans]
                answer = ExportTraceServiceResponse()
            else:
                assert path == "/v1/metrics"
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    self._note(resource.resource)
                    for scope in resource.scope_metrics:
                        self.metrics |= {metric.name: metric for metric in scope.metrics}
                answer = ExportMetricsServiceResponse()
            self.changed.notify_all()
            return answer

    def _note(self, resource):
        self.services |= {
            each.value.string_value for each in resource.attributes if each.key == "service.name"
        }

    def wait(self, holds):
        """Wait until something holds of this collector."""
        end = time.monotonic() + PATIENCE_S
        with self.changed:
            while not holds(self):
                left = end - time.monotonic()
                assert left > 0, [span.name for span in self.spans]
                self.changed.wait(left)

    def named(self, name):
        """Return the spans of a name."""
        return [span for span in self.spans if span.name == name]


def attributes(span):
    """Return the attributes of a span that came."""
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value"))
        for each in span.attributes
        if each.value.WhichOneof("value") != "array_value"
    }
