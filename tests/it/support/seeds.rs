//! Properties over many seeds.

use std::sync::{Mutex, PoisonError};

/// Failing seeds after which no further ones are tried.
const FAILURES_MAX: usize = 5;

/// Runs a property over many seeds, on all cores; one seed alone when `DRIFT_AGENT_SIM_SEED` names it. Each seed that fails
/// prints the command that runs it alone.
pub fn for_seeds<P>(default: u64, property: P)
where
    P: Fn(u64) -> Result<(), String> + Sync + std::panic::RefUnwindSafe,
{
    results_of_seeds(default, property);
}

/// The same, with what each seed has led to, in no order.
pub fn results_of_seeds<P, T>(default: u64, property: P) -> Vec<T>
where
    P: Fn(u64) -> Result<T, String> + Sync + std::panic::RefUnwindSafe,
    T: Send,
{
    let test = test_name::<P>();
    let from_env = |key: &str| std::env::var(key).ok().and_then(|v| v.parse::<u64>().ok());
    let seeds = match from_env("DRIFT_AGENT_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("DRIFT_AGENT_SIM_SEEDS").unwrap_or(default),
    };
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let (results, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let failed = || failures.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (seeds, property, results) = (seeds.clone(), &property, &results);
            let failed = &failed;
            scope.spawn(move || {
                for seed in seeds.filter(|s| s % workers == worker) {
                    match std::panic::catch_unwind(|| property(seed))
                        .unwrap_or_else(|_| Err("panicked".into()))
                    {
                        Ok(result) => results.lock().unwrap_or_else(PoisonError::into_inner).push(result),
                        Err(why) => failed().push((seed, why)),
                    }
                    if failed().len() >= FAILURES_MAX {
                        return;
                    }
                }
            });
        }
    });
    let failures: Vec<String> = failed()
        .iter()
        .map(|(seed, why)| {
            format!("seed {seed}: {why}\nreplay: DRIFT_AGENT_SIM_SEED={seed} cargo test --test it {test}")
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The path of the test that runs now: libtest names the thread by it, but with `--test-threads 1` runs the test on the
/// main thread. Then the type of the property has it: `it::simulation::NAME::{{closure}}`.
fn test_name<P>() -> String {
    match std::thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => {
            let path = std::any::type_name::<P>().trim_end_matches("::{{closure}}");
            path.split_once("::").map_or(path, |(_, path)| path).to_owned()
        }
    }
}
