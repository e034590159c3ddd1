"""When the certificates of a process end, for Prometheus: looked at when it is scraped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.common.certificates.validity import Validity, validities
from services.common.tls import FollowedFiles, TlsContent, TlsFiles

_LABELS = ("use", "of")


class CertificateCollector(Collector):
    """`romana_certificate_not_before_seconds` and `romana_certificate_not_after_seconds`.

    Of what is in use: files that were renewed and cannot be used do not count.
    """

    def __init__(self, uses: Mapping[str, TlsFiles | None], registry: CollectorRegistry) -> None:
        """`uses`: what for, `calls` or `etcd`; None: without TLS."""
        self._followed = {use: FollowedFiles(files) for use, files in uses.items() if files}
        self._read: dict[str, tuple[TlsContent, Mapping[str, Validity]]] = {}
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """One of each for our certificate and for the authority that it comes from."""
        begin = GaugeMetricFamily(
            "romana_certificate_not_before_seconds",
            "Unix time from which a certificate in use is good.",
            labels=_LABELS,
        )
        end = GaugeMetricFamily(
            "romana_certificate_not_after_seconds",
            "Unix time at which a certificate in use ends.",
            labels=_LABELS,
        )
        for use, followed in self._followed.items():
            for of, validity in self._of(use, followed.current()).items():
                begin.add_metric([use, of], validity.not_before.timestamp())
                end.add_metric([use, of], validity.not_after.timestamp())
        return [begin, end]

    def _of(self, use: str, content: TlsContent) -> Mapping[str, Validity]:
        known = self._read.get(use)
        if known is None or known[0] is not content:
            known = self._read[use] = (content, validities(content.ca, content.certificate))
        return known[1]
