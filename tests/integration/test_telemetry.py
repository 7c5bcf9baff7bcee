"""A served turn on its way to an OpenTelemetry collector."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from avatar import __version__
from avatar.core.trace import STAGES
from tests.integration.serving import fake_engines, serving, settings_for


class Collector(HTTPServer):
    """Keeps what is posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.posts: list[tuple[str, bytes]] = []


class _Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.posts.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector, ThreadPoolExecutor(1) as thread:
        thread.submit(collector.serve_forever)
        yield collector
        collector.shutdown()


async def test_a_turn_is_at_the_collector_when_the_server_has_stopped(collector: Collector, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, telemetry={"otlp_endpoint": f"http://127.0.0.1:{collector.server_port}/"})
    async with serving(fake_engines(), settings) as server, server.client() as client:
        await client.start()
        await client.send("text", text="a secret")
        done = await client.until("reply.done")
    ((path, body),) = collector.posts
    assert path == "/v1/traces"
    assert b"secret" not in body
    (sent,) = ExportTraceServiceRequest.FromString(body).resource_spans
    about = {attribute.key: attribute.value.string_value for attribute in sent.resource.attributes}
    assert (about["service.name"], about["service.version"]) == ("avatar", __version__)
    spans = sent.scope_spans[0].spans
    assert [span.name for span in spans] == [*STAGES[2:], "turn"]
    assert done["turn_id"] in {attribute.value.string_value for attribute in spans[-1].attributes}
