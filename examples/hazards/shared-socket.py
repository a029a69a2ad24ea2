"""socket: parent and child use one connection, and get each other's answers."""

import os
import socket

from show import in_child

client, server = socket.socketpair()
if os.fork() == 0:  # a server that answers each question with the question
    client.close()
    while question := server.recv(100):
        server.sendall(b"answer to the " + question)
    os._exit(0)
server.close()

in_child(lambda: client.sendall(b"child"))
while b"child" not in (answer := client.recv(100, socket.MSG_PEEK)):
    pass
client.sendall(b"parent")
print("the parent asks, and gets the", client.recv(len(answer)).decode())
client.shutdown(socket.SHUT_WR)
while client.recv(100):
    pass
os.wait()
