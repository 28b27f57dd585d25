"""What prom/statsd-exporter does with deploy/statsd/mapping.yml, for tests: StatsD by UDP in, Prometheus text out.

Counters, gauges and timers; patterns with stars, and the last one, which drops the rest. Times come in milliseconds
and are told in seconds.
"""

from __future__ import annotations

import argparse
import re
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, UDPServer
from typing import Any, Final

import yaml

LINE: Final = re.compile(r"([^:|@]+):([+-]?[0-9.eE+-]+)\|(c|g|ms)(?:\|@([0-9.]+))?(?:\|#.*)?")
Key = tuple[str, tuple[tuple[str, str], ...]]  # name and labels


class Mapping:
    """The lines of the mapping, in their order."""

    def __init__(self, text: str) -> None:
        document = yaml.safe_load(text)
        self.buckets = [float(edge) for edge in document["defaults"]["histogram_options"]["buckets"]]
        self._lines: list[tuple[re.Pattern[str], dict[str, Any]]] = []
        for line in document["mappings"]:
            if line.get("match_type") == "regex":
                pattern = re.compile(line["match"])
            else:
                pattern = re.compile(re.escape(line["match"]).replace(r"\*", "([^.]*)") + "$")
            self._lines.append((pattern, line))

    def key(self, name: str) -> Key | None:
        """What a StatsD name is told as; None for one that is dropped."""
        for pattern, line in self._lines:
            if found := pattern.match(name):
                if line.get("action") == "drop":
                    return None
                labels = {label: found[int(value[1:])] for label, value in line.get("labels", {}).items()}
                return line["name"], tuple(sorted(labels.items()))
        return None


class Metrics:
    """All that came in."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._lock = threading.Lock()
        self._values: Counter[Key] = Counter()

    def take(self, text: str) -> None:
        """One datagram: a line each."""
        for line in text.splitlines():
            found = LINE.fullmatch(line.strip())
            key = self._mapping.key(found[1]) if found else None
            if found is None or key is None:
                continue
            with self._lock:
                self._add(key, found[2], found[3], float(found[4] or 1))

    def _add(self, key: Key, text: str, kind: str, rate: float) -> None:
        name, labels = key
        value = float(text)
        if kind == "c":
            self._values[key] += value / rate
        elif kind == "g":
            self._values[key] = value + (self._values[key] if text[0] in "+-" else 0)
        else:
            self._values[f"{name}_sum", labels] += value / 1_000
            self._values[f"{name}_count", labels] += 1
            for edge in (*self._mapping.buckets, float("inf")):
                self._values[f"{name}_bucket", (*labels, ("le", f"{edge:g}".replace("inf", "+Inf")))] += (
                    value / 1_000 <= edge
                )

    def text(self) -> Iterator[str]:
        """Prometheus's text format, without types."""
        with self._lock:
            values = sorted(self._values.items())
        for (name, labels), value in values:
            told = ",".join(f'{label}="{text}"' for label, text in labels)
            yield f"{name}{{{told}}} {value:g}\n"


def main() -> None:
    """Serve until the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--statsd.mapping-config", dest="mapping", type=Path, required=True)
    parser.add_argument("--statsd.listen-udp", dest="udp", required=True)
    parser.add_argument("--web.listen-address", dest="web", required=True)
    options = parser.parse_args()
    metrics = Metrics(Mapping(options.mapping.read_text("utf-8")))

    class Datagram(BaseRequestHandler):
        def handle(self) -> None:
            metrics.take(self.request[0].decode("utf-8", "replace"))

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = "".join(metrics.text()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    udp = UDPServer(("", int(options.udp.rpartition(":")[2])), Datagram)
    threading.Thread(target=udp.serve_forever, daemon=True).start()
    ThreadingHTTPServer(("", int(options.web.rpartition(":")[2])), Page).serve_forever()


if __name__ == "__main__":
    main()
