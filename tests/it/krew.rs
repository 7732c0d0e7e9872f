//! The manifest for krew, from the archives of a release: validated and installed by krew itself, and run by kubectl.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Ended, Folder, finish, tool};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const BINARY: &str = env!("CARGO_BIN_EXE_drift-agent");

fn release(arguments: &[&str]) -> Ended {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/krew/release");
    finish(Command::new(script).args(arguments), "")
}

/// A folder with the archives of both architectures; the binary is this machine's in each.
fn archives(folder: &Path) -> [PathBuf; 2] {
    ["amd64", "arm64"].map(|arch| {
        let made = release(&["archive", BINARY, VERSION, arch, folder.to_str().unwrap()]);
        assert_eq!((made.code, made.stderr.as_str()), (0, ""), "{made:?}");
        folder.join(format!("kubectl-clock_drift-{VERSION}-linux-{arch}.tar.gz"))
    })
}

#[test]
fn krew_installs_the_plugin_and_kubectl_runs_it() {
    let folder = Folder::new("krew");
    let path = folder.path();
    let [amd64, arm64] = archives(path);

    let url = "https://releases.example/v1/";
    let homepage = "https://drift-agent.example";
    let made = release(&["manifest", VERSION, path.to_str().unwrap(), url, homepage]);
    assert_eq!((made.code, made.stderr.as_str()), (0, ""), "{made:?}");
    assert!(!made.stdout.contains('@'), "nothing is left to fill in: {}", made.stdout);
    for (file, arch) in [(&amd64, "amd64"), (&arm64, "arm64")] {
        let sum = finish(Command::new("sha256sum").arg(file), "").stdout;
        let name = file.file_name().unwrap().to_str().unwrap();
        let lines =
            format!("      uri: {}{name}\n      sha256: {}\n", url, sum.split_whitespace().next().unwrap());
        assert!(made.stdout.contains(&format!("arch: {arch}\n{lines}")), "{}", made.stdout);
    }
    let manifest = path.join("clock-drift.yaml");
    std::fs::write(&manifest, &made.stdout).unwrap();
    let valid = Command::new(tool("validate-krew-manifest"))
        .arg("-skip-install")
        .arg("-manifest")
        .arg(&manifest)
        .output()
        .unwrap();
    assert!(valid.status.success(), "{}", String::from_utf8_lossy(&valid.stderr));

    let root = path.join("root");
    let this = if cfg!(target_arch = "aarch64") { &arm64 } else { &amd64 };
    let mut krew = Command::new(tool("krew"));
    krew.arg("install")
        .arg("--manifest")
        .arg(&manifest)
        .arg("--archive")
        .arg(this)
        .env("KREW_ROOT", &root)
        .env("HOME", path);
    let installed = finish(&mut krew, "");
    assert_eq!(installed.code, 0, "{installed:?}");
    assert!(installed.stderr.contains("Installed plugin: clock-drift"), "{installed:?}");
    let mut kubectl = Command::new(tool("kubectl"));
    kubectl
        .args(["clock-drift", "--version"])
        .env("PATH", root.join("bin"))
        .env("HOME", path)
        .env_remove("KUBECONFIG");
    let version = finish(&mut kubectl, "");
    assert_eq!(
        (version.code, version.stdout),
        (0, format!("kubectl clock-drift {VERSION}\n")),
        "{}",
        version.stderr
    );
}

#[test]
fn archives_of_the_same_program_are_identical() {
    let bytes = ["krew-one", "krew-two"].map(|name| {
        let folder = Folder::new(name);
        let program = folder.path().join("program");
        std::fs::write(&program, "a program").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let path = folder.path().to_str().unwrap();
        let made = release(&["archive", program.to_str().unwrap(), VERSION, "amd64", path]);
        assert_eq!(made.code, 0, "{made:?}");
        std::fs::read(folder.path().join(format!("kubectl-clock_drift-{VERSION}-linux-amd64.tar.gz")))
            .unwrap()
    });
    assert!(bytes[0] == bytes[1]);
}

#[test]
fn invalid_arguments_are_rejected_in_one_line() {
    let folder = Folder::new("krew-wrong");
    let path = folder.path().to_str().unwrap();
    let urls = ["https://a.example", "https://b.example"];
    for (arguments, text) in [
        (vec!["archive", BINARY, "v1", "amd64", path], "VERSION: invalid value \"v1\""),
        (vec!["archive", BINARY, "1.0.0", "mips", path], "ARCH: invalid value \"mips\""),
        (vec!["archive", "/nowhere", "1.0.0", "amd64", path], "BINARY: invalid value \"/nowhere\""),
        (vec!["manifest", "1.0.0", path, urls[0], urls[1]], "linux-amd64.tar.gz is missing"),
        (vec!["manifest", "1.0.0", path, "http://a.example", urls[1]], "must begin with https://"),
    ] {
        let ended = release(&arguments);
        assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{ended:?}");
        assert!(ended.stderr.contains(text) && ended.stdout.is_empty(), "{ended:?}");
    }
    assert_eq!(release(&["archive"]).code, 64);
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing was left");
}
