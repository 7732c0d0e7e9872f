//! vmclock's disruption marker: a number that the hypervisor changes at each restore or migration.
//!
//! It is read from the device (`include/uapi/linux/vmclock-abi.h`), or from the shared memory into which
//! `ClockBound` 2 copies it (`docs/PROTOCOL.md` there). The shared memory needs no privilege, but has to be
//! mounted into the pod.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// `VMCLOCK_MAGIC`: "VCLK", little-endian.
const VMCLOCK_MAGIC: u32 = 0x4b4c_4356;
/// `AMZNCB` 2 0, as `ClockBound` writes it: two numbers in the machine's own byte order.
const CLOCKBOUND_MAGIC: [u32; 2] = [0x414d_5a4e, 0x4342_0200];
/// The supported version of each.
const VMCLOCK_VERSION: u16 = 1;
const CLOCKBOUND_VERSION: u16 = 2;
/// The bytes that are read of each.
const VMCLOCK_SIZE: usize = 32;
const CLOCKBOUND_SIZE: usize = 80;
/// Reads before the marker counts as unreadable. An update takes less than a microsecond; a longer one is by
/// a writer that died.
const READ_ATTEMPTS: usize = 8;

/// The marker's source, kept open.
#[derive(Debug)]
pub enum Vmclock {
    /// The device.
    Device(File),
    /// `ClockBound`'s shared memory.
    ClockBound(File),
}

impl Vmclock {
    /// The device if a marker can be read from it; else the shared memory. `None` without either.
    pub fn open(device: &Path, clockbound: &Path) -> Option<Self> {
        let readable = |source: &Self| source.marker().is_some();
        let device = || File::open(device).ok().map(Self::Device).filter(readable);
        let shared = || File::open(clockbound).ok().map(Self::ClockBound).filter(readable);
        device().or_else(shared)
    }

    /// The marker. Only its changes have a meaning.
    pub fn marker(&self) -> Option<u64> {
        (0..READ_ATTEMPTS).find_map(|_| match self {
            Self::Device(file) => parse_vmclock(&read(file)?),
            Self::ClockBound(file) => parse_clockbound(&read(file)?),
        })
    }
}

fn read<const N: usize>(file: &File) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(bytes)
}

/// The marker in a `struct vmclock_abi`; every number is little-endian. `None` while it is being written.
fn parse_vmclock(bytes: &[u8; VMCLOCK_SIZE]) -> Option<u64> {
    let u32_at = |at| Some(u32::from_le_bytes(field(bytes, at)?));
    let version = u16::from_le_bytes(field(bytes, 8)?);
    let is_known = u32_at(0)? == VMCLOCK_MAGIC && version == VMCLOCK_VERSION;
    let is_whole = u32_at(4)? as usize >= VMCLOCK_SIZE;
    let is_steady = u32_at(12)?.is_multiple_of(2);
    let marker = u64::from_le_bytes(field(bytes, 16)?);
    (is_known && is_whole && is_steady).then_some(marker)
}

