"""The other end of the link's check: a program that sends what it is asked for, over TCP or UDP.

`python peer.py ADDRESS`. A TCP connection to port 7001 gets zeros until it closes. A datagram to port 7002 with a
number in it is answered with that many datagrams, paced. Threads: one for each connection.
"""

import contextlib
import socket
import sys
import threading
import time

BYTES_PORT, PACKETS_PORT = 7001, 7002
PACKET_BYTES = 200
_BURST, _PAUSE_S = 100, 0.005
_ZEROS = bytes(1 << 20)
_SEND_BUFFER = 64 << 20
_SO_SNDBUFFORCE = 32


def _send_bytes(connection: socket.socket) -> None:
    # The buffer of a default sender holds less than is on the way at 1 Gbit/s and 100 ms.
    connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
    with connection, contextlib.suppress(OSError):
        while True:
            connection.sendall(_ZEROS)


def _send_packets(listener: socket.socket) -> None:
    while True:
        asked, address = listener.recvfrom(64)
        for number in range(int(asked)):
            listener.sendto(bytes(PACKET_BYTES), address)
            if number % _BURST == _BURST - 1:
                time.sleep(_PAUSE_S)


def main(address: str) -> None:
    listener = socket.create_server((address, BYTES_PORT))
    packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    packets.bind((address, PACKETS_PORT))
    threading.Thread(target=_send_packets, args=(packets,), daemon=True).start()
    print("ready", flush=True)
    while True:
        threading.Thread(target=_send_bytes, args=(listener.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
