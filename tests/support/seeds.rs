//! Properties over many seeds.

/// Runs a property over many seeds, on all cores; one seed alone when `DRIFT_AGENT_SIM_SEED` names it.
pub fn for_seeds(name: &str, default: u64, property: fn(u64) -> Result<(), String>) {
    let file = env!("CARGO_CRATE_NAME");
    let from_env = |key: &str| std::env::var(key).ok().and_then(|v| v.parse::<u64>().ok());
    let seeds = match from_env("DRIFT_AGENT_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("DRIFT_AGENT_SIM_SEEDS").unwrap_or(default),
    };
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let seeds = seeds.clone();
            scope.spawn(move || {
                for seed in seeds.filter(|s| s % workers == worker) {
                    let outcome = std::panic::catch_unwind(|| property(seed)).unwrap_or_else(|_| Err("panicked".into()));
                    if let Err(why) = outcome {
                        panic!("seed {seed}: {why}\nreplay: DRIFT_AGENT_SIM_SEED={seed} cargo test --test {file} {name}");
                    }
                }
            });
        }
    });
}
