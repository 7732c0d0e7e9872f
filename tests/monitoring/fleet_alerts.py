"""Alerts about a whole cluster, and cases in which no alert may fire."""

from agents import (
    B_FALSE, B_OFFSET, B_REACHABLE, FAILED, HEALTHY, INDEPENDENT, KERNEL, OFFSET, STEPPED, THRESHOLD, agent, fleet, restarting,
    resumed, series)
from cases import says

# Only the series that the budget uses.
FEW = {**dict.fromkeys(HEALTHY), OFFSET: HEALTHY[OFFSET], THRESHOLD: HEALTHY[THRESHOLD]}
OFF = {**FEW, OFFSET: -0.15}


def burn(severity, within, share, rate, **labels):
    where = " of cluster east" if labels else ""
    return says(
        "ClockDriftBudgetBurn", severity,
        f"Clocks{where} drift too much: within {within}, {share} of node-minutes were outside the threshold.",
        f"The objective is 99.9% of node-minutes over 30 days; the error budget is used up more than {rate} times too fast.", **labels)


def skew(apart, ahead, behind, **labels):
    where = " of cluster east" if labels else ""
    return says(
        "ClockPairwiseSkewHigh", "warning", f"Two clocks{where} are {apart} apart.",
        f"Furthest ahead is node {ahead}, furthest behind is node {behind}. A token that the first issues is not yet valid on "
        "the second; one that the second issues expires too early on the first.", **labels)


def unreachable(pool, share, **labels):
    where = " of cluster east" if labels else ""
    return says(
        "ClockPoolUnreachable", "warning", f"NTP pool {pool} does not answer {share} of the nodes{where}.",
        "Another pool may still give an offset, but nothing confirms it, and no clock is stepped. Without any pool, no clock "
        "is measured.", pool=pool, **labels)


def budget(cases):
    alert = "ClockDriftBudgetBurn"
    hour, day = ("critical", "an hour"), ("warning", "a day")
    # A quarter of the window must have been recorded.
    cases.fires(alert, "one of 69 is 1.45%", agent("n1", OFF) + fleet(68, FEW), burn(*hour, "1.449%", "14.4"), since=15)
    cases.silent("below", alert, "one of 70 is 1.43%", agent("n1", OFF) + fleet(69, FEW))
    for others, share in (332, "0.3003%"), (333, None):
        cases.add_fleet(f"one of {others + 1} for six hours", agent("n1", OFF) + fleet(others, FEW), 365, {
            alert: [burn(*day, share, "3")] if share else []})
    # A sample is five minutes here: three hours outside the threshold, then three hours within.
    over = {**OFF, OFFSET: "-0.15+0x36 0.001+0x90"}
    cases.add_fleet("one of four, no longer", agent("n1", over) + fleet(3, FEW), 365, {alert: []})
    east = agent("n1", OFF, cluster="east") + agent("n2", FEW, cluster="east") + agent("n1", FEW, cluster="west")
    cases.fires(alert, "one of two clusters", east, burn(*hour, "50%", "14.4", cluster="east"), since=15)
    # Ten minutes are 1.5% of an hour of eleven nodes; six minutes later they are outside the short window.
    cases.add("fires", alert, "and stops soon after",
              agent("n1", {**OFF, OFFSET: "0.001+0x59 0.15+0x9 0.001+0x90"}) + fleet(10, FEW),
              {61: [], 73: [burn(*hour, "1.49%", "14.4")], 76: []})
    cases.silent("below", alert, "nothing in the short window",
                 agent("n1", {**FEW, OFFSET: "0.15+0x9 0.001+0x90"}) + fleet(3, FEW))
    cases.silent("restart", alert, "all at once", [
        one for number in range(4) for one in restarting(f"n{number}", 10, {OFFSET: "0.15 0.001+0x8 stale"})])
    cases.silent("missing", alert, "no offset", agent("n1", {**OFF, OFFSET: None}) + fleet(3, FEW))
    cases.silent("missing", alert, "no threshold", agent("n1", {**OFF, THRESHOLD: None}) + fleet(3, FEW))


