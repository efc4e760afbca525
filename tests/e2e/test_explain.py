"""/explain shows the whole reasoning: terms that add up, ranks that are in order, flips that do flip; and pages."""

import pytest

from waypost import error_of

PROMPTS = [
    "Write a Python function that merges two sorted lists.",
    "Translate 'the train is late' into Portuguese.",
    "hi there",
    "Draft a funny toast for my sister's wedding, about two minutes long.",
    "Schreib mir eine Zusammenfassung dieses Absatzes: Der Rhein entspringt in den Alpen und mündet in die Nordsee.",
]
FLOAT = 1e-6


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_decision_is_whole_and_in_order(plain, prompt):
    decision = plain.explain(prompt)
    assert decision["id"].startswith("dec_") and decision["outcome"] is None and decision["reason"]
    assert decision["basis"] == ("abstained" if decision["abstained"] else "classified")
    early = decision["exit"]
    assert decision["abstained"] == (not early and decision["confidence"] < decision["gate"])
    assert not early or decision["confidence"] >= early["confidence"] and 0.9 < early["agreement"] <= 1
    similarities = [neighbor["similarity"] for neighbor in decision["neighbors"]]
    assert len(similarities) == (0 if early else 5) and similarities == sorted(similarities, reverse=True)
    assert all(similarity <= 1 + FLOAT for similarity in similarities)
    assert all(neighbor["id"] and neighbor["text"] and neighbor["label"] for neighbor in decision["neighbors"])
    classes = decision["classes"]
    assert len(classes) == 10 and classes[0]["class"] == decision["class"]
    for score in classes:
        assert 0 <= score["quality"] <= 1 + FLOAT
        for source in ["head", "kernel", "neighbors"]:
            assert score[source] is None if early else 0 <= score[source] <= 1 + FLOAT
    if not decision["abstained"]:
        assert classes[0]["quality"] >= decision["policy"]["quality_floor"] and classes[0]["out"] is None
        assert all(score["out"] for score in classes if score["quality"] < decision["policy"]["quality_floor"])
    timing = decision["timing"]
    parts = [value for key, value in timing.items() if key not in ["total_us", "read_before"]]
    assert (timing["encode_us"] == 0) == timing["read_before"] and sum(parts) <= timing["total_us"]


def test_deployments_are_ranked_and_their_terms_add_up(fleet):
    decision = fleet.explain("x", model="try-busy")
    scores = decision["deployments"]
    usable = [score for score in scores if score["out"] is None]
    assert [score["deployment"] for score in usable] == ["fake/busy", "fake/ok"] == [decision["deployment"], *decision["fallbacks"]]
    assert scores[: len(usable)] == usable and all(score["out"] for score in scores[len(usable) :])
    assert [score["score"] for score in usable] == sorted(score["score"] for score in usable)
    for score in scores:
        terms = score["input_cost"] + score["output_cost"] + score["time_cost"] + score["failure_cost"]
        assert score["score"] == pytest.approx(terms)
    ok = usable[1]
    assert ok["input_cost"] == pytest.approx(decision["features"]["tokens_in"] * 1e-6)
    assert ok["output_cost"] == pytest.approx(ok["output_tokens"] * 1e-6)


def test_a_flip_of_policy_flips_the_class(plain):
    flipped = 0
    for prompt in PROMPTS:
        decision = plain.explain(prompt)
        if change := decision["flip"]["class"]:
            assert decision["policy"][change["key"]] == change["from"]
            other = plain.explain(prompt, headers={"x-waypost-policy": f"{change['key']}={change['to']!r}"})
            assert other["class"] == change["would_choose"] != decision["class"]
            flipped += 1
    assert flipped > 0


def test_a_flip_of_policy_flips_the_deployment(fleet):
    """`fake/tardy` is free and slow, `fake/ok` has a price and is quick: the worth of a second decides."""
    for name in ("fake/tardy", "fake/ok") * 3:
        fleet.chat(model=name, stream=True)
    decision = fleet.explain("x", model="try-tardy")
    change = decision["flip"]["deployment"]
    assert decision["deployment"] == "fake/tardy" and (change["key"], change["from"], change["would_choose"]) == ("value_of_second", 0, "fake/ok")
    for factor, winner in [(0.5, "fake/tardy"), (1, "fake/ok"), (2, "fake/ok")]:
        assert fleet.explain("x", model="try-tardy", headers={"x-waypost-policy": f"value_of_second={change['to'] * factor!r}"})["deployment"] == winner, factor


def test_post_explain_forwards_and_records_nothing(fleet, seen):
    decision = fleet.explain("Hello", model="try-slow")
    assert decision["deployment"] == "fake/slow" and not seen
    error_of(fleet.http.get(f"/explain/{decision['id']}"), 404, "decision_not_found")


def test_a_policy_header_overrides(plain):
    assert plain.explain(headers={"x-waypost-policy": "best"})["policy"]["quality_floor"] == 0.9
    policy = plain.explain(headers={"x-waypost-policy": "cheap, max_attempts=1, max_cost=0.25"})["policy"]
    assert (policy["quality_floor"], policy["max_attempts"], policy["max_cost"]) == (0.3, 1, 0.25)


@pytest.mark.parametrize("header", ["nonsense", "quality_floor=2", "quality_floor=x", "color=1"])
def test_a_policy_that_cannot_be_read_is_refused(fleet, header):
    body = {"messages": [{"role": "user", "content": "hi"}]}
    for path in ("/explain", "/v1/chat/completions"):
        error = error_of(fleet.http.post(path, json=body, headers={"x-waypost-policy": header}), 400, "invalid_policy")
        assert error["param"] == "x-waypost-policy"


def test_nothing_fits_says_why(fleet):
    for policy, word in [("allowed_regions=mars", "region"), ("max_cost=0", "max_cost")]:
        error = error_of(fleet.chat(model="fake/ok", headers={"x-waypost-policy": policy}), 400, "no_deployment_fits")
        assert word in error["message"] and "fake/ok" in error["message"]


def test_recent_decisions_are_paged(fleet):
    ids = [fleet.chat(model="fake/ok", max_tokens=1).headers["x-waypost-decision"] for _ in range(5)]
    newest = ids[::-1]
    first = fleet.http.get("/explain", params={"limit": 2}).json()
    assert [decision["id"] for decision in first["data"]] == newest[:2] and first["has_more"] is True
    second = fleet.http.get("/explain", params={"limit": 3, "before": newest[1]}).json()
    assert [decision["id"] for decision in second["data"]] == newest[2:5]
    oldest, page = newest[4], second
    while page["has_more"]:
        page = fleet.http.get("/explain", params={"limit": 200, "before": oldest}).json()
        assert page["data"], "has_more promised more"
        oldest = page["data"][-1]["id"]
    assert fleet.http.get("/explain", params={"before": oldest}).json() == {"data": [], "has_more": False}


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=-1", "limit=many"])
def test_a_page_of_no_sense_is_refused(fleet, query):
    assert error_of(fleet.http.get(f"/explain?{query}"), 400, "invalid_value")["param"] == "limit"


def test_an_unknown_decision_is_404(fleet):
    error_of(fleet.http.get("/explain/dec_0"), 404, "decision_not_found")
