"""Alerts about one node."""

import re

from agents import (
    BOUND, B_REACHABLE, DAEMON, DRIFTING, FAILED, FREQUENCY, FREQUENCY_BOUND, HEALTHY, KERNEL, OFFSET, REFUSED, STEPPED, THRESHOLD, UPDATE_AGE, agent,
    fleet, in_state, restarting, resumed, state)
from cases import says

UNMEASURED = {**in_state("unknown"), OFFSET: None, BOUND: None}
DISAGREE = {**in_state("disagree"), OFFSET: None, BOUND: None, "drift_agent_pool_disagreement_seconds": 10}
DECEIVED = {**DRIFTING, DAEMON: -0.00002}
RESUMED = {**DRIFTING, OFFSET: 20.5, resumed("pause"): "0 1+0x100"}
EXCESS = "Even at the near end of its bound the offset is over the threshold by {}."
SECOND = "From 1 s on, fresh tokens are rejected between this node and others."


def drift(severity, offset, more, node="n1", where=""):
    return says("ClockDriftExceeded", severity, f"Clock of node {node}{where} is {offset}.", more, node=node)


def disagree(node="n1", where="", by=" by 10s"):
    return says(
        "ClockPoolsDisagree", "warning", f"NTP servers of node {node}{where} contradict each other{by}.",
        "The agent reports no offset meanwhile, so a drift would not be detected. Near a leap second, pools that smear it and "
        "pools that do not are up to half a second apart.", node=node)


def unmeasured(node="n1", where=""):
    return says(
        "ClockNotMeasured", "warning", f"Clock of node {node}{where} is not measured.",
        "The agent runs and has no offset, or only one with a bound wider than the threshold: the error of the clock is "
        "unknown. Most other nodes reach the pools.", node=node)


def undisciplined(node="n1", where=""):
    return says(
        "ClockNotDisciplined", "warning", f"Clock of node {node}{where} is 150ms behind, and no time daemon corrects it.",
        "The kernel reports that its clock is not synchronised, or no process has updated it for two hours: chronyd, "
        "systemd-timesyncd or ntpd is not running, or reaches no server.", node=node)


def frequency(node="n1", where="", runs="250 ppm too slow", now=" It is now 1ms behind."):
    return says(
        "ClockFrequencyHigh", "warning", f"Oscillator of node {node}{where} runs {runs}.",
        f"Linux corrects no more than 500 ppm; 100 ppm are 8.6 s a day for an uncorrected clock.{now}", node=node)


def down(node="n1", where=""):
    return says(
        "DriftAgentDown", "warning", f"The drift-agent of node {node}{where} does not answer.",
        "Prometheus knows the agent and cannot scrape it: a drift of this node would not be detected.", node=node)


def uncorrected(node="n1", where="", offset="20.5s"):
    return says(
        "VMResumeUncorrected", "critical", f"Clock of node {node}{where} is {offset} behind after the machine was resumed.",
        "Within the last 1h the machine did not run for a while, and neither its time daemon nor the agent has corrected its "
        "clock since.", node=node)


def deceived(node="n1", where="", offset="150ms"):
    return says(
        "TimeDaemonDeceived", "warning", f"Clock of node {node}{where} is {offset} behind, and chrony does not report it.",
        "The time daemon reports an offset within the threshold: it will not correct the clock soon, and monitoring of "
        "the daemon alone shows no problem.", node=node, daemon="chrony")


def stepped(node="n1", where=""):
    return says(
        "ClockStepped", "info", f"Clock of node {node}{where} was stepped (chrony).",
        "Its time jumped: logs and leases of this node may be inconsistent around that instant. It is now 1ms behind.",
        node=node, method="chrony")


def failed(node="n1", where=""):
    return says(
        "ClockStepFailed", "warning", f"Clock of node {node}{where} could not be stepped (chrony).",
        "A step was due and failed; its log and an event have the reason. It is now 150ms behind.",
        node=node, method="chrony")


def drifts(node="n1", where=""):
    return drift("warning", "150ms behind", EXCESS.format("30ms"), node, where)


