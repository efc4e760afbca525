"""What was learned of deployments outlives a restart, and an operator can read it."""

import json

from waypost import ONE_DEPLOYMENT, serving


def overview(server):
    return server.http.get("/admin/deployments").raise_for_status().json()


def test_what_was_learned_is_known_after_a_restart(tmp_path, upstream):
    config = ONE_DEPLOYMENT.format(url=upstream.url)
    with serving(tmp_path, config) as server:
        for _ in range(10):
            assert server.chat(model="general", stream=True).status_code == 200
        rated = server.chat(model="general")
        body = {"decision": server.decision(rated)["id"], "score": 0.9}
        for _ in range(3):
            assert server.http.post("/v1/feedback", json=body).status_code == 201
        before = overview(server)
        server.stop()
        server.process.wait(30)
    kept = json.loads((tmp_path / "data" / "learned.json").read_text())
    assert [name for name, _ in kept["pages"]] == ["fake/ok"]
    with serving(tmp_path, config) as server:
        after = overview(server)
    [known], [again] = before["deployments"], after["deployments"]
    assert known["deployment"] == "fake/ok" and known["limits"]["breaker"] == "closed" and known["limits"]["held"] is None
    assert known["health"]["measured"] > 9
    # A caller's score counts once: of three alike the mean of 0.7, five times, and 0.9.
    assert 0.7 < known["health"]["quality"] < 0.78
    for measure in ("ttft_ms", "quality", "tokens_ratio"):
        assert abs(again["health"][measure] / known["health"][measure] - 1) < 0.3, measure
    assert again["health"]["measured"] > 5


def test_a_spoilt_file_is_one_warning(tmp_path, upstream):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "learned.json").write_text("{")
    with serving(tmp_path, ONE_DEPLOYMENT.format(url=upstream.url)) as server:
        assert server.chat(model="general").status_code == 200
        assert server.log().count("before this start is lost") == 1
