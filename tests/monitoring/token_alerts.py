"""Alerts of the optional group, about services that export jwt_age_at_verify_seconds."""

from agents import LENGTH, series
from cases import says

BUCKETS = (-10, -5, -2, -1, 0, 1, 2, 5, 10, 60)
FUTURE, SHIFTED = "TokensFromTheFuture", "TokenAgeShifted"


def verifier(instance, ages, buckets=BUCKETS, **labels):
    """A service that verifies a hundred tokens a minute. `ages`: pairs of minutes and the ages of tokens in them, each of
    the same share."""
    labels = {"job": "api", "instance": instance, **labels}
    made = []
    for bound in (*buckets, "+Inf"):
        values, count = [], 0
        for minutes, each in ages:
            step = 100 * sum(age <= float(bound) for age in each) // len(each)
            values.append(f"{count}+{step}x{minutes - 1}")
            count += step * minutes
        made.append(series(f'jwt_age_at_verify_seconds_bucket{{le="{bound}"}}', " ".join(values), labels))
    return made


def future(issued="3.49s", who="a of api", **labels):
    return says(
        FUTURE, "critical", f"Tokens that {who} verifies were issued {issued} in its future.",
        "This is p99 of their age. The clock of the verifier is behind, or that of the issuer is ahead.",
        **{"instance": "a", "job": "api", **labels})


def shifted(how, who="a of api", **labels):
    return says(
        SHIFTED, "warning", f"Fresh tokens look {how} to {who} than an hour ago.",
        "This is p5 of their age: the clock of the verifier or of the issuer has moved.",
        **{"instance": "a", "job": "api", **labels})


def add(cases):
    good = verifier("b", [(LENGTH, [0.5])])
    cases.fires(FUTURE, "all between 2 and 5 s", verifier("a", [(LENGTH, [-4])]) + good, future("2.03s"), since=1)
    cases.fires(FUTURE, "in a cluster", verifier("a", [(LENGTH, [-4])], cluster="east") + good,
                future("2.03s", "a of api of cluster east", cluster="east"), since=1)
    cases.silent("below", FUTURE, "all between 1 and 2 s", verifier("a", [(LENGTH, [-1.5])]) + good)
    cases.silent("below", FUTURE, "for four minutes", verifier("a", [(10, [0.5]), (9, [-4]), (90, [0.5])]) + good)
    cases.silent("restart", FUTURE, "counters begin at 0", verifier("a", [(20, [0.5]), (1, [0.5])]) + [
        {**one, "values": one["values"].split(" ")[0] + " 0+0x90"} for one in verifier("c", [(20, [0.5])])])
    cases.silent("missing", FUTURE, "no service exports it", [series("up", 1, {"job": "api"})])
    cases.silent("missing", FUTURE, "no token is verified", [
        {**one, "values": f"7+0x{LENGTH}"} for one in verifier("a", [(LENGTH, [-4])])])

    moved = [(70, [0.5]), (LENGTH, [3.5])]
    now = {minute: [] for minute in (10, 60, 72)}
    cases.add("fires", SHIFTED, "older by 2.1 s", verifier("a", moved) + good, {**now, 93: [], 97: [shifted("2.1s older")]})
    cases.add("fires", SHIFTED, "younger by 3.1 s", verifier("a", [(70, [0.5]), (LENGTH, [-2.5])], cluster="east") + good, {
        **now, 90: [shifted("4.9s younger", "a of api of cluster east", cluster="east")]})
    cases.silent("below", SHIFTED, "from one second to the next", verifier("a", [(70, [0.5]), (LENGTH, [1.5])]) + good)
    cases.silent("below", SHIFTED, "old ones came, and fresh ones still do",
                 verifier("a", [(70, [0.5]), (LENGTH, [0.5, 8, 50])]) + good)
    cases.silent("restart", SHIFTED, "counters begin at 0", [
        {**one, "values": one["values"] + " " + one["values"]} for one in verifier("a", [(50, [0.5])])])
    cases.silent("missing", SHIFTED, "for less than an hour", verifier("a", [(50, [3.5])]))
    # Not a thousand: promtool loads no more than ten thousand samples for a query. A sample is five minutes here.
    few = (-5, -2, 0, 1)
    many = [one for number in range(399) for one in verifier(f"v{number}", [(20, [0.5])], few)]
    cases.add_fleet("one verifier of four hundred", many + verifier("a", [(14, [0.5]), (6, [-4])], few), 95, {
        FUTURE: [future("2.03s")], SHIFTED: [shifted("4.9s younger")]})