def add(cases):
    def proved(alert, bad, says_so, below, needs, before=None):
        """`bad` fires it; `below` does not; without any of `needs` it does not fire; `before`: what a restart interrupts."""
        cases.fires(alert, "one of four", agent("n1", bad) + fleet(3), says_so())
        east = says_so(where=" of cluster east")
        east["exp_labels"]["cluster"] = "east"
        cases.fires(
            alert, "in one of two clusters", agent("n1", bad, cluster="east") + agent("n1", cluster="west"), east)
        for what, changes in below.items():
            cases.silent("below", alert, what, agent("n1", changes) + fleet(3))
        at = max(1, cases.pending[alert])
        cases.silent("restart", alert, "the pod is replaced", restarting("n1", at, before or bad) + fleet(3))
        for key in needs:
            cases.silent("missing", alert, f"no {key}", agent("n1", {**bad, key: None}) + fleet(3))

    proved("ClockDriftExceeded", DRIFTING, drifts, {
        "over the threshold, but not certainly": {**DRIFTING, BOUND: 0.0501},
        "within the threshold": {**DRIFTING, OFFSET: 0.0999, BOUND: 0},
        "ahead, within a threshold of its own": {**DRIFTING, OFFSET: -0.15, THRESHOLD: 0.2},
        "for one minute": {**DRIFTING, OFFSET: "0.15+0x1 0.001+0x90"},
        "more than a second, but not certainly": {**DRIFTING, OFFSET: 1.5, BOUND: 1.4001},
    }, [OFFSET, BOUND, THRESHOLD])
    cases.fires(
        "ClockDriftExceeded", "barely certain", agent("n1", {**DRIFTING, OFFSET: 0.12011}),
        drift("warning", "120.1ms behind", EXCESS.format("110us")))
    cases.fires(
        "ClockDriftExceeded", "critical from 1 s on", agent("n1", {**DRIFTING, OFFSET: -1}),
        drift("warning", "1s ahead", EXCESS.format("880ms")), drift("critical", "1s ahead", SECOND))
    cases.fires(
        "ClockDriftExceeded", "critical and barely certain", agent("n1", {**DRIFTING, OFFSET: 1.5, BOUND: 1.3999}),
        drift("warning", "1.5s behind", EXCESS.format("100us")), drift("critical", "1.5s behind", SECOND))
    cases.fires(
        "ClockDriftExceeded", "a warning only, below 1 s", agent("n1", {**DRIFTING, OFFSET: -0.9999}),
        drift("warning", "999.9ms ahead", EXCESS.format("879.9ms")))

    proved("ClockPoolsDisagree", DISAGREE, disagree, {
        "far apart, but each interval meets the other": {"drift_agent_pool_disagreement_seconds": 0.5},
        "for fourteen minutes": {**DISAGREE, state("disagree"): "1+0x14 0+0x90"},
    }, [state("disagree")])
    cases.fires(
        "ClockPoolsDisagree", "servers of the only pool that answers",
        agent("n1", {**DISAGREE, "drift_agent_pool_disagreement_seconds": None}), disagree(by=""))

    proved("ClockNotMeasured", UNMEASURED, unmeasured, {
        "for fourteen minutes": {
            state("unknown"): "1+0x14 0+0x90", state("in-sync"): "0+0x14 1+0x90", OFFSET: "_x15 0.001+0x90"},
        "the pools disagree, which another alert covers": DISAGREE,
        "the agent is down, which another alert covers": {**dict.fromkeys(UNMEASURED), "up": 0},
    }, [])
    unreached = {B_REACHABLE: 0}
    cases.fires(
        "ClockNotMeasured", "its bound is too wide", agent("n1", {**in_state("unknown"), BOUND: 0.2}), unmeasured())
    cases.fires(
        "ClockNotMeasured", "disrupted, and not measured since", agent("n1", {**in_state("disrupted"), OFFSET: None}),
        unmeasured())
    cases.fires(
        "ClockNotMeasured", "it exports nothing", [one for one in agent("n1") if one["series"].startswith("up{")] + fleet(3),
        unmeasured())
    cases.fires(
        "ClockNotMeasured", "half of the nodes have lost a pool",
        agent("n1", {**UNMEASURED, **unreached}) + fleet(1), unmeasured())
    cases.silent(
        "below", "ClockNotMeasured", "a whole pool is down", agent("n1", {**UNMEASURED, **unreached}) + fleet(3, unreached))
    bare = dict.fromkeys(HEALTHY)
    cases.silent(
        "below", "ClockNotMeasured", "26 of 51 nodes have lost a pool",
        agent("n1", {**UNMEASURED, **unreached}) + fleet(25, {**bare, B_REACHABLE: 0})
        + [one for number in range(25) for one in agent(f"g{number}", {**bare, B_REACHABLE: 4})])
    cases.silent(
        "missing", "ClockNotMeasured", "the node is gone",
        [{**one, "values": f"{one['values'].split('+')[0]}+0x10 stale"} for one in agent("n1", UNMEASURED)] + fleet(3))

    proved("ClockNotDisciplined", {**DRIFTING, KERNEL: 0}, undisciplined, {
        "the kernel alone": {KERNEL: 0},
        "a drift alone": DRIFTING,
        "for nine minutes": {**DRIFTING, KERNEL: "0+0x9 1+0x90"},
    }, [OFFSET, KERNEL, state("drifting")])
    cases.fires("ClockNotDisciplined", "no update for two hours", agent("n1", {**DRIFTING, UPDATE_AGE: 7200}), undisciplined())
    cases.silent("below", "ClockNotDisciplined", "an update two hours ago", agent("n1", {**DRIFTING, UPDATE_AGE: 7199}))
    cases.silent("below", "ClockNotDisciplined", "no update, and no drift", agent("n1", {UPDATE_AGE: 9000}))

    proved("ClockFrequencyHigh", {FREQUENCY: 0.00025}, frequency, {
        "203 ppm, of which 199 are certain": {FREQUENCY: 0.000203},
        "-203 ppm, of which -199 are certain": {FREQUENCY: -0.000203},
        "250 ppm at a far site": {FREQUENCY: 0.00025, FREQUENCY_BOUND: 0.00006},
        "for 59 minutes": {FREQUENCY: "0.00025+0x59 0.00001+0x90"},
    }, [FREQUENCY, FREQUENCY_BOUND])
    cases.fires("ClockFrequencyHigh", "205 ppm, of which 201 are certain", agent("n1", {FREQUENCY: 0.000205}),
                frequency(runs="205 ppm too slow"))
    cases.fires(
        "ClockFrequencyHigh", "too fast, and not measured", agent("n1", {**UNMEASURED, FREQUENCY: -0.0003}),
        frequency(runs="300 ppm too fast", now=""))

    proved("DriftAgentDown", {"up": 0}, down, {
        "for nine minutes": {"up": "0+0x9 1+0x90"},
    }, ["up"], before={"up": 1})

    proved("VMResumeUncorrected", {**RESUMED, resumed("pause"): "0 1+0x100"}, uncorrected, {
        "corrected within a minute": {**RESUMED, OFFSET: "0.001 20.5 0.001+0x90"},
        "not certainly over the threshold": {**RESUMED, OFFSET: 0.1199},
        "only the clock was set": {**RESUMED, resumed("pause"): 0, resumed("clock-set"): "0 1+0x100"},
        "only the RTC was written": {**RESUMED, resumed("pause"): 0, resumed("rtc-write"): "0 1+0x100"},
        "resumed long before the drift": {
            OFFSET: "0.001+0x65 20.5+0x90", BOUND: 0.02, resumed("pause"): "0 1+0x100"},
    }, [OFFSET, BOUND, THRESHOLD, resumed("pause")], before={**RESUMED, resumed("pause"): "0 1 stale"})
    cases.fires("VMResumeUncorrected", "barely certain", agent("n1", {**RESUMED, OFFSET: 0.12011}),
                uncorrected(offset="120.1ms"), since=1)
    for kind in "suspend", "stall":
        cases.fires(
            "VMResumeUncorrected", kind, agent("n1", {**RESUMED, resumed("pause"): 0, resumed(kind): "0 1+0x100"}),
            uncorrected(), since=1)

    proved("TimeDaemonDeceived", DECEIVED, deceived, {
        "the daemon reports it": {**DRIFTING, DAEMON: 0.1001},
        "the daemon reports it, with the other sign": {**DRIFTING, DAEMON: -0.1001},
        "we are not certain": {**DECEIVED, BOUND: 0.0501},
        "nothing is wrong": {},
    }, [DAEMON, OFFSET, BOUND, THRESHOLD])

    cases.fires("TimeDaemonDeceived", "barely certain, and the daemon within the threshold",
                agent("n1", {**DECEIVED, OFFSET: 0.12011, DAEMON: 0.0999}), deceived(offset="120.1ms"))

    proved("ClockStepped", {STEPPED: "0 1+0x100"}, stepped, {
        "refused": {REFUSED: "0 1+0x100"},
        "failed": {FAILED: "0 1+0x100"},
    }, [STEPPED], before={STEPPED: 3})
    proved("ClockStepFailed", {**DRIFTING, FAILED: "0 1+0x100"}, failed, {
        "refused": {REFUSED: "0 1+0x100"},
        "stepped": {STEPPED: "0 1+0x100"},
    }, [FAILED], before={FAILED: 2})
    for alert, key, now in ("ClockStepped", STEPPED, stepped()), ("ClockStepFailed", FAILED, None):
        cases.silent("restart", alert, "the container is restarted", agent("n1", {key: "3+0x20 0+0x90"}))
        cases.add("below", alert, "it fired for long enough", agent("n1", {key: "0+0x5 1+0x100"}),
                  {minute: [] for minute in (3, 22, 30, 60)})
        if now:
            cases.add("fires", alert, "for a quarter of an hour", agent("n1", {key: "0+0x5 1+0x100"}), {
                minute: [now] for minute in (7, 12, 19)})
    thousand(cases)


