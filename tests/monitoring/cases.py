"""The kinds of tests of an alert. Each alert is tested in five ways, or the run fails:

fires     after its `for`, not a minute earlier, with this text and these labels
below     not when its condition is just not met, or not for long enough
restart   not because an agent is restarted: a gap, and counters that begin at 0
missing   not when a series that it needs is not there
thousand  for one node of a thousand, and for no other
"""

WAYS = ("fires", "below", "restart", "missing", "thousand")
MINUTES = [*range(1, 15), 15, 20, 30, 45, 62, 75, 90]


class Cases:
    """The tests of all alerts, by alert and way."""

    def __init__(self, pending):
        """`pending`: the `for` of each alert, in minutes."""
        self.pending = pending
        self.tests = {alert: {way: [] for way in WAYS} for alert in pending}
        # Of many nodes: a sample and an evaluation every five minutes, or it takes too long.
        self.fleets = []
        # On which no alert may fire.
        self.days = []

    def add(self, way, alert, what, agents, expected):
        """`expected`: the alerts at each minute."""
        self.tests[alert][way].append({
            "name": f"{alert}, {way}: {what}",
            "interval": "1m",
            "input_series": agents,
            "alert_rule_test": [
                {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": alerts}
                for minute, alerts in expected.items()
            ],
        })

    def fires(self, alert, what, agents, *says, since=0, way="fires"):
        """It fires after its `for`, not earlier. `since`: the minute from which on its condition holds."""
        pending = self.pending[alert]
        expected = {since + pending + 1: list(says)}
        if pending:
            expected[since + pending - 1] = []
        self.add(way, alert, what, agents, expected)

    def silent(self, way, alert, what, agents):
        """It never fires."""
        self.add(way, alert, what, agents, {minute: [] for minute in MINUTES})

    def quiet(self, what, agents):
        """No alert fires, in any minute."""
        self.days.append({
            "name": what,
            "interval": "1m",
            "input_series": agents,
            "alert_rule_test": [
                {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}
                for alert in self.pending for minute in (*range(2, 60, 3), *MINUTES[-4:])
            ],
        })

    def add_fleet(self, what, agents, minute, expected):
        """Many nodes, all of whose alerts are looked at in one minute. It counts as the test of each alert that is expected."""
        self.fleets.append({
            "name": what,
            "interval": "5m",
            "input_series": agents,
            "alert_rule_test": [
                {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": alerts} for alert, alerts in expected.items()
            ],
        })
        for alert in expected:
            self.tests[alert]["thousand"].append(None)


def says(alert, severity, summary, description, **labels):
    """An alert as promtool expects it; every one has a component and a runbook."""
    return {
        "exp_labels": {"severity": severity, "component": "drift-agent", **labels},
        "exp_annotations": {
            "summary": summary,
            "description": description,
            "runbook_url": f"docs/runbooks/{alert}.md",
        },
    }
