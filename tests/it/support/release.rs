//! Programs as they are released: static, with the release profile.

use std::path::{Path, PathBuf};
use std::process::Command;

/// As in the Dockerfile, which gives the reason.
const FLAGS: &str = "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs";
const FOLD: &str = if cfg!(target_arch = "x86_64") { ",--icf=all" } else { "" };

/// Builds a program unless it is up to date; `manifest` is below the repository.
pub fn static_build(manifest: &str, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Beside the tests' own files, which are built otherwise.
    let folder = root.join("target/static");
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = Command::new(env!("CARGO"));
    // Cargo's variables for the tests would make it build half of the dependencies again.
    let theirs = std::env::vars_os().map(|(key, _)| key).filter(|key| {
        let key = key.to_string_lossy();
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"].iter().any(|p| key.starts_with(p))
    });
    for key in theirs {
        cargo.env_remove(key);
    }
    // With a target named, build scripts and macros are built as usual.
    let built = cargo
        .args(["build", "--release", "--locked", "--bin", name, "--target", &target, "--manifest-path"])
        .arg(root.join(manifest))
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", format!("{FLAGS}{FOLD}"))
        .status();
    assert!(built.is_ok_and(|status| status.success()), "{name} does not build");
    folder.join(target).join("release").join(name)
}
