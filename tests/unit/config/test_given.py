"""Problems and warnings of a configuration are collected and read as lines."""

from __future__ import annotations

from taskqd.config.given import Findings


def test_problems_and_warnings_are_kept_apart_and_name_their_place() -> None:
    findings = Findings()
    findings.reject("prod.toml:3", "workers.cuont", "unknown key")
    findings.reject("prod.toml", "", "cannot be read")
    findings.warn("TASKQD_X", "means nothing")
    assert [str(problem) for problem in findings.problems] == [
        "prod.toml:3: workers.cuont: unknown key",
        "prod.toml: cannot be read",
    ]
    assert findings.warnings == ["TASKQD_X: means nothing"]
