#!/usr/bin/env python3
"""The world around the test cluster, for tests only: two NTP servers whose time is off by the value in a file, and
a DNS server that knows the names in a file. One thread, read afresh with every question.

usage: servers.py NODE-ADDRESS OFFSET-FILE HOSTS-FILE NTP-ADDRESS...

OFFSET-FILE: seconds, such as 0.25. HOSTS-FILE: lines of NAME ADDRESS (IPv4).
"""

import pathlib
import select
import socket
import struct
import sys
import time

SINCE_1900 = 2_208_988_800
A, IN = 1, 1


def timestamp(unix):
    return struct.pack(">II", int(unix) + SINCE_1900, int(unix % 1 * 2**32))


def ntp(request, offset):
    """RFC 5905, server mode, stratum 1. Root delay and dispersion: a millisecond each."""
    if len(request) < 48:
        return None
    received = time.time() + offset
    return (
        struct.pack(">BBbb", 4 << 3 | 4, 1, request[2], -20) + struct.pack(">II", 66, 66) + b"TEST"
        + timestamp(received - 8) + request[40:48] + timestamp(received) + timestamp(time.time() + offset)
    )


def dns(request, hosts):
    """RFC 1035: one question; an address, no such name, or nothing of the kind asked for."""
    if len(request) < 17:
        return None
    labels, at = [], 12
    while request[at]:
        labels.append(request[at + 1:at + 1 + request[at]].decode("ascii", "replace"))
        at += 1 + request[at]
    question = request[12:at + 5]
    kind, _ = struct.unpack(">HH", request[at + 1:at + 5])
    address = hosts.get(".".join(labels).lower())
    answer = b""
    if address and kind == A:
        answer = struct.pack(">HHHIH", 0xC00C, A, IN, 5, 4) + socket.inet_aton(address)
    flags = 0x8580 | (0 if address else 3)
    return request[:2] + struct.pack(">HHHHH", flags, 1, 1 if answer else 0, 0, 0) + question + answer


def main(node, offset_file, hosts_file, *ntp_addresses):
    def bind(address, port):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((address, port))
        return udp

    def offset():
        return float(pathlib.Path(offset_file).read_text())

    def hosts():
        lines = pathlib.Path(hosts_file).read_text().split("\n")
        return dict(line.split() for line in lines if line.strip())

    answers = {bind(address, 123): lambda request: ntp(request, offset()) for address in ntp_addresses}
    answers[bind(node, 53)] = lambda request: dns(request, hosts())
    while True:
        for udp in select.select(list(answers), [], [])[0]:
            request, client = udp.recvfrom(512)
            try:
                reply = answers[udp](request)
            except (ValueError, IndexError, struct.error) as error:
                print(f"{client}: {error}", file=sys.stderr, flush=True)
                continue
            if reply:
                udp.sendto(reply, client)


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