/// The marker in `ClockBound`'s segment; every number is in the machine's own byte order. `None` while it is
/// being written, and where `ClockBound` has no marker.
fn parse_clockbound(bytes: &[u8; CLOCKBOUND_SIZE]) -> Option<u64> {
    let u32_at = |at| Some(u32::from_ne_bytes(field(bytes, at)?));
    let u16_at = |at| Some(u16::from_ne_bytes(field(bytes, at)?));
    let is_known = [u32_at(0)?, u32_at(4)?] == CLOCKBOUND_MAGIC && u16_at(12)? == CLOCKBOUND_VERSION;
    let is_whole = u32_at(8)? as usize >= CLOCKBOUND_SIZE;
    let generation = u16_at(14)?;
    let is_steady = generation != 0 && generation.is_multiple_of(2);
    let is_supported = bytes.get(72) == Some(&1);
    let marker = u64::from_ne_bytes(field(bytes, 56)?);
    (is_known && is_whole && is_steady && is_supported).then_some(marker)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    const MARKER: u64 = 0x0123_4567_89ab_cdef;

    /// The fields of `struct vmclock_abi` up to `flags`, in their order and with their sizes: magic, size,
    /// version, counter id, time type, sequence, marker, flags.
    fn page() -> Vec<Vec<u8>> {
        vec![
            b"VCLK".to_vec(),
            4_096u32.to_le_bytes().to_vec(),
            1u16.to_le_bytes().to_vec(),
            vec![1],
            vec![0],
            6u32.to_le_bytes().to_vec(),
            MARKER.to_le_bytes().to_vec(),
            0x1ffu64.to_le_bytes().to_vec(),
        ]
    }

    /// The fields of `ClockBound`'s segment: magic (2), size, version, generation, as-of (2), void-after (2),
    /// bound, marker, drift, status, supported, padding.
    fn segment() -> Vec<Vec<u8>> {
        vec![
            0x414d_5a4eu32.to_ne_bytes().to_vec(),
            0x4342_0200u32.to_ne_bytes().to_vec(),
            80u32.to_ne_bytes().to_vec(),
            2u16.to_ne_bytes().to_vec(),
            12u16.to_ne_bytes().to_vec(),
            [11i64.to_ne_bytes(), 12i64.to_ne_bytes()].concat(),
            [21i64.to_ne_bytes(), 22i64.to_ne_bytes()].concat(),
            31i64.to_ne_bytes().to_vec(),
            MARKER.to_ne_bytes().to_vec(),
            50_000u32.to_ne_bytes().to_vec(),
            1i32.to_ne_bytes().to_vec(),
            vec![1],
            vec![0; 7],
        ]
    }

    fn device(fields: &[Vec<u8>]) -> Option<u64> {
        parse_vmclock(fields.concat().as_slice().try_into().unwrap())
    }

    fn shared(fields: &[Vec<u8>]) -> Option<u64> {
        parse_clockbound(fields.concat().as_slice().try_into().unwrap())
    }

    /// With field `n` changed to `bytes`.
    fn with(mut fields: Vec<Vec<u8>>, n: usize, bytes: &[u8]) -> Vec<Vec<u8>> {
        assert_eq!(fields[n].len(), bytes.len(), "field {n}");
        fields[n] = bytes.to_vec();
        fields
    }

    #[test]
    fn device_fields_are_read_where_the_kernel_has_them() {
        assert_eq!(device(&page()), Some(MARKER));
        assert_eq!(device(&with(page(), 0, b"vclk")), None, "magic");
        assert_eq!(device(&with(page(), 1, &31u32.to_le_bytes())), None, "size");
        assert_eq!(device(&with(page(), 1, &32u32.to_le_bytes())), Some(MARKER), "size");
        assert_eq!(device(&with(page(), 2, &2u16.to_le_bytes())), None, "version");
        assert_eq!(device(&with(page(), 5, &7u32.to_le_bytes())), None, "being written");
        assert_eq!(device(&with(page(), 6, &9u64.to_le_bytes())), Some(9), "marker");
        for (n, other) in [(3, [0xff].as_slice()), (4, &[2]), (7, &[0; 8])] {
            assert_eq!(device(&with(page(), n, other)), Some(MARKER), "field {n} has no part in it");
        }
    }

    #[test]
    fn clockbound_fields_are_read_where_its_protocol_has_them() {
        assert_eq!(shared(&segment()), Some(MARKER));
        assert_eq!(shared(&with(segment(), 0, &[0; 4])), None, "magic");
        assert_eq!(shared(&with(segment(), 1, &[0; 4])), None, "magic");
        assert_eq!(shared(&with(segment(), 2, &72u32.to_ne_bytes())), None, "size");
        assert_eq!(shared(&with(segment(), 3, &1u16.to_ne_bytes())), None, "version 1 has no marker");
        assert_eq!(shared(&with(segment(), 4, &13u16.to_ne_bytes())), None, "being written");
        assert_eq!(shared(&with(segment(), 4, &0u16.to_ne_bytes())), None, "never written");
        assert_eq!(shared(&with(segment(), 8, &9u64.to_ne_bytes())), Some(9), "marker");
        assert_eq!(shared(&with(segment(), 11, &[0])), None, "not supported");
    }

    #[test]
    fn device_is_preferred_to_shared_memory_and_other_files_are_rejected() {
        let folder = std::env::temp_dir().join(format!("drift-agent-vmclock-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, bytes: &[u8]| -> PathBuf {
            let path = folder.join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let with_marker = |marker: u64| with(page(), 6, &marker.to_le_bytes()).concat();
        let device = file("vmclock0", &with_marker(1));
        let shared = file("shm0", &segment().concat());
        let other = file("other", &[0; 4_096]);
        let short = file("short", b"VCLK");

        let opened = Vmclock::open(&device, &shared).unwrap();
        assert_eq!(opened.marker(), Some(1));
        fs::write(&device, with_marker(2)).unwrap();
        assert_eq!(opened.marker(), Some(2));
        for bad in [&other, &short, &folder, &folder.join("nothing")] {
            assert_eq!(Vmclock::open(bad, &shared).and_then(|v| v.marker()), Some(MARKER), "{bad:?}");
            assert!(Vmclock::open(bad, bad).is_none(), "{bad:?}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
