"""Series as agents export them, in promtool's notation. A minute is a sample."""

LENGTH = 100  # Longer than any test looks.

HEALTHY = {
    "up": 1,
    "drift_agent_offset_seconds": 0.001,
    "drift_agent_offset_bound_seconds": 0.002,
    "drift_agent_threshold_seconds": 0.1,
    'drift_agent_state{state="in-sync"}': 1,
    'drift_agent_state{state="drifting"}': 0,
    'drift_agent_state{state="disagree"}': 0,
    'drift_agent_state{state="unknown"}': 0,
    'drift_agent_state{state="disrupted"}': 0,
    "drift_agent_frequency_error_ratio": 0.00001,
    "drift_agent_frequency_error_bound_ratio": 0.000004,
    "drift_agent_kernel_synchronized": 1,
    "drift_agent_recommended_leeway_seconds": 5,
    "drift_agent_pool_disagreement_seconds": 0.0005,
    "drift_agent_pools_independent": 1,
    'drift_agent_pool_falseticker{pool="a.example"}': 0,
    'drift_agent_pool_falseticker{pool="b.example"}': 0,
    'drift_agent_pool_falseticker{pool="c.example"}': 0,
    'drift_agent_pool_offset_seconds{pool="b.example"}': 0.001,
    'drift_agent_pool_servers{pool="a.example",state="reachable"}': 4,
    'drift_agent_pool_servers{pool="a.example",state="unreachable"}': 0,
    'drift_agent_pool_servers{pool="b.example",state="reachable"}': 4,
    'drift_agent_pool_servers{pool="b.example",state="unreachable"}': 0,
    'drift_agent_daemon_offset_seconds{daemon="chrony"}': 0.0001,
    'drift_agent_steps_total{method="chrony",result="stepped"}': 0,
    'drift_agent_steps_total{method="chrony",result="failed"}': 0,
    'drift_agent_steps_total{method="chrony",result="refused"}': 0,
    'drift_agent_resume_signals_total{class="suspend"}': 0,
    'drift_agent_resume_signals_total{class="pause"}': 0,
    'drift_agent_resume_signals_total{class="rtc-write"}': 0,
    'drift_agent_resume_signals_total{class="clock-set"}': 0,
    'drift_agent_resume_signals_total{class="stall"}': 0,
}
OFFSET = "drift_agent_offset_seconds"
BOUND = "drift_agent_offset_bound_seconds"
THRESHOLD = "drift_agent_threshold_seconds"
FREQUENCY = "drift_agent_frequency_error_ratio"
FREQUENCY_BOUND = "drift_agent_frequency_error_bound_ratio"
INDEPENDENT = "drift_agent_pools_independent"
B_FALSE = 'drift_agent_pool_falseticker{pool="b.example"}'
B_OFFSET = 'drift_agent_pool_offset_seconds{pool="b.example"}'
KERNEL = "drift_agent_kernel_synchronized"
UPDATE_AGE = "drift_agent_daemon_update_age_seconds"
DAEMON = 'drift_agent_daemon_offset_seconds{daemon="chrony"}'
STEPPED = 'drift_agent_steps_total{method="chrony",result="stepped"}'
FAILED = 'drift_agent_steps_total{method="chrony",result="failed"}'
REFUSED = 'drift_agent_steps_total{method="chrony",result="refused"}'
B_REACHABLE = 'drift_agent_pool_servers{pool="b.example",state="reachable"}'


def state(name):
    return f'drift_agent_state{{state="{name}"}}'


def resumed(name):
    return f'drift_agent_resume_signals_total{{class="{name}"}}'


def in_state(name, **_):
    return {state("in-sync"): 0, state(name): 1}


DRIFTING = {**in_state("drifting"), OFFSET: 0.15, BOUND: 0.02}


def series(key, values, labels):
    """One series; a number stands for all the time, a string is in promtool's own notation."""
    name, _, own = key.rstrip("}").partition("{")
    more = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return {
        "series": f"{name}{{{own + ',' if own else ''}{more}}}",
        "values": values if isinstance(values, str) else f"{values}+0x{LENGTH}",
    }


def agent(node, changes=None, pod=None, **labels):
    """One agent's series with these changes; None: the series is not there."""
    labels = {"job": "drift-agent", "node": node, "pod": pod or f"drift-agent-{node}", **labels}
    now = {**HEALTHY, **(changes or {})}
    return [series(key, value, labels) for key, value in now.items() if value is not None]


def fleet(count, changes=None):
    """This many healthy agents, except for these changes."""
    return [one for number in range(1, count + 1) for one in agent(f"f{number}", changes)]


def restarting(node, at, changes=None):
    """An agent whose pod is replaced at this minute. Its series end; those of the new one begin two minutes later, after the
    scrape has failed twice, with an unknown clock and counters at 0."""
    before = {key: value if isinstance(value, str) else f"{value}+0x{at - 1} stale"
              for key, value in {**HEALTHY, **(changes or {})}.items() if value is not None}
    after = {key: f"_x{at + 2} {value}+0x{LENGTH}" for key, value in HEALTHY.items()}
    after["up"] = f"_x{at} 0 0 1+0x{LENGTH}"
    after[state("unknown")] = f"_x{at + 2} 1 0+0x{LENGTH}"
    after[state("in-sync")] = f"_x{at + 2} 0 1+0x{LENGTH}"
    after[OFFSET] = f"_x{at + 3} {HEALTHY[OFFSET]}+0x{LENGTH}"
    return agent(node, before) + agent(node, after, pod="drift-agent-new")
