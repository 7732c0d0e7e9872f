//! The pools: from what an operator wrote to checked names, and what belongs to each.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::cloud::{self, AUTO, Picked, Platform};
use super::pool::PoolName;
use super::raw::{ConfigText, RawPool, Region};
use super::value::{Origin, Setting};
use super::{ConfigError, DEFAULT_POOLS, MILLI, SECOND};

/// Names of pools, and by index the root distance that an operator promises.
pub(super) type Pools = (Vec<PoolName>, BTreeMap<usize, Duration>);

/// Where pools are written, and what decides about them.
pub(super) struct Written {
    pub flags: Option<Vec<RawPool>>,
    pub file: Option<Vec<RawPool>>,
    pub regions: BTreeMap<String, Region>,
    pub region: String,
    pub allow_single_pool: bool,
}

/// The pools of a node.
pub(super) struct Resolved {
    pub pools: Pools,
    /// What `auto` has picked and why, as a sentence; `None` without `auto`.
    pub picked: Option<String>,
}

impl Written {
    /// The pools of this node. The firmware's tables below `root` are read where a pool is `auto`.
    pub fn resolve(self, root: &Path, warnings: &mut Vec<String>) -> Result<Resolved, ConfigError> {
        let Self { flags, file, regions, region, allow_single_pool } = self;
        let regional_lists = regions.values().map(|each| &each.pools);
        let wants_auto = flags.iter().chain(&file).chain(regional_lists).any(|list| has_auto(list));
        let platform = if wants_auto { cloud::platform(root) } else { Platform::Other(String::new()) };
        let cloud = platform.picked();
        let file = regional(regions, &region, allow_single_pool, &cloud, warnings)?.or(file);
        let is_auto = flags.as_ref().or(file.as_ref()).is_some_and(|list| has_auto(list));
        let pools = checked("pools", flags, file, allow_single_pool, &cloud)?;
        let picked = is_auto.then(|| {
            let all: Vec<String> = pools.0.iter().map(ToString::to_string).collect();
            format!("pools: auto is {}: {}.", all.join(" and "), cloud.why)
        });
        warnings.extend(picked.clone().filter(|_| cloud.source.is_none()));
        Ok(Resolved { pools, picked })
    }
}

/// The pools of this node's region, if it has any. The pools of all regions are checked, so that a typing
/// error is reported before the first node runs there.
fn regional(
    regions: BTreeMap<String, Region>,
    region: &str,
    allow_single_pool: bool,
    picked: &Picked,
    warnings: &mut Vec<String>,
) -> Result<Option<Vec<RawPool>>, ConfigError> {
    for each in regions.values() {
        checked("regions", None, Some(each.pools.clone()), allow_single_pool, picked)?;
    }
    let known = regions.keys().cloned().collect::<Vec<_>>().join(", ");
    let pools = regions.into_iter().find_map(|(name, each)| (name == region).then_some(each.pools));
    if pools.is_none() && !known.is_empty() {
        let problem = if region.is_empty() { "not set".to_owned() } else { format!("{region:?} is unknown") };
        warnings
            .push(format!("region: {problem}, but regions has pools for {known}; this node uses `pools`"));
    }
    Ok(pools)
}

/// Checks the pools of the command line, else of the file, else the default ones.
fn checked(
    key: &'static str,
    flags: Option<Vec<RawPool>>,
    file: Option<Vec<RawPool>>,
    allow_single_pool: bool,
    picked: &Picked,
) -> Result<Pools, ConfigError> {
    let (raw, origin) = match (flags, file) {
        (Some(raw), _) => (raw, Origin::CommandLine),
        (None, Some(raw)) => (raw, Origin::File),
        (None, None) => (DEFAULT_POOLS.map(RawPool::named).to_vec(), Origin::Default),
    };
    let raw = expand(raw, picked, &Setting::new(key, AUTO.to_owned(), origin))?;
    let setting = |text: &str| Setting::new(key, text.to_owned(), origin);
    let mut names: Vec<PoolName> = Vec::with_capacity(raw.len());
    let mut root_distances = BTreeMap::new();
    for RawPool { name, root_distance } in raw {
        if let Some(ConfigText(text)) = name {
            let name = PoolName::parse(&text).ok_or_else(|| {
                setting(&text)
                    .invalid("HOST, HOST:PORT, an IPv4 address, or [IPv6]:PORT, with a port from 1 to 65535")
            })?;
            if names.iter().any(|other| other.is_same_as(&name)) {
                return Err(setting(&text).invalid("each pool once, because a pool cannot confirm itself"));
            }
            names.push(name);
        }
        if let Some(ConfigText(text)) = root_distance {
            let setting = Setting::with_example("pools.rootDistance", text, origin, "100ms");
            let promised = setting.duration(MILLI..=16 * SECOND)?;
            let index = names.len().checked_sub(1);
            let is_new = index.is_some_and(|index| root_distances.insert(index, promised).is_none());
            if !is_new {
                return Err(setting.invalid("rootDistance after the name of its pool, once"));
            }
        }
    }
    if names.len() < if allow_single_pool { 1 } else { 2 } {
        let all: Vec<String> = names.iter().map(ToString::to_string).collect();
        return Err(setting(&all.join(", ")).invalid(match names.len() {
            0 => "at least one pool",
            _ => {
                "at least two pools, because one pool alone is not trusted; a site that has one alone sets allowSinglePool"
            }
        }));
    }
    Ok((names, root_distances))
}

/// Does `auto` stand among these?
fn has_auto(pools: &[RawPool]) -> bool {
    pools.iter().any(is_auto)
}

fn is_auto(pool: &RawPool) -> bool {
    pool.name.as_ref().is_some_and(|ConfigText(text)| text == AUTO)
}

/// Puts the cloud's own source in the place of `auto`, and public pools beside it until there are two.
fn expand(raw: Vec<RawPool>, picked: &Picked, auto: &Setting) -> Result<Vec<RawPool>, ConfigError> {
    let Some(at) = raw.iter().position(is_auto) else { return Ok(raw) };
    let has_keys = |pool: &RawPool| pool.name.is_none() || pool.root_distance.is_some();
    if raw.get(at).is_some_and(has_keys) || raw.get(at + 1).is_some_and(|next| next.name.is_none()) {
        return Err(auto.invalid("auto without rootDistance: its servers are the cloud's"));
    }
    if raw.iter().filter(|pool| is_auto(pool)).count() > 1 {
        return Err(auto.invalid("auto once"));
    }
    let is_there = |pools: &[RawPool], name: &str| {
        let name = PoolName::parse(name);
        let names = pools.iter().filter_map(|pool| PoolName::parse(&pool.name.as_ref()?.0));
        name.is_some_and(|name| names.into_iter().any(|other| other.is_same_as(&name)))
    };
    let mut pools: Vec<RawPool> = raw.into_iter().filter(|pool| !is_auto(pool)).collect();
    if let Some(source) = picked.source.filter(|source| !is_there(&pools, source)) {
        pools.insert(at.min(pools.len()), RawPool::named(source));
    }
    for public in picked.beside {
        let named = pools.iter().filter(|pool| pool.name.is_some()).count();
        if named < 2 && !is_there(&pools, public) {
            pools.push(RawPool::named(public));
        }
    }
    Ok(pools)
}
