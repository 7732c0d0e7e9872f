# shellcheck shell=bash
# For tests/tools/install: what boots in a virtual machine, unpacked from Debian's packages.
#
# QEMU and the kernel of this Debian release are enough for all tests but those of a vmclock, by which the hypervisor reports that a clock was
# disrupted. A vmclock needs QEMU 10, which is in the backports of Debian 12, and a kernel that is in those of Debian 13.

VMCLOCK_KERNEL_SUITE=trixie-backports
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

from_guest() { # from_guest NAME...: those of them that are made here
    if has qemu-system-x86_64 "$@"; then from_qemu qemu-system-x86_64; fi
    if has qemu-backports "$@"; then from_qemu qemu-backports "$(codename)-backports"; fi
    if has guest-kernel "$@"; then from_kernel guest-kernel; fi
    if has guest-kernel-vmclock "$@"; then from_kernel guest-kernel-vmclock "$VMCLOCK_KERNEL_SUITE"; fi
    if has guest-daemons "$@"; then from_daemons; fi
}

from_qemu() { # from_qemu NAME [SUITE]
    local name=$1 suite=${2:-} file found list packages tree libraries
    if [[ -z $suite ]] && found=$(find_in_path "$name"); then
        link "$name" "$found"
        say "$name … found in PATH ($found)"
        return
    fi
    file=$CACHE/$(system)/$name
    [[ -x $file ]] || lock
    if [[ -x $file ]]; then
        say "$name … cached"
    else
        say "$name … fetching (Debian's qemu-system-x86${suite:+ from $suite})"
        use_suite "$suite"
        list=$(with_missing qemu-system-x86)
        mapfile -t packages <<<"$list"
        fetch "$name" usr/bin/qemu-system-x86_64 "$TMP/$name" "${packages[@]}"
        use_suite ''
        tree=$file.tree
        rm -rf "$tree"
        mkdir -p "${file%/*}"
        mv -T "$TMP/$name.tree" "$tree"
        libraries=("$tree"/usr/lib/*-linux-gnu)
        # Not every QEMU finds its firmware and modules beside itself.
        cat >"$TMP/program" <<EOF
#!/bin/sh
LD_LIBRARY_PATH='${libraries[0]}' QEMU_MODULE_DIR='${libraries[0]}/qemu' exec '$tree/usr/bin/qemu-system-x86_64' \
    -L '$tree/usr/share/qemu' -L '$tree/usr/share/seabios' "\$@"
EOF
        chmod +x "$TMP/program"
        mv -fT "$TMP/program" "$file"
    fi
    link "$name" "$file"
}

# A kernel stays until its folder is removed: results are compared with earlier ones.
from_kernel() { # from_kernel NAME [SUITE]
    local name=$1 suite=${2:-} folder version packages
    folder=$(readlink "$BIN/$name" || true)
    if [[ -e $folder/vmlinuz ]]; then
        say "$name (${folder##*/}) … cached"
        return
    fi
    lock
    use_suite "$suite"
    version=$(kernel_version)
    [[ -n $version ]] || die "no kernel behind Debian's linux-image-cloud-amd64: it exists for amd64 only"
    folder=$CACHE/$name-$version
    if [[ ! -e $folder/vmlinuz ]]; then
        say "$name … fetching (Debian's $version${suite:+ from $suite})"
        # Newer releases have what boots and its modules in two packages.
        if known "linux-binary-$version"; then
            packages=("linux-binary-$version" "linux-modules-$version")
        else
            packages=("linux-image-$version")
        fi
        unpack "$TMP/kernel" "${packages[@]}"
        mkdir -p "$TMP/kernel/boot" "$TMP/kernel/done"
        mv "$TMP"/kernel/usr/lib/modules/*/vmlinuz "$TMP/kernel/done/vmlinuz" 2>/dev/null ||
            mv "$TMP"/kernel/boot/vmlinuz-* "$TMP/kernel/done/vmlinuz"
        mv "$TMP"/kernel/usr/lib/modules/* "$TMP/kernel/done/modules"
        rm -rf "$folder"
        mv -T "$TMP/kernel/done" "$folder"
    fi
    use_suite ''
    link "$name" "$folder"
}

from_daemons() {
    local folder list packages
    folder=$CACHE/$(system)/guest-daemons
    [[ -d $folder ]] || lock
    if [[ -d $folder ]]; then
        say "guest-daemons … cached"
    else
        say "guest-daemons … fetching (Debian's chrony and systemd-timesyncd)"
        # They conflict with each other. timesyncd goes with its library, which is in systemd.
        list=$(with_missing chrony)$'\n'$(with_missing systemd-timesyncd systemd)
        mapfile -t packages <<<"$list"
        unpack "$TMP/daemons" "${packages[@]}"
        mkdir -p "${folder%/*}"
        mv -T "$TMP/daemons" "$folder"
    fi
    link guest-daemons "$folder"
}

codename() { # such as bookworm
    # shellcheck source=/dev/null
    (. /etc/os-release 2>/dev/null && printf '%s\n' "${VERSION_CODENAME:-}")
}

# Lets apt-get see this suite too, and prefer it; the system's own configuration stays as it is. Without a SUITE: no more.
use_suite() { # use_suite [SUITE]
    local suite=$1 archive apt=$TMP/apt
    unset APT_CONFIG
    [[ -n $suite ]] || return 0
    need apt-get "this needs a Debian system"
    # shellcheck disable=SC2016 # apt-get's own variables
    archive=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
        awk -v codename="$(codename)" '$2 == codename { print $1; exit }')
    [[ -n $archive ]] || die "apt-get has no Debian archive configured to take $suite from"
    rm -rf "$apt"
    mkdir -p "$apt/lists/partial" "$apt/archives/partial"
    printf 'deb [signed-by=%s] %s %s main\n' "$KEYRING" "$archive" "$(codename)" "$KEYRING" "$archive" "$suite" >"$apt/sources.list"
    cat >"$apt/conf" <<EOF
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt";
APT::Default-Release "$suite";
APT::Sandbox::User "";
EOF
    export APT_CONFIG=$apt/conf
    run apt-get -q update || die "apt-get cannot read $suite"
}

# A package, and what this system lacks of all that it depends on.
with_missing() { # with_missing PACKAGE...
    local plan
    need apt-get "this needs a Debian system"
    # `--reinstall`: a package that is installed is downloaded all the same.
    plan=$(apt-get -q --simulate --no-install-recommends --reinstall install "$@" 2>/dev/null) || {
        update
        plan=$(apt-get -q --simulate --no-install-recommends --reinstall install "$@") ||
            die "apt-get does not know $*"
    }
    awk '$1 == "Inst" { print $2 }' <<<"$plan"
}

kernel_version() { # such as 6.1.0-56-cloud-amd64
    need apt-cache "this needs a Debian system"
    known linux-image-cloud-amd64 || update
    apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -nE 's/^ *Depends: linux-image-([0-9].*)$/\1/p'
}

known() { apt-cache show --no-all-versions "$1" >/dev/null 2>&1; }

update() {
    ((EUID == 0)) || die "apt-get has no package lists, or old ones: run 'apt-get update' as root"
    run apt-get -q update || die "apt-get update failed"
}

# Unpacks packages into a folder that the tests take their pieces from.
unpack() { # unpack FOLDER PACKAGE...
    local folder=$1 deb
    shift
    download "$@"
    rm -rf "$folder"
    for deb in "$TMP"/debs/*.deb; do dpkg-deb -x "$deb" "$folder"; done
    # As on the system, where /lib is /usr/lib.
    if [[ -d $folder/lib ]]; then
        cp -a "$folder/lib" "$folder/usr/"
        rm -r "${folder:?}/lib"
    fi
}