def pairwise(cases):
    alert = "ClockPairwiseSkewHigh"
    two = agent("n1", {OFFSET: -0.6}) + agent("n2", {OFFSET: 0.401}) + agent("n3", {OFFSET: 0.2})
    cases.fires(alert, "each is within a second, both are not", two, skew("1.001s", "n1", "n2"))
    cases.fires(alert, "one of two clusters", agent("n1", {OFFSET: -0.6}, cluster="east")
                + agent("n2", {OFFSET: 0.45}, cluster="east") + agent("n3", {OFFSET: 2}, cluster="west"),
                skew("1.05s", "n1", "n2", cluster="east"))
    cases.silent("below", alert, "0.999 s", agent("n1", {OFFSET: -0.5}) + agent("n2", {OFFSET: 0.499}))
    cases.silent("below", alert, "two clusters apart from each other",
                 agent("n1", {OFFSET: -2}, cluster="east") + agent("n2", {OFFSET: 2}, cluster="west"))
    cases.silent("below", alert, "for four minutes", agent("n1", {OFFSET: "-2+0x4 0.001+0x90"}) + fleet(3))
    cases.silent("restart", alert, "the pod is replaced", restarting("n1", 5, {OFFSET: 2}) + fleet(3))
    cases.silent("missing", alert, "no offset", agent("n1", {OFFSET: None}) + fleet(3))
    cases.silent("missing", alert, "a single node", agent("n1", {OFFSET: 2}))


def pools(cases):
    alert = "ClockPoolUnreachable"
    lost = {B_REACHABLE: 0}
    cases.fires(alert, "three of four, and one alert", fleet(3, lost) + agent("n1"), unreachable("b.example", "75%"))
    cases.fires(alert, "one of two clusters", agent("n1", lost, cluster="east") + agent("n1", cluster="west"),
                unreachable("b.example", "100%", cluster="east"))
    both = {B_REACHABLE: 0, 'drift_agent_pool_servers{pool="a.example",state="reachable"}': 0, OFFSET: None}
    cases.fires(alert, "both pools", fleet(2, both), unreachable("a.example", "100%"), unreachable("b.example", "100%"))
    bare = dict.fromkeys(HEALTHY)
    cases.fires(alert, "26 of 51", fleet(26, {**bare, B_REACHABLE: 0}) + [
        one for number in range(25) for one in agent(f"g{number}", {**bare, B_REACHABLE: 4})], unreachable("b.example", "51%"))
    cases.silent("below", alert, "half of them", fleet(2, lost) + agent("n1") + agent("n2"))
    cases.silent("below", alert, "for nine minutes", fleet(4, {B_REACHABLE: "0+0x9 4+0x90"}))
    cases.silent("restart", alert, "all at once", [
        one for number in range(4) for one in restarting(f"n{number}", 9, lost)])
    cases.silent("missing", alert, "no such series", fleet(4, {key: None for key in HEALTHY if "pool_servers" in key}))


def wrong(count, by=", by up to 10s", **labels):
    where = " of cluster east" if "cluster" in labels else ""
    return says(
        "ClockPoolWrong", "warning",
        f"NTP pool b.example is wrong on {count} node{'s' if count > 1 else ''}{where}{by}.",
        "The other pools agree with each other and not with this one, so they alone decide there. If only one node reports it, "
        "something on the path of that node answers in place of the pool.", pool="b.example", **labels)


def wrong_pool(cases):
    alert = "ClockPoolWrong"
    false = {B_FALSE: 1, B_OFFSET: 10.001}
    cases.fires(alert, "one of four nodes", agent("n1", false) + fleet(3), wrong(1))
    cases.fires(alert, "three of four, and one alert", fleet(3, false) + agent("n1"), wrong(3))
    cases.fires(alert, "one of two clusters", agent("n1", false, cluster="east") + agent("n1", cluster="west"),
                wrong(1, cluster="east"))
    cases.fires(alert, "its servers contradict each other", agent("n1", {B_FALSE: 1, B_OFFSET: None}) + fleet(3), wrong(1, by=""))
    cases.silent("below", alert, "no majority: the pools disagree, which another alert covers",
                 agent("n1", {OFFSET: None, B_OFFSET: 10}) + fleet(3))
    cases.silent("below", alert, "for fourteen minutes", agent("n1", {B_FALSE: "1+0x14 0+0x90"}) + fleet(3))
    cases.silent("restart", alert, "the pod is replaced", restarting("n1", 15, false) + fleet(3))
    cases.silent("missing", alert, "no such series", agent("n1", {B_FALSE: None, B_OFFSET: 10}) + fleet(3))


