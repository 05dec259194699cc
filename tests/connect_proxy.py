"""An HTTP proxy that knows CONNECT alone, as a program: ``python connect_proxy.py HOST PORT``.

It prints ``ready``, then HOST:PORT of each connection that it makes.
"""

import socket
import socketserver
import sys
import threading


class _Connect(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        words = self.rfile.readline().split()
        while self.rfile.readline().strip():
            pass
        if len(words) != 3 or words[0] != b"CONNECT":
            self.wfile.write(b"HTTP/1.1 405 CONNECT alone\r\n\r\n")
            return
        host, _, port = words[1].decode().rpartition(":")
        try:
            server = socket.create_connection((host, int(port)), timeout=10)
        except OSError:
            self.wfile.write(b"HTTP/1.1 502 Not reached\r\n\r\n")
            return
        server.settimeout(None)
        print(f"{host}:{port}", flush=True)
        self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        with server:
            back = threading.Thread(target=_pump, args=(server, self.connection), daemon=True)
            back.start()
            _pump(self.connection, server)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with _Server((sys.argv[1], int(sys.argv[2])), _Connect) as server:
        print("ready", flush=True)
        server.serve_forever()
