"""OpenTelemetry: spans that continue the client's trace when asked for, and no cost when not."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.server.operation.process import running

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_span_continues_the_clients_trace_and_is_exported(tmp_path: Path) -> None:
    received: list[bytes] = []
    arrived = threading.Event()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()
            arrived.set()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        environ = {
            "DCAO_TRACING": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        with running(tmp_path / "log", "-m", "dcao_server.main", "serve", **environ) as server:
            httpx.get(f"{server.url}/v1/policies", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"}, trust_env=False)
            assert arrived.wait(20)
        collector.shutdown()
    request = ExportTraceServiceRequest.FromString(received[0])
    (resource,) = request.resource_spans
    names = {a.key: a.value.string_value for a in resource.resource.attributes}
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    assert names["service.name"] == "dcao-controller"
    assert [(s.trace_id.hex(), s.parent_span_id.hex()) for s in spans] == [(TRACE, SPAN)]


def test_without_the_setting_no_exporter_is_imported() -> None:
    code = (
        "import sys\nfrom dcao_server.app import create_app\nimport dcao_server.asgi.runner\ncreate_app()\n"
        "sys.exit(any(m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter', 'opentelemetry.instrumentation')) "
        "for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_extra_the_setting_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['opentelemetry.sdk'] = None\nfrom dcao_server.main import main\n"
        "sys.exit(main(['serve']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"DCAO_TRACING": "true", "DCAO_DATA": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'dcao[otel]'" in done.stderr
