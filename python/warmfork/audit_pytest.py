"""pytest: `--fork-audit` fails the test that leaves a hazard behind.

    pytest --fork-audit                     # what is unsafe
    pytest --fork-audit-on=warning          # a severity, or codes: --fork-audit-on=socket,database

A test is compared with how the process was before its fixtures were set up, after they have been torn down. What a
fixture of a wider scope than the test's makes is that fixture's, and is nobody's fault. A test may say that it knows:
`@pytest.mark.fork_unsafe`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from warmfork import Finding, Report, audit
from warmfork._report import CODES, SEVERITIES


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("warmfork")
    group.addoption("--fork-audit", action="store_true", help="fail the test that leaves behind what is unsafe to fork")
    group.addoption(
        "--fork-audit-on",
        metavar="WHAT,...",
        help="the same for a severity (unsafe, warning, info) and what is worse, or for codes such as socket",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fork_unsafe: the test may leave hazards for fork behind (warmfork)")
    wanted = config.getoption("--fork-audit-on")
    if wanted is None and not config.getoption("--fork-audit"):
        return
    names = frozenset((wanted or "unsafe").split(",")) - {""}
    if not names or names - {*CODES, *SEVERITIES}:
        raise pytest.UsageError(f"--fork-audit-on={wanted}: neither codes nor one of {', '.join(SEVERITIES)}")
    config.pluginmanager.register(ForkAudit(names), "warmfork-fork-audit")


class ForkAudit:
    """The plugin, where it is asked for."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.known: set[object] = set()  # hazards that are nobody's, or were told already
        self.settled = False

    def look(self) -> list[Finding]:
        """What is new since the last look, and known from now on."""
        report: Report = audit()
        new = [f for f in report.fails(self.names) if f.key not in self.known]
        self.known = {f.key for f in report.findings if f in new or f.key in self.known}
        return new

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        if not self.settled:  # what there is before the first test is no test's
            self.look()
            self.settled = True
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        if fixturedef.scope == "function":
            return (yield)
        before = set(self.known)
        inner: list[Finding] = self.look()
        self.known = before  # what the test itself has done by now is still its own
        try:
            return (yield)
        finally:
            own = {f.key for f in inner}
            self.known |= {f.key for f in audit().fails(self.names) if f.key not in own}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        result = yield
        left = self.look()
        if left and item.get_closest_marker("fork_unsafe") is None:
            pytest.fail(f"{item.nodeid} leaves behind what is unsafe to fork\n{Report(left).format()}", pytrace=False)
        return result
