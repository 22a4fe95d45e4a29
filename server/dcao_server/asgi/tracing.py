"""OpenTelemetry spans, an extra: nothing of it is imported unless `DCAO_TRACING` is set.

The spans go where the standard `OTEL_…` variables say (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, …), and
continue the trace of a client's `traceparent`.
"""

import os

from starlette.types import ASGIApp

from dcao_server.settings import SettingsError

HOW_TO_INSTALL = (
    "expected OpenTelemetry because DCAO_TRACING is set; install it with pip install 'dcao[otel]', or unset it"
)


def traced(app: ASGIApp) -> ASGIApp:
    """The application with one server span a request, exported in the background.

    Raises:
        SettingsError: the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(HOW_TO_INSTALL) from error
    name = os.environ.get("OTEL_SERVICE_NAME", "dcao-controller")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    middleware: ASGIApp = OpenTelemetryMiddleware(app, exclude_spans=["receive", "send"], tracer_provider=provider)
    return middleware