def thousand(cases):
    """Ten nodes of a thousand, each with its own problem: each alert names its nodes, and no other."""
    knows = {DAEMON: 0.15}
    alone = [
        ({**dict.fromkeys(UNMEASURED), "up": 0}, {"DriftAgentDown": down}),
        ({**DRIFTING, **knows}, {}),
        (DISAGREE, {"ClockPoolsDisagree": disagree}),
        (UNMEASURED, {"ClockNotMeasured": unmeasured}),
        ({**DRIFTING, **knows, KERNEL: 0}, {"ClockNotDisciplined": undisciplined}),
        ({FREQUENCY: 0.00025}, {"ClockFrequencyHigh": frequency}),
        (DECEIVED, {"TimeDaemonDeceived": deceived}),
        ({**RESUMED, DAEMON: 20.5, resumed("pause"): "0+0x10 1+0x9"}, {"VMResumeUncorrected": uncorrected}),
        ({STEPPED: "0+0x10 1+0x9"}, {"ClockStepped": stepped}),
        ({**DRIFTING, **knows, FAILED: "0+0x10 1+0x9"}, {"ClockStepFailed": failed}),
    ]
    unread = {key: None for key in HEALTHY if re.search("disrupted|unreachable|refused|rtc-write|clock-set|falseticker|independent", key)}
    agents = fleet(1000 - len(alone), unread)
    expected = {"ClockDriftExceeded": []}
    for number, (changes, alerts) in enumerate(alone):
        node = f"n{number}"
        agents += agent(node, changes)
        for alert, says_so in alerts.items():
            expected[alert] = [says_so(node)]
        if changes.get(OFFSET) == DRIFTING[OFFSET]:
            expected["ClockDriftExceeded"].append(drifts(node))
        elif changes.get(OFFSET):
            expected["ClockDriftExceeded"] += [
                drift("warning", "20.5s behind", EXCESS.format("20.38s"), node),
                drift("critical", "20.5s behind", SECOND, node)]
    # Five minutes are a sample here: the longest `for` is an hour.
    cases.add_fleet("ten nodes of a thousand", agents, 65, expected)
