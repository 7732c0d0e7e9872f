//! What the kernel unpacks as the guest's file system: a cpio archive (newc), and the programs and modules in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{finish, tool};

/// Where libraries go, and where the guest's linker looks for them.
const LIBRARIES: &str = "lib/guest";
const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DATA: u32 = 0o100_644;

/// An archive in the making. Paths are without the leading slash.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Archive {
    /// A folder, and those above it.
    pub fn folder(&mut self, name: &str) {
        if let Some((above, _)) = name.rsplit_once('/') {
            self.folder(above);
        }
        self.entry(name, FOLDER, &[]);
    }

    /// A text file.
    pub fn text(&mut self, name: &str, text: &str) {
        self.put(name, DATA, text.as_bytes());
    }

    /// A file that is not to be run.
    pub fn data(&mut self, name: &str, content: &[u8]) {
        self.put(name, DATA, content);
    }

    /// An executable script.
    pub fn script(&mut self, name: &str, text: &str) {
        self.put(name, PROGRAM, text.as_bytes());
    }

    /// A program of the host with the libraries that it is linked with, looked for in `libraries` first.
    pub fn program(&mut self, name: &str, file: &Path, libraries: &[PathBuf]) {
        self.put(name, PROGRAM, &read(file));
        let path = std::env::join_paths(libraries).expect("plain paths");
        let listing = finish(Command::new("ldd").arg(file).env("LD_LIBRARY_PATH", path), "");
        // A static program is an error to ldd, and needs nothing.
        for line in listing.stdout.lines() {
            assert!(!line.contains("not found"), "{}: {line}", file.display());
            let mut words = line.split_whitespace();
            let (Some(soname), Some(second)) = (words.next(), words.next()) else { continue };
            match words.next() {
                Some(found) if second == "=>" && found.starts_with('/') => {
                    self.put(&format!("{LIBRARIES}/{soname}"), PROGRAM, &read(Path::new(found)));
                }
                // The linker itself, at the path that is in the program.
                None if soname.starts_with('/') => {
                    self.put(soname.trim_start_matches('/'), PROGRAM, &read(Path::new(soname)));
                }
                _ => {}
            }
        }
    }

    /// Kernel modules, each after those that it needs; the guest loads them in the order of their names.
    pub fn modules(&mut self, folder: &Path, wanted: &[&str]) {
        let mut files = Vec::new();
        collect_modules(folder, &mut files);
        let mut loaded = Vec::new();
        for name in wanted {
            self.module(&files, name, &mut loaded);
        }
    }

    fn module(&mut self, files: &[PathBuf], name: &str, loaded: &mut Vec<String>) {
        if loaded.iter().any(|l| l == name) {
            return;
        }
        // What is not there as a file is built into this kernel.
        let Some(file) = files.iter().find(|f| module_name(f) == name) else { return };
        let module = if file.extension().is_some_and(|e| e == "xz") {
            let unpacked = Command::new(tool("busybox")).args(["unxz", "-c"]).arg(file).output();
            unpacked.expect("busybox runs").stdout
        } else {
            read(file)
        };
        for need in depends(&module) {
            self.module(files, &need, loaded);
        }
        self.put(&format!("modules/{:02}-{name}.ko", loaded.len()), DATA, &module);
        loaded.push(name.to_owned());
    }

    /// The archive as the kernel wants it.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn put(&mut self, name: &str, mode: u32, content: &[u8]) {
        if let Some((above, _)) = name.rsplit_once('/') {
            self.folder(above);
        }
        self.entry(name, mode, content);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        if !self.names.insert(name.to_owned()) {
            return;
        }
        let length = |n: usize| u32::try_from(n).expect("a small file");
        let inode = length(self.names.len());
        // Magic, then: inode, mode, uid, gid, links, mtime, size, device (2), its own (2), length of the name, checksum.
        self.bytes.extend(b"070701");
        let size = length(content.len());
        for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length(name.len() + 1), 0] {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn collect_modules(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect_modules(&path, files);
        } else if path.file_name().is_some_and(|n| n.to_string_lossy().contains(".ko")) {
            files.push(path);
        }
    }
}

/// The kernel's name of a module: `net-failover.ko.xz` is `net_failover`.
fn module_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().replace('-', "_")
}

/// The names after `depends=` in the module's own information.
fn depends(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|w| w == key) else { return Vec::new() };
    let value: Vec<u8> = module[at + key.len()..].iter().copied().take_while(|b| *b != 0).collect();
    let names = String::from_utf8_lossy(&value).replace('-', "_");
    names.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect()
}
