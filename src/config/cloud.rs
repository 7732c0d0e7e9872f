//! `pools: [auto]`: the time source of the cloud that the machine runs in, by what its firmware states (DMI).

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::DEFAULT_POOLS;

/// The word in `pools`.
pub const AUTO: &str = "auto";
/// Where Linux shows the firmware's tables; readable in a pod without a privilege.
const DMI: &str = "sys/class/dmi/id";
/// Bytes of one entry that are read: a DMI string is shorter.
const ENTRY_MAX: u64 = 256;
/// The chassis of every machine in Azure; other machines of the vendor are Hyper-V elsewhere.
const AZURE_CHASSIS: &str = "7783-7084-3265-9085-8269-3286-77";

/// Where a machine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Amazon EC2.
    Amazon,
    /// Google Compute Engine.
    Google,
    /// Oracle Cloud Infrastructure.
    Oracle,
    /// Microsoft Azure.
    Azure,
    /// Elsewhere: the vendor, empty if it is not known.
    Other(String),
}

/// What `auto` stands for on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// The cloud's own source, if it has one.
    pub source: Option<&'static str>,
    /// Public pools that fit beside it, the best first.
    pub beside: [&'static str; 2],
    /// Why these, as a sentence.
    pub why: String,
}

/// The platform, by the firmware's tables below `root`, which is `/` but for tests.
pub fn platform(root: &Path) -> Platform {
    let entry = |name: &str| {
        let mut text = Vec::new();
        let file = File::open(root.join(DMI).join(name));
        // What cannot be read is not there: many machines have no such tables.
        let _ = file.and_then(|file| file.take(ENTRY_MAX).read_to_end(&mut text));
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let [vendor, product, chassis, bios] =
        ["sys_vendor", "product_name", "chassis_asset_tag", "bios_vendor"].map(entry);
    // Older instances of Amazon are Xen's by their vendor.
    if vendor == "Amazon EC2" || bios == "Amazon EC2" || chassis == "Amazon EC2" {
        Platform::Amazon
    } else if vendor == "Google" || product == "Google Compute Engine" {
        Platform::Google
    } else if chassis == "OracleCloud.com" {
        Platform::Oracle
    } else if vendor == "Microsoft Corporation" && chassis == AZURE_CHASSIS {
        Platform::Azure
    } else {
        Platform::Other(vendor.chars().filter(|c| !c.is_control()).collect())
    }
}

impl Platform {
    /// The pools for this platform. Leap seconds decide which public pool fits: one that smears them differs by up to
    /// half a second from one that does not.
    pub fn picked(&self) -> Picked {
        let [google, cloudflare] = DEFAULT_POOLS;
        let picked = |source, beside, why: &str| Picked { source: Some(source), beside, why: why.to_owned() };
        let none = |why: String| Picked { source: None, beside: DEFAULT_POOLS, why };
        match self {
            Self::Amazon => picked(
                "169.254.169.123",
                [google, cloudflare],
                "Amazon EC2: its link-local time service smears leap seconds, as time.google.com does",
            ),
            // By address: the agent takes no link-local address from a name server.
            Self::Google => picked(
                "169.254.169.254",
                [google, cloudflare],
                "Google Compute Engine: its metadata server smears leap seconds, as time.google.com does; both are Google's",
            ),
            Self::Oracle => picked(
                "169.254.169.254",
                [cloudflare, google],
                "Oracle Cloud: its link-local time service is not documented to smear leap seconds, and time.cloudflare.com does not",
            ),
            Self::Azure => none(
                "Azure has no NTP server; its host clock (PTP by hv_utils, /dev/ptp_hyperv) is as good as the clock of the host, which a guest cannot check, and hosts have been tens of milliseconds off, so it is not used".to_owned(),
            ),
            Self::Other(vendor) if vendor.is_empty() => {
                none("no cloud is known here: the firmware states no vendor".to_owned())
            }
            Self::Other(vendor) => {
                none(format!("no cloud is known here: the firmware states the vendor {vendor:?}"))
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::pool::{Host, PoolName};

    /// A root folder whose firmware states this; it is removed at the end.
    pub struct Firmware(pub std::path::PathBuf);

    impl Firmware {
        pub fn new(name: &str, entries: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("drift-agent-dmi-{name}-{}", std::process::id()));
            std::fs::create_dir_all(root.join(DMI)).unwrap();
            for (entry, text) in entries {
                std::fs::write(root.join(DMI).join(entry), format!("{text}\n")).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Firmware {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn platforms_are_known_by_their_firmware() {
        let of = |entries: &[(&str, &str)]| platform(&Firmware::new("platform", entries).0);
        assert_eq!(of(&[("sys_vendor", "Amazon EC2"), ("product_name", "m7i.large")]), Platform::Amazon);
        assert_eq!(of(&[("sys_vendor", "Xen"), ("bios_vendor", "Amazon EC2")]), Platform::Amazon);
        assert_eq!(of(&[("product_name", "Google Compute Engine")]), Platform::Google);
        assert_eq!(of(&[("sys_vendor", "QEMU"), ("chassis_asset_tag", "OracleCloud.com")]), Platform::Oracle);
        let microsoft = ("sys_vendor", "Microsoft Corporation");
        assert_eq!(of(&[microsoft, ("chassis_asset_tag", AZURE_CHASSIS)]), Platform::Azure);
        assert_eq!(
            of(&[microsoft, ("chassis_asset_tag", "1234")]),
            Platform::Other("Microsoft Corporation".into()),
            "Hyper-V at a site"
        );
        assert_eq!(of(&[("sys_vendor", &"x".repeat(9_000))]), Platform::Other("x".repeat(256)));
        assert_eq!(platform(Path::new("/nonexistent")), Platform::Other(String::new()));
    }

    #[test]
    fn every_source_and_pool_beside_it_is_a_pool_and_sources_are_addresses() {
        for platform in [Platform::Amazon, Platform::Google, Platform::Oracle, Platform::Azure] {
            let Picked { source, beside, why } = platform.picked();
            assert_eq!(source.is_none(), platform == Platform::Azure);
            // A configured address is used as it is; no name server could give a link-local one.
            let address = source.map(|source| PoolName::parse(source).unwrap().host().clone());
            assert!(address.is_none_or(|host| matches!(host, Host::Address(_))));
            assert!(beside.iter().all(|pool| PoolName::parse(pool).is_some()), "{why}");
        }
    }
}