def one_server(count, **labels):
    where = " of cluster east" if labels else ""
    return says(
        "ClockPoolsNotIndependent", "warning",
        f"Two NTP pools look like one server on {count} node{'s' if count > 1 else ''}{where}.",
        "Two names lead to one server, or a router answers all NTP itself. If that server is wrong, no other pool shows it. No "
        "clock is stepped there.", **labels)


def not_independent(cases):
    alert = "ClockPoolsNotIndependent"
    one = {INDEPENDENT: 0}
    cases.fires(alert, "one of four nodes", agent("n1", one) + fleet(3), one_server(1))
    cases.fires(alert, "all nodes, and one alert", fleet(4, one), one_server(4))
    cases.fires(alert, "one of two clusters", agent("n1", one, cluster="east") + agent("n1", cluster="west"),
                one_server(1, cluster="east"))
    cases.silent("below", alert, "independent", fleet(4))
    cases.silent("below", alert, "for 29 minutes", agent("n1", {INDEPENDENT: "0+0x29 1+0x90"}) + fleet(3))
    cases.silent("restart", alert, "the pod is replaced", restarting("n1", 30, one) + fleet(3))
    cases.silent("missing", alert, "no two pools were compared", agent("n1", {INDEPENDENT: None}) + fleet(3))


def series_of_another_job():
    return [series("up", 1, {"job": "node-exporter", "node": "n1"})]


def no_agent(cases):
    """The other half of DriftAgentDown."""
    alert = "DriftAgentDown"
    absent = says(alert, "critical", "Prometheus has no target of drift-agent.",
                  "There is no target of the job drift-agent: no clock is monitored.", job="drift-agent")
    cases.fires(alert, "no target at all", series_of_another_job(), absent)
    cases.silent("restart", alert, "all at once", [
        one for number in range(4) for one in restarting(f"n{number}", 10)])
    cases.silent("missing", alert, "the only target, for nine minutes", agent("n1", {"up": "1 stale _x8 1+0x90"}))


def thousand(cases):
    """One node of a thousand that drifts by 2 s; it has lost a pool, another is wrong there, and two are one server."""
    expected = {"ClockDriftBudgetBurn": [], "ClockPoolUnreachable": [],
                "ClockPairwiseSkewHigh": [skew("2.001s", "n1", "f0")],
                "ClockPoolWrong": [wrong(1, by=", by up to 12s")], "ClockPoolsNotIndependent": [one_server(1)]}
    few = {**FEW, OFFSET: 0, B_REACHABLE: 4, B_FALSE: 0, INDEPENDENT: 1}
    off = {**few, OFFSET: -2, B_REACHABLE: 0, B_FALSE: 1, B_OFFSET: 10, INDEPENDENT: 0}
    agents = agent("f0", {**few, OFFSET: 0.001}) + fleet(998, few) + agent("n1", off)
    cases.add_fleet("one node of a thousand", agents, 40, expected)


def nothing(cases):
    """Ordinary days: no alert of any kind, in any minute."""
    counted = {STEPPED: 3, FAILED: 2, resumed("pause"): 5, resumed("suspend"): 4}
    gap = {key: f"{value}+0x20 stale _x4 {value}+0x90" for key, value in HEALTHY.items()}
    reset = {key: f"{value}+0x20 0+0x90" for key, value in counted.items()}
    days = {
        "four healthy nodes": fleet(4, counted),
        "a pod is replaced": restarting("n1", 30, counted) + fleet(3),
        "all pods are replaced": [one for n in range(4) for one in restarting(f"n{n}", 30, counted)],
        "a container is restarted": agent("n1", reset) + fleet(3),
        "Prometheus is restarted": fleet(4, gap),
        "a node goes": agent("n1", {key: f"{value}+0x30 stale" for key, value in HEALTHY.items()}) + fleet(3),
        "a node comes": agent("n1", {key: f"_x30 {value}+0x60" for key, value in HEALTHY.items()}) + fleet(3),
        "no daemon is asked, nothing is stepped, no kernel is read": fleet(4, {
            KERNEL: None, **{key: None for key in HEALTHY if "daemon" in key or "steps" in key or "resume" in key}}),
    }
    for what, agents in days.items():
        cases.quiet(what, agents)


def add(cases):
    for part in budget, pairwise, pools, wrong_pool, not_independent, no_agent, thousand, nothing:
        part(cases)
